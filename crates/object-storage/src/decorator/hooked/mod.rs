//! A store that a test controls: a hook sees each request and decides how it goes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::{
    IoClass, MemoryStorage, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode,
    RequestKind, StorageError,
};

/// A request, as a hook sees it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The operation.
    pub operation: Operation<'a>,
    /// The key, or the prefix of a listing. Of a deletion it is the first key.
    pub key: &'a ObjectKey,
    /// How many requests of this kind for this key came before.
    pub nth: usize,
}

/// The operation of a request.
#[derive(Debug, Clone)]
pub enum Operation<'a> {
    /// A put.
    Put {
        /// The parts of the body.
        body: &'a [Bytes],
        /// The mode.
        mode: &'a PutMode,
        /// The purpose.
        class: IoClass,
    },
    /// A read of a range.
    Get(Range<u64>),
    /// A read of as many bytes at an object's end.
    GetSuffix(u64),
    /// A listing.
    List,
    /// A deletion of these keys.
    Delete(&'a [ObjectKey]),
}

impl Operation<'_> {
    /// The kind of request, by which the store counts.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Put { .. } => RequestKind::Put,
            Self::Get(_) | Self::GetSuffix(_) => RequestKind::Get,
            Self::List => RequestKind::List,
            Self::Delete(_) => RequestKind::Delete,
        }
    }
}

/// A gate at which requests wait. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<(usize, bool)>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new((0, false)))
    }
}

impl Gate {
    /// Lets all requests through, those that wait and those that come later.
    pub fn open(&self) {
        self.0.send_modify(|(_, is_open)| *is_open = true);
    }

    /// Waits until so many requests in all have reached the gate.
    pub async fn reached(&self, count: usize) {
        let mut state = self.0.subscribe();
        // it fails only without a sender, and `self` is one
        drop(state.wait_for(|(reached, _)| *reached >= count).await);
    }

    async fn pass(&self) {
        let mut state = self.0.subscribe();
        self.0.send_modify(|(reached, _)| *reached += 1);
        drop(state.wait_for(|(_, is_open)| *is_open).await);
    }
}

#[derive(Debug, Clone)]
enum Wait {
    /// For this long, in the runtime's time.
    Delay(Duration),
    Gate(Gate),
    ForEver,
}

async fn wait(waits: &[Wait]) {
    for wait in waits {
        match wait {
            Wait::Delay(delay) => tokio::time::sleep(*delay).await,
            Wait::Gate(gate) => gate.pass().await,
            Wait::ForEver => std::future::pending().await,
        }
    }
}

/// The error that a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// [`StorageError::NotFound`].
    NotFound,
    /// [`StorageError::Precondition`].
    Precondition,
    /// [`StorageError::Full`].
    Full,
    /// [`StorageError::Unknown`].
    Unknown,
    /// [`StorageError::Failed`], with this reason.
    Failed(&'static str),
}

impl Failure {
    fn error(self, key: &ObjectKey) -> StorageError {
        let key = key.to_string();
        match self {
            Self::NotFound => StorageError::NotFound { key },
            Self::Precondition => StorageError::Precondition { key },
            Self::Full => StorageError::Full { key },
            Self::Unknown => StorageError::Unknown {
                key,
                source: "the answer is lost".into(),
            },
            Self::Failed(reason) => StorageError::Failed {
                key,
                source: reason.into(),
            },
        }
    }
}

/// The course of one request: waits, then whether the store carries it out, then waits again, then the answer.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    before: Vec<Wait>,
    is_skipped: bool,
    mode: Option<PutMode>,
    range: Option<Range<u64>>,
    after: Vec<Wait>,
    failure: Option<Failure>,
    bytes_max: Option<usize>,
    entries_left_out: usize,
    is_detached: bool,
}

impl Plan {
    /// The store carries the request out, and its answer is the store's.
    #[must_use]
    pub fn pass() -> Self {
        Self::default()
    }

    /// The store does not carry the request out, and answers with an error.
    #[must_use]
    pub fn fail(failure: Failure) -> Self {
        Self {
            is_skipped: true,
            ..Self::pass().answered(failure)
        }
    }

