//! UpdateFeatures (key 57), versions 0..=2.
//! Source: schema/update_features_request.kmsg; KIP-584, KIP-778, KIP-1022; `FeatureControlManager.updateFeature`.
//! Behaviour: all updates are made or none. `metadata.version` is raised when every registered broker and every controller
//! runs a program that knows the new level. A level that a feature has already is no error.
//! Deviations from Apache Kafka: no level goes back, because no program can undo what a later level has written. With
//! `validateOnly` the controllers are not asked which levels they know, only the registered brokers count.

use highwater_kraft_meta::command::SetMetadataVersion;
use highwater_kraft_meta::{Action, MetadataImage, MetadataStore, MetadataVersion};
use highwater_protocol::messages::update_features_request::FeatureUpdateKey;
use highwater_protocol::messages::update_features_response::UpdatableFeatureResult;
use highwater_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use highwater_protocol::{ErrorCode, StrBytes};
use tokio::time::{Duration, timeout};

use super::context::RequestContext;
use super::error::{self, Refusal};
use super::features::{self, METADATA_VERSION};
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves UpdateFeatures.
#[derive(Debug)]
pub(crate) struct UpdateFeatures;

/// The upgrade types of a request (KIP-778).
const UPGRADE: i8 = 1;
const DOWNGRADES: [i8; 2] = [2, 3];
/// From this version on there is one answer for all features (KIP-1022).
const ONE_ANSWER_SINCE: i16 = 2;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    async fn handle(
        ctx: RequestContext,
        request: UpdateFeaturesRequest,
    ) -> Reply<UpdateFeaturesResponse> {
        if !ctx.authorize(Operation::Alter, Resource::Cluster) {
            return Reply::Ready(refused(&ErrorCode::ClusterAuthorizationFailed.into()));
        }
        Reply::Ready(update(&*ctx.broker.metadata, request, ctx.version).await)
    }
}

/// Updates the features.
pub(crate) async fn update(
    metadata: &dyn MetadataStore,
    request: UpdateFeaturesRequest,
    version: i16,
) -> UpdateFeaturesResponse {
    if let Err(refusal) = try_update(metadata, &request, version).await {
        let reason = refusal.message.as_deref();
        tracing::info!(reason, "the features are not updated");
        let all = "The update failed for all features since the following feature had an error: ";
        let message = format!("{all}{}", refusal.message.unwrap_or_default());
        return refused(&Refusal::new(refusal.code, message));
    }
    let updated = request.feature_updates.into_iter();
    let results = updated.map(|update| UpdatableFeatureResult {
        feature: update.feature,
        error_code: ErrorCode::None.code(),
        // what Kafka says of a feature that was updated
        error_message: Some(StrBytes::from("NONE")),
    });
    UpdateFeaturesResponse {
        error_message: None,
        results: match version < ONE_ANSWER_SINCE {
            true => results.collect(),
            false => Vec::new(),
        },
        ..Default::default()
    }
}

/// The answer to a request that changes nothing.
pub(crate) fn refused(refusal: &Refusal) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse {
        error_code: refusal.code.code(),
        error_message: refusal.text(),
        ..Default::default()
    }
}

async fn try_update(
    metadata: &dyn MetadataStore,
    request: &UpdateFeaturesRequest,
    version: i16,
) -> Result<(), Refusal> {
    let image = metadata.image();
    for update in &request.feature_updates {
        check(&image, update, version)?;
    }
    let mut updates = request.feature_updates.iter();
    let raised = updates.find(|update| &*update.feature == METADATA_VERSION);
    let raised = raised.filter(|raised| raised.max_version_level > image.metadata_version().0);
    let Some(raised) = raised else {
        return Ok(());
    };
    let version = MetadataVersion(raised.max_version_level);
    let named = |refusal: Refusal| match refusal.code {
        ErrorCode::InvalidUpdateVersion => {
            let why = refusal.message.unwrap_or_default();
            invalid(METADATA_VERSION, version.0, &why)
        }
        _ => refusal,
    };
    if request.validate_only {
        let older = image.older_than(version);
        return older.map_or(Ok(()), |older| Err(named(error::from_rejection(&older))));
    }
    let command = Action::SetMetadataVersion(SetMetadataVersion {
        version: version.record(),
    });
    let within = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let proposed = timeout(within, metadata.propose(command.into())).await;
    let late = |_elapsed| {
        let why = "The controllers have not answered in time; the change may still be made.";
        Refusal::new(ErrorCode::RequestTimedOut, why)
    };
    let decided = proposed.map_err(late)?;
    decided.map_err(|undecided| named(error::from_proposal(&undecided)))?;
    tracing::info!(%version, "metadata.version is raised");
    Ok(())
}

