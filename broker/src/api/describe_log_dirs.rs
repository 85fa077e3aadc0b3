//! DescribeLogDirs (key 35), versions 1..=5.
//! Source: schema/describe_log_dirs_request.kmsg; KIP-113, KIP-827, KIP-1066.
//! Behaviour: a broker has one directory, `highwater.data.dir`; it is cordoned while the broker is cordoned or drained.
//! `kafka-reassign-partitions` asks for the directories of all replicas.
//! Deviations from Apache Kafka: no partition is in the directory, because the log is in the object store. The size of the
//! volume is not told.

use highwater_kraft_meta::command::Duty;
use highwater_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};
use highwater_protocol::{ErrorCode, text_that_fits};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves DescribeLogDirs.
#[derive(Debug)]
pub(crate) struct DescribeLogDirs;

impl Handler for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=5;

    async fn handle(
        ctx: RequestContext,
        _request: DescribeLogDirsRequest,
    ) -> Reply<DescribeLogDirsResponse> {
        if !ctx.authorize(Operation::Describe, Resource::Cluster) {
            return Reply::Ready(DescribeLogDirsResponse {
                error_code: ErrorCode::ClusterAuthorizationFailed.code(),
                ..Default::default()
            });
        }
        let image = ctx.broker.metadata.image();
        let own = image.node(ctx.broker.config.node_id);
        let directory = ctx.broker.config.data_dir.display().to_string();
        Reply::Ready(DescribeLogDirsResponse {
            results: vec![DescribeLogDirsResult {
                log_dir: text_that_fits(directory.as_str()),
                is_cordoned: own.is_some_and(|node| node.duty != Duty::Full),
                ..Default::default()
            }],
            ..Default::default()
        })
    }
}
