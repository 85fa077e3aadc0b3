//! A controller and two brokers: how soon a survivor serves a dead broker's partition, and what a dead controller costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_types::{ByteSize, Uuid};

use super::node::Node;
use super::store::Wire;
use super::{Lab, own};
use crate::admin::Admin;
use crate::batch::Batch;
use crate::figures::{Latency, real};
use crate::follower::{Follower, await_view, until_done};
use crate::machine::{self, pause};
use crate::produce::Load;

/// The names of the brokers' directories, by id from 1 on.
const BROKERS: [(u32, &str); 2] = [(1, "broker-1"), (2, "broker-2")];
const SETTINGS: [&str; 4] = [
    "highwater.wal=object",
    "broker.session.timeout.ms=2000",
    "broker.heartbeat.interval.ms=200",
    "offsets.topic.num.partitions=1",
];
/// What keeps every record of a round in the log: a cache and a log so large that no upload is due.
const NOTHING_UPLOADED: [&str; 5] = [
    "highwater.upload.interval.ms=3600000",
    "highwater.upload.size=4GiB",
    "highwater.memory.limit=8GiB",
    "highwater.wal.size=8GiB",
    // each batch is a put
    "highwater.wal.object.token.interval.ms=0",
];
const SESSION: Duration = Duration::from_secs(2);
/// The bytes that a dead broker has not uploaded, and the fewest WAL objects that hold them.
const LEFT: ByteSize = ByteSize::mib(512);
const LEFT_BATCH: ByteSize = ByteSize::kib(256);
/// All that is in flight may share a put, so a put has 1 MiB at most.
const LEFT_IN_FLIGHT: usize = 4;
const LEFT_OBJECTS: u64 = 500;
/// How long the load goes on before the controller is killed, and after it works again.
const BESIDE: Duration = Duration::from_secs(3);
const TOPIC: &str = "t";
/// The partitions that the producers beside a dying controller write, each with a producer of its own.
const PRODUCED: [i32; 8] = [0, 1, 0, 1, 0, 1, 0, 1];

/// A running cluster.
struct Cluster {
    controller: Node,
    brokers: [Node; 2],
    topic: Uuid,
}

impl Cluster {
    fn start(lab: &Lab, name: &str, partitions: i32, settings: &[&str]) -> Result<Self> {
        let access = lab.store.settings(name, Wire::Plain);
        let settings = [own(&SETTINGS), own(settings), access].concat();
        let dir = lab.dir.join(name);
        let mut controller = Node::controller(&dir.join("controller"), &settings)?;
        controller.start()?;
        let broker = |(id, name)| -> Result<Node> {
            let mut broker = Node::broker(&dir.join(name), id, &controller, &settings)?;
            broker.start()?;
            Ok(broker)
        };
        let brokers = [broker(BROKERS[0])?, broker(BROKERS[1])?];
        await_all(&brokers)?;
        let topic = Admin::open(&brokers[0].address)?.create_led(TOPIC, partitions, &[])?;
        Ok(Self {
            controller,
            brokers,
            topic,
        })
    }

    fn addresses(&self) -> Vec<String> {
        let brokers = self.brokers.iter();
        brokers.map(|broker| broker.address.clone()).collect()
    }

    fn follower(&self, partition: i32, batch: &Batch) -> Result<Follower> {
        Follower::new(self.addresses(), (TOPIC, self.topic, partition), batch)
    }

    fn stop(mut self) -> Result<()> {
        for broker in &mut self.brokers {
            broker.stop()?;
        }
        self.controller.stop()
    }
}

/// Waits until each broker sees all as live.
fn await_all(brokers: &[Node]) -> Result<()> {
    for broker in brokers {
        await_view(&broker.address, TOPIC, |view| {
            view.brokers.len() == brokers.len()
        })?;
    }
    Ok(())
}

/// Kills the leader of a partition with much that is not uploaded, and waits for the other broker to serve it.
pub(super) fn takeover(lab: &mut Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, "takeover", 1, &NOTHING_UPLOADED)?;
    for round in 0..lab.rounds {
        take_over(lab, &mut cluster).with_context(|| format!("round {round}"))?;
    }
    // a clean stop would upload what the rounds have left
    drop(cluster);
    lab.store.remove("takeover")
}

