//! Sealers that race, pause and die, and WAL objects that are deleted meanwhile (rules W6 to W10).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use highwater_object_storage::{Gate, Operation, Plan, Request, RequestKind};
use highwater_tests::{Cluster, producer_id, until};

use crate::served::{
    PARTITIONS, commit_offset, committed_offset, delete_records, end_of_epoch, holds, led_by, send,
};
use crate::stores::Stores;

/// The broker whose log is sealed.
const VICTIM: i32 = 1;
const SURVIVORS: [i32; 2] = [2, 3];
const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

/// A point in a takeover at which a sealer pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// It knows the fence, and has read nothing.
    BeforeReads,
    /// It has found the end, and has not created the seal there.
    BeforeSeal,
    /// The seal is there, and the sealer does not know that.
    AfterSeal,
    /// It knows that the seal is there, and has not put the index.
    BeforeIndex,
    /// The index is there, and the closing is not proposed.
    AfterIndex,
}

const POINTS: [Point; 5] = [
    Point::BeforeReads,
    Point::BeforeSeal,
    Point::AfterSeal,
    Point::BeforeIndex,
    Point::AfterIndex,
];

fn is_wal(request: &Request<'_>) -> bool {
    let prefix = format!("wal/{VICTIM}/");
    request.key.as_str().starts_with(&prefix)
}

fn is_index(request: &Request<'_>) -> bool {
    request.key.as_str().starts_with("index/")
}

fn is_upload(request: &Request<'_>) -> bool {
    is_put(request) && request.key.as_str().starts_with("data/")
}

fn is_put(request: &Request<'_>) -> bool {
    request.operation.kind() == RequestKind::Put
}

impl Point {
    /// Whether a request of a sealer is the one before or after which it pauses.
    fn is_at(self, request: &Request<'_>) -> bool {
        match self {
            Self::BeforeReads => is_wal(request) && !is_put(request),
            Self::BeforeSeal | Self::AfterSeal => is_wal(request) && is_put(request),
            Self::BeforeIndex | Self::AfterIndex => is_index(request) && is_put(request),
        }
    }

    fn is_after(self) -> bool {
        matches!(self, Self::AfterSeal | Self::AfterIndex)
    }
}

/// The pause of the first sealer that comes to the point.
struct Pause {
    gate: Gate,
    paused: Arc<OnceLock<i32>>,
}

impl Pause {
    fn set(stores: &Stores, sealers: &[i32], point: Point) -> Self {
        let (gate, paused) = (Gate::default(), Arc::new(OnceLock::new()));
        for id in sealers {
            let (id, gate, paused) = (*id, gate.clone(), Arc::clone(&paused));
            stores.of(id).set_hook(move |request| {
                let is_at = point.is_at(request);
                if is_at {
                    paused.get_or_init(|| id);
                }
                // A request of the sealer that is repeated, or that follows, waits too. Records are read by ranges.
                let is_of_sealer = match request.operation {
                    Operation::Put { .. } => is_wal(request) || is_index(request),
                    Operation::GetSuffix(_) => is_wal(request),
                    _ => false,
                };
                match paused.get() == Some(&id) && is_of_sealer {
                    true if is_at && point.is_after() => Plan::pass().answer_held(&gate),
                    true => Plan::pass().held(&gate),
                    false => Plan::pass(),
                }
            });
        }
        Self { gate, paused }
    }

    /// Waits until a sealer pauses, and returns its id.
    async fn begun(&self) -> Result<i32> {
        until("a sealer pauses", async || Ok(self.paused.get().is_some())).await?;
        self.gate.reached(1).await;
        self.paused.get().copied().context("a sealer pauses")
    }
}

/// A cluster with a topic and what was acknowledged by it: every partition has the same offsets.
struct Race {
    cluster: Cluster,
    stores: Stores,
    id: i64,
    /// The offsets that were not deleted.
    offsets: std::ops::Range<i64>,
    /// The present leader epoch of each partition, and the ends of its former ones.
    epochs: BTreeMap<i32, (i32, Vec<(i32, i64)>)>,
}

