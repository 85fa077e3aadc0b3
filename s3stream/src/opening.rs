//! Opens streams, so that an object that hangs holds up only the streams that need it (F4).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use highwater_object_format::StreamDirectory;
use highwater_object_storage::layout;
use highwater_types::{ObjectId, StreamId, StreamRange};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::folding::Folding;
use crate::read::Line;
use crate::stream::{ObjectStream, State, StreamPorts};
use crate::streams::Streams;
use crate::upload::Uploads;
use crate::{Claim, OpenStream, Opened, OpenedStream, Stream, StreamBounds, StreamError};

/// How many directories are read at once for each stream that is opened.
const DIRECTORIES_AT_ONCE: usize = 4;

/// A stream to open, and its index in the request.
type Asked = (usize, OpenStream);
/// The same, with the bounds that the metadata returned.
type Taken = (usize, OpenStream, Result<StreamBounds, StreamError>);

/// The parts of the store that open streams. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    /// The ports of each stream.
    pub(crate) ports: StreamPorts,
    pub(crate) streams: Arc<Streams>,
    pub(crate) uploads: Arc<Uploads>,
}

/// Opens streams, each as soon as possible; streams that are open already are closed first.
pub(crate) fn open(
    opener: Opener,
    asked: Vec<OpenStream>,
    slots: Arc<Semaphore>,
) -> BoxStream<'static, Opened> {
    let is_open = |(_, asked): &Asked| opener.streams.get(asked.id).is_some();
    let (again, fresh): (Vec<_>, Vec<_>) = asked.into_iter().enumerate().partition(is_open);
    let fresh = open_closed(opener.clone(), fresh, Arc::clone(&slots)).flatten_stream();
    let open_again = move |asked| open_again(opener.clone(), asked, Arc::clone(&slots));
    let again = stream::iter(again).map(open_again);
    stream::select(again.buffer_unordered(usize::MAX), fresh).boxed()
}

/// Opens a stream again, once its former opening is closed.
async fn open_again(opener: Opener, asked: Asked, slots: Arc<Semaphore>) -> Opened {
    if let Err(error) = close(&opener, asked.1.id).await {
        return (asked.0, Err(error));
    }
    let opened = open_closed(opener, vec![asked], slots).flatten_stream();
    pin!(opened).next().await.expect("one stream was asked for")
}

/// Closes a stream once everything appended to it is uploaded (C2). Batches that are not would be lost with its cache,
/// because an upload takes only the batches of open streams. A stream that is forgotten meanwhile, because it is deleted,
/// needs no upload.
async fn close(opener: &Opener, id: StreamId) -> Result<(), StreamError> {
    let Some(former) = opener.streams.get(id) else {
        return Ok(());
    };
    let mut changes = former.watch_bounds();
    let is_open = || {
        let now = opener.streams.get(id);
        now.is_some_and(|now| Arc::ptr_eq(&now, &former))
    };
    while is_open() && !former.close_if_uploaded() {
        let bounds = former.bounds();
        if bounds.confirmed == bounds.next {
            opener.uploads.all().await?;
            continue;
        }
        tokio::select! {
            // the sender lives as long as the stream
            Ok(()) = changes.changed() => {}
            reason = opener.uploads.failed() => return Err(StreamError::Unavailable { reason }),
        }
    }
    Ok(())
}

/// Opens streams in one command, each as soon as possible. A stream that waits for a slot holds nothing yet.
async fn open_closed(
    opener: Opener,
    asked: Vec<Asked>,
    slots: Arc<Semaphore>,
) -> impl futures::Stream<Item = Opened> + Send {
    let bounds = take(&opener, &asked).await;
    let all = asked.into_iter().zip(bounds);
    let all = all.map(|((at, stream), bounds)| (at, stream, bounds));
    let has_records = |(_, _, bounds): &Taken| bounds.as_ref().is_ok_and(|bounds| bounds.next > 0);
    let (mut full, empty): (Vec<_>, Vec<_>) = all.partition(has_records);
    full.sort_by_key(|(_, stream, _)| !stream.is_urgent);
    let open_one = move |(taken, slot)| open_taken(opener.clone(), taken, slot);
    // an empty stream needs no reads
    let empty = stream::iter(empty).map(|taken| (taken, Slot::default()));
    let empty = empty.then(open_one.clone());
    let full = stream::iter(full).then(move |taken| {
        let slots = Arc::clone(&slots);
        async move {
            let slot = match taken.1.is_urgent {
                true => None,
                false => slots.acquire_owned().await.ok(),
            };
            (taken, Slot(Mutex::new(slot)))
        }
    });
    let full = full.map(open_one).buffer_unordered(usize::MAX);
    stream::select(empty, full)
}

