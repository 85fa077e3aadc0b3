//! Errors as text.

use std::error::Error;

/// The text of an error and of all its causes, the outermost first. A cause whose text is contained in the text so far
/// is left out.
#[must_use]
pub fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(&'static str, #[source] Option<Box<Told>>);

    #[test]
    fn every_cause_is_told_once() {
        let disk = Told("disk full", None);
        let put = Told("put: disk full", Some(Box::new(disk)));
        let upload = Told("upload", Some(Box::new(put)));
        assert_eq!(reasons(&upload), "upload: put: disk full");
    }
}
