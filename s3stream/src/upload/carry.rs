//! Checkpoints that stand alone: for a stream that has no new records, so that what its last one stands in, or what
//! came after it, is kept no longer (F5).

use std::sync::{Arc, PoisonError};

use highwater_object_format::ObjectWriter;
use highwater_types::{StreamOffset, WalPosition};

use super::header;
use super::put::{commit_written, put};
use crate::StreamError;
use crate::folding::{Deltas, Folding};
use crate::store::Shared;
use crate::stream::ObjectStream;

/// A stream whose checkpoint is due, up to what it has uploaded.
struct Due {
    stream: Arc<ObjectStream>,
    at: StreamOffset,
    folding: Folding,
}

fn due(shared: &Shared) -> Vec<Due> {
    let streams = shared.streams.read();
    let streams = streams.unwrap_or_else(PoisonError::into_inner);
    let is_due = |stream: &Arc<ObjectStream>| {
        let state = stream.lock();
        // with the next upload, if there is something to upload
        let comes = state.cache.pinned().next().is_some();
        let is_due = !comes && state.folding.is_due(state.bounds.start, None);
        is_due.then(|| Due {
            stream: Arc::clone(stream),
            at: state.uploaded,
            folding: state.folding.clone(),
        })
    };
    streams.values().filter_map(is_due).collect()
}

/// Writes the checkpoints that are due into one object without records; called where nothing else is uploaded.
pub(super) async fn carry(shared: &Shared, floor: WalPosition) -> Result<(), StreamError> {
    let mut writer = None;
    let mut carried = Vec::new();
    for one in due(shared) {
        // one that can't be read isn't opened either: it stays as it is
        if let Some(folded) = one.folding.fold(&*shared.parts.fold, Deltas::new()) {
            // a number is taken only for what comes
            let (_, writer) = writer.get_or_insert_with(|| {
                let object = shared.next_object();
                (object, ObjectWriter::new(&header(shared, object)))
            });
            let (stream, checkpoint) = (&one.stream, folded.checkpoint);
            writer.begin_stream(stream.id, stream.label.clone(), stream.epoch, one.at);
            writer.end_stream(
                Some(checkpoint.clone()),
                Vec::new(),
                folded.open_from,
                shared.metadata.leader_epochs(stream.id).await?,
            );
            carried.push((one, checkpoint));
        }
        tokio::task::yield_now().await;
    }
    let Some((object, writer)) = writer else {
        return Ok(());
    };
    let written = writer.finish();
    // empty ones are told by the commit alone
    if carried.iter().any(|(_, checkpoint)| !checkpoint.is_empty()) {
        put(shared, object, &written).await?;
    }
    commit_written(shared, object, &written, floor).await?;
    for (one, checkpoint) in carried {
        let mut state = one.stream.lock();
        state.folding.checkpointed(checkpoint, one.at, false);
    }
    Ok(())
}