    /// The store neither carries the request out nor answers it.
    #[must_use]
    pub fn hang() -> Self {
        Self {
            before: vec![Wait::ForEver],
            ..Self::default()
        }
    }

    /// The store does not carry a put or a deletion out, but claims to have done so. Reads and listings pass.
    #[must_use]
    pub fn pretend() -> Self {
        Self {
            is_skipped: true,
            ..Self::default()
        }
    }

    /// Delays the request before it is carried out.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.before.push(Wait::Delay(delay));
        self
    }

    /// Holds the request at a gate before it is carried out.
    #[must_use]
    pub fn held(mut self, gate: &Gate) -> Self {
        self.before.push(Wait::Gate(gate.clone()));
        self
    }

    /// Delays the answer of the request, which has been carried out.
    #[must_use]
    pub fn answer_delayed(mut self, delay: Duration) -> Self {
        self.after.push(Wait::Delay(delay));
        self
    }

    /// Holds the answer of the request, which has been carried out, at a gate.
    #[must_use]
    pub fn answer_held(mut self, gate: &Gate) -> Self {
        self.after.push(Wait::Gate(gate.clone()));
        self
    }

    /// The request is carried out and never answered.
    #[must_use]
    pub fn answer_hangs(mut self) -> Self {
        self.after.push(Wait::ForEver);
        self
    }

    /// Answers with an error, whatever the outcome was.
    #[must_use]
    pub fn answered(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }

    /// Carries a put out in another mode than it asked for.
    #[must_use]
    pub fn with_mode(mut self, mode: PutMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Reads another range than a read of a range asked for.
    #[must_use]
    pub fn with_range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Answers a read with at most this many of the bytes it asked for, as if there were no more.
    #[must_use]
    pub fn truncated(mut self, bytes_max: usize) -> Self {
        self.bytes_max = Some(bytes_max);
        self
    }

    /// Leaves the first entries out of a listing.
    #[must_use]
    pub fn leaves_out(mut self, entries: usize) -> Self {
        self.entries_left_out = entries;
        self
    }

    /// Lets a put or a deletion go on after its caller has dropped it, as a request on the network does. It ends with
    /// the runtime or with the store.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.is_detached = true;
        self
    }

    /// Runs a request by this plan; `None` if it was skipped.
    async fn run<T>(
        &self,
        key: &ObjectKey,
        request: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<Option<T>, StorageError> {
        wait(&self.before).await;
        let answer = match self.is_skipped {
            true => None,
            false => Some(request.await),
        };
        wait(&self.after).await;
        match self.failure {
            Some(failure) => Err(failure.error(key)),
            None => answer.transpose(),
        }
    }

    fn clip(&self, body: &Bytes) -> Bytes {
        let bytes_max = self.bytes_max.unwrap_or(usize::MAX);
        body.slice(..body.len().min(bytes_max))
    }
}

