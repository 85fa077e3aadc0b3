//! The version of the metadata: Kafka's feature `metadata.version`.

use std::fmt;

use crate::command::Rejection;
use crate::image::MetadataImage;

/// A level of Kafka's feature `metadata.version` (`org.apache.kafka.server.common.MetadataVersion`).
///
/// The metadata of a cluster has one. Commands of a kind that came with a later level are proposed only once the cluster
/// is at that level, because a program that doesn't know them would refuse them, and so come to another state than the
/// others. An operator raises it when all nodes run a program that knows it ([`crate::Action::SetMetadataVersion`]); it
/// never falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(pub i16);

impl MetadataVersion {
    /// The level of a cluster whose log doesn't name one, and of a program that doesn't say which ones it knows: that of
    /// Kafka 4.4.
    pub const FIRST: Self = Self(33);
    /// The newest level that this program knows.
    pub const NEWEST: Self = Self(33);

    /// The level in a message, where 0 stands for [`MetadataVersion::FIRST`].
    pub(crate) fn read(recorded: i32) -> Self {
        match i16::try_from(recorded) {
            Ok(0) => Self::FIRST,
            Ok(level) => Self(level),
            // a level that no program knows
            Err(_) => Self(i16::MAX),
        }
    }

    /// The level as a message has it.
    #[must_use]
    pub fn record(self) -> i32 {
        match self {
            Self::FIRST => 0,
            Self(level) => level.into(),
        }
    }
}

impl Default for MetadataVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl MetadataImage {
    /// Checks that this program knows the version of the metadata.
    pub(crate) fn check_version(&self) -> Result<(), String> {
        let (version, newest) = (self.metadata_version(), MetadataVersion::NEWEST);
        match version <= newest {
            true => Ok(()),
            false => Err(format!(
                "the metadata of the cluster has metadata.version={version}, and this program only supports versions up to \
                 {newest}: start a newer one"
            )),
        }
    }

    /// The refusal of a version that a registered broker does not know; fenced ones count too, because they may come back.
    #[must_use]
    pub fn older_than(&self, version: MetadataVersion) -> Option<Rejection> {
        let mut older = self
            .nodes()
            .filter(|(_, node)| node.metadata_version < version);
        older.next().map(|(node, own)| Rejection::OlderNode {
            node,
            newest: Some(own.metadata_version),
        })
    }
}
