//! The stores there are.

mod local;
mod memory;

pub use local::LocalStorage;
pub use memory::MemoryStorage;
