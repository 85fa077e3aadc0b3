//! An upload that has begun: its object, and the batches that it has of each stream.
//!
//! The body of the object is kept until it is committed, so that an upload which was stopped in the middle continues
//! with the same body under the same number (U2). Checkpoints that stand alone are written here too, as one object in
//! each round.

use std::sync::Arc;

use highwater_object_format::{ObjectWriter, WrittenObject};
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
    /// `None` if all batches before the floor were of streams that have been deleted.
    object: Option<(ObjectId, WrittenObject)>,
    floor: WalPosition,
    parts: Vec<(Arc<ObjectStream>, StreamPart)>,
}

/// An object that is being written. It takes a number only once there is something to write.
#[derive(Default)]
struct Encoding(Option<(ObjectId, ObjectWriter)>);

impl Encoding {
    fn writer(&mut self, uploads: &Uploads) -> &mut ObjectWriter {
        let begin = || {
            let object = uploads.next_object();
            (object, ObjectWriter::new(&uploads.header(object)))
        };
        &mut self.0.get_or_insert_with(begin).1
    }

    fn finish(self) -> Option<(ObjectId, WrittenObject)> {
        self.0.map(|(object, writer)| (object, writer.finish()))
    }
}

impl Begun {
    /// Encodes the durable batches before a position. If this is dropped, the number it has taken is passed over (U2).
    pub(super) async fn encode(uploads: &Uploads, floor: WalPosition) -> Result<Self, StreamError> {
        let mut parts = Vec::new();
        let mut encoding = Encoding::default();
        for stream in uploads.streams.all() {
            let taken = TakenBatches::before(&stream.lock(), floor);
            let Some(taken) = taken else { continue };
            // folding takes time in proportion to the state, so that the stream is not locked here
            let part = taken.fold(&*uploads.fold, Checkpoints::WhenDue);
            write(uploads, &stream, &part, encoding.writer(uploads)).await?;
            parts.push((stream, part));
        }
        Ok(Self {
            object: encoding.finish(),
            floor,
            parts,
        })
    }

    /// Encodes all batches of some streams, which are durable, whatever else is to be uploaded: the floor stays. Each
    /// stream gets a checkpoint, so that its next leader reads no other object (F2).
    pub(super) async fn encode_last(
        uploads: &Uploads,
        streams: &[Arc<ObjectStream>],
    ) -> Result<Self, StreamError> {
        let mut parts = Vec::new();
        let mut encoding = Encoding::default();
        for stream in streams {
            let taken = TakenBatches::all(&stream.lock());
            let Some(taken) = taken else { continue };
            let part = taken.fold(&*uploads.fold, Checkpoints::Always);
            write(uploads, stream, &part, encoding.writer(uploads)).await?;
            parts.push((Arc::clone(stream), part));
        }
        Ok(Self {
            object: encoding.finish(),
            floor: uploads.committed_floor(),
            parts,
        })
    }

    /// Puts the object, if there is one.
    pub(super) async fn put(&self, uploads: &Uploads) -> Result<(), StreamError> {
        match &self.object {
            Some((object, written)) => uploads.put(*object, written).await,
            None => Ok(()),
        }
    }

    /// Commits the object, which was put, and hands streams over in the same command.
    pub(super) async fn hand_over(
        &self,
        uploads: &Uploads,
        streams: Vec<HandedOver>,
    ) -> Result<(), StreamError> {
        let object = self.object.as_ref();
        let object = object.map(|(object, written)| (*object, written));
        uploads
            .commit_and_hand_over(object, self.floor, streams)
            .await
    }

    pub(super) async fn put_and_commit(&self, uploads: &Uploads) -> Result<(), StreamError> {
        match &self.object {
            Some((object, written)) => {
                let put_and_commit = uploads.put_and_commit(*object, written, self.floor);
                put_and_commit.await
            }
            None => uploads.commit_floor(self.floor).await,
        }
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
        let mut encoding = Encoding::default();
        let mut carried = Vec::new();
        for stream in self.streams.all() {
            let due = LoneCheckpoint::due(&stream.lock());
            let Some(due) = due else { continue };
            // a stream whose state can't be read can't be opened either, and is left as it is
            if let Some(folded) = due.fold(&*self.fold) {
                let checkpoint = folded.checkpoint.clone();
                let writer = encoding.writer(self);
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
        self.commit_written(object, &written, floor).await?;
        for (stream, at, checkpoint) in carried {
            let folding = &mut stream.lock().folding;
            folding.checkpointed(checkpoint, at, false);
        }
        Ok(())
    }
}
