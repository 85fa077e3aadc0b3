//! The actions that a bucket's settings cause by themselves (rule G5). AWS's own client reads the settings, because
//! `object_store` has no call for them.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, ReplicationRuleStatus, TransitionStorageClass,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use highwater_runtime::reasons;
use object_store::aws::AwsCredentialProvider;

use super::answer::{NoCredentials, cause};
use super::connections::Connections;
use super::{Address, Unusable};

/// The settings that must be known: a lifecycle rule may delete objects that are needed.
const LIFECYCLE: &str = "lifecycle";
/// The wait before a failed request is retried, two times at most.
const BACKOFF: Duration = Duration::from_millis(200);

/// Reads a bucket's settings.
#[derive(Debug)]
pub(super) struct BucketSettings {
    pub(super) bucket: String,
    pub(super) address: Address,
    pub(super) connections: Connections,
    pub(super) region: String,
    pub(super) credentials: AwsCredentialProvider,
}

/// The storage classes whose objects can't be read at once: they have to be restored first, which takes minutes to
/// days.
const ARCHIVES: [TransitionStorageClass; 2] = [
    TransitionStorageClass::Glacier,
    TransitionStorageClass::DeepArchive,
];

/// The harm that a rule does to objects that must stay and be readable.
fn harm(rule: &LifecycleRule) -> Option<String> {
    let gone = |rule: &LifecycleExpiration| rule.days().is_some() || rule.date().is_some();
    if rule.expiration().is_some_and(gone) {
        return Some("deletes them: records are lost".to_owned());
    }
    let mut classes = rule
        .transitions()
        .iter()
        .filter_map(|to| to.storage_class());
    let archive = classes.find(|class| ARCHIVES.contains(class))?;
    Some(format!(
        "moves them to {archive}: records can't be read any more"
    ))
}

/// Whether a rule is in force for objects under `ours`; none of these has a tag.
fn covers(rule: &LifecycleRule, ours: &str) -> bool {
    if rule.status() != &ExpirationStatus::Enabled {
        return false;
    }
    let filter = rule.filter();
    let and = filter.and_then(LifecycleRuleFilter::and);
    let tagged = filter.is_some_and(|filter| filter.tag().is_some())
        || and.is_some_and(|and| !and.tags().is_empty());
    #[expect(deprecated, reason = "a prefix that was set so is still in force")]
    let old = rule.prefix();
    let prefix = old
        .or_else(|| filter?.prefix())
        .or_else(|| and?.prefix())
        .unwrap_or_default();
    !tagged && (ours.starts_with(prefix) || prefix.starts_with(ours))
}

/// The id of the first rule that would delete or archive objects under `ours`, and the harm that it does.
fn harmful(rules: &[LifecycleRule], ours: &str) -> Option<(String, String)> {
    let mut ours = rules.iter().filter(|rule| covers(rule, ours));
    let (id, harm) = ours.find_map(|rule| Some((rule.id(), harm(rule)?)))?;
    Some((id.unwrap_or("without an id").to_owned(), harm))
}

impl BucketSettings {
    /// Refuses a bucket that deletes or archives objects under `ours`, and warns of the effects of versioning and
    /// replication.
    ///
    /// Credentials that may not read the settings get a warning instead, since Highwater's policy does not need that
    /// permission.
    pub(super) async fn check(&self, ours: &str) -> Result<(), Unusable> {
        let (client, bucket) = (self.client().await?, &self.bucket);
        let asked = client.get_bucket_lifecycle_configuration().bucket(bucket);
        if let Some(lifecycle) = seen(LIFECYCLE, asked.send().await)?
            && let Some((rule, harm)) = harmful(lifecycle.rules(), ours)
        {
            return Err(Unusable::Refused(format!(
                "the bucket's lifecycle rule {rule} covers the objects under {ours} and {harm}; Highwater deletes what it \
                 no longer needs itself, and reads everything else at any time"
            )));
        }
        let asked = client.get_bucket_versioning().bucket(bucket);
        if let Some(versioning) = seen("versioning", asked.send().await)?
            && versioning.status() == Some(&BucketVersioningStatus::Enabled)
        {
            tracing::warn!(
                "the bucket keeps versions: deleted objects still cost money, and hold records past their \
                 retention, until a lifecycle rule removes noncurrent versions"
            );
        }
        let asked = client.get_bucket_replication().bucket(bucket);
        if let Some(replication) = seen("replication", asked.send().await)?
            && let Some(replication) = replication.replication_configuration()
            && let mut rules = replication.rules().iter()
            && rules.any(|rule| rule.status() == &ReplicationRuleStatus::Enabled)
        {
            tracing::warn!(
                "the bucket is replicated: creating an object only where there is none holds within one site alone, \
                 so never start this cluster on the other site's bucket while this one runs"
            );
        }
        Ok(())
    }