/// The permission for an opening to be under way. The opening gives it up if the store does not answer: from then on it
/// holds little more memory than an open stream.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<OwnedSemaphorePermit>>);

impl Slot {
    fn give_up(&self) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
    }
}

async fn open_taken(opener: Opener, (at, asked, bounds): Taken, slot: Slot) -> Opened {
    let opened = match bounds {
        Ok(bounds) => open_one(&opener, &asked, bounds, &slot).await,
        Err(error) => Err(error),
    };
    (at, opened)
}

/// Reads the checkpoint that a claim has (F4).
async fn checkpoint(
    opener: &Opener,
    asked: &OpenStream,
    claim: &Claim,
    slot: &Slot,
) -> Result<Bytes, StreamError> {
    let Some(object) = claim.object else {
        return Ok(Bytes::new());
    };
    let directory = directory(opener, asked, object, claim, slot).await?;
    let missing = || StreamError::Damaged {
        key: layout::object(object).to_string(),
        reason: "the checkpoint is missing".to_owned(),
    };
    let state = directory.checkpoint.as_ref().ok_or_else(missing)?;
    // copied, because it is kept longer than the directory
    Ok(Bytes::copy_from_slice(state))
}

/// Opens streams in the metadata with one command; returns the bounds of each.
async fn take(opener: &Opener, streams: &[Asked]) -> Vec<Result<StreamBounds, StreamError>> {
    let wanted: Vec<_> = streams
        .iter()
        .map(|(_, stream)| (stream.id, stream.epoch))
        .collect();
    match opener.ports.metadata.open(&wanted).await {
        Ok(bounds) => bounds,
        Err(error) => {
            let reason = error.to_string();
            let same = || StreamError::Unavailable {
                reason: reason.clone(),
            };
            streams.iter().map(|_| Err(same())).collect()
        }
    }
}

/// Reads the directory that an object has of a stream that is opened.
async fn directory(
    opener: &Opener,
    asked: &OpenStream,
    object: ObjectId,
    claim: &Claim,
    slot: &Slot,
) -> Result<Arc<StreamDirectory>, StreamError> {
    let line = match asked.is_urgent {
        true => Line::Serving,
        false => Line::Opening,
    };
    let (reader, part) = (&opener.ports.reader, (asked.id, claim.leader_epoch));
    let directory = reader.directory_for_opening(object, part, line, || slot.give_up());
    directory.await
}

async fn open_one(
    opener: &Opener,
    asked: &OpenStream,
    bounds: StreamBounds,
    slot: &Slot,
) -> Result<OpenedStream, StreamError> {
    let recorded = opener.ports.metadata.recorded(asked.id).await?;
    let mut folding = Folding::default();
    let mut checkpointed = None;
    if let Some(claim) = &recorded.checkpoint {
        let state = checkpoint(opener, asked, claim, slot).await?;
        let (at, has_records) = (claim.range.end, !claim.part.is_empty());
        folding.checkpointed(state.clone(), at, has_records);
        checkpointed = Some((at, state));
    }
    let mut rolls = recorded.rolls;
    // an active roll without records is dropped
    rolls.retain(|roll| roll.end > bounds.start);
    let from = checkpointed.as_ref().map_or(0, |(at, _)| *at);
    let mut deltas = Vec::new();
    let mut entries = Vec::new();
    let read = |claim: Claim| async move {
        let directory = match claim.object {
            Some(object) => Some(directory(opener, asked, object, &claim, slot).await?),
            None => None,
        };
        Ok((claim, directory))
    };
    let directories = stream::iter(recorded.claims).map(read);
    let mut directories = pin!(directories.buffered(DIRECTORIES_AT_ONCE));
    while let Some(read) = directories.next().await {
        let (claim, directory): (Claim, Option<Arc<StreamDirectory>>) = read?;
        let mut fresh = Vec::new();
        if let Some(directory) = directory {
            let counts = |range: &StreamRange| range.end > from.max(claim.range.start);
            let all = directory.deltas.iter();
            fresh.extend(all.filter(|(range, _)| counts(range)).cloned());
            entries.extend(directory.entries.iter().map(|(at, body)| crate::Entry {
                at: *at,
                body: body.clone(),
            }));
        }
        deltas.extend(fresh.iter().cloned());
        folding.claimed(fresh, claim.range.end);
    }
    let state = State {
        bounds,
        cache: crate::cache::StreamCache::default(),
        rolls: rolls.clone(),
        uploaded: bounds.next,
        folding,
        is_closed: false,
    };
    let stream = Arc::new(ObjectStream::new(asked, opener.ports.clone(), state));
    opener.streams.insert(Arc::clone(&stream));
    Ok(OpenedStream {
        stream,
        checkpoint: checkpointed,
        deltas,
        entries,
        rolls,
        lost: recorded.lost,
    })
}
