//! What a bucket is set to do by itself (rule G5): requests that the library has no call for.

use std::error::Error;

use highwater_runtime::reasons;
use http::StatusCode;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpRequestBody};
use serde::Deserialize;

use super::answer::Refused;

/// A bucket's own settings.
#[derive(Debug)]
pub(super) struct BucketSettings {
    pub(super) client: HttpClient,
    pub(super) url: String,
    pub(super) region: String,
    pub(super) credentials: AwsCredentialProvider,
}

#[derive(Debug, Deserialize, Default)]
struct Lifecycle {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    #[serde(rename = "Transition", default)]
    transitions: Vec<Transition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Transition {
    storage_class: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    tag: Option<Tag>,
    and: Option<And>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct And {
    prefix: Option<String>,
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Expiration {
    days: Option<u64>,
    date: Option<String>,
}

/// Classes whose objects are not read at once: they must be restored first, which takes minutes to days.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

impl Rule {
    /// What it does to objects that must stay and be read.
    fn harm(&self) -> Option<String> {
        let gone = |rule: &Expiration| rule.days.is_some() || rule.date.is_some();
        if self.expiration.as_ref().is_some_and(gone) {
            return Some("deletes them: records are lost".to_owned());
        }
        let classes = self.transitions.iter().map(|to| to.storage_class.as_str());
        let archive = classes.into_iter().find(|class| ARCHIVES.contains(class))?;
        Some(format!(
            "moves them to {archive}: records can't be read any more"
        ))
    }

    /// Whether it is in force for objects under `ours`. None of ours has a tag.
    fn covers(&self, ours: &str) -> bool {
        if self.status != "Enabled" {
            return false;
        }
        let (mut prefix, mut tagged) = (self.prefix.as_deref(), false);
        if let Some(filter) = &self.filter {
            prefix = prefix.or(filter.prefix.as_deref());
            tagged = filter.tag.is_some();
            if let Some(and) = &filter.and {
                prefix = prefix.or(and.prefix.as_deref());
                tagged |= !and.tags.is_empty();
            }
        }
        let prefix = prefix.unwrap_or_default();
        !tagged && (ours.starts_with(prefix) || prefix.starts_with(ours))
    }
}

/// The first rule of a lifecycle configuration that would delete or archive objects under `ours`, and what it does.
fn harmful(xml: &str, ours: &str) -> Result<Option<(String, String)>, String> {
    let lifecycle: Lifecycle =
        quick_xml::de::from_str(xml).map_err(|error| format!("the lifecycle rules: {error}"))?;
    let ours = lifecycle.rules.into_iter().filter(|rule| rule.covers(ours));
    let mut harmful = ours.filter_map(|rule| rule.harm().map(|harm| (rule.id, harm)));
    let found = harmful.next();
    Ok(found.map(|(id, harm)| (id.unwrap_or_else(|| "without an id".to_owned()), harm)))
}

impl BucketSettings {
    /// Refuses a bucket that deletes or archives what is under `ours`; says what versioning and replication void.
    ///
    /// Who may not see the settings gets a warning instead: the policy that Highwater needs does not hold them.
    pub(super) async fn check(&self, ours: &str) -> Result<(), String> {
        if let Some(xml) = self.read("lifecycle").await?
            && let Some((rule, harm)) = harmful(&xml, ours)?
        {
            return Err(format!(
                "the bucket's lifecycle rule {rule} covers the objects under {ours} and {harm}; Highwater deletes what it \
                 no longer needs itself, and reads everything else at any time"
            ));
        }
        if let Some(xml) = self.read("versioning").await?
            && xml.contains("<Status>Enabled</Status>")
        {
            tracing::warn!(
                "the bucket keeps versions: what Highwater deletes goes on costing, and holds records past their \
                 retention, until a lifecycle rule removes noncurrent versions"
            );
        }
        if let Some(xml) = self.read("replication").await?
            && xml.contains("<Status>Enabled</Status>")
        {
            tracing::warn!(
                "the bucket is replicated: creating an object only where there is none holds within one site alone, \
                 so never start this cluster on the other site's bucket while this one runs"
            );
        }
        Ok(())
    }

    /// One of the bucket's settings as XML; `None` where it is not set, not known there, or not ours to see.
    async fn read(&self, setting: &str) -> Result<Option<String>, String> {
        let request = http::Request::get(format!("{}?{setting}", self.url))
            .body(HttpRequestBody::empty())
            .map_err(|error| error.to_string())?;
        let (status, body) = match self.send(request).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refused)) => {
                if matches!(
                    refused.status,
                    StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED
                ) {
                    tracing::warn!(error = %refused, "the bucket's {setting} settings can't be seen, so they are not checked");
                    return Ok(None);
                }
                // a store that has no such setting
                if matches!(
                    refused.status,
                    StatusCode::NOT_IMPLEMENTED
                        | StatusCode::METHOD_NOT_ALLOWED
                        | StatusCode::BAD_REQUEST
                ) {
                    tracing::debug!(error = %refused, "the store has no {setting} settings");
                    return Ok(None);
                }
                return Err(format!("the bucket's {setting} settings: {refused}"));
            }
            Err(Failure::Other(error)) => {
                return Err(format!("the bucket's {setting} settings: {error}"));
            }
        };
        Ok((status == StatusCode::OK).then_some(body))
    }

