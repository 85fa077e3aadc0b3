//! An upload that has begun: its object, and the batches that it has of each stream.
//!
//! The body of the object is kept until it is committed, so that an upload which was stopped in the middle continues
//! with the same body under the same number (U2). Checkpoints that stand alone are written here too, as one object in
//! each round.

use std::sync::Arc;

use highwater_object_format::{ObjectWriter, WrittenObject};
use highwater_object_storage::layout;
use highwater_runtime::crash_point;
use highwater_types::{ObjectId, WalPosition};

use super::Uploads;
use super::plan::{Checkpoints, LoneCheckpoint, StreamPart, TakenBatches};
use crate::stream::ObjectStream;
use crate::{HandedOver, StreamError};

/// The number of batches that are encoded without a yield, which takes well under a millisecond.
const BATCHES_AT_ONCE: usize = 32;

/// An upload that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// The number of the object. `None` if there is nothing to commit.
    id: Option<ObjectId>,
    /// The object. `None` if no batch is to be uploaded: all before the floor were of streams that have been deleted, or
    /// streams are handed over of which everything is uploaded.
    written: Option<WrittenObject>,
    floor: WalPosition,
    parts: Vec<(Arc<ObjectStream>, StreamPart)>,
}

/// An object that is being written. It takes a number only once there is something to write, and gives it back if it is
/// dropped before the body is whole.
struct Encoding<'a> {
    uploads: &'a Uploads,
    begun: Option<(ObjectId, ObjectWriter)>,
}

impl<'a> Encoding<'a> {
    fn new(uploads: &'a Uploads) -> Self {
        Self {
            uploads,
            begun: None,
        }
    }

    fn writer(&mut self) -> &mut ObjectWriter {
        let begin = || {
            let object = self.uploads.next_object();
            (object, ObjectWriter::new(&self.uploads.header(object)))
        };
        &mut self.begun.get_or_insert_with(begin).1
    }

    fn finish(mut self) -> Option<(ObjectId, WrittenObject)> {
        let (object, writer) = self.begun.take()?;
        Some((object, writer.finish()))
    }
}

impl Drop for Encoding<'_> {
    fn drop(&mut self) {
        if let Some((object, _)) = &self.begun {
            self.uploads.numbers.give_back(object.number);
        }
    }
}

impl Begun {
    /// Encodes the durable batches before a position. Cancellation safe.
    pub(super) async fn encode(uploads: &Uploads, floor: WalPosition) -> Result<Self, StreamError> {
        let mut parts = Vec::new();
        let mut encoding = Encoding::new(uploads);
        for stream in uploads.streams.all() {
            let taken = TakenBatches::before(&stream.lock(), floor);
            let Some(taken) = taken else { continue };
            // folding takes time in proportion to the state, so that the stream is not locked here
            let part = taken.fold(&*uploads.fold, Checkpoints::WhenDue);
            write(uploads, &stream, &part, encoding.writer()).await?;
            parts.push((stream, part));
        }
        let finished = encoding.finish();
        let is_moved = floor > uploads.committed_floor();
        Ok(Self::new(uploads, finished, is_moved, (floor, parts)))
    }

    /// An upload without a body takes a number only if it has something to commit.
    fn new(
        uploads: &Uploads,
        finished: Option<(ObjectId, WrittenObject)>,
        is_needed: bool,
        (floor, parts): (WalPosition, Vec<(Arc<ObjectStream>, StreamPart)>),
    ) -> Self {
        let (id, written) = match finished {
            Some((id, written)) => (Some(id), Some(written)),
            None => (is_needed.then(|| uploads.next_object()), None),
        };
        Self {
            id,
            written,
            floor,
            parts,
        }
    }

    /// Encodes all batches of some streams, which are durable, whatever else is to be uploaded: the floor stays. Each
    /// stream gets a checkpoint, so that its next leader reads no other object (F2).
    pub(super) async fn encode_last(
        uploads: &Uploads,
        streams: &[Arc<ObjectStream>],
    ) -> Result<Self, StreamError> {
        let mut parts = Vec::new();
        let mut encoding = Encoding::new(uploads);
        for stream in streams {
            let taken = TakenBatches::all(&stream.lock());
            let Some(taken) = taken else { continue };
            let part = taken.fold(&*uploads.fold, Checkpoints::Always);
            write(uploads, stream, &part, encoding.writer()).await?;
            parts.push((Arc::clone(stream), part));
        }
        let floor = uploads.committed_floor();
        Ok(Self::new(uploads, encoding.finish(), true, (floor, parts)))
    }

