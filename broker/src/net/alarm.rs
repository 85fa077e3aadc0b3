//! One timer for the many deadlines of a connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for deadlines that are rarely reached. It is set again only if it would ring too late, or after it has rung
/// for an earlier deadline. So a deadline that is not reached usually costs no timer.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when the deadline has come. Otherwise the alarm wakes the task at the deadline, and sometimes earlier.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() == deadline {
                return Poll::Ready(());
            }
            // the alarm rang for an earlier deadline
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Awaits a future; returns `None` if the deadline comes first. It is as cancellation safe as the future.
    pub(super) async fn limit<F: Future>(
        &mut self,
        deadline: Instant,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(deadline, cx).map(|()| None),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The time until the alarm rings.
    async fn time_to(alarm: &mut Alarm, deadline: Instant) -> Duration {
        let since = Instant::now();
        let rung = alarm.limit(deadline, pending::<()>()).await;
        assert_eq!(rung, None);
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_each_deadline_whatever_it_was_set_to() {
        let mut alarm = Alarm::default();
        for seconds in [5, 2, 9, 9, 1] {
            let deadline = Instant::now() + seconds * SECOND;
            let later = deadline + 60 * SECOND;
            // the alarm is now set to another deadline
            assert_eq!(alarm.limit(later, async { 7 }).await, Some(7));
            let waited = tokio::time::timeout(SECOND / 2, time_to(&mut alarm, later)).await;
            assert!(waited.is_err(), "it is not the time");
            assert_eq!(
                time_to(&mut alarm, deadline).await,
                seconds * SECOND - SECOND / 2
            );
        }
        let past = Instant::now() - SECOND;
        assert_eq!(time_to(&mut alarm, past).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_for_a_deadline_that_is_over_is_not_taken_for_a_later_one() {
        let mut alarm = Alarm::default();
        let first = Instant::now() + SECOND;
        let set = tokio::time::timeout(SECOND / 2, time_to(&mut alarm, first)).await;
        assert!(set.is_err());
        let later = first + 30 * SECOND;
        assert_eq!(time_to(&mut alarm, later).await, 30 * SECOND + SECOND / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_at_the_deadline_comes_before_it() {
        let mut alarm = Alarm::default();
        let now = Instant::now();
        assert_eq!(alarm.limit(now, async { 7 }).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_follows_another_sets_no_timer() {
        let mut alarm = Alarm::default();
        for seconds in 1..100 {
            let deadline = Instant::now() + seconds * SECOND;
            let polled = poll_fn(|cx| Poll::Ready(alarm.poll(deadline, cx))).await;
            assert!(polled.is_pending());
        }
        let set = alarm.0.as_ref().map(|sleep| sleep.deadline());
        assert_eq!(set, Some(Instant::now() + SECOND));
    }
}
