//! The files of a log. They are made before they are needed and reused once they are released.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use highwater_io::{Device, File, OpenMode, aligned, is_full};

use crate::rest::rest;
use crate::seed::{self, Seed};
use crate::{Config, LogError};

#[derive(Debug)]
pub(crate) struct Files {
    device: Arc<dyn Device>,
    dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) seed: Seed,
    /// By index. The file with index i holds the positions from i times the file size on.
    files: BTreeMap<u64, Arc<dyn File>>,
    /// The next file, while it is being filled with zeroes.
    growing: Option<Growing>,
}

#[derive(Debug)]
struct Growing {
    file: Arc<dyn File>,
    /// The number of bytes that are zeroes already.
    filled: u64,
    /// One step's worth of zeroes.
    zeroes: Bytes,
}

const FILL_BYTES: usize = 1 << 20;

impl Files {
    pub(crate) async fn open(
        device: Arc<dyn Device>,
        dir: &Path,
        config: Config,
        new_seed: Seed,
    ) -> Result<Self, LogError> {
        let dir_error = |error| LogError::io(dir, &error);
        device.create_dir_all(dir).await.map_err(dir_error)?;
        let mut files = BTreeMap::new();
        for entry in device.list_dir(dir).await.map_err(dir_error)? {
            let extension = entry.path.extension().and_then(|text| text.to_str());
            if extension == Some("new") {
                // the process ended while it made this file
                device.remove_file(&entry.path).await.map_err(dir_error)?;
                continue;
            }
            let stem = entry.path.file_stem().and_then(|stem| stem.to_str());
            let index = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
            if let (Some("log"), Some(index)) = (extension, index) {
                if entry.bytes != config.file_bytes {
                    let (has, of) = (entry.bytes, config.file_bytes);
                    let wrong = format!("it has {has} bytes instead of {of}");
                    return Err(LogError::io(&entry.path, &io::Error::other(wrong)));
                }
                let opened = device.open_direct(&entry.path, OpenMode::Existing).await;
                files.insert(
                    index,
                    opened.map_err(|error| LogError::io(&entry.path, &error))?,
                );
            }
        }
        // an earlier process may have died after it created or renamed a file and before it synced the directory
        device.sync_dir(dir).await.map_err(dir_error)?;
        let seed = match seed::load(&*device, dir).await? {
            Some(seed) => seed,
            None if files.is_empty() => {
                seed::save(&*device, dir, &new_seed).await?;
                new_seed
            }
            None => {
                let lost = "it is missing, or the log was written by a version without seeds";
                return Err(LogError::io(&dir.join("seed"), &io::Error::other(lost)));
            }
        };
        Ok(Self {
            device,
            dir: dir.to_owned(),
            config,
            seed,
            files,
            growing: None,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
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

    /// The first position in the files.
    pub(crate) fn first_position(&self) -> u64 {
        self.files
            .keys()
            .next()
            .map_or(0, |index| index * self.config.file_bytes)
    }

    /// The size of the files before the one with this position: they move behind the last file once they are
    /// released.
    pub(crate) fn held(&self, position: u64) -> u64 {
        let start = self.index(position) * self.config.file_bytes;
        start.saturating_sub(self.first_position())
    }

    /// The position after the last one in the files.
    pub(crate) fn prepared(&self) -> u64 {
        self.files
            .keys()
            .next_back()
            .map_or(0, |index| (index + 1) * self.config.file_bytes)
    }

    /// Continues making a zero-filled file, by `bytes` more. A file that is complete is added behind the last one,
    /// with index `first` if there is none. Groups that are appended meanwhile wait for one step, not for a whole
    /// file.
    ///
    /// # Errors
    /// [`LogError::Full`] if there is no room for the file, which is usually noticed before anything is written. What
    /// was made of the file is removed, and the next call starts again. Any other error is final (D3).
    pub(crate) async fn grow(&mut self, first: u64, bytes: u64) -> Result<(), LogError> {
        let new = self.new_path();
        let error = match self.make(bytes).await {
            Ok(None) => return Ok(()),
            Ok(Some(file)) => {
                let index = self.next_index(first);
                match self.device.rename(&new, &self.path(index)).await {
                    Ok(()) => return self.add(index, file).await,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !is_full(&error) {
            return Err(LogError::io(&new, &error));
        }
        match self.device.remove_file(&new).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io(&new, &error))
            }
            _ => Err(LogError::Full {
                directory: self.dir.display().to_string(),
                error: error.to_string(),
            }),
        }
    }

    async fn add(&mut self, index: u64, file: Arc<dyn File>) -> Result<(), LogError> {
        self.sync_dir().await?;
        self.files.insert(index, file);
        Ok(())
    }

    /// Makes the names of files durable. If the process has no free descriptor to open the directory with, it waits
    /// for one: the files have their names already and can't be made again (D3).
    async fn sync_dir(&self) -> Result<(), LogError> {
        let mut is_logged = false;
        loop {
            match self.device.sync_dir(&self.dir).await {
                Err(error) if is_full(&error) => {
                    if !std::mem::replace(&mut is_logged, true) {
                        tracing::warn!(%error, "cannot open a log's directory, trying again until it can be opened");
                    }
                    rest().await;
                }
                synced => return synced.map_err(|error| LogError::io(&self.dir, &error)),
            }
        }
    }

    /// Writes `bytes` more zeroes to the file that is being made. Returns the file once it is complete and synced.
    async fn make(&mut self, bytes: u64) -> io::Result<Option<Arc<dyn File>>> {
        let mut growing = match self.growing.take() {
            Some(growing) => growing,
            None => self.begin().await?,
        };
        let until = self.config.file_bytes.min(growing.filled + bytes);
        while growing.filled < until {
            let zeroes = std::slice::from_ref(&growing.zeroes);
            growing.file.write_at(growing.filled, zeroes).await?;
            growing.filled += FILL_BYTES as u64;
        }
        if growing.filled < self.config.file_bytes {
            self.growing = Some(growing);
            return Ok(None);
        }
        growing.file.sync_data().await?;
        Ok(Some(growing.file))
    }

    /// The index after the last file's, or `first` if there is no file.
    fn next_index(&self, first: u64) -> u64 {
        let last = self.files.keys().next_back();
        last.map_or(first, |last| last + 1)
    }

    fn new_path(&self) -> PathBuf {
        self.dir.join("next.new")
    }

    async fn begin(&self) -> io::Result<Growing> {
        if self.device.bytes_free(&self.dir).await? < self.config.file_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let new = self.new_path();
        let file = self.device.open_direct(&new, OpenMode::CreateNew).await?;
        let mut zeroes = aligned(FILL_BYTES);
        zeroes.put_bytes(0, FILL_BYTES);
        Ok(Growing {
            file,
            filled: 0,
            zeroes: zeroes.freeze(),
        })
    }

    /// Moves the files wholly below a position behind the last file, so that they are reused, except the one with
    /// `tail`. No file is removed: a log that needed the space once will need it again, and making or removing a file
    /// takes milliseconds, for which appended groups would wait.
    pub(crate) async fn release(&mut self, below: u64, tail: u64) -> Result<(), LogError> {
        let keep_from = self.index(below.min(tail));
        let released: Vec<u64> = self.files.range(..keep_from).map(|(at, _)| *at).collect();
        for &index in &released {
            let path = self.path(index);
            let next = self.next_index(index);
            let renamed = self.device.rename(&path, &self.path(next)).await;
            renamed.map_err(|error| LogError::io(&path, &error))?;
            if let Some(file) = self.files.remove(&index) {
                self.files.insert(next, file);
            }
        }
        if released.is_empty() {
            return Ok(());
        }
        self.sync_dir().await
    }

    /// Makes the bytes at these positions durable, also if an earlier process wrote them.
    pub(crate) async fn sync(&self, positions: Range<u64>) -> Result<(), LogError> {
        for index in self.index(positions.start)..=self.index(positions.end) {
            if let Some(file) = self.get(index) {
                let synced = file.sync_data().await;
                synced.map_err(|error| LogError::io(&self.path(index), &error))?;
            }
        }
        Ok(())
    }

    /// Reads bytes that lie within one file.
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
