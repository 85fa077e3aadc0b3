//! Credentials that are ready for every request. A task renews them before they expire, while requests go on with the
//! old ones. Only a request that finds none valid waits, and all such requests wait for one fetch.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_runtime::{TaskKind, Tasks, WallClock};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::NoCredentials;

/// How long before their expiry credentials are renewed; those that are valid for less than twice this are renewed at
/// half time.
const AHEAD_MS: i64 = 5 * 60 * 1000;
/// How often a file is read again. An operator who rotates keys leaves the old ones valid for longer than this.
const READ_AGAIN_MS: i64 = 30 * 1000;
/// How long after a failed fetch the next one begins if there are valid credentials.
const REST_MS: i64 = 10 * 1000;
/// The same if there are none. Requests fail meanwhile with the reason of that fetch.
const REST_WITHOUT: Duration = Duration::from_secs(1);
/// Credentials are used for at least this long, even if they seem to have expired when they come: it may be this
/// machine's clock that is wrong.
const USED_MS: i64 = 1000;
/// How long requests wait for a fetch. The fetch goes on, and no other begins before its end: it may have started a
/// process, which nothing would end. Requests to a service end by themselves.
const FETCH_MAX: Duration = Duration::from_secs(20);

/// A source of credentials.
#[async_trait]
pub(super) trait Issuer: std::fmt::Debug + Send + Sync + 'static {
    /// Fetches credentials.
    async fn issue(&self) -> Result<(AwsCredential, Lifetime), NoCredentials>;
}

/// How long credentials are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Until this time, in milliseconds since 1970.
    Until(i64),
    /// Until their file has others.
    ReadAgain,
    /// As long as this process lives.
    Process,
}

/// Cached credentials. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Cached(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: Arc<dyn Issuer>,
    clock: WallClock,
    tasks: Tasks,
    known: watch::Sender<Known>,
}

#[derive(Debug, Default)]
struct Known {
    held: Option<Held>,
    is_fetching: bool,
    /// Whether the fetch has taken so long that no request waits for it any more.
    is_late: bool,
    /// The reason why the last fetch failed.
    failed: NoCredentials,
    /// The time before which no other fetch begins, after one that failed and left no valid credentials.
    rests_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Held {
    credential: Arc<AwsCredential>,
    /// The time from which they are to be renewed.
    due_ms: i64,
    expires_ms: i64,
}

impl Known {
    fn good(&self, now_ms: i64) -> Option<&Held> {
        self.held.as_ref().filter(|held| now_ms < held.expires_ms)
    }

    fn is_due(&self, now_ms: i64) -> bool {
        let due = |held: &Held| now_ms >= held.due_ms;
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        !self.is_fetching && !rests && self.held.as_ref().is_none_or(due)
    }

    /// Whether requests wait for a fetch.
    fn is_awaited(&self) -> bool {
        self.is_fetching && !self.is_late
    }

    /// Notes that a fetch failed, or is late.
    fn failed(&mut self, why: NoCredentials, now_ms: i64) {
        let good = self.held.as_mut().filter(|held| now_ms < held.expires_ms);
        if let Some(held) = good {
            held.due_ms = now_ms + REST_MS;
            tracing::warn!(
                reason = why.why,
                "new credentials for the object store can't be had, so the old ones are used while they are good"
            );
        } else {
            self.rests_until = Some(Instant::now() + REST_WITHOUT);
        }
        self.failed = why;
    }
}

impl Cached {
    pub(super) fn new(issuer: Arc<dyn Issuer>, clock: WallClock, tasks: Tasks) -> Self {
        Self(Arc::new(Inner {
            issuer,
            clock,
            tasks,
            known: watch::Sender::default(),
        }))
    }

