//! Groups and members as an operator sees them.

use bytes::Bytes;

/// A group as ListGroups reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The group id.
    pub group: String,
    /// The protocol type; empty for a group that has only offsets.
    pub protocol_type: String,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// Kafka's name of its kind.
    pub kind: &'static str,
}

/// A group as DescribeGroups reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// The protocol type; empty for a group that has only offsets.
    pub protocol_type: String,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: String,
    /// The group's members.
    pub members: Vec<DescribedMember>,
}

/// A member of a described group. Its metadata and assignment are empty unless the group is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member id.
    pub id: String,
    /// The client id.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// The metadata for the chosen protocol.
    pub metadata: Bytes,
    /// The assignment, as the leader gave it.
    pub assignment: Bytes,
}