    /// Signs a request for one of the bucket's settings and sends it.
    async fn send(&self, mut request: HttpRequest) -> Result<(StatusCode, String), Failure> {
        let other = |error: &dyn Error| Failure::Other(reasons(error));
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| other(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| other(&error))?;
        let answer = match self.client.execute(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(Failure::of(&error)),
        };
        let status = answer.status();
        let body = answer.into_body().bytes().await;
        let body = body.map_err(|error| other(&error))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

#[derive(Debug)]
enum Failure {
    Refused(Refused),
    Other(String),
}

impl Failure {
    fn of(error: &HttpError) -> Self {
        match error
            .source()
            .and_then(|source| source.downcast_ref::<Refused>())
        {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Other(reasons(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(body: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Rule><ID>r</ID>{body}</Rule></LifecycleConfiguration>"
        )
    }

    #[test]
    fn a_rule_that_deletes_our_objects_is_found() {
        for body in [
            "<Status>Enabled</Status><Filter></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Prefix/><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>",
            "<Status>Enabled</Status><Filter><Prefix>a/</Prefix></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><Prefix>a/b/data/</Prefix></Filter><Expiration><Days>3</Days></Expiration>",
            "<Status>Enabled</Status><Filter><And><Prefix>a</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And>\
             </Filter><Expiration><Days>3</Days></Expiration>",
        ] {
            let found = harmful(&rule(body), "a/b/").expect("is read");
            let (id, harm) = found.expect(body);
            assert!(id == "r" && harm.contains("deletes"), "{body}: {harm}");
        }
    }

    // G5: an object in an archive is there, and no GET reads it
    #[test]
    fn a_rule_that_archives_our_objects_is_found() {
        for class in ARCHIVES {
            let body = format!(
                "<Status>Enabled</Status><Filter><Prefix>a</Prefix></Filter><Transition><Days>30</Days><StorageClass>\
                 STANDARD_IA</StorageClass></Transition><Transition><Days>90</Days><StorageClass>{class}</StorageClass>\
                 </Transition>"
            );
            let found = harmful(&rule(&body), "a/b/").expect("is read");
            let (id, harm) = found.expect(&body);
            assert!(id == "r" && harm.contains(class), "{body}: {harm}");
            assert_eq!(harmful(&rule(&body), "b/"), Ok(None), "not ours");
            let disabled = body.replace("Enabled", "Disabled");
            assert_eq!(harmful(&rule(&disabled), "a/b/"), Ok(None));
        }
    }

    #[test]
    fn a_rule_that_does_not_is_not() {
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
            assert_eq!(harmful(&rule(body), "a/b/"), Ok(None), "{body}");
        }
        assert!(harmful("<Lifecycle", "a/").is_err());
    }
}
