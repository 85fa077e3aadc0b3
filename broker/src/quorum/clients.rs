//! The APIs of Kafka that a controller's listener serves: those by which an operator describes and changes the quorum.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use highwater_kraft_meta::{Endpoint, MetadataStore, QuorumState, ReplicaState};
use highwater_protocol::messages::{
    AddRaftVoterRequest, ApiVersion, ApiVersionsRequest, DescribeClusterBroker,
    DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, RemoveRaftVoterRequest,
    UpdateFeaturesRequest,
};
use highwater_protocol::{ApiKey, DecodeError, ErrorCode, Request, RequestHeader, StrBytes};
use highwater_runtime::{BytePermit, WallClock};
use highwater_types::NodeId;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::{self, Refusal};
use crate::net::Answer;

/// The metadata of the process, once it is open.
pub(super) type Opened = watch::Receiver<Option<Weak<dyn MetadataStore>>>;

/// The largest request: it names one voter with its addresses, and holds no memory while it waits.
pub(super) const REQUEST_BYTES_MAX: usize = 4 << 10;
/// The most elements in the lists of one request.
const ELEMENTS_MAX: usize = 256;
/// How long DescribeCluster waits for the active controller.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(5);
/// The type of controllers in DescribeCluster (KIP-919).
const CONTROLLERS: i8 = 2;

/// Serves clients of a controller's listener.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) metadata: Opened,
    pub(super) clock: WallClock,
    /// The names of the controllers' listeners.
    pub(super) listeners: Vec<String>,
}

/// The APIs with their versions, by key.
fn served() -> Vec<ApiVersion> {
    let keys = [
        ApiKey::ApiVersions,
        ApiKey::DescribeQuorum,
        ApiKey::DescribeCluster,
        ApiKey::AddRaftVoter,
        ApiKey::RemoveRaftVoter,
        ApiKey::UpdateFeatures,
    ];
    let all = api::versions().into_iter();
    all.filter(|known| keys.iter().any(|key| *key as i16 == known.api_key))
        .collect()
}

impl Clients {
    /// Answers a request; `None` if its API or version is not served here. On TLS only a client that has shown a certificate
    /// may change the voters and the features.
    pub(super) async fn answer(
        self,
        (listener, may_change): (&str, bool),
        header: RequestHeader,
        body: Bytes,
    ) -> Option<Answer> {
        let asked = Asked {
            version: header.api_version,
            correlation_id: header.correlation_id,
            body,
        };
        let is_served = |known: &ApiVersion| {
            known.api_key == header.api_key
                && (known.min_version..=known.max_version).contains(&header.api_version)
        };
        if header.api_key == ApiKey::ApiVersions as i16 && !served().iter().any(is_served) {
            return Some(frame(api::unsupported_api_versions(header.correlation_id)));
        }
        if !served().iter().any(is_served) {
            return None;
        }
        let answered = match header.api_key {
            key if key == ApiKey::ApiVersions as i16 => self.api_versions(&asked),
            key if key == ApiKey::DescribeCluster as i16 => {
                self.describe_cluster(listener, asked).await
            }
            key if key == ApiKey::DescribeQuorum as i16 => self.describe_quorum(asked).await,
            key if key == ApiKey::AddRaftVoter as i16 => self.add(asked, may_change).await,
            key if key == ApiKey::RemoveRaftVoter as i16 => self.remove(asked, may_change).await,
            _ => self.update(asked, may_change).await,
        };
        Some(answered.unwrap_or(Answer::Close))
    }

    /// The metadata, if it is open.
    fn metadata(&self) -> Option<std::sync::Arc<dyn MetadataStore>> {
        self.metadata.borrow().as_ref()?.upgrade()
    }

    fn api_versions(&self, asked: &Asked) -> Result<Answer, DecodeError> {
        let request: ApiVersionsRequest = asked.request()?;
        let metadata = self.metadata();
        let image = metadata.map(|metadata| metadata.image());
        let response = api::of_controller(&request, served(), asked.version, image.as_deref());
        Ok(asked.answer::<ApiVersionsRequest>(&response))
    }

    async fn describe_cluster(&self, listener: &str, asked: Asked) -> Result<Answer, DecodeError> {
        let request: DescribeClusterRequest = asked.request()?;
        let metadata = self.metadata();
        let response = match (request.endpoint_type, metadata) {
            (CONTROLLERS, Some(metadata)) => {
                let quorum = timeout(DESCRIBED_WITHIN, metadata.quorum()).await;
                let quorum = quorum.unwrap_or_else(|_elapsed| Err("it takes long".to_owned()));
                let cluster = metadata.image().cluster().to_string();
                described(&cluster, quorum.ok().as_ref(), listener)
            }
            (CONTROLLERS, None) => refused(
                ErrorCode::BrokerNotAvailable,
                "The controller is still starting.".to_owned(),
            ),
            (1, _) => refused(
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER"
                    .to_owned(),
            ),
            (other, _) => refused(
                ErrorCode::UnsupportedEndpointType,
                format!("Unsupported endpoint type {other}"),
            ),
        };
        Ok(asked.answer::<DescribeClusterRequest>(&response))
    }

