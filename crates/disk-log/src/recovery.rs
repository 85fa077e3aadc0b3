//! Reading a log back, group by group.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use highwater_io::Device;

use crate::block::{ALIGN, BLOCK_MAX, HEADER_BYTES, Header};
use crate::files::Files;
use crate::{Config, LogError};

/// How far beyond a bad block its successor is looked for.
const SCAN_BYTES: u64 = 4 * BLOCK_MAX;

/// A log being read back; then it becomes a [`crate::DiskLog`].
#[derive(Debug)]
pub struct Recovery {
    pub(crate) files: Files,
    /// Where the next block must begin.
    pub(crate) position: u64,
    /// The end of the last whole group.
    pub(crate) end: u64,
    pub(crate) opening: u64,
    done: bool,
}

/// One group as it was appended.
#[derive(Debug, Clone)]
pub struct RecoveredGroup {
    /// The opening number it was written under.
    pub opening: u64,
    /// Its entries' bytes.
    pub body: Bytes,
    /// The position just after it.
    pub end: u64,
}

impl Recovery {
    /// Opens the files of a log, making the first if there is none.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn open(
        device: Arc<dyn Device>,
        dir: &Path,
        config: Config,
    ) -> Result<Self, LogError> {
        let mut files = Files::open(device, dir, config).await?;
        if files.prepared() == 0 {
            let grown = files.grow(0).await;
            grown.map_err(|error| LogError::io(dir, &error))?;
        }
        let position = files.first_position();
        Ok(Self {
            files,
            position,
            end: position,
            opening: 0,
            done: false,
        })
    }

    /// The next whole group; nothing at the end.
    ///
    /// # Errors
    /// [`LogError::Damaged`] where a synced block is bad.
    pub async fn next(&mut self) -> Result<Option<RecoveredGroup>, LogError> {
        let mut body = BytesMut::new();
        let mut within = false;
        while !self.done {
            let Some((header, part)) = self.block().await? else {
                self.done = true;
                break;
            };
            self.position = header.position + header.bytes();
            self.opening = header.opening;
            if header.first {
                body.clear();
                within = true;
            }
            if within {
                body.extend_from_slice(&part);
            }
            if header.last {
                self.end = self.position;
                if within {
                    let body = body.freeze();
                    return Ok(Some(RecoveredGroup {
                        opening: header.opening,
                        body,
                        end: self.end,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Reads to the end, past what is not wanted.
    ///
    /// # Errors
    /// As [`Recovery::next`].
    pub async fn skip_to_end(&mut self) -> Result<(), LogError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The end of the last whole group read.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The greatest opening number read; 0 for none.
    #[must_use]
    pub fn opening(&self) -> u64 {
        self.opening
    }

    async fn block(&self) -> Result<Option<(Header, Bytes)>, LogError> {
        if self.position >= self.files.prepared() {
            return Ok(None);
        }
        if let Some(found) = self.read_block(self.position).await?
            && found.0.opening >= self.opening
        {
            return Ok(Some(found));
        }
        self.refuse_if_synced().await?;
        Ok(None)
    }

    /// The block at a position if it is whole and says that it belongs there.
    async fn read_block(&self, position: u64) -> Result<Option<(Header, Bytes)>, LogError> {
        let left = self.files.config.file_bytes - position % self.files.config.file_bytes;
        let head_bytes = usize::try_from(ALIGN.min(left)).unwrap_or(HEADER_BYTES);
        let head = self.files.read(position, head_bytes).await?;
        let Some(header) = Header::decode(&head) else {
            return Ok(None);
        };
        if header.position != position || header.bytes() > left {
            return Ok(None);
        }
        let body_bytes = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        let body = if HEADER_BYTES + body_bytes <= head.len() {
            head.slice(HEADER_BYTES..HEADER_BYTES + body_bytes)
        } else {
            self.files
                .read(position + HEADER_BYTES as u64, body_bytes)
                .await?
        };
        Ok(Header::check(&head, &body).then_some((header, body)))
    }

    /// D1: a bad block at or below a later block's synced mark was durable once.
    async fn refuse_if_synced(&self) -> Result<(), LogError> {
        let bad = self.position;
        let mut at = bad + ALIGN;
        let until = (bad + SCAN_BYTES).min(self.files.prepared());
        while at < until {
            if let Some((header, _)) = self.read_block(at).await?
                && header.opening >= self.opening
            {
                if header.synced > bad {
                    let file = self.files.path(self.files.index(bad)).display().to_string();
                    return Err(LogError::Damaged {
                        file,
                        position: bad,
                    });
                }
                at += header.bytes();
            } else {
                at += ALIGN;
            }
        }
        Ok(())
    }
}
