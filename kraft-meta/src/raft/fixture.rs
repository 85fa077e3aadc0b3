//! What the tests of voters and of observers share.

use std::future::Future;
use std::pin::Pin;

use highwater_io::Threads;

/// Runs writers as tasks, because virtual time would run ahead of threads.
#[derive(Debug)]
pub(super) struct AsTasks;

impl Threads for AsTasks {
    fn spawn(&self, _name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>) {
        #[expect(clippy::disallowed_methods, reason = "this is what a thread is here")]
        drop(tokio::spawn(body));
    }
}
