//! Runs one target with many inputs, until one fails or the time is over.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::mutate::Corpus;

/// Code that gets input from the network.
pub(crate) struct Target {
    /// The target's name on the command line.
    pub(crate) name: &'static str,
    /// Makes valid inputs.
    pub(crate) seeds: fn(&mut ChaCha8Rng) -> Result<Vec<Vec<u8>>>,
    /// Processes an input, and returns whether it was accepted. An error is a failure, and so is a panic.
    pub(crate) check: fn(&Bytes) -> Result<bool, String>,
}

/// No input of 64 KiB takes this long unless work is repeated over and over.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// The number of inputs that were tried, and of those that were accepted.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    pub(crate) inputs: u64,
    pub(crate) accepted: u64,
}

/// Runs a target. The current input is kept in a file in `dir`, so that it remains if the process is aborted.
///
/// # Errors
/// The first failure, with its input in hexadecimal digits.
pub(crate) fn run(target: &Target, seed: u64, time: Duration, dir: &Path) -> Result<Tried> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let seeds = (target.seeds)(&mut random)?;
    let mut corpus = Corpus::new(seeds, random);
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.bin", target.name));
    let mut file = File::create(&path)?;
    let mut tried = Tried::default();
    let since = now();
    let mut before = Duration::ZERO;
    while before < time {
        let input = corpus.next();
        file.rewind()?;
        file.write_all(&input)?;
        file.set_len(u64::try_from(input.len())?)?;
        let accepted = check(target, &input).with_context(|| {
            let (name, path) = (target.name, path.display());
            format!("{name} failed with seed {seed}: replay with `fuzz {name} --input {path}`")
        })?;
        tried.inputs += 1;
        if accepted {
            tried.accepted += 1;
            corpus.keep(&input);
        }
        let after = since.elapsed();
        if after - before > INPUT_TIME_MAX {
            bail!(
                "{} took {:?} on the input in {}",
                target.name,
                after - before,
                path.display()
            );
        }
        before = after;
    }
    fs::remove_file(&path)?;
    Ok(tried)
}

/// Runs a target with one input.
///
/// # Errors
/// The failure, with the input in hexadecimal digits.
pub(crate) fn check(target: &Target, input: &[u8]) -> Result<bool> {
    let body = || (target.check)(&Bytes::copy_from_slice(input));
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(why)) => bail!("{why} on {}", hex(input)),
        Err(_) => bail!("a panic on {}", hex(input)),
    }
}

fn hex(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "a tool measures real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::allocator::{Bound, within};
    use crate::targets::TARGETS;

    fn seeds(_random: &mut ChaCha8Rng) -> Result<Vec<Vec<u8>>> {
        Ok(vec![vec![0, 0, 0, 9]])
    }

    fn fails(check: fn(&Bytes) -> Result<bool, String>) -> String {
        let target = Target {
            name: "broken",
            seeds,
            check,
        };
        // tests run concurrently
        static DIRS: AtomicUsize = AtomicUsize::new(0);
        let (process, dir) = (std::process::id(), DIRS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("highwater-fuzz-{process}-{dir}"));
        let failure = run(&target, 1, Duration::from_secs(60), &dir).expect_err("it is broken");
        fs::remove_dir_all(dir).ok();
        format!("{failure:#}")
    }

    /// Trusts its first four bytes as a length, which a reader must not do.
    fn reserve(input: &Bytes, in_pieces: bool) -> Vec<Vec<u8>> {
        let count = input
            .first_chunk()
            .map_or(0, |count| u32::from_be_bytes(*count));
        let count = usize::try_from(count).expect("32 bits").min(1 << 20);
        if in_pieces {
            (0..count / 512).map(|_| Vec::with_capacity(512)).collect()
        } else {
            vec![Vec::with_capacity(count)]
        }
    }

    const BOUND: Bound = Bound {
        single: 64 << 10,
        live: 128 << 10,
    };

    #[test]
    fn a_reader_that_believes_a_length_is_caught() {
        let why = fails(|input| within(BOUND, || drop(reserve(input, false))).map(|()| false));
        assert!(why.contains("one allocation of "), "{why}");
    }

    #[test]
    fn a_reader_that_believes_a_count_is_caught() {
        let why = fails(|input| within(BOUND, || drop(reserve(input, true))).map(|()| false));
        assert!(why.contains("bytes in use, over 131072"), "{why}");
    }

    #[test]
    fn a_reader_that_panics_is_caught() {
        let why = fails(|input| Ok(input[usize::from(input[3])] == 0));
        assert!(why.contains("a panic on "), "{why}");
    }

    #[test]
    fn the_seeds_of_every_target_are_accepted() {
        for target in TARGETS {
            let seeds = (target.seeds)(&mut ChaCha8Rng::seed_from_u64(1)).expect("seeds");
            for seed in seeds {
                assert!(
                    check(target, &seed).expect("sound"),
                    "{}: {}",
                    target.name,
                    hex(&seed)
                );
            }
        }
    }
}