    /// The key of the object, for the log.
    fn key(&self) -> String {
        let key = self.id.map(|id| layout::object(id).to_string());
        key.unwrap_or_default()
    }

    fn bytes(&self) -> u64 {
        self.written.as_ref().map_or(0, |written| written.bytes)
    }

    /// Puts the object, if there is one.
    pub(super) async fn put(&self, uploads: &Uploads) -> Result<(), StreamError> {
        match (self.id, &self.written) {
            (Some(id), Some(written)) => uploads.put(id, written).await,
            _ => Ok(()),
        }
    }

    /// Commits what was put, and hands streams over in the same command (C2).
    pub(super) async fn commit(
        &self,
        uploads: &Uploads,
        handed_over: Vec<HandedOver>,
    ) -> Result<(), StreamError> {
        let Some(id) = self.id else {
            return Ok(());
        };
        let written = self.written.as_ref();
        uploads.commit(id, written, self.floor, handed_over).await
    }

    #[tracing::instrument(level = "debug", name = "upload", skip_all, fields(object_key = self.key(), bytes = self.bytes()))]
    pub(super) async fn put_and_commit(&self, uploads: &Uploads) -> Result<(), StreamError> {
        crash_point("upload-before-put");
        self.put(uploads).await?;
        crash_point("upload-after-put");
        self.commit(uploads, Vec::new()).await
    }

    /// Releases the uploaded batches once the node's own image shows their claims (U6); returns the floor.
    pub(super) fn release(self, uploads: &Uploads) -> WalPosition {
        for (stream, part) in self.parts {
            let ends = part.evictable_ends();
            part.release(&mut stream.lock());
            uploads.evictions.release(stream.id, ends);
        }
        self.floor
    }
}

/// Writes a stream's part of an object.
async fn write(
    uploads: &Uploads,
    stream: &ObjectStream,
    part: &StreamPart,
    writer: &mut ObjectWriter,
) -> Result<(), StreamError> {
    writer.begin_stream(stream.id, stream.label.clone(), stream.epoch, part.first());
    for batches in part.batches.chunks(BATCHES_AT_ONCE) {
        for batch in batches {
            let (delta, body) = (batch.delta.clone(), batch.body.clone());
            writer.push_batch(batch.entry, delta, batch.roll, batch.append_time, body);
        }
        // lets requests run first
        tokio::task::yield_now().await;
    }
    let (checkpoint, entries) = (part.checkpoint.clone(), part.entries.clone());
    let leader_epochs = uploads.metadata.leader_epochs(stream.id).await?;
    writer.end_stream(checkpoint, entries, part.open_from, leader_epochs);
    Ok(())
}

impl Uploads {
    /// Writes the due checkpoints of streams without new records into one object without records, so that older objects
    /// are no longer kept for the last checkpoint of such a stream or the deltas after it (F5). Only the upload that is
    /// under way calls this.
    pub(super) async fn carry_checkpoints(&self, floor: WalPosition) -> Result<(), StreamError> {
        let mut encoding = Encoding::new(self);
        let mut carried = Vec::new();
        for stream in self.streams.all() {
            let due = LoneCheckpoint::due(&stream.lock());
            let Some(due) = due else { continue };
            // a stream whose state can't be read can't be opened either, and is left as it is
            if let Some(folded) = due.fold(&*self.fold) {
                let checkpoint = folded.checkpoint.clone();
                let writer = encoding.writer();
                writer.begin_stream(stream.id, stream.label.clone(), stream.epoch, due.at);
                writer.end_stream(
                    Some(folded.checkpoint),
                    Vec::new(),
                    folded.open_from,
                    self.metadata.leader_epochs(stream.id).await?,
                );
                carried.push((stream, due.at, checkpoint));
            }
            tokio::task::yield_now().await;
        }
        let Some((object, written)) = encoding.finish() else {
            return Ok(());
        };
        // an empty checkpoint is in the commit alone
        if carried
            .iter()
            .any(|(_, _, checkpoint)| !checkpoint.is_empty())
        {
            self.put(object, &written).await?;
        }
        self.commit(object, Some(&written), floor, Vec::new())
            .await?;
        for (stream, at, checkpoint) in carried {
            let folding = &mut stream.lock().folding;
            folding.checkpointed(checkpoint, at, false);
        }
        Ok(())
    }
}
