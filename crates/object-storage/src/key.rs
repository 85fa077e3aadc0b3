//! Keys of objects.

use std::fmt;
use std::sync::Arc;

/// A key in the bucket, without the cluster's prefix: segments of `[A-Za-z0-9._-]` joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Makes a key.
    ///
    /// # Panics
    /// When a segment is empty, `.` or `..`, or has another character. Keys are made by this code alone.
    #[must_use]
    pub fn new(key: impl AsRef<str>) -> Self {
        let key = key.as_ref();
        let Some(sound) = Self::parse(key) else {
            unreachable!("unsound object key: {key}")
        };
        sound
    }

    /// Parses a key that a store returned; `None` if it is malformed.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let sound = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        key.split('/').all(sound).then(|| Self(Arc::from(key)))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
