//! The writer's pause before it tries again.

/// Pauses briefly. The writer is a thread without a runtime, or a task under simulation.
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
