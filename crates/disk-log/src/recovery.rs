//! Reads a log back, group by group.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use highwater_io::{Device, DirEntry};

use crate::block::{ALIGN, HEADER_BYTES, Header};
use crate::files::Files;
use crate::{Config, LogError, Seed};

/// The bytes read at a time while searching for later blocks.
const SCAN_BYTES: u64 = 1 << 20;

/// A log that is being read back. At its end it can be continued as a [`crate::DiskLog`].
#[derive(Debug)]
pub struct Recovery {
    pub(crate) files: Files,
    /// The position where the next block must begin.
    pub(crate) position: u64,
    /// The end of the last complete group.
    pub(crate) end: u64,
    /// The opening number of the log's last block so far.
    last_opening: u64,
    /// The largest opening number of any block seen, in the log or beyond its end.
    opening: u64,
    /// Everything below this position was synced by the process that wrote it.
    synced: u64,
    done: bool,
}

/// One complete group, as it was appended.
#[derive(Debug, Clone)]
pub struct RecoveredGroup {
    /// The opening number under which it was written.
    pub opening: u64,
    /// The bytes of its entries.
    pub body: Bytes,
    /// The position after the group.
    pub end: u64,
}

impl Recovery {
    /// Whether a directory has files of a log. They stay there after they are made, so this means that a log was
    /// opened.
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

    /// Removes the files of a log that nothing needs any more, and its directory. What is left when this fails is a
    /// shorter log, or none, until the next attempt.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn remove(device: &dyn Device, dir: &Path) -> Result<(), LogError> {
        let error = |error| LogError::io(dir, &error);
        let entries = match device.list_dir(dir).await {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(error)?,
        };
        // the seed goes last, because files without one are refused
        let is_seed = |entry: &&DirEntry| entry.path.file_name().is_some_and(|of| of == "seed");
        let (seeds, files): (Vec<_>, Vec<_>) = entries.iter().rev().partition(is_seed);
        for part in [files, seeds] {
            for entry in part {
                device.remove_file(&entry.path).await.map_err(error)?;
            }
            device.sync_dir(dir).await.map_err(error)?;
        }
        device.remove_dir(dir).await.map_err(error)?;
        let parent = dir.parent().unwrap_or(dir);
        device.sync_dir(parent).await.map_err(error)
    }

    /// Opens the files of a log. If there are none, makes the first one and stores `new_seed`, which must be random.
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

    /// Reads the next complete group; returns `None` at the end of the log.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if a synced block can't be read.
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

    /// Reads to the end of the log, ignoring the groups.
    ///
    /// # Errors
    /// As [`Recovery::next`].
    pub async fn skip_to_end(&mut self) -> Result<(), LogError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The end of the last complete group that was read.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The first position in the log's files; everything below it was trimmed.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.files.first_position()
    }

    /// The largest opening number of any block seen, 0 if there was none. Complete once the log has been read to its
    /// end: it includes blocks beyond the end.
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

    /// Reads the block at a position; `None` unless the block is intact and names that position.
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

    /// Looks at the blocks after a bad one. If any of them says that the bad block's position was synced, the log is
    /// damaged (D1). Otherwise the bad block is the log's end, and blocks beyond it are from an earlier process:
    /// their opening numbers are noted, so that they are never used again.
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
