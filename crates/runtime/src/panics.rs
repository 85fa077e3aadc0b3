//! Panics as reasons: what ends with one says why.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
}

/// Runs a future; what it shared with others must not be trusted after a panic.
///
/// # Errors
/// What it said when it panicked.
pub async fn catch_panic<T>(body: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(body).catch_unwind().await;
    caught.map_err(|panic| panic_text(&*panic).to_owned())
}
