//! The versions that a broker serves.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use highwater_protocol::Request;
use highwater_protocol::messages::api_versions_response::ApiVersion;

use crate::Error;

/// The versions of each API that a broker serves.
#[derive(Debug, Clone)]
pub struct Versions(BTreeMap<i16, RangeInclusive<i16>>);

impl Versions {
    pub(crate) fn new(served: &[ApiVersion]) -> Self {
        let range = |api: &ApiVersion| (api.api_key, api.min_version..=api.max_version);
        Self(served.iter().map(range).collect())
    }

    /// The highest version that the broker serves and the schema knows, and that is not above `max`. The limit is
    /// needed because a later version may give another meaning to a field that the caller fills in.
    ///
    /// # Errors
    /// [`Error::Version`].
    pub fn up_to<R: Request>(&self, max: i16) -> Result<i16, Error> {
        let served = self.0.get(&(R::KEY as i16));
        let highest = served.map(|served| max.min(*served.end()).min(*R::VALID.end()));
        let both = |version: &i16| {
            R::VALID.contains(version) && served.is_some_and(|served| served.contains(version))
        };
        highest.filter(both).ok_or(Error::Version(R::KEY))
    }
}
