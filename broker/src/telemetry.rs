//! The log: it goes to standard error, filtered by `RUST_LOG` (default: `info`).

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call does nothing.
pub fn init() {
    let asked = EnvFilter::try_from_default_env();
    let wrong = asked.as_ref().err().map(ToString::to_string);
    let wrong = wrong.filter(|_| std::env::var_os(EnvFilter::DEFAULT_ENV).is_some());
    let filter = asked.unwrap_or_else(|_| EnvFilter::new("info,openraft=error,aws_config=error"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging is already set up");
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG cannot be parsed: the level is info");
    }
}
