//! The files of a log: by position, made ahead of use, used again.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use highwater_io::{Device, File, OpenMode};

use crate::filling::segment;
use crate::{Config, LogError};

#[derive(Debug)]
pub(crate) struct Files {
    device: Arc<dyn Device>,
    dir: PathBuf,
    pub(crate) config: Config,
    /// By index: the file of index i holds positions from i times the size of a file.
    files: BTreeMap<u64, Arc<dyn File>>,
    /// How many were let go of at a time; forgotten one by one.
    released_lately: u64,
}

const FILL_BYTES: usize = 1 << 20;
/// Files that are kept ahead of the one that is written.
const AHEAD: u64 = 2;

impl Files {
    pub(crate) async fn open(
        device: Arc<dyn Device>,
        dir: &Path,
        config: Config,
    ) -> Result<Self, LogError> {
        let dir_error = |error| LogError::io(dir, &error);
        device.create_dir_all(dir).await.map_err(dir_error)?;
        let mut files = BTreeMap::new();
        for entry in device.list_dir(dir).await.map_err(dir_error)? {
            let extension = entry.path.extension().and_then(|text| text.to_str());
            if extension == Some("new") {
                // half made when the process ended
                device.remove_file(&entry.path).await.map_err(dir_error)?;
                continue;
            }
            let stem = entry.path.file_stem().and_then(|stem| stem.to_str());
            let index = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
            if let (Some("log"), Some(index)) = (extension, index) {
                if entry.bytes != config.file_bytes {
                    let wrong = format!("it has {} bytes", entry.bytes);
                    return Err(LogError::io(&entry.path, &io::Error::other(wrong)));
                }
                let opened = device.open_direct(&entry.path, OpenMode::Existing).await;
                files.insert(
                    index,
                    opened.map_err(|error| LogError::io(&entry.path, &error))?,
                );
            }
        }
        // a former process may have died between making or renaming and the sync
        device.sync_dir(dir).await.map_err(dir_error)?;
        Ok(Self {
            device,
            dir: dir.to_owned(),
            config,
            files,
            released_lately: 0,
        })
    }

    pub(crate) fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:016x}.log"))
    }

    pub(crate) fn index(&self, position: u64) -> u64 {
        position / self.config.file_bytes
    }

    pub(crate) fn get(&self, index: u64) -> Option<Arc<dyn File>> {
        self.files.get(&index).cloned()
    }

    /// The first position that the files hold.
    pub(crate) fn first_position(&self) -> u64 {
        self.files
            .keys()
            .next()
            .map_or(0, |index| index * self.config.file_bytes)
    }

    /// Just after the last position that the files hold.
    pub(crate) fn prepared(&self) -> u64 {
        self.files
            .keys()
            .next_back()
            .map_or(0, |index| (index + 1) * self.config.file_bytes)
    }

    /// Adds one zero-filled file at the end, or the first if there is none.
    ///
    /// # Errors
    /// The machine's; `StorageFull` before anything is written where the file would not fit.
    pub(crate) async fn grow(&mut self, first: u64) -> io::Result<()> {
        if self.device.bytes_free(&self.dir).await? < self.config.file_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let index = self.files.keys().next_back().map_or(first, |last| last + 1);
        let path = self.path(index);
        let new = path.with_extension("new");
        // an attempt that failed half way may have left one
        match self.device.remove_file(&new).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = match self.fill(&new).await {
            Ok(file) => file,
            Err(error) => {
                self.device.remove_file(&new).await?;
                return Err(error);
            }
        };
        self.device.rename(&new, &path).await?;
        self.device.sync_dir(&self.dir).await?;
        self.files.insert(index, file);
        Ok(())
    }

    async fn fill(&self, new: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.device.open_direct(new, OpenMode::CreateNew).await?;
        let mut zeroes = segment(FILL_BYTES);
        zeroes.put_bytes(0, FILL_BYTES);
        let zeroes = zeroes.freeze();
        let mut at = 0;
        while at < self.config.file_bytes {
            file.write_at(at, std::slice::from_ref(&zeroes)).await?;
            at += FILL_BYTES as u64;
        }
        file.sync_data().await?;
        Ok(file)
    }

    /// Lets go of files wholly below a position, never of the one that holds `tail`: used again at the end, or removed.
    ///
    /// As many as are let go of at a time, lately, will be needed until the next time: so a log that is written and trimmed
    /// at one pace makes no files.
    pub(crate) async fn release(&mut self, below: u64, tail: u64) -> Result<(), LogError> {
        let keep_from = self.index(below.min(tail));
        let released: Vec<u64> = self.files.range(..keep_from).map(|(at, _)| *at).collect();
        if released.is_empty() {
            return Ok(());
        }
        self.released_lately = (released.len() as u64).max(self.released_lately.saturating_sub(1));
        let spare_max = self.index(tail) + AHEAD + self.released_lately;
        for &index in &released {
            let path = self.path(index);
            let error = |error| LogError::io(&path, &error);
            let next = self.files.keys().next_back().map_or(index, |last| last + 1);
            let Some(file) = self.files.remove(&index) else {
                break;
            };
            if next <= spare_max {
                self.device
                    .rename(&path, &self.path(next))
                    .await
                    .map_err(error)?;
                self.files.insert(next, file);
            } else {
                self.device.remove_file(&path).await.map_err(error)?;
            }
        }
        let synced = self.device.sync_dir(&self.dir).await;
        synced.map_err(|error| LogError::io(&self.dir, &error))
    }

    /// Makes what lies in the files of a range of positions durable, whoever wrote it.
    pub(crate) async fn sync(&self, positions: Range<u64>) -> Result<(), LogError> {
        for index in self.index(positions.start)..=self.index(positions.end) {
            if let Some(file) = self.get(index) {
                let synced = file.sync_data().await;
                synced.map_err(|error| LogError::io(&self.path(index), &error))?;
            }
        }
        Ok(())
    }

    /// Reads within one file.
    pub(crate) async fn read(&self, position: u64, bytes: usize) -> Result<Bytes, LogError> {
        let index = self.index(position);
        let at = position % self.config.file_bytes;
        let file = self
            .get(index)
            .ok_or_else(|| LogError::io(&self.path(index), &io::ErrorKind::NotFound.into()))?;
        let read = file.read_at(at, bytes).await;
        read.map_err(|error| LogError::io(&self.path(index), &error))
    }
}
