//! The newest snapshot, as a file: written aside, synced, renamed, its directory synced.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use highwater_io::{Device, OpenMode};
use prost::Message;
use prost::encoding::WireType;

use super::record::{LogIdRecord, MembershipRecord};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::{OpenError, SnapshotError};

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRecord>,
    #[prost(message, optional, tag = "3")]
    membership: Option<MembershipRecord>,
    #[prost(bytes = "bytes", tag = "4")]
    image: Bytes,
    #[prost(fixed32, tag = "5")]
    crc: u32,
}

const VERSION: u32 = 1;
/// The tag of [`File::image`].
const IMAGE: u32 = 4;

#[derive(Debug, Clone)]
pub(super) struct SnapshotStore {
    device: Arc<dyn Device>,
    dir: PathBuf,
}

/// A snapshot and what it is of.
pub(super) type Stored = (SnapshotMeta, Bytes);

impl SnapshotStore {
    pub(super) fn new(device: Arc<dyn Device>, dir: PathBuf) -> Self {
        Self { device, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    /// An error of what the file holds.
    pub(super) fn error(&self, source: SnapshotError) -> OpenError {
        OpenError::Snapshot {
            path: self.path().display().to_string(),
            source,
        }
    }

    pub(super) async fn load(&self) -> Result<Option<Stored>, OpenError> {
        let path = self.path();
        let error = |source| OpenError::Io {
            path: path.display().to_string(),
            source,
        };
        let file = match self.device.open(&path, OpenMode::Existing).await {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(error)?,
        };
        let bytes = usize::try_from(file.len().await.map_err(error)?).unwrap_or(usize::MAX);
        let body = file.read_at(0, bytes).await.map_err(error)?;
        let unreadable = |why: &str| self.error(SnapshotError::Unreadable(why.to_owned()));
        let file = File::decode(body).map_err(|why| unreadable(&why.to_string()))?;
        match file.version {
            VERSION => {}
            0 => return Err(unreadable("its beginning is missing")),
            other => return Err(self.error(SnapshotError::OtherVersion(other))),
        }
        if crc32fast::hash(&file.image) != file.crc {
            return Err(unreadable("its checksum is wrong"));
        }
        let meta = SnapshotMeta {
            last_log_id: file.last.map(LogId::from),
            last_membership: file
                .membership
                .map(StoredMembership::from)
                .unwrap_or_default(),
        };
        Ok(Some((meta, file.image)))
    }

    /// Writes the newest snapshot; its error names the file.
    pub(super) async fn save(&self, meta: &SnapshotMeta, image: Bytes) -> io::Result<()> {
        let named = |error: io::Error| {
            let path = self.path().display().to_string();
            io::Error::new(error.kind(), format!("cannot write {path}: {error}"))
        };
        self.write(meta, image).await.map_err(named)
    }

    /// The image is not copied: it stands between the fields before and after it.
    async fn write(&self, meta: &SnapshotMeta, image: Bytes) -> io::Result<()> {
        let before = File {
            version: VERSION,
            last: meta.last_log_id.as_ref().map(LogIdRecord::from),
            membership: Some((&meta.last_membership).into()),
            ..File::default()
        };
        let after = File {
            crc: crc32fast::hash(&image),
            ..File::default()
        };
        let mut head = before.encode_to_vec();
        prost::encoding::encode_key(IMAGE, WireType::LengthDelimited, &mut head);
        prost::encoding::encode_varint(image.len() as u64, &mut head);
        let parts = [head.into(), image, after.encode_to_vec().into()];
        let new = self.dir.join("snapshot.new");
        match self.device.remove_file(&new).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let out = self.device.open(&new, OpenMode::CreateNew).await?;
        out.write_at(0, &parts).await?;
        out.sync_data().await?;
        self.device.rename(&new, &self.path()).await?;
        self.device.sync_dir(&self.dir).await
    }
}