impl Race {
    /// Starts a cluster whose victim uploads nothing, so that its log has what it acknowledged.
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let stores = Stores::new(3);
        stores
            .of(VICTIM)
            .set_hook(|request| match is_upload(request) {
                true => Plan::hang(),
                false => Plan::pass(),
            });
        Self::start_on(stores, settings).await
    }

    async fn start_on(stores: Stores, settings: &[(&str, &str)]) -> Result<Self> {
        let own = [
            ("highwater.object.storage", "memory:"),
            ("highwater.wal.object.request.timeout.ms", "60000"),
        ];
        let cluster = Cluster::start_on(3, &[&own, settings].concat(), stores.machines()).await?;
        cluster.create_topic(1, "t", PARTITIONS).await?;
        let mut race = Self {
            id: producer_id(&mut cluster.client(1).await?).await?,
            cluster,
            stores,
            offsets: 0..0,
            epochs: BTreeMap::new(),
        };
        for _ in 0..10 {
            race.goes_on(&[1, 2, 3]).await?;
        }
        Ok(race)
    }

    /// Checks that these brokers serve all that was acknowledged, and lets producers go on.
    async fn goes_on(&mut self, live: &[i32]) -> Result<()> {
        let end = self.offsets.end;
        let next = i32::try_from(end)?;
        for (partition, (leader, epoch)) in led_by(&self.cluster, live).await? {
            let mut client = self.cluster.client(leader).await?;
            if next > 0 {
                // I6: what the producer repeats is known; this also waits until the partition is open
                let repeated = send(&mut client, partition, self.id, next - 1).await?;
                ensure!(repeated == end - 1, "{repeated} is not {}", end - 1);
                let offsets = self.offsets.clone();
                let held = holds(&mut client, partition, self.id, offsets).await;
                held.with_context(|| format!("partition {partition} of {leader}"))?;
            }
            let (present, former) = self.epochs.entry(partition).or_insert((epoch, Vec::new()));
            if *present != epoch {
                former.push((std::mem::replace(present, epoch), end));
            }
            // E5: the history of epochs; those below the log start are one
            for (former, end) in former.iter().filter(|(_, end)| *end > self.offsets.start) {
                let found = end_of_epoch(&mut client, partition, *former).await?;
                ensure!(found == (*former, *end), "{found:?} is not {former} {end}");
            }
            let offset = send(&mut client, partition, self.id, next).await?;
            ensure!(offset == end, "{offset} is not {end}");
        }
        self.offsets.end += 1;
        Ok(())
    }

    async fn commit(&self, asked: i32, offset: i64) -> Result<()> {
        for group in GROUPS {
            commit_offset(&self.cluster, asked, group, offset).await?;
        }
        Ok(())
    }

    async fn have_committed(&self, asked: i32, offset: i64) -> Result<()> {
        for group in GROUPS {
            let found = committed_offset(&self.cluster, asked, group).await?;
            ensure!(found == offset, "{group}: {found} is not {offset}");
        }
        Ok(())
    }

    /// Deletes all records, and waits until the log of the victim is one seal (W6, W10, W12).
    async fn trim(&mut self, live: &[i32]) -> Result<()> {
        for (partition, (leader, _)) in led_by(&self.cluster, live).await? {
            let mut client = self.cluster.client(leader).await?;
            let (code, _) = delete_records(&mut client, partition, self.offsets.end).await?;
            ensure!(code == 0, "error {code}");
        }
        self.offsets.start = self.offsets.end;
        until("the log of the victim is deleted", async || {
            Ok(self.stores.keys(&format!("wal/{VICTIM}")).await?.len() == 1)
        })
        .await
    }

    /// Waits until no index of a broker is there: its closings were refused (W8, U5).
    async fn has_no_index(&self, broker: i32) -> Result<()> {
        let broker = broker.to_string();
        until("the index of a refused closing is deleted", async || {
            let keys = self.stores.keys("index").await?;
            let mut nodes = keys.iter().map(|key| key.as_str().split('/').nth(2));
            Ok(nodes.all(|node| node != Some(&broker)))
        })
        .await
    }
    /// Kills the victim while the first sealer of its log will pause at a point. Returns the pause, the sealer that pauses,
    /// and the other broker.
    async fn victim_dies(&mut self, point: Point) -> Result<(Pause, i32, i32)> {
        let pause = Pause::set(&self.stores, &SURVIVORS, point);
        self.cluster.kill(VICTIM).await;
        let paused = pause.begun().await?;
        let other = SURVIVORS.into_iter().find(|id| *id != paused);
        Ok((pause, paused, other.context("there are two")?))
    }
}

