//! Opening streams has many requests under way at a slow object store, but a bounded number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use highwater_object_format::{BatchEntry, ObjectHeader, ObjectWriter};
use highwater_object_storage::{
    Failure, Hooked, IoClass, MemoryStorage, ObjectKey, ObjectStorage, Operation, Plan, PutMode,
    Request, RequestKind, layout,
};
use highwater_runtime::{ByteBudget, Tasks};
use highwater_s3stream::fixture::KnownClaims;
use highwater_s3stream::{
    Claim, Config, DeltaFold, Folded, ObjectStreamStore, OpenStream, Ports, StreamStore, Writer,
};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, StreamRange,
    Timestamp, Uuid, WalPosition,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const STREAMS: u64 = 40;
const SLOTS: usize = 1024;
const CLAIMS: u64 = 8;
const REQUEST: Duration = Duration::from_millis(10);
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A store whose reads take a while, and of some objects fail after a long one.
#[derive(Debug)]
struct Slow {
    request: Duration,
    hung: BTreeSet<ObjectKey>,
    /// Reads of so many bytes hang, whatever the object.
    hung_parts: Range<u64>,
    /// How many of these reads hang; later ones are answered.
    hung_parts_max: usize,
    hung_for: Duration,
}

impl Slow {
    fn new(hung: impl Iterator<Item = ObjectId>) -> Self {
        Self {
            request: REQUEST,
            hung: hung.map(layout::object).collect(),
            hung_parts: 0..0,
            hung_parts_max: usize::MAX,
            hung_for: NEVER,
        }
    }

    fn store(self) -> Arc<Hooked> {
        let parts = AtomicUsize::new(0);
        let hook = move |request: &Request<'_>| {
            let is_hung = match &request.operation {
                Operation::Get(range) => {
                    self.hung_parts.contains(&(range.end - range.start))
                        && parts.fetch_add(1, Ordering::SeqCst) < self.hung_parts_max
                }
                Operation::GetSuffix(_) => self.hung.contains(request.key),
                _ => return Plan::pass(),
            };
            match is_hung {
                true => Plan::fail(Failure::Failed("no answer")).delayed(self.hung_for),
                false => Plan::pass().delayed(self.request),
            }
        };
        Arc::new(Hooked::new(Arc::<MemoryStorage>::default(), hook))
    }
}

#[derive(Debug)]
struct NoFold;

impl DeltaFold for NoFold {
    fn fold(&self, _: &Bytes, _: &[(StreamRange, Bytes)], _: Timestamp) -> Option<Folded> {
        None
    }
}

type Claims = BTreeMap<StreamId, Vec<Claim>>;

fn id_of(number: u64) -> ObjectId {
    ObjectId {
        node: NodeId(1),
        epoch: NodeEpoch(1),
        kind: ObjectKind::Upload,
        number,
    }
}

/// Writes an object with one batch of some streams at an offset, with the offset as its delta.
async fn add_object(
    store: &Hooked,
    id: ObjectId,
    streams: Range<u64>,
    at: u64,
    claims: &mut Claims,
) {
    let mut writer = ObjectWriter::new(&ObjectHeader {
        cluster: Uuid([1; 16]),
        id,
        nonce: Uuid([2; 16]),
        rewrite_number: 0,
        floor: WalPosition::default(),
    });
    let base = StreamOffset::try_from(at).expect("few");
    for stream in streams.clone() {
        writer.begin_stream(StreamId(stream), Bytes::new(), LeaderEpoch(1), base);
        let batch = BatchEntry {
            base,
            count: 1,
            bytes: 3,
            max_timestamp: -1,
        };
        let delta = Bytes::copy_from_slice(&at.to_be_bytes());
        writer.push_batch(batch, delta, false, 0, Bytes::from_static(b"abc").into());
        writer.end_stream(None, Vec::new(), None, Vec::new());
    }
    let written = writer.finish();
    let key = layout::object(id);
    let put = store.put(&key, written.body, PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    for (stream, part) in streams.zip(&written.parts) {
        claims.entry(StreamId(stream)).or_default().push(Claim {
            range: base..base + 1,
            object: Some(id),
            part: part.blocks.clone(),
            max_timestamp: -1,
            rolls: Vec::new(),
            open_from: None,
            checkpoint_bytes: None,
            leader_epoch: LeaderEpoch(1),
        });
    }
}

/// Makes streams with an object for each of their claims.
async fn of_their_own(storage: &Hooked, streams: u64, claims: u64) -> Claims {
    let mut known = Claims::new();
    for stream in 0..streams {
        for at in 0..claims {
            let id = id_of(stream * claims + at);
            add_object(storage, id, stream..stream + 1, at, &mut known).await;
        }
    }
    known
}

/// All streams.
fn streams_of(storage: &Arc<Hooked>, known: Claims) -> (ObjectStreamStore, Vec<OpenStream>) {
    let asked = known.keys().map(|id| OpenStream {
        id: *id,
        epoch: LeaderEpoch(1),
        label: Bytes::new(),
        is_urgent: false,
    });
    let asked = asked.collect();
    let config = Config {
        upload_interval: Duration::from_secs(10),
        upload_bytes: 1 << 20,
        block_cache_bytes: 128 << 20,
        room_within: Duration::from_secs(120),
    };
    let ports = Ports {
        storage: Arc::<Hooked>::clone(storage),
        metadata: Arc::new(KnownClaims::new(known).without_lookups()),
        fold: Arc::new(NoFold),
        tasks: Tasks::default(),
        memory: ByteBudget::new(1 << 20),
    };
    let writer = Writer {
        cluster: Uuid([1; 16]),
        node: NodeId(1),
        epoch: NodeEpoch(2),
        nonce: Uuid([2; 16]),
        floor: WalPosition::default(),
    };
    (ObjectStreamStore::new(config, ports, writer), asked)
}

fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SLOTS))
}

