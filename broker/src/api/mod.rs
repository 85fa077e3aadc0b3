//! One module per Kafka API, one table that says key, versions and handler.
//!
//! ApiVersions, the README's matrix and the dispatch are made from [`APIS`]; a handler that is not in it does not
//! exist.

// Values come from clients. An `expect` says why, where one cannot overflow (CONVENTIONS, Errors).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod add_raft_voter;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod context;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
pub(crate) mod error;
mod features;
mod fetch;
mod find_coordinator;
mod handler;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod remove_raft_voter;
mod room;
mod sasl_handshake;
mod sync_group;
mod topic;
mod unregister_broker;
mod update_features;

use bytes::Bytes;
use highwater_protocol::messages::ApiVersion;
use highwater_protocol::{ApiKey, EncodeError, Request};

pub(crate) use add_raft_voter::{add as add_raft_voter, refused as not_added};
pub(crate) use api_versions::{of_controller, unsupported as unsupported_api_versions};
pub(crate) use context::RequestContext;
pub(crate) use describe_quorum::{describe as describe_quorum, unavailable as no_quorum};
pub(crate) use error::Refusal;
pub(crate) use handler::{AnswerFuture, ServeFuture, encode};
use handler::{Handler, serve};
pub(crate) use remove_raft_voter::{refused as not_removed, remove as remove_raft_voter};
pub(crate) use update_features::{refused as not_updated, update as update_features};

use crate::memory::FrameBudget;
use crate::net::{RequestClass, Session};

/// What a connection must have achieved before it may send requests of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: a client sends such requests before it authenticates, or in order to.
    Anyone,
    /// Its principal is known.
    Authenticated,
}

impl Access {
    /// Whether a connection with that session may send such requests.
    pub(crate) fn admits(self, session: &Session) -> bool {
        match self {
            Self::Anyone => true,
            Self::Authenticated => session.principal.is_some(),
        }
    }
}

/// Writes the answer to a version that is not served, with its correlation id.
type UnsupportedAnswer = fn(i32) -> Result<Vec<Bytes>, EncodeError>;

/// A row of the table. Whatever is particular to an API stands in a column, so that neither the dispatch nor a
/// connection has to know which API it is.
#[derive(Debug, Clone, Copy)]
pub struct ApiEntry {
    /// The API.
    pub key: ApiKey,
    /// The oldest version in the answer to ApiVersions.
    pub advertised_min: i16,
    /// The oldest version served.
    pub min: i16,
    /// The newest version served.
    pub max: i16,
    /// Which connections may send it.
    pub(crate) access: Access,
    /// What a connection has to know of it.
    pub(crate) class: RequestClass,
    /// Writes the answer to a version that is not served. Without it such a request closes the connection.
    pub(crate) unsupported: Option<UnsupportedAnswer>,
    /// Whether the handler measures its time itself, because much of it may be a wait.
    pub(crate) times_itself: bool,
    /// Decodes and serves a body.
    pub(crate) serve: fn(RequestContext, Bytes) -> ServeFuture,
}

const fn entry<H: Handler>() -> ApiEntry {
    ApiEntry {
        key: H::Request::KEY,
        advertised_min: *H::VERSIONS.start(),
        min: *H::VERSIONS.start(),
        max: *H::VERSIONS.end(),
        access: Access::Authenticated,
        class: RequestClass {
            budget: FrameBudget::Other,
            overlaps: false,
            is_outlined: false,
        },
        unsupported: None,
        times_itself: false,
        serve: serve::<H>,
    }
}

/// Produce: requests overlap (A3), take the budget of records, and are answered where they are too large to be held.
/// Kafka advertises it from 0 though it refuses versions below 3, for librdkafka's sake (KAFKA-18659).
const PRODUCE: ApiEntry = ApiEntry {
    advertised_min: 0,
    class: RequestClass {
        budget: FrameBudget::Produce,
        overlaps: true,
        is_outlined: true,
    },
    ..entry::<produce::Produce>()
};

