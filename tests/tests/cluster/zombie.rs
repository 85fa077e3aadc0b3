//! Brokers that were fenced and do not know it (rules W2, W3, W10, W11).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use highwater_client::{Batch, Connection, Producer, Sent};
use highwater_object_storage::{Gate, Operation, Plan, Request};
use highwater_protocol::messages::{MetadataRequest, ProduceRequest};
use highwater_tests::{Cluster, produce_request, producer_id, until};

use crate::served::{
    PARTITIONS, batch_of, commit_offset, committed_offset, delete_records, holds, leaders, led_by,
    send,
};
use crate::stores::Stores;

/// The broker that is cut off, and the partition that it leads.
const ZOMBIE: i32 = 1;
const PARTITION: i32 = 0;
/// The records that the zombie has acknowledged before.
const BEFORE: i32 = 5;
/// The puts that are in flight when it is fenced; a record in each.
const IN_FLIGHT: usize = 5;
/// The place of the put that lands where the sealer is about to create the seal. The next number is the seal's.
const AT_SEAL: usize = 2;

/// The number of a request to the log of the zombie.
fn number(request: &Request<'_>) -> Option<usize> {
    let prefix = format!("wal/{ZOMBIE}/");
    let below = request.key.as_str().strip_prefix(&prefix)?;
    let (_, number) = below.split_once('/')?;
    number.parse().ok()
}

fn is_put(request: &Request<'_>) -> bool {
    matches!(request.operation, Operation::Put { .. })
}

/// The gates of one put: its first request, and its hedges.
#[derive(Clone, Default)]
struct Put {
    first: Gate,
    hedges: Gate,
}

/// A zombie with puts in flight, none of which has reached the store.
struct Zombie {
    cluster: Cluster,
    stores: Stores,
    id: i64,
    /// The number of the first of the puts.
    number: usize,
    puts: [Put; IN_FLIGHT],
    answers: Gate,
    clients: Vec<(Connection, Sent<ProduceRequest>)>,
}

impl Zombie {
    async fn start() -> Result<Self> {
        let stores = Stores::new(2);
        let settings = [
            ("highwater.object.storage", "memory:"),
            ("highwater.upload.interval.ms", "50"),
            ("highwater.wal.object.request.timeout.ms", "60000"),
            ("highwater.wal.object.token.interval.ms", "0"),
            ("highwater.wal.object.hedge.max.ms", "50"),
        ];
        let is_upload = |request: &Request<'_>| request.key.as_str().starts_with("data/");
        stores
            .of(ZOMBIE)
            .set_hook(move |request| match is_upload(request) {
                true => Plan::hang(),
                false => Plan::pass(),
            });
        let cluster = Cluster::start_on(2, &settings, stores.machines()).await?;
        cluster.create_topic(ZOMBIE, "t", PARTITIONS).await?;
        led_by(&cluster, &[1, 2]).await?;
        let mut client = cluster.client(ZOMBIE).await?;
        let id = producer_id(&mut client).await?;
        for sequence in 0..BEFORE {
            send(&mut client, PARTITION, id, sequence).await?;
        }
        let puts: [Put; IN_FLIGHT] = Default::default();
        let mut zombie = Self {
            number: stores.keys(&format!("wal/{ZOMBIE}")).await?.len(),
            cluster,
            stores,
            id,
            puts,
            answers: Gate::default(),
            clients: Vec::new(),
        };
        zombie.put().await?;
        Ok(zombie)
    }

    /// Lets the zombie put records, each of which is held with its hedges.
    async fn put(&mut self) -> Result<()> {
        let (puts, answers, from) = (self.puts.clone(), self.answers.clone(), self.number);
        self.stores.of(ZOMBIE).set_hook(move |request| {
            let place = number(request).and_then(|number| number.checked_sub(from));
            match place.and_then(|place| puts.get(place)) {
                Some(put) if is_put(request) && request.nth == 0 => Plan::pass()
                    .held(&put.first)
                    .answer_held(&answers)
                    .detached(),
                Some(put) if is_put(request) => Plan::pass().held(&put.hedges).detached(),
                _ if request.key.as_str().starts_with("data/") => Plan::hang(),
                _ => Plan::pass(),
            }
        });
        for (place, put) in (0..).zip(self.puts.clone()) {
            let batch = batch_of(self.id, BEFORE + place);
            let mut client = self.cluster.client(ZOMBIE).await?;
            let request = produce_request("t", PARTITION, batch, -1);
            let sent = client.send(&request, 12).await?;
            put.first.reached(1).await;
            put.hedges.reached(1).await;
            self.clients.push((client, sent));
        }
        Ok(())
    }

    /// Waits until the store has the put at this place.
    async fn has_landed(&self, place: usize) -> Result<()> {
        let name = format!("/{}", self.number + place);
        until("a put lands", async || {
            let keys = self.stores.keys(&format!("wal/{ZOMBIE}")).await?;
            Ok(keys.iter().any(|key| key.as_str().ends_with(&name)))
        })
        .await
    }