/// Checks one update against the features of this program and what the cluster has.
fn check(image: &MetadataImage, update: &FeatureUpdateKey, version: i16) -> Result<(), Refusal> {
    let (name, level) = (&*update.feature, update.max_version_level);
    let is_downgrade = match version {
        0 => update.allow_downgrade,
        _ => DOWNGRADES.contains(&update.upgrade_type),
    };
    let refuse = |why: &str| Err(invalid(name, level, why));
    if version > 0 && update.upgrade_type != UPGRADE && !is_downgrade {
        return refuse("The controller does not support the given upgrade type.");
    }
    if level < 0 {
        return refuse("A feature version cannot be less than 0.");
    }
    let Some(feature) = features::find(image, name) else {
        return refuse("This node does not support this feature.");
    };
    if !(feature.min..=feature.max).contains(&level) {
        let (min, max) = (feature.min, feature.max);
        return refuse(&format!("This node only supports versions {min}-{max}"));
    }
    match level.cmp(&feature.finalized) {
        std::cmp::Ordering::Less if is_downgrade => refuse(&format!(
            "The cluster has version {}, which can't be undone.",
            feature.finalized
        )),
        std::cmp::Ordering::Less => refuse(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        ),
        std::cmp::Ordering::Greater if is_downgrade => {
            refuse("Can't downgrade to a newer version.")
        }
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Ok(()),
    }
}

/// A refusal in Kafka's words.
fn invalid(name: &str, level: i16, why: &str) -> Refusal {
    let message = format!("Invalid update version {level} for feature {name}. {why}");
    Refusal::new(ErrorCode::InvalidUpdateVersion, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an update of version 1 is answered; `None` if it is taken.
    fn told(name: &str, level: i16, upgrade_type: i8) -> Option<String> {
        let update = FeatureUpdateKey {
            feature: StrBytes::from(name),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        };
        let checked = check(&MetadataImage::default(), &update, 1);
        checked.err().and_then(|refusal| refusal.message)
    }

    #[test]
    fn an_update_is_checked_as_kafka_does_and_no_level_goes_back() {
        let first = MetadataVersion::FIRST.0;
        let newest = MetadataVersion::NEWEST.0;
        assert_eq!(told("metadata.version", newest, 1), None);
        assert_eq!(told("kraft.version", 1, 1), None);
        for (name, level, upgrade_type, part) in [
            (
                "metadata.version",
                newest + 1,
                1,
                "only supports versions 7-",
            ),
            ("metadata.version", 6, 3, "only supports versions 7-"),
            ("metadata.version", -1, 1, "cannot be less than 0"),
            (
                "metadata.version",
                first - 1,
                1,
                "Can't downgrade the version of this",
            ),
            ("metadata.version", first - 1, 2, "which can't be undone"),
            ("metadata.version", first - 1, 3, "which can't be undone"),
            ("kraft.version", 0, 3, "which can't be undone"),
            ("transaction.version", 2, 1, "does not support this feature"),
            ("metadata.version", newest, 0, "the given upgrade type"),
        ] {
            let told = told(name, level, upgrade_type).expect("is refused");
            assert!(told.contains(part), "{told}");
        }
    }
}