type Hook = dyn Fn(&Request<'_>) -> Plan + Send + Sync;

#[derive(Debug, Default)]
struct Calls {
    by_key: BTreeMap<(RequestKind, ObjectKey), usize>,
    now: BTreeMap<RequestKind, usize>,
    most: BTreeMap<RequestKind, usize>,
}

/// A store whose requests go as a hook decides. It also counts them, and how many are under way at once.
///
/// The hook is called once for each request, when the request is made, and must not wait.
pub struct Hooked {
    inner: Arc<dyn ObjectStorage>,
    hook: Mutex<Arc<Hook>>,
    calls: Arc<Mutex<Calls>>,
    detached: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Counts a request as under way until it is dropped.
struct UnderWay(Arc<Mutex<Calls>>, RequestKind);

impl Drop for UnderWay {
    fn drop(&mut self) {
        *lock(&self.0).now.entry(self.1).or_default() -= 1;
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Hooked {
    /// A store in memory, all of whose requests pass.
    fn default() -> Self {
        Self::new(Arc::<MemoryStorage>::default(), |_| Plan::pass())
    }
}

impl Hooked {
    /// Lets a hook decide on each request to `inner`.
    #[must_use]
    pub fn new(
        inner: Arc<dyn ObjectStorage>,
        hook: impl Fn(&Request<'_>) -> Plan + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            hook: Mutex::new(Arc::new(hook)),
            calls: Arc::default(),
            detached: Mutex::default(),
        }
    }

    /// Replaces the hook for the requests that come from now on.
    pub fn set_hook(&self, hook: impl Fn(&Request<'_>) -> Plan + Send + Sync + 'static) {
        *lock(&self.hook) = Arc::new(hook);
    }

    /// The store below, whose requests neither the hook nor the counters see.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn ObjectStorage> {
        &self.inner
    }

    /// The number of requests of a kind so far, those under way included.
    #[must_use]
    pub fn calls(&self, kind: RequestKind) -> usize {
        let calls = lock(&self.calls);
        let of_kind = calls.by_key.iter().filter(|((of, _), _)| *of == kind);
        of_kind.map(|(_, count)| count).sum()
    }

    /// The largest number of requests of a kind that were under way at once.
    #[must_use]
    pub fn most_at_once(&self, kind: RequestKind) -> usize {
        lock(&self.calls).most.get(&kind).copied().unwrap_or(0)
    }

    fn plan(&self, operation: Operation<'_>, key: &ObjectKey) -> (Plan, UnderWay) {
        let kind = operation.kind();
        let nth = {
            let mut calls = lock(&self.calls);
            let now = calls.now.entry(kind).or_default();
            *now += 1;
            let now = *now;
            let most = calls.most.entry(kind).or_default();
            *most = now.max(*most);
            let count = calls.by_key.entry((kind, key.clone())).or_default();
            *count += 1;
            *count - 1
        };
        let under_way = UnderWay(Arc::clone(&self.calls), kind);
        let hook = Arc::clone(&lock(&self.hook));
        let request = Request {
            operation,
            key,
            nth,
        };
        (hook(&request), under_way)
    }

    /// Runs a change, in a task of its own if it goes on without its caller.
    async fn change<T: Send + 'static>(
        &self,
        is_detached: bool,
        change: BoxFuture<'static, Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        if !is_detached {
            return change.await;
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.detached).spawn(async move {
            // the caller may be gone
            drop(sender.send(change.await));
        });
        match receiver.await {
            Ok(answer) => answer,
            // the runtime ends
            Err(_) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStorage for Hooked {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let operation = Operation::Put {
            body: &body,
            mode: &mode,
            class,
        };
        let (mut plan, under_way) = self.plan(operation, key);
        let (is_detached, mode) = (plan.is_detached, plan.mode.take().unwrap_or(mode));
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        let put = async move {
            let _under_way = under_way;
            let put = plan.run(&key, inner.put(&key, body, mode, class)).await?;
            Ok(put.unwrap_or_else(|| ObjectVersion("pretended".to_owned())))
        };
        self.change(is_detached, put.boxed()).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let (mut plan, _under_way) = self.plan(Operation::Get(range.clone()), key);
        let range = plan.range.take().unwrap_or(range);
        let read = plan.run(key, self.inner.get(key, range, class)).await?;
        Ok(plan.clip(&read.unwrap_or_default()))
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let (plan, _under_way) = self.plan(Operation::GetSuffix(bytes), key);
        let request = self.inner.get_suffix(key, bytes, class);
        let (read, length) = plan.run(key, request).await?.unwrap_or_default();
        Ok((plan.clip(&read), length))
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        let (plan, under_way) = self.plan(Operation::List, prefix);
        let (prefix, after) = (prefix.clone(), after.cloned());
        let listing = async move {
            let _under_way = under_way;
            let listing = async { Ok(self.inner.list(&prefix, after.as_ref())) };
            match plan.run(&prefix, listing).await {
                Ok(Some(listing)) => listing.skip(plan.entries_left_out).boxed(),
                Ok(None) => stream::empty().boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        listing.flatten_stream().boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let Some(first) = keys.first().cloned() else {
            return Ok(());
        };
        let (plan, under_way) = self.plan(Operation::Delete(keys), &first);
        let (inner, keys) = (Arc::clone(&self.inner), keys.to_vec());
        let is_detached = plan.is_detached;
        let delete = async move {
            let _under_way = under_way;
            plan.run(&first, inner.delete(&keys)).await.map(drop)
        };
        self.change(is_detached, delete.boxed()).await
    }
}

#[cfg(test)]
mod tests;
