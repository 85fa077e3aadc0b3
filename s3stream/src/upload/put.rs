//! Puts an object into the store (rule U2).
//!
//! It owns the question whose object stands under a number: a number names one body for ever, so the same body is put again
//! after every failure, and an object that exists already is told by its header.

use highwater_object_format::{HEADER_BYTES, ObjectHeader, WrittenObject};
use highwater_object_storage::{IoClass, ObjectKey, PutMode, StorageError, layout};
use highwater_types::ObjectId;

use super::Uploads;
use crate::StreamError;

impl Uploads {
    /// Puts an object, again and again until it is there.
    ///
    /// # Errors
    /// Another process has put its own in this one's place: the node epoch ends. A recovery gives up in the end too.
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

    /// Whether what stands under the key now is this process's object.
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
