//! Kafka's messages, each in a module and also exported here, except for names that several messages have.
#![expect(
    missing_docs,
    ambiguous_glob_reexports,
    unused_variables,
    unused_mut,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated: the names are Kafka's"
)]
// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

pub mod add_offsets_to_txn_request;
pub mod add_offsets_to_txn_response;
pub mod add_partitions_to_txn_request;
pub mod add_partitions_to_txn_response;
pub mod add_raft_voter_request;
pub mod add_raft_voter_response;
pub mod alter_configs_request;
pub mod alter_configs_response;
pub mod alter_partition_reassignments_request;
pub mod alter_partition_reassignments_response;
pub mod api_key;
pub mod api_versions_request;
pub mod api_versions_response;
pub mod create_partitions_request;
pub mod create_partitions_response;
pub mod create_topics_request;
pub mod create_topics_response;
pub mod delete_groups_request;
pub mod delete_groups_response;
pub mod delete_records_request;
pub mod delete_records_response;
pub mod delete_topics_request;
pub mod delete_topics_response;
pub mod describe_cluster_request;
pub mod describe_cluster_response;
pub mod describe_configs_request;
pub mod describe_configs_response;
pub mod describe_groups_request;
pub mod describe_groups_response;
pub mod describe_log_dirs_request;
pub mod describe_log_dirs_response;
pub mod describe_quorum_request;
pub mod describe_quorum_response;
pub mod describe_topic_partitions_request;
pub mod describe_topic_partitions_response;
pub mod elect_leaders_request;
pub mod elect_leaders_response;
pub mod end_txn_request;
pub mod end_txn_response;
pub mod fetch_request;
pub mod fetch_response;
pub mod find_coordinator_request;
pub mod find_coordinator_response;
pub mod heartbeat_request;
pub mod heartbeat_response;
pub mod incremental_alter_configs_request;
pub mod incremental_alter_configs_response;
pub mod init_producer_id_request;
pub mod init_producer_id_response;
pub mod join_group_request;
pub mod join_group_response;
pub mod leave_group_request;
pub mod leave_group_response;
pub mod list_groups_request;
pub mod list_groups_response;
pub mod list_offsets_request;
pub mod list_offsets_response;
pub mod list_partition_reassignments_request;
pub mod list_partition_reassignments_response;
pub mod metadata_request;
pub mod metadata_response;
pub mod offset_commit_request;
pub mod offset_commit_response;
pub mod offset_delete_request;
pub mod offset_delete_response;
pub mod offset_fetch_request;
pub mod offset_fetch_response;
pub mod offset_for_leader_epoch_request;
pub mod offset_for_leader_epoch_response;
pub mod produce_request;
pub mod produce_response;
pub mod remove_raft_voter_request;
pub mod remove_raft_voter_response;
pub mod sasl_handshake_request;
pub mod sasl_handshake_response;
pub mod sync_group_request;
pub mod sync_group_response;
pub mod txn_offset_commit_request;
pub mod txn_offset_commit_response;
pub mod unregister_broker_request;
pub mod unregister_broker_response;
pub mod update_features_request;
pub mod update_features_response;
pub use add_offsets_to_txn_request::*;
pub use add_offsets_to_txn_response::*;
pub use add_partitions_to_txn_request::*;
pub use add_partitions_to_txn_response::*;
pub use add_raft_voter_request::*;
pub use add_raft_voter_response::*;
pub use alter_configs_request::*;
pub use alter_configs_response::*;
pub use alter_partition_reassignments_request::*;
pub use alter_partition_reassignments_response::*;
pub use api_key::*;
pub use api_versions_request::*;
pub use api_versions_response::*;
pub use create_partitions_request::*;
pub use create_partitions_response::*;
pub use create_topics_request::*;
pub use create_topics_response::*;
pub use delete_groups_request::*;
pub use delete_groups_response::*;
pub use delete_records_request::*;
pub use delete_records_response::*;
pub use delete_topics_request::*;
pub use delete_topics_response::*;
pub use describe_cluster_request::*;
pub use describe_cluster_response::*;
pub use describe_configs_request::*;
pub use describe_configs_response::*;
pub use describe_groups_request::*;
pub use describe_groups_response::*;
pub use describe_log_dirs_request::*;
pub use describe_log_dirs_response::*;
pub use describe_quorum_request::*;
pub use describe_quorum_response::*;
pub use describe_topic_partitions_request::*;
pub use describe_topic_partitions_response::*;
pub use elect_leaders_request::*;
pub use elect_leaders_response::*;
pub use end_txn_request::*;
pub use end_txn_response::*;
pub use fetch_request::*;
pub use fetch_response::*;
pub use find_coordinator_request::*;
pub use find_coordinator_response::*;
pub use heartbeat_request::*;
pub use heartbeat_response::*;
pub use incremental_alter_configs_request::*;
pub use incremental_alter_configs_response::*;
pub use init_producer_id_request::*;
pub use init_producer_id_response::*;
pub use join_group_request::*;
pub use join_group_response::*;
pub use leave_group_request::*;
pub use leave_group_response::*;
pub use list_groups_request::*;
pub use list_groups_response::*;
pub use list_offsets_request::*;
pub use list_offsets_response::*;
pub use list_partition_reassignments_request::*;
pub use list_partition_reassignments_response::*;
pub use metadata_request::*;
pub use metadata_response::*;
pub use offset_commit_request::*;
pub use offset_commit_response::*;
pub use offset_delete_request::*;
pub use offset_delete_response::*;
pub use offset_fetch_request::*;
pub use offset_fetch_response::*;
pub use offset_for_leader_epoch_request::*;
pub use offset_for_leader_epoch_response::*;
pub use produce_request::*;
pub use produce_response::*;
pub use remove_raft_voter_request::*;
pub use remove_raft_voter_response::*;
pub use sasl_handshake_request::*;
pub use sasl_handshake_response::*;
pub use sync_group_request::*;
pub use sync_group_response::*;
pub use txn_offset_commit_request::*;
pub use txn_offset_commit_response::*;
pub use unregister_broker_request::*;
pub use unregister_broker_response::*;
pub use update_features_request::*;
pub use update_features_response::*;

