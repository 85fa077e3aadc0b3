//! Reads Java's `.properties` format, as Kafka's `server.properties` is written.

/// One setting and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    /// The key.
    pub key: String,
    /// The value, trimmed on the left only, as in Java.
    pub value: String,
    /// The line, from 1.
    pub line: usize,
}

/// Parses a whole file: comments, continuation lines, `=`, `:` or blank as separator, escapes.
///
/// # Errors
/// The line and reason of each malformed escape.
pub(crate) fn parse(text: &str) -> Result<Vec<Property>, Vec<String>> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        match (unescape(key), unescape(value)) {
            (Ok(key), Ok(value)) => found.push(Property {
                key,
                value,
                line: index + 1,
            }),
            (Err(why), _) | (_, Err(why)) => errors.push(format!("line {}: {why}", index + 1)),
        }
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(errors)
    }
}

fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '=' || c == ':' {
            return (&line[..at], line[at + 1..].trim_start());
        } else if c.is_whitespace() {
            let rest = line[at..].trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                out.push(code.ok_or_else(|| format!("malformed escape \\u{digits}"))?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# a comment\n! another\n\nnode.id=1\nlisteners = PLAINTEXT://:9092,\\\n    TLS://:9093\nkey:value\nbare value\npath=C\\:\\\\x\nempty=\n";
        let found: Vec<(String, String)> = parse(text)
            .expect("well formed")
            .into_iter()
            .map(|property| (property.key, property.value))
            .collect();
        let expected = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://:9092,TLS://:9093"),
            ("key", "value"),
            ("bare", "value"),
            ("path", "C:\\x"),
            ("empty", ""),
        ];
        assert_eq!(
            found,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(
            parse("a=\\u00zz"),
            Err(vec!["line 1: malformed escape \\u00zz".to_owned()])
        );
    }
}
