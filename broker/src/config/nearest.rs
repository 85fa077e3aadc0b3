//! Finds the setting that a misspelt name means.

use super::keys::{self, Key, bare};

/// The most mistakes; with more, or with more than one in three letters, another word is meant.
const MISTAKES_MAX: usize = 2;

/// The setting whose name is closest to `name`, without regard to case and to the prefix `highwater.`.
#[must_use]
pub(super) fn nearest(name: &str) -> Option<&'static Key> {
    let name = name.to_ascii_lowercase();
    let name = bare(&name);
    let mistakes = |key: &&Key| distance(name.as_bytes(), bare(key.name).as_bytes());
    let best = keys::all().min_by_key(mistakes)?;
    (mistakes(&best) <= MISTAKES_MAX.min(name.len() / 3)).then_some(best)
}

/// The number of letters to insert, remove or replace (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = above_left + usize::from(from != to);
            above_left = row[j + 1];
            row[j + 1] = replaced.min(row[j].min(above_left) + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_has_the_most_like_it_and_another_word_has_none() {
        let told = |name| nearest(name).map(|key| key.name);
        for (name, meant) in [
            ("log.retention.hour", "log.retention.hours"),
            ("NUM.PARTITIONS", "num.partitions"),
            ("data.dir", "highwater.data.dir"),
            ("highwater.num.partition", "num.partitions"),
        ] {
            assert_eq!(told(name), Some(meant), "{name}");
        }
        for other in ["xyz", "transactions.timeout.ms", "log.retention.weeks", ""] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn mistakes_are_counted() {
        let count = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes());
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "ab"), 2);
        assert_eq!(count("same", "same"), 0);
    }
}