const FETCH: ApiEntry = ApiEntry {
    times_itself: true,
    ..entry::<fetch::Fetch>()
};

const SASL_HANDSHAKE: ApiEntry = ApiEntry {
    access: Access::Anyone,
    ..entry::<sasl_handshake::SaslHandshake>()
};

/// ApiVersions: a version that is not served is answered in version 0 (KIP-511).
const API_VERSIONS: ApiEntry = ApiEntry {
    access: Access::Anyone,
    unsupported: Some(api_versions::unsupported),
    ..entry::<api_versions::ApiVersions>()
};

/// Every API served, by key.
pub static APIS: &[ApiEntry] = &[
    PRODUCE,
    FETCH,
    entry::<list_offsets::ListOffsets>(),
    entry::<metadata::Metadata>(),
    entry::<offset_commit::OffsetCommit>(),
    entry::<offset_fetch::OffsetFetch>(),
    entry::<find_coordinator::FindCoordinator>(),
    entry::<join_group::JoinGroup>(),
    entry::<heartbeat::Heartbeat>(),
    entry::<leave_group::LeaveGroup>(),
    entry::<sync_group::SyncGroup>(),
    entry::<describe_groups::DescribeGroups>(),
    entry::<list_groups::ListGroups>(),
    SASL_HANDSHAKE,
    API_VERSIONS,
    entry::<create_topics::CreateTopics>(),
    entry::<delete_topics::DeleteTopics>(),
    entry::<delete_records::DeleteRecords>(),
    entry::<init_producer_id::InitProducerId>(),
    entry::<offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    entry::<describe_configs::DescribeConfigs>(),
    entry::<alter_configs::AlterConfigs>(),
    entry::<describe_log_dirs::DescribeLogDirs>(),
    entry::<create_partitions::CreatePartitions>(),
    entry::<delete_groups::DeleteGroups>(),
    entry::<elect_leaders::ElectLeaders>(),
    entry::<incremental_alter_configs::IncrementalAlterConfigs>(),
    entry::<alter_partition_reassignments::AlterPartitionReassignments>(),
    entry::<list_partition_reassignments::ListPartitionReassignments>(),
    entry::<offset_delete::OffsetDelete>(),
    entry::<describe_quorum::DescribeQuorum>(),
    entry::<update_features::UpdateFeatures>(),
    entry::<describe_cluster::DescribeCluster>(),
    entry::<unregister_broker::UnregisterBroker>(),
    entry::<describe_topic_partitions::DescribeTopicPartitions>(),
    entry::<add_raft_voter::AddRaftVoter>(),
    entry::<remove_raft_voter::RemoveRaftVoter>(),
];

/// The row of an API key as it was received.
#[must_use]
pub fn find(key: i16) -> Option<&'static ApiEntry> {
    APIS.iter().find(|entry| entry.key as i16 == key)
}

/// The class of requests with that API key. An API that is not served has the class of most APIs.
#[must_use]
pub(crate) fn class_of(key: i16) -> RequestClass {
    find(key).map_or_else(RequestClass::default, |entry| entry.class)
}

/// The APIs and versions in the answer to ApiVersions.
pub(crate) fn versions() -> Vec<ApiVersion> {
    let version = |entry: &ApiEntry| ApiVersion {
        api_key: entry.key as i16,
        min_version: entry.advertised_min,
        max_version: entry.max,
    };
    APIS.iter().map(version).collect()
}

/// The table of APIs and versions for the README, in Markdown.
#[must_use]
pub fn matrix() -> String {
    let mut out = String::from("| key | API | versions |\n|---|---|---|\n");
    for entry in APIS {
        let name = entry.key.name();
        out.push_str(&format!(
            "| {} | {name} | {}-{} |\n",
            entry.key as i16, entry.min, entry.max
        ));
    }
    out
}
