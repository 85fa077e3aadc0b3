//! What is stacked on a store: see [`crate::open`].

mod metered;
mod retrying;

pub use metered::{Metered, RequestCount, RequestCounts, RequestKind};
pub use retrying::Retrying;
