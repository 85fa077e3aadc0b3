//! The decorators of a store: see [`crate::open()`].

mod bounded;
#[cfg(any(test, feature = "conformance"))]
mod hooked;
mod limited;
mod metered;
mod reach;
mod retrying;

pub use bounded::Bounded;
#[cfg(any(test, feature = "conformance"))]
pub use hooked::{Failure, Gate, Hooked, Operation, Plan, Request};
pub use limited::Limited;
pub use metered::{Metered, RequestCount, RequestCounts, RequestKind};
pub use reach::Reached;
pub use retrying::Retrying;
