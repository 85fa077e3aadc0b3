//! Objects in memory, for tests and the simulation.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// A store whose objects are lost when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    objects: BTreeMap<ObjectKey, (Bytes, u64)>,
    version: u64,
}

impl MemoryStorage {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> Result<Bytes, StorageError> {
        let found = self.lock().objects.get(key).map(|(body, _)| body.clone());
        found.ok_or_else(|| StorageError::NotFound {
            key: key.to_string(),
        })
    }
}

#[async_trait]
impl ObjectStorage for MemoryStorage {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        _class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let mut joined = BytesMut::new();
        for part in body {
            joined.extend_from_slice(&part);
        }
        let mut objects = self.lock();
        let there = objects
            .objects
            .get(key)
            .map(|(_, version)| version.to_string());
        let allowed = match mode {
            PutMode::Overwrite => true,
            PutMode::IfAbsent => there.is_none(),
            PutMode::IfVersion(version) => there == Some(version.0),
        };
        if !allowed {
            return Err(StorageError::Precondition {
                key: key.to_string(),
            });
        }
        objects.version += 1;
        let version = objects.version;
        objects
            .objects
            .insert(key.clone(), (joined.freeze(), version));
        Ok(ObjectVersion(version.to_string()))
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        _class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let body = self.find(key)?;
        let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(clip(range.start)..clip(range.end).max(clip(range.start))))
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        _class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let body = self.find(key)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(body.len());
        Ok((body.slice(body.len() - bytes..), body.len() as u64))
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        let below = format!("{prefix}/");
        let entries: Vec<_> = self
            .lock()
            .objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(&below))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .map(|(key, (body, _))| {
                Ok(ObjectEntry {
                    key: key.clone(),
                    bytes: body.len() as u64,
                })
            })
            .collect();
        stream::iter(entries).boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let mut objects = self.lock();
        for key in keys {
            objects.objects.remove(key);
        }
        Ok(())
    }
}
