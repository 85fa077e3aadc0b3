//! ApiVersions (key 18), versions 0..=5.
//! Source: schema/api_versions_request.kmsg; KIP-35, KIP-482, KIP-511, KIP-584, KIP-1242.
//! Behaviour: the answer is generated from the table of APIs. An unknown version is answered in version 0 with
//! UNSUPPORTED_VERSION. A client that names another cluster or node is told to bootstrap again. The name and version of
//! its software become a part of its session.
//! Deviations from Apache Kafka: none.

use bytes::Bytes;
use highwater_kraft_meta::MetadataImage;
use highwater_protocol::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use highwater_protocol::{ApiKey, EncodeError, ErrorCode, StrBytes};

use super::context::RequestContext;
use super::features::{self, Feature};
use super::handler::{Handler, Reply, encode};

/// Serves ApiVersions.
#[derive(Debug)]
pub(crate) struct ApiVersions;

/// The first version in which clients take a feature whose lowest level is 0 (KAFKA-17492).
const LEVEL_0_SINCE: i16 = 4;

impl Handler for ApiVersions {
    type Request = ApiVersionsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

    async fn handle(
        ctx: RequestContext,
        request: ApiVersionsRequest,
    ) -> Reply<ApiVersionsResponse> {
        if ctx.version >= 3
            && !(sound_name(&request.client_software_name)
                && sound_name(&request.client_software_version))
        {
            return Reply::Ready(ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            });
        }
        // A node is one of a cluster, so without the cluster its number means nothing (KIP-1242).
        if request.cluster_id.is_none() && request.node_id != -1 {
            return Reply::Ready(ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            });
        }
        if means_another(&ctx, &request) {
            return Reply::Ready(ApiVersionsResponse {
                error_code: ErrorCode::RebootstrapRequired.code(),
                ..Default::default()
            });
        }
        let served = ctx.broker.api_versions.clone();
        let response = told(served, ctx.version, Some(&ctx.broker.metadata.image()));
        if ctx.version < 3 {
            return Reply::Ready(response);
        }
        let (name, version) = (
            &request.client_software_name,
            &request.client_software_version,
        );
        Reply::Negotiated(response, ctx.session.with_software(name, version))
    }
}

/// Checks the cluster and the node to which a client believes to be connected, which it names from version 5 on.
fn means_another(ctx: &RequestContext, request: &ApiVersionsRequest) -> bool {
    let own_cluster = ctx.broker.metadata.image().cluster().to_string();
    let cluster = request.cluster_id.as_deref();
    let other_cluster = cluster.is_some_and(|cluster| *cluster != *own_cluster);
    other_cluster || (request.node_id != -1 && request.node_id != ctx.broker.config.node_id.0)
}

/// Kafka's pattern for names and versions of client software: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn sound_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    name.bytes().all(inner)
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .last()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// The answer of a controller's listener, which serves these APIs; without an image while the controller starts.
pub(crate) fn of_controller(
    request: &ApiVersionsRequest,
    served: Vec<ApiVersion>,
    version: i16,
    image: Option<&MetadataImage>,
) -> ApiVersionsResponse {
    let is_sound =
        sound_name(&request.client_software_name) && sound_name(&request.client_software_version);
    match version < 3 || is_sound {
        true => told(served, version, image),
        false => ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        },
    }
}

fn told(
    api_keys: Vec<ApiVersion>,
    version: i16,
    image: Option<&MetadataImage>,
) -> ApiVersionsResponse {
    let finalized = image.map(MetadataImage::metadata_version);
    let all = features::all(finalized.unwrap_or_default());
    let is_understood = |feature: &Feature| feature.min > 0 || version >= LEVEL_0_SINCE;
    let supported = all.into_iter().filter(is_understood);
    let supported = supported.map(|feature| SupportedFeatureKey {
        name: StrBytes::from(feature.name),
        min_version: feature.min,
        max_version: feature.max,
    });
    let finalized = all.map(|feature| FinalizedFeatureKey {
        name: StrBytes::from(feature.name),
        max_version_level: feature.finalized,
        min_version_level: feature.finalized,
    });
    let epoch = |image: &MetadataImage| i64::try_from(image.at().0).unwrap_or(i64::MAX);
    ApiVersionsResponse {
        api_keys,
        supported_features: supported.collect(),
        // it grows with every command
        finalized_features_epoch: image.map_or(-1, epoch),
        finalized_features: finalized.into(),
        ..Default::default()
    }
}

/// The answer to an unknown version: version 0, which lists this API alone (KIP-511).
pub(crate) fn unsupported(correlation_id: i32) -> Result<Vec<Bytes>, EncodeError> {
    let own = ApiVersion {
        api_key: ApiKey::ApiVersions as i16,
        min_version: *ApiVersions::VERSIONS.start(),
        max_version: *ApiVersions::VERSIONS.end(),
    };
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![own],
        ..Default::default()
    };
    encode::<ApiVersionsRequest>(0, correlation_id, &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_client_software_are_checked() {
        for good in ["apache-kafka-java", "4.4.0", "a"] {
            assert!(sound_name(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a\u{e9}"] {
            assert!(!sound_name(bad), "{bad}");
        }
    }
}
