//! The features of the cluster, as Kafka tells them (KIP-584).

use highwater_kraft_meta::{MetadataImage, MetadataVersion};

/// The metadata's own version; see [`MetadataVersion`].
pub(super) const METADATA_VERSION: &str = "metadata.version";
/// The lowest level that Kafka 4 still supports. Here no cluster has a lower one than [`MetadataVersion::FIRST`], and none
/// goes back.
const METADATA_VERSION_MIN: i16 = 7;
/// Level 1 means that the metadata log says which voters there are, by their directories, and that they can be changed
/// (KIP-853). It is so in every cluster, whatever way its quorum was formed in.
const KRAFT_VERSION: &str = "kraft.version";
const KRAFT_VERSION_LEVEL: i16 = 1;

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// The levels that this program supports.
    pub(super) min: i16,
    pub(super) max: i16,
    /// The level of the cluster.
    pub(super) finalized: i16,
}

/// Every feature.
pub(super) fn all(finalized: MetadataVersion) -> [Feature; 2] {
    [
        Feature {
            name: METADATA_VERSION,
            min: METADATA_VERSION_MIN,
            max: MetadataVersion::NEWEST.0,
            finalized: finalized.0,
        },
        Feature {
            name: KRAFT_VERSION,
            min: 0,
            max: KRAFT_VERSION_LEVEL,
            finalized: KRAFT_VERSION_LEVEL,
        },
    ]
}

/// The feature of a name.
pub(super) fn find(image: &MetadataImage, name: &str) -> Option<Feature> {
    let mut all = all(image.metadata_version()).into_iter();
    all.find(|feature| feature.name == name)
}