    /// A client for a few requests that are made at once, so that its credentials need not be renewed.
    async fn client(&self) -> Result<Client, Unusable> {
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| match cause::<NoCredentials>(&error) {
            Some(missing) => missing.clone().into(),
            None => Unusable::Refused(reasons(&error)),
        })?;
        let credentials = Credentials::new(
            &credential.key_id,
            &credential.secret_key,
            credential.token.clone(),
            None,
            "highwater",
        );
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.connections.clone())
            .credentials_provider(credentials)
            .region(Region::new(self.region.clone()))
            .endpoint_url(self.address.endpoint())
            .force_path_style(self.address.path_style)
            .retry_config(RetryConfig::standard().with_initial_backoff(BACKOFF));
        Ok(Client::from_conf(config.build()))
    }
}

/// One of the bucket's settings; `None` if it is not set, not known to the store, or not permitted to be read.
fn seen<T, E>(
    setting: &str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Option<T>, Unusable>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let error = match answer {
        Ok(found) => return Ok(Some(found)),
        Err(error) => error,
    };
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match status {
        Some(401 | 403) => {
            let error = reasons(&error);
            tracing::warn!(
                error,
                "the bucket's {setting} settings can't be seen, so they are not checked"
            );
            Ok(None)
        }
        // the setting is not set
        Some(404) if error.code() != Some("NoSuchBucket") => Ok(None),
        // the store has no such setting
        Some(400 | 405 | 501) => {
            let error = reasons(&error);
            tracing::debug!(error, "the store has no {setting} settings");
            Ok(None)
        }
        // an answer that can't be read is tolerated for settings that lead to warnings only; lifecycle rules must be
        // known
        Some(200) if setting != LIFECYCLE => {
            let error = reasons(&error);
            tracing::warn!(
                error,
                "the bucket's {setting} settings can't be read, so they are not checked"
            );
            Ok(None)
        }
        status => {
            let reason = format!("the bucket's {setting} settings: {}", reasons(&error));
            Err(match status.is_none_or(|status| status >= 500) {
                true => Unusable::NoAnswer(reason),
                false => Unusable::Refused(reason),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::faults::{bucket, refusal, response, serve};
    use super::*;

    fn rule(body: &str) -> String {
        let xml = format!(
            "<?xml version=\"1.0\"?><LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Rule><ID>r</ID>{body}</Rule></LifecycleConfiguration>"
        );
        response("200 OK", "", &xml)
    }

    /// The result of a check whose only answer is one about the lifecycle of the bucket.
    async fn check(lifecycle: &str, ours: &str) -> Result<(), Unusable> {
        let lifecycle = lifecycle.to_owned();
        let server = serve(Arc::new(move |head: &str| {
            Some(match head.starts_with("GET /bucket/?lifecycle ") {
                true => lifecycle.clone(),
                false => refusal("404 Not Found", "NoSuchConfiguration"),
            })
        }))
        .await;
        bucket(&server.endpoint).await.settings.check(ours).await
    }

    #[tokio::test]
    async fn a_rule_that_deletes_our_objects_is_found() {
        for body in [
            "<Status>Enabled</Status><Filter></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Prefix/><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>",
            "<Status>Enabled</Status><Filter><Prefix>a/</Prefix></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><Prefix>a/b/data/</Prefix></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><And><Prefix>a</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And>\
             </Filter><Expiration><Days>3</Days></Expiration>",
        ] {
            let refused = check(&rule(body), "a/b/").await;
            let Err(Unusable::Refused(refused)) = refused else {
                panic!("{body}: {refused:?}");
            };
            let found = refused.contains("rule r ") && refused.contains("deletes them");
            assert!(found, "{body}: {refused}");
        }
    }

    // G5: an archived object exists, but no GET reads it
    #[tokio::test]
    async fn a_rule_that_archives_our_objects_is_found() {
        for class in ARCHIVES {
            let body = format!(
                "<Status>Enabled</Status><Filter><Prefix>a</Prefix></Filter><Transition><Days>30</Days><StorageClass>\
                 STANDARD_IA</StorageClass></Transition><Transition><Days>90</Days><StorageClass>{class}</StorageClass>\
                 </Transition>"
            );
            let refused = check(&rule(&body), "a/b/").await;
            let Err(Unusable::Refused(refused)) = refused else {
                panic!("{body}: {refused:?}");
            };
            let found = refused.contains("rule r ") && refused.contains(class.as_str());
            assert!(found, "{body}: {refused}");
            assert_eq!(check(&rule(&body), "b/").await, Ok(()), "not ours");
            let disabled = body.replace("Enabled", "Disabled");
            assert_eq!(check(&rule(&disabled), "a/b/").await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_rule_that_does_not_is_not() {
        for body in [
            "<Status>Disabled</Status><Filter/><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><Prefix>other/</Prefix></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><Days>3</Days>\
             </Expiration>",
            "<Status>Enabled</Status><Filter/><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>\
             </Expiration>",
            "<Status>Enabled</Status><Filter/><NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays>\
             </NoncurrentVersionExpiration>",
            "<Status>Enabled</Status><Filter/><Transition><Days>1</Days><StorageClass>GLACIER_IR</StorageClass></Transition>",
            "<Status>Enabled</Status><Filter/><AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload>",
        ] {
            assert_eq!(check(&rule(body), "a/b/").await, Ok(()), "{body}");
        }
    }

    #[tokio::test]
    async fn a_setting_that_cannot_be_read_refuses_unless_the_store_has_none() {
        for (status, code, is_fine) in [
            ("403 Forbidden", "AccessDenied", true),
            ("404 Not Found", "NoSuchLifecycleConfiguration", true),
            ("501 Not Implemented", "NotImplemented", true),
            ("404 Not Found", "NoSuchBucket", false),
            ("503 Service Unavailable", "SlowDown", false),
        ] {
            let checked = check(&refusal(status, code), "a/").await;
            assert_eq!(checked.is_ok(), is_fine, "{status}: {checked:?}");
            // a store that is out of order is another thing than one that can't be used
            let told = match checked {
                Ok(()) => continue,
                Err(Unusable::NoAnswer(told)) if status.starts_with('5') => told,
                Err(Unusable::Refused(told)) if status.starts_with('4') => told,
                Err(wrong) => panic!("{status}: {wrong:?}"),
            };
            let is_told = told.contains("lifecycle settings") && told.contains(code);
            assert!(is_told, "{told}");
        }
        let checked = check(&response("200 OK", "", "<Lifecycle"), "a/").await;
        assert!(checked.is_err(), "{checked:?}");
    }

    #[tokio::test]
    async fn an_answer_of_another_form_refuses_no_bucket_where_it_would_only_be_warned_of() {
        let server = serve(Arc::new(|head: &str| {
            Some(match head.starts_with("GET /bucket/?lifecycle ") {
                true => refusal("404 Not Found", "NoSuchLifecycleConfiguration"),
                false => response("200 OK", "", "<GetBucketVersioningResponse/>"),
            })
        }))
        .await;
        let checked = bucket(&server.endpoint).await.settings.check("a/").await;
        assert_eq!(checked, Ok(()));
    }
}