    /// Lets puts land before the sealer reads, and one where the sealer is about to create the seal; then the survivor
    /// leads.
    async fn is_sealed(&self) -> Result<()> {
        for place in 0..AT_SEAL {
            self.puts[place].first.open();
            self.has_landed(place).await?;
        }
        let (seal, at) = (Gate::default(), self.number + AT_SEAL);
        let held = seal.clone();
        self.stores.of(2).set_hook(move |request| {
            match is_put(request) && number(request) == Some(at) && request.nth == 0 {
                true => Plan::pass().held(&held),
                false => Plan::pass(),
            }
        });
        self.cluster.set_cut(ZOMBIE, true);
        seal.reached(1).await;
        self.puts[AT_SEAL].first.open();
        self.has_landed(AT_SEAL).await?;
        seal.open();
        led_by(&self.cluster, &[2]).await?;
        Ok(())
    }

    /// Lets everything land that is late, and returns the offsets that the zombie acknowledges.
    async fn wakes(&mut self) -> Result<Vec<i64>> {
        // first the answers to the puts below the seal, whose acknowledgements are true
        self.answers.open();
        let mut acknowledged = Vec::new();
        for (place, (mut client, sent)) in self.clients.drain(..).enumerate() {
            if place == AT_SEAL + 1 {
                for put in &self.puts[place + 1..] {
                    put.first.open();
                    put.hedges.open();
                }
                for put in &self.puts[..=place] {
                    put.hedges.open();
                    put.first.open();
                }
            }
            // a connection that ends acknowledges nothing
            let Ok(answer) = client.receive(sent).await else {
                continue;
            };
            let answer = &answer.responses[0].partition_responses[0];
            if answer.error_code == 0 {
                acknowledged.push(answer.base_offset);
            }
        }
        Ok(acknowledged)
    }

    /// Checks that the survivor has what was acknowledged, and that the zombie is useful again.
    async fn ends(mut self, first: i64) -> Result<()> {
        let (end, id) = (i64::from(BEFORE) + 3, self.id);
        let next = BEFORE + 3;
        let mut client = self.cluster.client(2).await?;
        ensure!(send(&mut client, PARTITION, id, next - 1).await? == end - 1);
        holds(&mut client, PARTITION, id, first..end).await?;
        ensure!(send(&mut client, PARTITION, id, next).await? == end);
        self.stores.of(ZOMBIE).set_hook(|_| Plan::pass());
        self.cluster.set_cut(ZOMBIE, false);
        until("the zombie is registered again", async || {
            Ok(brokers(&self.cluster, 2).await? == 2)
        })
        .await?;
        self.cluster.kill(2).await;
        led_by(&self.cluster, &[ZOMBIE]).await?;
        let mut client = self.cluster.client(ZOMBIE).await?;
        ensure!(send(&mut client, PARTITION, id, next + 1).await? == end + 1);
        holds(&mut client, PARTITION, id, first..end + 2).await?;
        self.cluster.stop().await
    }
}

/// The number of brokers that a broker tells its clients.
async fn brokers(cluster: &Cluster, asked: i32) -> Result<usize> {
    let mut client = cluster.client(asked).await?;
    let metadata = client.call(&MetadataRequest::default(), 9).await?;
    Ok(metadata.brokers.len())
}

// W2, W3, W7, W11
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_acknowledges_no_put_that_lands_at_the_seal_or_after_it() -> Result<()> {
    let mut zombie = Zombie::start().await?;
    zombie.is_sealed().await?;
    let acknowledged = zombie.wakes().await?;
    assert_eq!(acknowledged, [5, 6, 7]);
    zombie.ends(0).await
}

// W6, W10, W11, W12: its numbers are free, but for the seal's
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_whose_log_was_trimmed_acknowledges_nothing_that_is_not_registered() -> Result<()>
{
    let mut zombie = Zombie::start().await?;
    zombie.is_sealed().await?;
    let end = i64::from(BEFORE) + 3;
    let mut client = zombie.cluster.client(2).await?;
    // this waits until the partition is open
    send(&mut client, PARTITION, zombie.id, BEFORE + 2).await?;
    let (code, _) = delete_records(&mut client, PARTITION, end).await?;
    ensure!(code == 0, "error {code}");
    until("nothing but a seal is left of the log", async || {
        Ok(zombie.stores.keys(&format!("wal/{ZOMBIE}")).await?.len() <= 1)
    })
    .await?;
    let acknowledged = zombie.wakes().await?;
    assert_eq!(acknowledged, [5, 6, 7]);
    zombie.ends(end).await
}

/// Producers and a committer that work on while brokers are cut off.
struct Load<'a> {
    cluster: &'a Cluster,
    /// A broker that is not cut off.
    asked: AtomicI32,
    is_over: AtomicBool,
    /// The number of records that were acknowledged, by partition.
    acknowledged: [AtomicI64; 3],
}

