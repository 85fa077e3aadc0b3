//! Authorizers that a test puts in a node.

use highwater_broker::auth::{Authorizer, Operation, Principal, Resource};

/// An authorizer that panics for the group `broken`, as a defect of the node may do, and allows everything else.
#[derive(Debug)]
pub struct Panicking;

impl Authorizer for Panicking {
    fn allows(&self, _: &Principal, _: Operation, resource: Resource<'_>) -> bool {
        assert!(resource != Resource::Group("broken"), "on purpose");
        true
    }
}
