//! DescribeCluster (key 60), versions 0..=2.
//! Source: schema/describe_cluster_request.kmsg; KIP-700, KIP-919, KIP-1073.
//! Behaviour: as of Kafka's broker; a request for controllers is answered MISMATCHED_ENDPOINT_TYPE. Brokers are told
//! with their endpoint of the listener by which the client came, the fenced ones to a request that includes them.
//! Deviations from Apache Kafka: none.

use highwater_protocol::messages::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::context::RequestContext;
use super::handler::{Handler, Reply};
use crate::auth::Resource;
use crate::cluster::BrokerEndpoint;

/// Serves DescribeCluster.
#[derive(Debug)]
pub(crate) struct DescribeCluster;

const BROKERS: i8 = 1;

impl Handler for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    async fn handle(
        ctx: RequestContext,
        request: DescribeClusterRequest,
    ) -> Reply<DescribeClusterResponse> {
        if request.endpoint_type != BROKERS {
            let controllers = request.endpoint_type == 2;
            let (code, message) = if controllers {
                (
                    ErrorCode::MismatchedEndpointType,
                    "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                        .to_owned(),
                )
            } else {
                (
                    ErrorCode::UnsupportedEndpointType,
                    format!("Unsupported endpoint type {}", request.endpoint_type),
                )
            };
            return Reply::Ready(DescribeClusterResponse {
                error_code: code.code(),
                error_message: Some(StrBytes::from(message)),
                ..Default::default()
            });
        }
        let cluster = ctx.broker.cluster();
        let told = |broker: &BrokerEndpoint| !broker.is_fenced || request.include_fenced_brokers;
        let brokers = cluster.brokers(&ctx.connection.listener).filter(told);
        let asks_operations = request.include_cluster_authorized_operations;
        Reply::Ready(DescribeClusterResponse {
            endpoint_type: BROKERS,
            cluster_id: StrBytes::from(cluster.id().to_string()),
            controller_id: cluster.controller().0,
            brokers: brokers.map(described).collect(),
            cluster_authorized_operations: ctx
                .authorized_operations(asks_operations, Resource::Cluster),
            ..Default::default()
        })
    }
}

fn described(broker: BrokerEndpoint) -> DescribeClusterBroker {
    DescribeClusterBroker {
        broker_id: broker.id.0,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
        is_fenced: broker.is_fenced,
    }
}
