//! Panics as error texts.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// The message of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
}

/// Runs a future and catches its panic. State that it shared with others must not be trusted after one.
///
/// # Errors
/// The message of the panic.
pub async fn catch_panic<T>(body: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(body).catch_unwind().await;
    caught.map_err(|panic| panic_text(&*panic).to_owned())
}
