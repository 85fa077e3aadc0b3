//! What people, and Kafka's principals, need of a certificate.

use std::fmt;
use std::time::Duration;

use der::{DateTime, Decode};
use x509_cert::certificate::{CertificateInner, Raw};

use crate::name;

/// The names and the dates of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject, as RFC 2253 writes it.
    pub subject: String,
    /// The issuer, as RFC 2253 writes it.
    pub issuer: String,
    /// The first second of its validity, since 1970.
    pub not_before: u64,
    /// The last second of its validity, since 1970.
    pub not_after: u64,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// The reason why it can't be read.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        // serial numbers that RFC 5280 forbids are common, and don't matter here
        let read = CertificateInner::<Raw>::from_der(der).map_err(|error| error.to_string())?;
        let tbs = read.tbs_certificate();
        let validity = tbs.validity();
        Ok(Self {
            subject: name::text(tbs.subject()),
            issuer: name::text(tbs.issuer()),
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// The first second of its validity, as text.
    #[must_use]
    pub fn not_before_text(&self) -> String {
        date(self.not_before)
    }

    /// The last second of its validity, as text.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        date(self.not_after)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject, issuer, ..
        } = self;
        let until = self.not_after_text();
        write!(f, "subject={subject:?} issuer={issuer:?} not_after={until}")
    }
}

/// A time in seconds since 1970 as text: `2030-01-31T00:00:00Z`.
fn date(seconds: u64) -> String {
    match DateTime::from_unix_duration(Duration::from_secs(seconds)) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{seconds}s after 1970"),
    }
}
