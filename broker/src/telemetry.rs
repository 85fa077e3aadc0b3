//! Logs: to standard error, filtered by `RUST_LOG` (default: `info`).

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call does nothing.
pub fn init() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging is already set up");
    }
}
