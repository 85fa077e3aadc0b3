//! A whole node, with a client that sends requests that no real client would. The numbers are those of
//! docs/KAFKA-BEHAVIOUR.md.

mod admin;
mod answers;
mod authorization;
mod cold_reads;
mod compression;
mod connection;
mod coordinators;
mod cut_off;
mod damage;
mod directories;
mod faults;
mod fetch;
mod give_up;
mod groups;
mod limits;
mod object_wal;
mod odd_clients;
mod offsets;
mod opening;
mod produce;
mod producers;
mod retention;
mod roles;
mod sessions;
mod starts;
mod starved;
mod tailing;
mod tls;
mod uploads;
mod waiting;

use highwater_tests::{T0, batch, producer_batch};