    /// Returns valid credentials. Cancellation safe: a fetch continues without its caller.
    pub(super) async fn get(&self) -> Result<Arc<AwsCredential>, NoCredentials> {
        let now_ms = self.0.clock.now_ms();
        let begins = |known: &mut Known| {
            let begins = known.is_due(now_ms);
            known.is_fetching |= begins;
            begins
        };
        if self.0.known.borrow().is_due(now_ms) && self.0.known.send_if_modified(begins) {
            let fetching = Fetching(self.clone());
            self.0.tasks.spawn(TaskKind::Credentials, fetching.run());
        }
        if let Some(held) = self.0.known.borrow().good(now_ms) {
            return Ok(Arc::clone(&held.credential));
        }
        let mut changes = self.0.known.subscribe();
        let fetched = changes.wait_for(|known| !known.is_awaited()).await;
        let stops = |_closed| NoCredentials::because(": the node stops".to_owned());
        let fetched = fetched.map_err(stops)?;
        match fetched.good(now_ms) {
            Some(held) => Ok(Arc::clone(&held.credential)),
            None => Err(fetched.failed.clone()),
        }
    }
}

/// A fetch that is under way. It ends when this is dropped, also if its task panics or never runs.
struct Fetching(Cached);

impl Fetching {
    async fn run(self) {
        let inner = &*self.0.0;
        let mut issuing = inner.issuer.issue();
        let issued = match timeout(FETCH_MAX, &mut issuing).await {
            Ok(issued) => issued,
            Err(_elapsed) => {
                let now_ms = inner.clock.now_ms();
                inner.known.send_modify(|known| {
                    known.is_late = true;
                    let why = format!(": no answer within {FETCH_MAX:?}");
                    let is_silent = true;
                    known.failed(NoCredentials { why, is_silent }, now_ms);
                });
                issuing.await
            }
        };
        let now_ms = inner.clock.now_ms();
        inner.known.send_modify(|known| match issued {
            Ok((credential, lifetime)) => {
                known.held = Some(Held::new(credential, lifetime, now_ms));
                known.rests_until = None;
            }
            Err(why) => known.failed(why, now_ms),
        });
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.0.known.send_modify(|known| {
            known.is_fetching = false;
            known.is_late = false;
        });
    }
}

impl Held {
    fn new(credential: AwsCredential, lifetime: Lifetime, now_ms: i64) -> Self {
        let (due_ms, expires_ms) = match lifetime {
            Lifetime::Process => (i64::MAX, i64::MAX),
            Lifetime::ReadAgain => (now_ms + READ_AGAIN_MS, i64::MAX),
            Lifetime::Until(expires_ms) => {
                let expires_ms = expires_ms.max(now_ms + USED_MS);
                let left = expires_ms - now_ms;
                (now_ms + (left / 2).max(left - AHEAD_MS), expires_ms)
            }
        };
        Self {
            credential: Arc::new(credential),
            due_ms,
            expires_ms,
        }
    }
}

#[async_trait]
impl CredentialProvider for Cached {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credential = self.get().await;
        credential.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use futures::future::join;
    use tokio::sync::Semaphore;

    use super::*;

    const HOUR_MS: i64 = 60 * 60 * 1000;

    /// Issues numbered keys that are valid for an hour, each one when the test permits it.
    #[derive(Debug)]
    struct Numbered {
        clock: WallClock,
        lets: Semaphore,
        /// The number of fetches so far.
        asked: Mutex<u32>,
        is_broken: Mutex<bool>,
    }

    #[async_trait]
    impl Issuer for Numbered {
        async fn issue(&self) -> Result<(AwsCredential, Lifetime), NoCredentials> {
            *self.asked.lock().expect("no panic") += 1;
            self.lets.acquire().await.expect("is open").forget();
            if *self.is_broken.lock().expect("no panic") {
                return Err(NoCredentials::because(" from a broken issuer".to_owned()));
            }
            let credential = AwsCredential {
                key_id: self.asked.lock().expect("no panic").to_string(),
                secret_key: String::new(),
                token: None,
            };
            Ok((credential, Lifetime::Until(self.clock.now_ms() + HOUR_MS)))
        }
    }

    struct World {
        now_ms: Arc<AtomicI64>,
        issuer: Arc<Numbered>,
        cached: Cached,
    }

    impl World {
        fn new() -> Self {
            let now_ms = Arc::new(AtomicI64::new(0));
            let read = Arc::clone(&now_ms);
            let clock = WallClock::new(move || read.load(Ordering::Relaxed));
            let issuer = Arc::new(Numbered {
                clock: clock.clone(),
                lets: Semaphore::new(0),
                asked: Mutex::default(),
                is_broken: Mutex::default(),
            });
            let as_issuer: Arc<dyn Issuer> = Arc::<Numbered>::clone(&issuer);
            Self {
                now_ms,
                issuer,
                cached: Cached::new(as_issuer, clock, Tasks::default()),
            }
        }

        fn asked(&self) -> u32 {
            *self.issuer.asked.lock().expect("no panic")
        }

        async fn id(&self) -> Result<String, String> {
            let credential = self.cached.get().await;
            let credential = credential.map_err(|error| error.to_string())?;
            Ok(credential.key_id.clone())
        }

        /// Waits for the end of a fetch.
        async fn settled(&self) {
            let mut known = self.cached.0.known.subscribe();
            let settled = known.wait_for(|known| !known.is_fetching).await;
            drop(settled.expect("is there"));
        }

        /// Gets the first keys.
        async fn begun() -> Self {
            let world = Self::new();
            world.issuer.lets.add_permits(1);
            assert_eq!(world.id().await.as_deref(), Ok("1"));
            world
        }
    }