impl Load<'_> {
    /// Produces with five batches in flight until the load is over; returns the producer's id and what was acknowledged.
    async fn produce(&self, partition: i32) -> Result<(i64, i64)> {
        let mut producer = Producer::new("t".into(), partition, 5);
        loop {
            let found = leaders(self.cluster, self.asked.load(Ordering::SeqCst)).await?;
            let (leader, _) = found[&partition];
            match self.produce_to(leader, partition, &mut producer).await? {
                Some(done) => return Ok(done),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Produces to one broker; `None` if that one does not go on.
    async fn produce_to(
        &self,
        leader: i32,
        partition: i32,
        producer: &mut Producer<i64>,
    ) -> Result<Option<(i64, i64)>> {
        let acknowledged = &self.acknowledged[usize::try_from(partition)?];
        if leader < 0 {
            return Ok(None);
        }
        let Ok(mut client) = self.cluster.client(leader).await else {
            return Ok(None);
        };
        let id = match producer.id() {
            Some(id) => id,
            None => producer.init(&mut client).await?,
        };
        if producer.resume(&mut client).await.is_err() {
            return Ok(None);
        }
        loop {
            while producer.has_room() && !self.is_over.load(Ordering::SeqCst) {
                let sequence = producer.next_fields(1).base_sequence;
                let bytes = batch_of(id, sequence);
                let tag = i64::from(sequence);
                producer.push(Batch { bytes, tag });
            }
            if producer.flush(&mut client).await.is_err() {
                return Ok(None);
            }
            match producer.receive(&mut client).await {
                Ok(Some(answered)) => {
                    let (offset, sequence) = (answered.answer.base_offset, answered.batch.tag);
                    ensure!(offset == sequence, "I6: {offset} is not {sequence}");
                    acknowledged.store(sequence + 1, Ordering::SeqCst);
                }
                Ok(None) => return Ok(Some((id, acknowledged.load(Ordering::SeqCst)))),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Commits ever higher offsets, and reads each back; returns the last one.
    async fn commit(&self) -> Result<i64> {
        let mut offset = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            offset += 1;
            for group in ["a", "b", "c", "d"] {
                let asked = self.asked.load(Ordering::SeqCst);
                commit_offset(self.cluster, asked, group, offset).await?;
                let asked = self.asked.load(Ordering::SeqCst);
                let found = committed_offset(self.cluster, asked, group).await?;
                ensure!(found == offset, "{group}: {found} is not {offset}");
            }
        }
        Ok(offset)
    }

    /// Waits until more records were acknowledged in each partition.
    async fn goes_on(&self) -> Result<()> {
        let so_far = self.acknowledged.each_ref();
        let so_far = so_far.map(|count| count.load(Ordering::SeqCst));
        until("every producer goes on", async || {
            let mut both = self.acknowledged.iter().zip(so_far);
            Ok(both.all(|(now, before)| now.load(Ordering::SeqCst) >= before + 50))
        })
        .await
    }

    /// Cuts each broker off from the controller, one after the other, until it was fenced and the others go on.
    async fn cut_each(&self) -> Result<()> {
        for (cut, live) in [(1, [2, 3]), (2, [3, 1]), (3, [1, 2])] {
            self.asked.store(live[0], Ordering::SeqCst);
            self.goes_on().await?;
            self.cluster.set_cut(cut, true);
            led_by(self.cluster, &live).await?;
            self.goes_on().await?;
            self.cluster.set_cut(cut, false);
            until("it is registered again", async || {
                Ok(brokers(self.cluster, live[0]).await? == 3
                    && brokers(self.cluster, cut).await? == 3)
            })
            .await?;
        }
        self.is_over.store(true, Ordering::SeqCst);
        Ok(())
    }
}

// W11, E4: its clients and the store reach it, so that it appends until it meets its seal
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_cut_off_from_the_controller_under_load_lose_nothing() -> Result<()> {
    let settings = [("highwater.wal.object.token.interval.ms", "0")];
    let cluster = Cluster::start(3, &settings).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    led_by(&cluster, &[1, 2, 3]).await?;
    let load = Load {
        cluster: &cluster,
        asked: AtomicI32::new(1),
        is_over: AtomicBool::new(false),
        acknowledged: Default::default(),
    };
    let producers = try_join_all((0..PARTITIONS).map(|partition| load.produce(partition)));
    let (produced, committed, ()) = futures::try_join!(producers, load.commit(), load.cut_each())?;
    for group in ["a", "b", "c", "d"] {
        assert_eq!(committed_offset(&cluster, 1, group).await?, committed);
    }
    let leaders: BTreeMap<i32, (i32, i32)> = led_by(&cluster, &[1, 2, 3]).await?;
    for ((partition, (leader, _)), (id, count)) in leaders.into_iter().zip(produced) {
        let mut client = cluster.client(leader).await?;
        let held = holds(&mut client, partition, id, 0..count).await;
        held.with_context(|| format!("partition {partition}"))?;
    }
    cluster.stop().await
}
