//! How the writer waits.

/// A moment's rest of the writer's own thread, or of its task under simulation.
pub(crate) async fn rest() {
    const REST: std::time::Duration = std::time::Duration::from_millis(100);
    if tokio::runtime::Handle::try_current().is_ok() {
        tokio::time::sleep(REST).await;
    } else {
        #[expect(
            clippy::disallowed_methods,
            reason = "the writer's own thread has no runtime"
        )]
        std::thread::sleep(REST);
    }
}