/// Calls the macro `$each` with the name of a request and that of its response, once for every API with messages here.
#[macro_export]
macro_rules! for_each_api {
    ($each:ident) => {
        $each!(AddOffsetsToTxnRequest, AddOffsetsToTxnResponse);
        $each!(AddPartitionsToTxnRequest, AddPartitionsToTxnResponse);
        $each!(AddRaftVoterRequest, AddRaftVoterResponse);
        $each!(AlterConfigsRequest, AlterConfigsResponse);
        $each!(
            AlterPartitionReassignmentsRequest,
            AlterPartitionReassignmentsResponse
        );
        $each!(ApiVersionsRequest, ApiVersionsResponse);
        $each!(CreatePartitionsRequest, CreatePartitionsResponse);
        $each!(CreateTopicsRequest, CreateTopicsResponse);
        $each!(DeleteGroupsRequest, DeleteGroupsResponse);
        $each!(DeleteRecordsRequest, DeleteRecordsResponse);
        $each!(DeleteTopicsRequest, DeleteTopicsResponse);
        $each!(DescribeClusterRequest, DescribeClusterResponse);
        $each!(DescribeConfigsRequest, DescribeConfigsResponse);
        $each!(DescribeGroupsRequest, DescribeGroupsResponse);
        $each!(DescribeLogDirsRequest, DescribeLogDirsResponse);
        $each!(DescribeQuorumRequest, DescribeQuorumResponse);
        $each!(
            DescribeTopicPartitionsRequest,
            DescribeTopicPartitionsResponse
        );
        $each!(ElectLeadersRequest, ElectLeadersResponse);
        $each!(EndTxnRequest, EndTxnResponse);
        $each!(FetchRequest, FetchResponse);
        $each!(FindCoordinatorRequest, FindCoordinatorResponse);
        $each!(HeartbeatRequest, HeartbeatResponse);
        $each!(
            IncrementalAlterConfigsRequest,
            IncrementalAlterConfigsResponse
        );
        $each!(InitProducerIdRequest, InitProducerIdResponse);
        $each!(JoinGroupRequest, JoinGroupResponse);
        $each!(LeaveGroupRequest, LeaveGroupResponse);
        $each!(ListGroupsRequest, ListGroupsResponse);
        $each!(ListOffsetsRequest, ListOffsetsResponse);
        $each!(
            ListPartitionReassignmentsRequest,
            ListPartitionReassignmentsResponse
        );
        $each!(MetadataRequest, MetadataResponse);
        $each!(OffsetCommitRequest, OffsetCommitResponse);
        $each!(OffsetDeleteRequest, OffsetDeleteResponse);
        $each!(OffsetFetchRequest, OffsetFetchResponse);
        $each!(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse);
        $each!(ProduceRequest, ProduceResponse);
        $each!(RemoveRaftVoterRequest, RemoveRaftVoterResponse);
        $each!(SaslHandshakeRequest, SaslHandshakeResponse);
        $each!(SyncGroupRequest, SyncGroupResponse);
        $each!(TxnOffsetCommitRequest, TxnOffsetCommitResponse);
        $each!(UnregisterBrokerRequest, UnregisterBrokerResponse);
        $each!(UpdateFeaturesRequest, UpdateFeaturesResponse);
    };
}