fn take_over(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    let led = |view: &crate::admin::View| view.leader(0).is_some();
    let (view, _) = await_view(&cluster.brokers[0].address, TOPIC, led)?;
    let (id, leader) = view.leader(0).context("it has a leader")?;
    let dying = usize::from(leader == cluster.brokers[1].address);
    let survivor = cluster.brokers[1 - dying].address.clone();
    let run = lab.run_to(
        leader,
        cluster.topic,
        &Load::of_one_partition(LEFT_BATCH, LEFT_IN_FLIGHT),
        &lab.bytes(LEFT),
    )?;
    let objects = run.counts.wal_puts;
    ensure!(
        lab.is_quick || objects >= LEFT_OBJECTS,
        "only {objects} WAL objects"
    );
    ensure!(
        run.counts.puts < objects + objects / 10,
        "something was uploaded: {:?}",
        run.counts
    );
    let small = Batch::build(1024, 1024, machine::timestamp()?)?;
    let mut producer = cluster.follower(0, &small)?;
    let before = lab.store.proxy.counts();
    let killed = machine::now();
    cluster.brokers[dying].kill();
    let is_fenced = |view: &crate::admin::View| !view.brokers.contains_key(&id);
    let (_, fenced) = await_view(&survivor, TOPIC, is_fenced)?;
    let acknowledged = until_done(|| producer.produce())?;
    let requests = lab.store.proxy.counts().since(&before);
    let between = |from: Instant, to: Instant| (to - from).as_secs_f64();
    let (to_fence, to_ack) = (between(killed, fenced), between(fenced, acknowledged));
    let beyond = between(killed, acknowledged) - SESSION.as_secs_f64();
    let figures = [
        ("MiB not uploaded", run.figures.gib() * 1024.0),
        ("WAL objects", real(objects)),
        ("kill to fence s", to_fence),
        ("fence to first ack s", to_ack),
        ("kill to ack, less session s", beyond),
        ("requests", real(requests.all())),
    ];
    for (metric, value) in figures {
        lab.report.note("takeover", metric, value);
    }
    lab.progress("takeover", &format!("{figures:?}"))?;
    cluster.brokers[dying].start()?;
    await_all(&cluster.brokers)
}

/// One producer's requests while the controller dies.
struct Produced {
    requests: u64,
    failures: u64,
    latency: Latency,
}

fn produce_until(stop: &AtomicBool, producer: &mut Follower) -> Result<Produced> {
    let mut produced = Produced {
        requests: 0,
        failures: 0,
        latency: Latency::new()?,
    };
    while !stop.load(Ordering::SeqCst) {
        let since = machine::now();
        produced.requests += 1;
        match producer.produce() {
            Ok(()) => produced.latency.record(since.elapsed()),
            Err(error) => {
                produced.failures += 1;
                crate::say(&format!("a produce failed: {error:#}"))?;
                pause(Duration::from_millis(10));
            }
        }
    }
    Ok(produced)
}

/// Kills the controller under load, starts it again, and waits until a topic can be created.
pub(super) fn controller(lab: &mut Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, "controller", 2, &[])?;
    let batch = Batch::build(1024, 16 << 10, machine::timestamp()?)?;
    for round in 0..lab.rounds {
        let producers = PRODUCED.map(|partition| cluster.follower(partition, &batch));
        let mut producers = producers.into_iter().collect::<Result<Vec<_>>>()?;
        for producer in &mut producers {
            until_done(|| producer.produce())?;
        }
        let stop = AtomicBool::new(false);
        let (produced, down) = std::thread::scope(|scope| {
            let threads = producers
                .iter_mut()
                .map(|producer| scope.spawn(|| produce_until(&stop, producer)));
            let threads: Vec<_> = threads.collect();
            pause(BESIDE);
            let down = lose_controller(&mut cluster, &format!("created-{round}"));
            pause(BESIDE);
            stop.store(true, Ordering::SeqCst);
            let produced = threads.into_iter().map(|thread| {
                let produced = thread.join();
                produced.unwrap_or_else(|_panic| Err(anyhow::anyhow!("a producer failed")))
            });
            (produced.collect::<Result<Vec<_>>>(), down)
        });
        let (produced, down) = (produced?, down?);
        let sum = |of: fn(&Produced) -> u64| real(produced.iter().map(of).sum());
        let longest = produced.iter().map(|one| one.latency.at(1.0)).max();
        let longest = longest.context("there are producers")?.as_secs_f64();
        let figures = [
            ("produce requests", sum(|one| one.requests)),
            ("produce failures", sum(|one| one.failures)),
            ("longest produce ms", longest * 1000.0),
            ("admin works after s", down.as_secs_f64()),
        ];
        for (metric, value) in figures {
            lab.report.note("controller", metric, value);
        }
        lab.progress("controller", &format!("{figures:?}"))?;
    }
    cluster.stop()?;
    lab.store.remove("controller")
}

/// Kills the controller, starts it at once as a supervisor does, and returns the time until a topic is created.
fn lose_controller(cluster: &mut Cluster, name: &str) -> Result<Duration> {
    let killed = machine::now();
    cluster.controller.kill();
    cluster.controller.start()?;
    let broker = &cluster.brokers[0].address;
    let created = until_done(|| {
        let created = Admin::open(broker)?.create_led(name, 1, &[]);
        created.map(drop)
    })?;
    Ok(created - killed)
}
