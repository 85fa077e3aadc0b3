//! The decorators of a store: see [`crate::open()`].

mod bounded;
mod limited;
mod metered;
mod retrying;

pub use bounded::Bounded;
pub use limited::Limited;
pub use metered::{Metered, RequestCount, RequestCounts, RequestKind};
pub use retrying::Retrying;
