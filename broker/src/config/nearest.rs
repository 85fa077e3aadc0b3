//! What a misspelt setting was meant to be.

use super::keys::{self, Key};

/// The name most like `name`, for an error that helps.
#[must_use]
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, |key| key.name).map(|key| key.name)
}

/// The setting most like `name` in the words of `called`.
#[must_use]
pub(super) fn nearest_of(name: &str, called: fn(&Key) -> &str) -> Option<&'static Key> {
    let shared = |other: &str| {
        let same = name
            .bytes()
            .zip(other.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let tail = name
            .bytes()
            .rev()
            .zip(other.bytes().rev())
            .take_while(|(a, b)| a == b)
            .count();
        same + tail
    };
    let best = keys::all().max_by_key(|key| shared(called(key)))?;
    (shared(called(best)) * 2 > name.len()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_has_the_most_like_it_and_another_word_has_none() {
        assert_eq!(nearest("log.retention.hour"), Some("log.retention.hours"));
        assert_eq!(nearest("xyz"), None);
    }
}
