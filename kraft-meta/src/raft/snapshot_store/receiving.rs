//! A snapshot that a leader sends, part by part, to a file of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use highwater_io::{Device, File, OpenMode};
use highwater_runtime::reasons;

use super::{SnapshotFile, remove};
use crate::raft::types::{LogId, Snapshot, Vote};

/// A part of a snapshot.
#[derive(Debug)]
pub(in crate::raft) struct Part {
    /// The vote of the leader that sends it, and the last entry that the snapshot covers.
    pub(in crate::raft) from: (Vote, LogId),
    /// The place of its first byte.
    pub(in crate::raft) at: u64,
    /// The bytes of the whole snapshot.
    pub(in crate::raft) bytes_total: u64,
    pub(in crate::raft) bytes: Bytes,
}

/// The snapshot that is being received. A new one takes the place of one that is not whole.
#[derive(Debug)]
pub(super) struct Receiving {
    device: Arc<dyn Device>,
    path: PathBuf,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    from: (Vote, LogId),
    bytes_total: u64,
    /// The place of the next part.
    next: u64,
    file: Arc<dyn File>,
}

impl Receiving {
    pub(super) fn new(device: Arc<dyn Device>, path: PathBuf) -> Self {
        let begun = None;
        Self {
            device,
            path,
            begun,
        }
    }

    /// Writes a part; reads and checks the snapshot after the last one.
    pub(super) async fn take(&mut self, part: Part) -> io::Result<Option<Snapshot>> {
        if part.at == 0 {
            self.begun = Some(self.begin(&part).await?);
        }
        // a snapshot that fails is begun anew
        let begun = self.begun.take();
        let follows = |begun: &Begun| {
            let end = part.at.checked_add(part.bytes.len() as u64);
            let ends_within = end.is_some_and(|end| end <= begun.bytes_total);
            begun.from == part.from
                && begun.bytes_total == part.bytes_total
                && begun.next == part.at
                && ends_within
                && !part.bytes.is_empty()
        };
        let Some(mut begun) = begun.filter(follows) else {
            let why = "a part of a snapshot does not follow those that came before";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        let bytes = part.bytes.len() as u64;
        if let Err(error) = begun.file.write_at(part.at, &[part.bytes]).await {
            // on a full disk its room is left to other files
            remove(&*self.device, &self.path).await?;
            return Err(error);
        }
        begun.next += bytes;
        if begun.next < begun.bytes_total {
            self.begun = Some(begun);
            return Ok(None);
        }
        let snapshot = self.whole(begun.file).await;
        // its content is in memory now, and becomes a file with the other snapshots
        remove(&*self.device, &self.path).await?;
        snapshot.map(Some)
    }

    async fn begin(&self, part: &Part) -> io::Result<Begun> {
        remove(&*self.device, &self.path).await?;
        Ok(Begun {
            from: part.from,
            bytes_total: part.bytes_total,
            next: 0,
            file: self.device.open(&self.path, OpenMode::CreateNew).await?,
        })
    }

    async fn whole(&self, file: Arc<dyn File>) -> io::Result<Snapshot> {
        let mut snapshot = SnapshotFile {
            file,
            path: self.path.clone(),
            image: None,
        };
        let (meta, image) = snapshot.read().await.map_err(|error| {
            let why = format!("a leader's snapshot is refused: {}", reasons(&error));
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        snapshot.image = Some(Arc::new(image));
        Ok(Snapshot { meta, snapshot })
    }
}
