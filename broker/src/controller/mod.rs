//! The tasks of the active controller, which must run once in a cluster, however many brokers it has.
//!
//! The composition root starts them on each node with the role `controller`. They work while that node is the active
//! controller ([`MetadataStore::leads`](highwater_kraft_meta::MetadataStore::leads)) and rest while another one is.

mod reaper;

pub(crate) use reaper::Reaper;
