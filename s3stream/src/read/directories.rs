//! What objects say of streams, through a cache. A load belongs to the cache, as that of a block: see
//! [`super::blocks`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use highwater_object_format::{BlockEntry, Footer, FormatError, RollPart, StreamDirectory};
use highwater_object_storage::{IoClass, ObjectKey, ObjectStorage, layout};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{LeaderEpoch, ObjectId, StreamId};
use quick_cache::{UnitWeighter, Weighter};
use tokio::sync::watch;

use super::fixed_cache::{FixedCache, fixed_cache, fixed_queue};
use super::{FAILED_KEPT, of_format, same};
use crate::StreamError;

/// The first read of an object: its footer and index, and in a small object everything.
const SUFFIX_BYTES: u64 = 64 << 10;
/// About what a directory takes.
const DIRECTORY_BYTES: u64 = 4 << 10;
/// Ends of objects that are kept: who reads several streams of an object one beside the other asks for its end once.
const TAILS_MAX: usize = 32;

/// One leadership of a stream: what an object has a part of.
pub(crate) type Part = (StreamId, LeaderEpoch);
type Key = (ObjectId, Part);
type Loaded = Result<Arc<StreamDirectory>, Arc<StreamError>>;
type Loading = watch::Receiver<Option<Loaded>>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<StreamDirectory>> for ByBytes {
    fn weight(&self, _key: &Key, directory: &Arc<StreamDirectory>) -> u64 {
        let entries = directory.entries.iter().map(|(_, entry)| entry.len() + 48);
        let deltas = directory.deltas.iter().map(|(_, delta)| delta.len() + 48);
        let checkpoint = directory.checkpoint.as_ref().map_or(0, Bytes::len);
        let lists = directory.blocks.len() * size_of::<BlockEntry>()
            + directory.rolls.len() * size_of::<RollPart>()
            + directory.leader_epochs.len() * 16;
        (entries.sum::<usize>() + deltas.sum::<usize>() + checkpoint + lists + 512) as u64
    }
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<Key, Arc<StreamDirectory>, ByBytes>,
    tails: FixedCache<ObjectId, Arc<Known>, UnitWeighter>,
    loading: Mutex<BTreeMap<Key, Loading>>,
    tasks: Tasks,
}

/// The directories of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Directories(Arc<Inner>);

impl Directories {
    /// Keeps about `bytes` of them.
    pub(super) fn new(storage: Arc<dyn ObjectStorage>, bytes: u64, tasks: Tasks) -> Self {
        let bytes = bytes.saturating_sub(TAILS_MAX as u64 * SUFFIX_BYTES);
        let expected = usize::try_from(bytes / DIRECTORY_BYTES).unwrap_or(1024);
        Self(Arc::new(Inner {
            storage,
            cache: fixed_cache(expected.max(16), bytes, ByBytes),
            tails: fixed_queue(TAILS_MAX, TAILS_MAX as u64, UnitWeighter),
            loading: Mutex::default(),
            tasks,
        }))
    }

    /// Bytes that are kept, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.0.cache.weight() + self.0.tails.len() as u64 * SUFFIX_BYTES
    }

    /// One directory, loading it where need be. Cancellation safe: a load goes on.
    pub(super) async fn get(
        &self,
        object: ObjectId,
        part: Part,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let key = (object, part);
        let mut loading = {
            let mut loading = self.lock();
            if let Some(found) = self.0.cache.get(&key) {
                return Ok(found);
            }
            let begin = || self.load(key);
            loading.entry(key).or_insert_with(begin).clone()
        };
        let loaded = loading.wait_for(Option::is_some).await;
        match loaded.as_deref() {
            Ok(Some(Ok(directory))) => Ok(Arc::clone(directory)),
            Ok(Some(Err(error))) => Err(same(error)),
            Ok(None) | Err(_) => Err(StreamError::Unavailable {
                reason: "the node stops".to_owned(),
            }),
        }
    }

    fn load(&self, key: Key) -> Loading {
        let (tell, loading) = watch::channel(None);
        let directories = self.clone();
        self.0.tasks.spawn(TaskKind::ColdRead, async move {
            let inner = &directories.0;
            match directories.read(key).await {
                Ok(found) => {
                    inner.cache.insert(key, Arc::clone(&found));
                    directories.forget(key);
                    tell.send_replace(Some(Ok(found)));
                }
                Err(error) => {
                    tell.send_replace(Some(Err(Arc::new(error))));
                    tokio::time::sleep(FAILED_KEPT).await;
                    directories.forget(key);
                }
            }
        });
        loading
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Loading>> {
        self.0
            .loading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: Key) {
        self.lock().remove(&key);
    }

    async fn read(
        &self,
        (object, (stream, epoch)): Key,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let key = layout::object(object);
        // whoever comes meanwhile waits for it, and asks himself where it fails
        let tail = self.0.tails.get_or_insert_async(&object, self.tail(&key));
        let known = tail.await?;
        let damaged = |error: FormatError| of_format(&key, &error);
        let footer = Footer::parse(&known.suffix).map_err(damaged)?;
        let index = self
            .part(&key, &known, footer.position, footer.bytes)
            .await?;
        let found = Footer::find(&index, stream, epoch).map_err(damaged)?;
        let missing = FormatError::Mismatch {
            part: "object index",
        };
        let found = found.ok_or_else(|| of_format(&key, &missing))?;
        let directory = self.part(&key, &known, found.position, found.bytes).await?;
        // of its own memory, so that what is kept does not keep the whole suffix
        let directory = Bytes::copy_from_slice(&directory);
        Ok(Arc::new(
            StreamDirectory::parse(&directory).map_err(damaged)?,
        ))
    }

    async fn tail(&self, key: &ObjectKey) -> Result<Arc<Known>, StreamError> {
        let storage = &self.0.storage;
        let tail = storage.get_suffix(key, SUFFIX_BYTES, IoClass::ColdRead);
        let (suffix, length) = tail.await.map_err(StreamError::Storage)?;
        Ok(Arc::new(Known {
            suffix,
            from: length.saturating_sub(SUFFIX_BYTES),
            length,
        }))
    }

    async fn part(
        &self,
        key: &ObjectKey,
        known: &Known,
        position: u64,
        bytes: u32,
    ) -> Result<Bytes, StreamError> {
        let end = position.saturating_add(bytes.into());
        if end > known.length {
            return Err(of_format(
                key,
                &FormatError::Truncated {
                    part: "object index",
                },
            ));
        }
        if position >= known.from {
            let at = |position: u64| usize::try_from(position - known.from).unwrap_or(usize::MAX);
            return Ok(known.suffix.slice(at(position)..at(end)));
        }
        let got = self
            .0
            .storage
            .get(key, position..end, IoClass::ColdRead)
            .await;
        got.map_err(StreamError::Storage)
    }
}

struct Known {
    suffix: Bytes,
    from: u64,
    length: u64,
}
