//! Writes tar archives (POSIX ustar) in which nothing depends on the machine: no times, no names of users.

use anyhow::{Context, Result, ensure};

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Directory,
    Link(String),
}

const BLOCK: usize = 512;
const NAME_MAX: usize = 100;
const PREFIX_MAX: usize = 155;

/// Appends an entry; `path` has no leading `/`.
pub(crate) fn append(
    out: &mut Vec<u8>,
    path: &str,
    mode: u32,
    owner: u32,
    kind: &Kind,
) -> Result<()> {
    let (flag, content, target) = match kind {
        Kind::File(content) => (b'0', content.as_slice(), ""),
        Kind::Directory => (b'5', &[][..], ""),
        Kind::Link(target) => (b'2', &[][..], target.as_str()),
    };
    let path = match kind {
        Kind::Directory => format!("{path}/"),
        _ => path.to_owned(),
    };
    let (prefix, name) = split(&path)?;
    ensure!(
        target.len() <= NAME_MAX,
        "the target of a link is too long: {target}"
    );
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, &format!("{owner:07o}"));
    put(116, &format!("{owner:07o}"));
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(157, target);
    put(257, "ustar");
    put(263, "00");
    put(345, prefix);
    header[156] = flag;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// Ends the archive.
pub(crate) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

/// Splits a path into the header's prefix and name.
fn split(path: &str) -> Result<(&str, &str)> {
    if path.len() <= NAME_MAX {
        return Ok(("", path));
    }
    let ends = path.match_indices('/').map(|(at, _)| at);
    let mut fits = ends.filter(|at| *at <= PREFIX_MAX && path.len() - at - 1 <= NAME_MAX);
    let at = fits
        .next()
        .with_context(|| format!("a path is too long: {path}"))?;
    Ok((&path[..at], &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(60));
        let mut out = Vec::new();
        append(&mut out, "bin", 0o755, 0, &Kind::Directory).unwrap();
        append(
            &mut out,
            "bin/a",
            0o750,
            10_001,
            &Kind::File(b"text".to_vec()),
        )
        .unwrap();
        append(&mut out, "bin/b", 0o777, 0, &Kind::Link("a".to_owned())).unwrap();
        append(&mut out, &long, 0o644, 0, &Kind::File(vec![b'x'; 513])).unwrap();
        end(&mut out);
        let file = std::env::temp_dir().join(format!("highwater-tar-{}", std::process::id()));
        std::fs::write(&file, out).unwrap();
        let listed = Command::new("tar").arg("tvf").arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for line in [
            "drwxr-xr-x 0/0",
            "-rwxr-x--- 10001/10001",
            "bin/b -> a",
            &long,
        ] {
            assert!(listed.contains(line), "{line} in {listed}");
        }
    }
}