    #[tokio::test]
    async fn while_keys_are_good_nobody_waits_for_the_next() {
        let world = World::begun().await;
        world
            .now_ms
            .store(HOUR_MS - AHEAD_MS - 1, Ordering::Relaxed);
        assert_eq!(world.id().await.as_deref(), Ok("1"));
        assert_eq!(world.asked(), 1, "it is not due yet");
        world.now_ms.store(HOUR_MS - AHEAD_MS, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(world.id().await.as_deref(), Ok("1"));
            tokio::task::yield_now().await;
        }
        assert_eq!(world.asked(), 2, "one fetch is under way");
        world.issuer.lets.add_permits(1);
        world.settled().await;
        assert_eq!(world.id().await.as_deref(), Ok("2"));
    }

    #[tokio::test]
    async fn all_that_wait_wait_for_one_fetch_that_outlives_them() {
        let world = World::new();
        {
            let gone = world.cached.get();
            tokio::pin!(gone);
            assert!(futures::poll!(&mut gone).is_pending());
        }
        let both = join(world.id(), world.id());
        let let_them = async { world.issuer.lets.add_permits(1) };
        let ((one, other), ()) = join(both, let_them).await;
        assert_eq!((one.as_deref(), other.as_deref()), (Ok("1"), Ok("1")));
        assert_eq!(world.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_fails_leaves_what_is_good() {
        let world = World::begun().await;
        *world.issuer.is_broken.lock().expect("no panic") = true;
        world.issuer.lets.add_permits(2);
        let due_ms = HOUR_MS - AHEAD_MS;
        world.now_ms.store(due_ms, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(world.id().await.as_deref(), Ok("1"));
            world.settled().await;
        }
        assert_eq!(world.asked(), 2, "it rests");
        world.now_ms.store(due_ms + REST_MS, Ordering::Relaxed);
        assert_eq!(world.id().await.as_deref(), Ok("1"));
        world.settled().await;
        assert_eq!(world.asked(), 3);
        // once the credentials have expired, requests fail with the reason of a fetch until the next one
        world.now_ms.store(HOUR_MS, Ordering::Relaxed);
        let told = "no credentials from a broken issuer".to_owned();
        for asked in 4..6 {
            world.issuer.lets.add_permits(1);
            for _ in 0..3 {
                assert_eq!(world.id().await, Err(told.clone()));
                assert_eq!(world.asked(), asked, "it rests");
            }
            tokio::time::advance(REST_WITHOUT).await;
        }
        *world.issuer.is_broken.lock().expect("no panic") = false;
        world.issuer.lets.add_permits(1);
        assert_eq!(world.id().await.as_deref(), Ok("6"));
    }

    // it may have started a process, of which there would be ever more
    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_hangs_is_waited_for_and_no_other_begins() {
        let world = World::new();
        for _ in 0..3 {
            let refused = world.cached.get().await.expect_err("there are none");
            assert!(refused.is_silent, "{refused}");
            tokio::time::advance(2 * FETCH_MAX).await;
        }
        assert_eq!(world.asked(), 1);
        world.issuer.lets.add_permits(1);
        world.settled().await;
        assert_eq!(world.id().await.as_deref(), Ok("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_whose_task_ends_lets_another_one_begin() {
        let world = World::new();
        let aborted = async {
            while world.asked() == 0 {
                tokio::task::yield_now().await;
            }
            world.cached.0.tasks.stop().await;
        };
        let (refused, ()) = join(world.id(), aborted).await;
        assert!(refused.is_err());
        world.issuer.lets.add_permits(1);
        assert_eq!(world.id().await.as_deref(), Ok("2"));
    }

    #[test]
    fn keys_are_due_before_they_expire() {
        let of = |lifetime| {
            let credential = AwsCredential {
                key_id: String::new(),
                secret_key: String::new(),
                token: None,
            };
            let held = Held::new(credential, lifetime, 1000);
            (held.due_ms, held.expires_ms)
        };
        assert_eq!(
            of(Lifetime::Until(1000 + HOUR_MS)),
            (1000 + HOUR_MS - AHEAD_MS, 1000 + HOUR_MS)
        );
        assert_eq!(of(Lifetime::Until(5000)), (3000, 5000));
        // the credentials have expired when they come
        assert_eq!(
            of(Lifetime::Until(-5)),
            (1000 + USED_MS / 2, 1000 + USED_MS)
        );
        assert_eq!(of(Lifetime::ReadAgain), (1000 + READ_AGAIN_MS, i64::MAX));
        assert_eq!(of(Lifetime::Process), (i64::MAX, i64::MAX));
    }
}