// W7, W8, W9: the closing of the other sealer is the only one, and the one that paused is useful afterwards
async fn a_sealer_pauses(point: Point) -> Result<()> {
    let mut race = Race::start(&[]).await?;
    race.commit(1, 5).await?;
    let (pause, paused, other) = race.victim_dies(point).await?;
    race.goes_on(&[2, 3]).await?;
    race.have_committed(2, 5).await?;
    race.commit(2, 6).await?;
    pause.gate.open();
    race.has_no_index(paused).await?;
    race.goes_on(&[2, 3]).await?;
    race.cluster.kill(other).await;
    race.goes_on(&[paused]).await?;
    race.have_committed(paused, 6).await?;
    race.cluster.stop().await
}

// W8, W10: the numbers that the sealer finds free were freed by the reaper
async fn a_sealer_pauses_until_the_log_is_trimmed(point: Point) -> Result<()> {
    let mut race = Race::start(UPLOADS).await?;
    let (pause, paused, other) = race.victim_dies(point).await?;
    race.goes_on(&[2, 3]).await?;
    race.trim(&[2, 3]).await?;
    pause.gate.open();
    race.has_no_index(paused).await?;
    race.goes_on(&[2, 3]).await?;
    race.cluster.kill(other).await;
    race.goes_on(&[paused]).await?;
    race.goes_on(&[paused]).await?;
    race.cluster.stop().await
}

// W7: the next sealer finishes what one that died has begun, also when that one was the leader of partitions itself
async fn a_sealer_dies(point: Point) -> Result<()> {
    let mut race = Race::start(&[]).await?;
    race.commit(1, 5).await?;
    let (_pause, paused, other) = race.victim_dies(point).await?;
    race.cluster.kill(paused).await;
    race.goes_on(&[other]).await?;
    race.have_committed(other, 5).await?;
    race.cluster.stop().await
}

const UPLOADS: &[(&str, &str)] = &[("highwater.upload.interval.ms", "50")];

// W6, W7: the sealer begins at the floor, below which the owner deletes its log meanwhile
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_trims_its_log_while_the_sealer_looks_for_the_end() -> Result<()> {
    let stores = Stores::new(3);
    let (trims, reads) = (Gate::default(), Gate::default());
    let trimmed = trims.clone();
    let held = move |request: &Request<'_>| match request.operation {
        Operation::Delete(_) if is_wal(request) => Some(Plan::pass().held(&trimmed).detached()),
        _ => None,
    };
    let deletes = held.clone();
    let hook = move |request: &Request<'_>| deletes(request).unwrap_or_default();
    stores.of(VICTIM).set_hook(hook);
    let mut race = Race::start_on(stores, UPLOADS).await?;
    // something is uploaded, so that the floor is above the first number, and the rest is in the log alone
    trims.reached(1).await;
    race.stores
        .of(VICTIM)
        .set_hook(move |request| match is_upload(request) {
            true => Plan::hang(),
            false => held(request).unwrap_or_default(),
        });
    for _ in 0..10 {
        race.goes_on(&[1, 2, 3]).await?;
    }
    for sealer in [2, 3] {
        let reads = reads.clone();
        race.stores.of(sealer).set_hook(move |request| {
            match is_wal(request) && matches!(request.operation, Operation::GetSuffix(_)) {
                true => Plan::pass().held(&reads),
                false => Plan::pass(),
            }
        });
    }
    race.cluster.set_cut(VICTIM, true);
    reads.reached(1).await;
    let log = format!("wal/{VICTIM}");
    let before = race.stores.keys(&log).await?.len();
    trims.open();
    until("the owner trims its log", async || {
        Ok(race.stores.keys(&log).await?.len() < before)
    })
    .await?;
    reads.open();
    race.goes_on(&[2, 3]).await?;
    race.cluster.set_cut(VICTIM, false);
    race.goes_on(&[2, 3]).await?;
    race.cluster.stop().await
}

async fn at_all_points<F: Future<Output = Result<()>>>(test: impl Fn(Point) -> F) -> Result<()> {
    let tests = POINTS.map(|point| {
        let test = test(point);
        async move { test.await.with_context(|| format!("{point:?}")) }
    });
    futures::future::try_join_all(tests).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_pauses_anywhere_changes_nothing_after_another_has_closed_the_epoch()
-> Result<()> {
    at_all_points(a_sealer_pauses).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_pauses_anywhere_changes_nothing_after_the_log_was_trimmed() -> Result<()> {
    at_all_points(a_sealer_pauses_until_the_log_is_trimmed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_dies_anywhere_is_finished_by_the_next() -> Result<()> {
    at_all_points(a_sealer_dies).await
}