/// The time until the first stream is open.
async fn first_open(streams: &ObjectStreamStore, asked: Vec<OpenStream>) -> (usize, Duration) {
    let begin = Instant::now();
    let (at, opened) = streams.open(asked, &slots()).next().await.expect("some");
    opened.expect("opens");
    (at, begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn streams_are_opened_many_at_a_time_and_not_all() {
    let storage = Slow::new((0..0).map(id_of)).store();
    let known = of_their_own(&storage, STREAMS, CLAIMS).await;
    let (streams, asked) = streams_of(&storage, known);
    let begin = Instant::now();
    let opened: Vec<_> = streams.open(asked, &slots()).collect().await;
    let took = begin.elapsed();
    let deltas: Vec<u64> = (0..CLAIMS).collect();
    let mut places = BTreeSet::new();
    for (at, stream) in opened {
        places.insert(at);
        let stream = stream.expect("opens");
        let found = stream.deltas.iter();
        let found = found.map(|(_, delta)| u64::from_be_bytes(delta[..].try_into().expect("8")));
        assert_eq!(found.collect::<Vec<_>>(), deltas, "in order");
    }
    assert_eq!(places.len() as u64, STREAMS, "each once");
    // one after the other the 320 requests would take sixteen times as long
    assert!(took < REQUEST * 20, "{took:?}");
    let most = storage.most_at_once(RequestKind::Get);
    assert!((32..=64).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reads_hang_holds_up_no_other() {
    let hung = 3..23;
    let storage = Slow::new(hung.clone().map(|stream| id_of(stream * CLAIMS + 5)));
    let storage = storage.store();
    let known = of_their_own(&storage, STREAMS, CLAIMS).await;
    let (streams, asked) = streams_of(&storage, known);
    let mut opening = streams.open(asked, &slots());
    let mut open = BTreeSet::new();
    while let Ok(next) = tokio::time::timeout(REQUEST * 1000, opening.next()).await {
        let (at, opened) = next.expect("some are left");
        assert!(opened.is_ok(), "{opened:?}");
        open.insert(at as u64);
    }
    let others = (0..STREAMS).filter(|stream| !hung.contains(stream));
    assert_eq!(open, others.collect());
}

// F4: each stream needs an object of its own, for which the store does not answer
#[tokio::test(start_paused = true)]
async fn hundreds_of_objects_that_hang_hold_up_the_others_for_some_seconds_at_most() {
    for hung in [60, 280] {
        let storage = Slow::new((0..hung).map(id_of)).store();
        let known = of_their_own(&storage, hung + 1, 1).await;
        let (streams, asked) = streams_of(&storage, known);
        let (at, took) = first_open(&streams, asked).await;
        assert_eq!(at as u64, hung);
        assert!(took < Duration::from_secs(5), "{took:?} of {hung}");
    }
}

// F4: all streams need one object, for which the store does not answer
#[tokio::test(start_paused = true)]
async fn one_object_that_hangs_holds_up_those_alone_that_need_it() {
    let hung = 5000;
    let storage = Slow::new([id_of(0)].into_iter()).store();
    let mut known = Claims::new();
    add_object(&storage, id_of(0), 0..hung, 0, &mut known).await;
    add_object(&storage, id_of(1), hung..hung + 1, 0, &mut known).await;
    let (streams, asked) = streams_of(&storage, known);
    let (at, took) = first_open(&streams, asked).await;
    assert_eq!(at as u64, hung);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let reads = storage.calls(RequestKind::Get);
    assert!(
        reads < 4,
        "{reads}: each object once, and what is beyond its end"
    );
}

// F4: the store answers for the end of the object, but for nothing before it: neither the index nor the directories
#[tokio::test(start_paused = true)]
async fn one_object_that_hangs_after_its_end_holds_up_those_alone_that_need_it() {
    let hung = 5000;
    for (hung_parts, reads_max) in [(10_000..u64::MAX, 4), (1..10_000, 80)] {
        let mut storage = Slow::new((0..0).map(id_of));
        storage.hung_parts = hung_parts;
        storage.hung_for = Duration::from_secs(120);
        let storage = storage.store();
        let mut known = Claims::new();
        add_object(&storage, id_of(0), 0..hung, 0, &mut known).await;
        add_object(&storage, id_of(1), hung..hung + 1, 0, &mut known).await;
        let (streams, asked) = streams_of(&storage, known);
        let begin = Instant::now();
        let mut opened = streams.open(asked, &slots());
        let (at, first) = opened.next().await.expect("some");
        assert_eq!((at as u64, first.is_ok()), (hung, true));
        assert!(begin.elapsed() < Duration::from_secs(5));
        // about half of the streams are in the object's end and need no other request; the others fail together
        let mut failed = 0;
        while let Some((_, opened)) = opened.next().await {
            if let Err(error) = opened {
                assert!(error.to_string().contains("no answer"), "{error}");
                failed += 1;
            }
        }
        assert!(failed > hung / 2, "{failed}");
        assert!(begin.elapsed() < Duration::from_secs(130));
        let reads = storage.calls(RequestKind::Get);
        assert!(reads < reads_max, "{reads}");
    }
}

// F4: a connection that hangs does not mean that its object hangs
#[tokio::test(start_paused = true)]
async fn one_request_that_hangs_holds_up_no_other_of_its_object() {
    let (all, hung) = (5000, 2);
    let mut storage = Slow::new((0..0).map(id_of));
    (storage.hung_parts, storage.hung_parts_max) = (1..10_000, hung);
    let storage = storage.store();
    let mut known = Claims::new();
    add_object(&storage, id_of(0), 0..all, 0, &mut known).await;
    let (streams, asked) = streams_of(&storage, known);
    let mut opening = streams.open(asked, &slots());
    let mut open = 0;
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(5), opening.next()).await {
        next.expect("some are left").1.expect("opens");
        open += 1;
    }
    assert_eq!(open, all - hung as u64);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_one_read_are_told_together_that_it_failed() {
    let hung_for = Duration::from_secs(30);
    let mut storage = Slow::new([id_of(0)].into_iter());
    storage.hung_for = hung_for;
    let storage = storage.store();
    let mut known = Claims::new();
    add_object(&storage, id_of(0), 0..100, 0, &mut known).await;
    let (streams, asked) = streams_of(&storage, known);
    let begin = Instant::now();
    for _ in 0..2 {
        let opened: Vec<_> = streams.open(asked.clone(), &slots()).collect().await;
        for (_, opened) in opened {
            let told = opened.expect_err("the store failed").to_string();
            assert!(told.contains("no answer"), "{told}");
        }
        // a caller that comes within a second gets the same error
        assert!(begin.elapsed() < hung_for + Duration::from_secs(1));
        assert_eq!(storage.calls(RequestKind::Get), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_its_time_is_not_asked_for_ever_more_at_once() {
    let mut storage = Slow::new((0..0).map(id_of));
    storage.request = Duration::from_secs(2);
    let storage = storage.store();
    let known = of_their_own(&storage, 2000, 1).await;
    let (streams, asked) = streams_of(&storage, known);
    let opened: Vec<_> = streams.open(asked, &slots()).collect().await;
    assert!(opened.iter().all(|(_, opened)| opened.is_ok()));
    let most = storage.most_at_once(RequestKind::Get);
    assert!(most <= 300, "{most}");
}

// F4: all consumer groups wait for this stream
#[tokio::test(start_paused = true)]
async fn an_urgent_stream_waits_for_no_other() {
    let storage = Slow::new((0..0).map(id_of)).store();
    let known = of_their_own(&storage, 2000, 1).await;
    let (streams, mut asked) = streams_of(&storage, known);
    let mut urgent = asked.split_off(1998);
    urgent.iter_mut().for_each(|stream| stream.is_urgent = true);
    let alone = urgent.split_off(1);
    // first as the last stream of one command
    asked.extend(urgent);
    let begin = Instant::now();
    let mut others = streams.open(asked, &slots());
    while others.next().await.expect("it is there").0 != 1998 {}
    assert!(begin.elapsed() < REQUEST * 2, "{:?}", begin.elapsed());
    // then in another command, while no slot is free and a thousand requests wait for their turn
    let begin = Instant::now();
    let no_slots = Arc::new(Semaphore::new(0));
    let (_, opened) = streams.open(alone, &no_slots).next().await.expect("one");
    opened.expect("opens");
    assert!(begin.elapsed() < REQUEST * 3, "{:?}", begin.elapsed());
}
