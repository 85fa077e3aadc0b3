//! The object WAL does what every WAL must, and fences.

mod chaos;
mod conforms;
mod fencing;
mod fixture;
mod puts;
