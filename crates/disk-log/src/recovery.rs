//! Reading a log back, group by group.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use highwater_io::{Device, DirEntry};

use crate::block::{ALIGN, HEADER_BYTES, Header};
use crate::files::Files;
use crate::{Config, LogError, Seed};

/// How much is read at a time where later blocks are looked for.
const SCAN_BYTES: u64 = 1 << 20;

/// A log being read back; then it becomes a [`crate::DiskLog`].
#[derive(Debug)]
pub struct Recovery {
    pub(crate) files: Files,
    /// Where the next block must begin.
    pub(crate) position: u64,
    /// The end of the last whole group.
    pub(crate) end: u64,
    /// The opening number of the last block of the log.
    last_opening: u64,
    /// The largest opening number of any block, in the log or beyond its end.
    opening: u64,
    /// Everything below it was synced by who wrote it.
    synced: u64,
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
    /// Whether a directory has a log: files that were made for one stay.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn is_there(device: &dyn Device, dir: &Path) -> Result<bool, LogError> {
        let entries = match device.list_dir(dir).await {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|error| LogError::io(dir, &error))?,
        };
        let is_file = |entry: &DirEntry| entry.path.extension().is_some_and(|of| of == "log");
        Ok(entries.iter().any(is_file))
    }

    /// Opens the files of a log, making the first if there is none; `new_seed` is random and for a log that is made now.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn open(
        device: Arc<dyn Device>,
        dir: &Path,
        config: Config,
        new_seed: Seed,
    ) -> Result<Self, LogError> {
        let mut files = Files::open(device, dir, config, new_seed).await?;
        if files.prepared() == 0 {
            files.grow(0, files.config.file_bytes).await?;
        }
        let position = files.first_position();
        Ok(Self {
            files,
            position,
            end: position,
            last_opening: 0,
            opening: 0,
            synced: position,
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
                self.files.sync(self.synced..self.end).await?;
                break;
            };
            self.position = header.position + header.bytes();
            self.last_opening = header.opening;
            self.opening = self.opening.max(header.opening);
            self.synced = self.synced.max(header.synced);
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

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The position the log's files begin at: what lies below it is gone.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.files.first_position()
    }

    /// The greatest opening number of any block seen, also beyond the end; 0 for none. At the end of the log all are.
    #[must_use]
    pub fn opening(&self) -> u64 {
        self.opening
    }

    async fn block(&mut self) -> Result<Option<(Header, Bytes)>, LogError> {
        if self.position >= self.files.prepared() {
            return Ok(None);
        }
        if let Some(found) = self.read_block(self.position).await?
            && found.0.opening >= self.last_opening
        {
            return Ok(Some(found));
        }
        self.look_beyond().await?;
        Ok(None)
    }

    /// The block at a position if it is whole and says that it belongs there.
    async fn read_block(&self, position: u64) -> Result<Option<(Header, Bytes)>, LogError> {
        let left = self.files.config.file_bytes - position % self.files.config.file_bytes;
        let head_bytes = usize::try_from(ALIGN.min(left)).unwrap_or(HEADER_BYTES);
        let head = self.files.read(position, head_bytes).await?;
        let Some(header) = Header::decode(&self.files.seed, &head) else {
            return Ok(None);
        };
        if header.position != position || header.bytes() > left {
            return Ok(None);
        }
        let body_bytes = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        let body_at = header.body_at();
        let body = if body_at + body_bytes <= head.len() {
            head.slice(body_at..body_at + body_bytes)
        } else {
            self.files
                .read(position + body_at as u64, body_bytes)
                .await?
        };
        Ok(Header::check(&self.files.seed, &head, &body).then_some((header, body)))
    }

    /// D1: a bad block at or below any later block's synced mark was durable once. Otherwise the log ends here; what a
    /// former life left beyond the end is told by its opening number, which must never be used again.
    async fn look_beyond(&mut self) -> Result<(), LogError> {
        let bad = self.position;
        let mut at = bad + ALIGN;
        while at < self.files.prepared() {
            let file_end = (self.files.index(at) + 1) * self.files.config.file_bytes;
            let chunk_end = file_end.min(at + SCAN_BYTES);
            let bytes = usize::try_from(chunk_end - at).unwrap_or(usize::MAX);
            let chunk = self.files.read(at, bytes).await?;
            while at < chunk_end {
                let from = chunk.len() - usize::try_from(chunk_end - at).unwrap_or(usize::MAX);
                let names_itself = Header::decode(&self.files.seed, &chunk[from..])
                    .is_some_and(|header| header.position == at);
                let found = match names_itself {
                    true => self.read_block(at).await?,
                    false => None,
                };
                let Some((header, _)) = found else {
                    at += ALIGN;
                    continue;
                };
                if header.opening >= self.last_opening && header.synced > bad {
                    return Err(self.damaged(bad));
                }
                self.opening = self.opening.max(header.opening);
                at += header.bytes();
            }
        }
        Ok(())
    }

    fn damaged(&self, position: u64) -> LogError {
        let file = self.files.path(self.files.index(position));
        LogError::Damaged {
            file: file.display().to_string(),
            offset: position % self.files.config.file_bytes,
            position,
        }
    }
}