    async fn describe_quorum(&self, asked: Asked) -> Result<Answer, DecodeError> {
        let request: DescribeQuorumRequest = asked.request()?;
        let response = match self.metadata() {
            Some(metadata) => api::describe_quorum(&*metadata, self.clock.now_ms(), request).await,
            None => api::no_quorum("the controller is still starting"),
        };
        Ok(asked.answer::<DescribeQuorumRequest>(&response))
    }

    async fn add(&self, asked: Asked, may_change: bool) -> Result<Answer, DecodeError> {
        let request: AddRaftVoterRequest = asked.request()?;
        let response = match self.metadata() {
            _ if !may_change => api::not_added(&no_certificate()),
            Some(metadata) => api::add_raft_voter(&*metadata, &self.listeners, request).await,
            None => api::not_added(&starting()),
        };
        Ok(asked.answer::<AddRaftVoterRequest>(&response))
    }

    async fn remove(&self, asked: Asked, may_change: bool) -> Result<Answer, DecodeError> {
        let request: RemoveRaftVoterRequest = asked.request()?;
        let response = match self.metadata() {
            _ if !may_change => api::not_removed(&no_certificate()),
            Some(metadata) => api::remove_raft_voter(&*metadata, request).await,
            None => api::not_removed(&starting()),
        };
        Ok(asked.answer::<RemoveRaftVoterRequest>(&response))
    }

    async fn update(&self, asked: Asked, may_change: bool) -> Result<Answer, DecodeError> {
        let request: UpdateFeaturesRequest = asked.request()?;
        let response = match self.metadata() {
            _ if !may_change => api::not_updated(&no_certificate()),
            Some(metadata) => api::update_features(&*metadata, request, asked.version).await,
            None => api::not_updated(&starting()),
        };
        Ok(asked.answer::<UpdateFeaturesRequest>(&response))
    }
}

fn no_certificate() -> Refusal {
    Refusal::new(
        ErrorCode::ClusterAuthorizationFailed,
        "The connection has shown no certificate, and on TLS only nodes and their operators change the controllers.",
    )
}

fn starting() -> Refusal {
    Refusal::new(
        ErrorCode::BrokerNotAvailable,
        "The controller is still starting.",
    )
}

/// A request that is to be answered.
struct Asked {
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Asked {
    fn request<R: Request>(&self) -> Result<R, DecodeError> {
        let decoded = R::decode_within(self.body.clone(), self.version, ELEMENTS_MAX);
        decoded.map(|(request, _)| request)
    }

    fn answer<R: Request>(&self, response: &R::Response) -> Answer {
        frame(api::encode::<R>(
            self.version,
            self.correlation_id,
            response,
        ))
    }
}

fn frame(encoded: Result<Vec<Bytes>, highwater_protocol::EncodeError>) -> Answer {
    encoded.map_or(Answer::Close, |frame| {
        Answer::Frame(frame, BytePermit::empty())
    })
}

fn refused(code: ErrorCode, why: String) -> DescribeClusterResponse {
    DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(StrBytes::from(why)),
        ..Default::default()
    }
}

/// The controllers with their addresses on a listener. Without an active controller none is told.
fn described(
    cluster: &str,
    quorum: Option<&QuorumState>,
    listener: &str,
) -> DescribeClusterResponse {
    let all = quorum
        .into_iter()
        .flat_map(|quorum| quorum.voters.iter().chain(&quorum.observers));
    let told = all.filter_map(|replica: &ReplicaState| {
        let is_of = |endpoint: &&Endpoint| endpoint.listener == listener;
        let endpoints = &replica.endpoints;
        let endpoint = endpoints.iter().find(is_of).or(endpoints.first())?;
        let described = DescribeClusterBroker {
            broker_id: replica.node.0,
            host: StrBytes::from(endpoint.host.clone()),
            port: i32::try_from(endpoint.port).unwrap_or(-1),
            rack: None,
            is_fenced: false,
        };
        Some((replica.node, described))
    });
    // Kafka's tools fail over a node that is told twice: one that lost its disk and follows without a vote may still be a
    // voter by its former directory
    let told: BTreeMap<NodeId, DescribeClusterBroker> = told.collect();
    DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: StrBytes::from(cluster.to_owned()),
        controller_id: quorum.map_or(-1, |quorum| quorum.leader.0),
        brokers: told.into_values().collect(),
        cluster_authorized_operations: i32::MIN,
        ..Default::default()
    }
}
