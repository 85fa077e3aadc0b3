//! Putting an object into the store (rule U2).
//!
//! A number names one body for ever. So the same body is put again after every failure, and if an object exists under
//! the key already, its header tells which process has written it.

use highwater_object_format::{HEADER_BYTES, ObjectHeader, WrittenObject};
use highwater_object_storage::{IoClass, ObjectKey, PutMode, StorageError, layout};
use highwater_types::ObjectId;

use super::Uploads;
use crate::StreamError;

impl Uploads {
    /// Puts an object, and retries until it is there.
    ///
    /// # Errors
    /// An object of another process has the key, with which the node epoch ends; or a recovery has retried for too
    /// long.
    pub(super) async fn put(
        &self,
        object: ObjectId,
        written: &WrittenObject,
    ) -> Result<(), StreamError> {
        let key = layout::object(object);
        loop {
            match self.put_once(object, &key, written).await {
                Ok(true) => {
                    self.store_full.send_replace(false);
                    return Ok(());
                }
                Ok(false) => {
                    return Err(StreamError::Damaged {
                        key: key.to_string(),
                        reason: "another process wrote it in this one's place".to_owned(),
                    });
                }
                Err(error) => {
                    let full = matches!(error, StorageError::Full { .. });
                    self.store_full.send_replace(full);
                    self.rest(StreamError::Storage(error)).await?;
                }
            }
        }
    }

    /// Whether the object under the key is this process's own.
    async fn put_once(
        &self,
        object: ObjectId,
        key: &ObjectKey,
        written: &WrittenObject,
    ) -> Result<bool, StorageError> {
        let body = written.body.clone();
        let put = self
            .storage
            .put(key, body, PutMode::IfAbsent, IoClass::Upload);
        match put.await {
            Ok(_) => Ok(true),
            Err(StorageError::Precondition { .. }) => self.is_ours(object, key).await,
            Err(error) => Err(error),
        }
    }

    async fn is_ours(&self, object: ObjectId, key: &ObjectKey) -> Result<bool, StorageError> {
        let head = self
            .storage
            .get(key, 0..HEADER_BYTES as u64, IoClass::Upload);
        let header = ObjectHeader::parse(&head.await?);
        Ok(header.is_ok_and(|header| header.id == object && header.nonce == self.writer.nonce))
    }
}
