//! The versions that a client chooses.

use highwater_client::{Error, Versions};
use highwater_protocol::messages::api_versions_response::ApiVersion;
use highwater_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, HeartbeatRequest, MetadataRequest,
    ProduceRequest,
};
use highwater_protocol::{ApiKey, ErrorCode, Request};

use crate::peer::connect;

fn served(key: ApiKey, min_version: i16, max_version: i16) -> ApiVersion {
    ApiVersion {
        api_key: key as i16,
        min_version,
        max_version,
    }
}

async fn versions(answer: ApiVersionsResponse) -> Result<Versions, Error> {
    let (mut client, mut broker) = connect();
    let asked = broker.serve::<ApiVersionsRequest>(&answer);
    let (versions, asked) = tokio::join!(client.versions(), asked);
    assert_eq!(asked.header.api_version, 0, "every broker answers it");
    versions
}

#[tokio::test(start_paused = true)]
async fn the_highest_version_that_caller_broker_and_schema_know_is_chosen() {
    let answer = ApiVersionsResponse {
        api_keys: vec![
            served(ApiKey::Produce, 3, 9),
            served(ApiKey::Fetch, 15, 16),
            served(ApiKey::Metadata, 0, i16::MAX),
            served(ApiKey::Heartbeat, -7, -3),
        ],
        ..Default::default()
    };
    let versions = versions(answer).await.expect("is answered");
    let up_to = |max| versions.up_to::<ProduceRequest>(max).ok();
    assert_eq!(
        [up_to(12), up_to(5), up_to(3), up_to(2)],
        [Some(9), Some(5), Some(3), None]
    );
    assert_eq!(versions.up_to::<FetchRequest>(17).ok(), Some(16));
    assert_eq!(
        versions.up_to::<FetchRequest>(12).ok(),
        None,
        "the broker is newer"
    );
    let newest = *MetadataRequest::VALID.end();
    assert_eq!(
        versions.up_to::<MetadataRequest>(i16::MAX).ok(),
        Some(newest)
    );
    assert_eq!(
        versions.up_to::<HeartbeatRequest>(4).ok(),
        None,
        "no version is negative"
    );
    let missing = versions.up_to::<ApiVersionsRequest>(0);
    assert!(
        matches!(missing, Err(Error::Version(ApiKey::ApiVersions))),
        "{missing:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_to_tell_its_versions_is_named_with_its_code() {
    let answer = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        ..Default::default()
    };
    let refused = versions(answer).await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused {
                api: ApiKey::ApiVersions,
                code: 35
            })
        ),
        "{refused:?}"
    );
}
