//! Principals, and the check of what they may do.
//!
//! Every request has a principal, and every handler asks the authorizer where Kafka does. A client's principal is
//! the subject of its certificate, or anonymous; everything is allowed.

use std::fmt;

/// The principal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Kafka's principal type: `User`.
    pub kind: &'static str,
    /// The principal's name.
    pub name: String,
}

impl Principal {
    /// The principal of a client that did not authenticate.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            kind: "User",
            name: "ANONYMOUS".to_owned(),
        }
    }

    /// The principal of a user.
    #[must_use]
    pub(crate) fn user(name: String) -> Self {
        Self { kind: "User", name }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// The operations that are authorized; the values are Kafka's `AclOperation` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kafka's own names")]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// The resource of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// A topic by name.
    Topic(&'a str),
    /// A group by id.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

impl Resource<'_> {
    /// The operations that exist for this resource (Kafka's `AclEntry.supportedOperations`).
    #[must_use]
    pub fn operations(&self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
            IdempotentWrite, Read, Write,
        };
        match self {
            Self::Cluster => &[
                Create,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
                Alter,
                Describe,
            ],
            Self::Topic(_) => &[
                Read,
                Write,
                Create,
                Describe,
                Delete,
                Alter,
                DescribeConfigs,
                AlterConfigs,
            ],
            Self::Group(_) => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Self::TransactionalId(_) => &[Describe, Write],
        }
    }
}

/// The port to an authorizer. It answers at once, from memory.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Whether `principal` may perform `operation` on `resource`.
    fn allows(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool;
}

/// The authorizer of a cluster without one: it allows everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &Principal, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
