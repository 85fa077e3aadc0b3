//! The generator against a real node: it writes a topic, reads all of it, and measures both at once.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use highwater_broker::config::Config;
use highwater_broker::node::{Machine, Node};
use highwater_types::ByteSize;
use tokio::sync::oneshot;

use crate::admin::Admin;
use crate::consume::{self, Fetches, Span};
use crate::end_to_end;
use crate::produce::{self, Extent, Load};

/// A node on a thread of its own, because the generator blocks its thread.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
    address: SocketAddr,
}

impl Running {
    fn start(data: &str) -> Result<Self> {
        let settings = [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("highwater.data.dir", data),
            ("highwater.admin.listener", ""),
            ("highwater.wal.size", "64MiB"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::load(None, [], &settings)?;
        let (stop, stopped) = oneshot::channel();
        let (listens, address) = std::sync::mpsc::sync_channel(1);
        #[expect(
            clippy::disallowed_methods,
            reason = "a node beside a generator that blocks"
        )]
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let node = Node::start(config, Machine::real()).await?;
                listens.send(node.address().context("it listens")?)?;
                stopped.await?;
                Ok(node.stop().await?)
            })
        });
        let address = address.recv()?;
        Ok(Self {
            stop,
            thread,
            address,
        })
    }

    fn stop(self) -> Result<()> {
        self.stop.send(()).ok().context("it runs")?;
        self.thread.join().ok().context("it ends")?
    }
}

fn load(partitions: i32) -> Load {
    Load {
        record_size: ByteSize(100),
        batch_size: ByteSize::kib(16),
        partitions,
        batches_per_request: 2,
        connections: 2,
        in_flight: 5,
        rate: None,
    }
}

fn fetches() -> Fetches {
    Fetches {
        fetch_max_bytes: ByteSize::mib(50),
        partition_max_bytes: ByteSize::mib(1),
        min_bytes: 1,
        max_wait_ms: 500,
    }
}

#[test]
fn what_is_produced_is_consumed_to_the_last_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data").display().to_string();
    let node = Running::start(&data).expect("starts");
    let address = node.address.to_string();
    let mut admin = Admin::open(&address).expect("connects");
    for partitions in [1, 5] {
        let name = format!("smoke-{partitions}");
        let topic = admin.create_topic(&name, partitions, &[]).expect("creates");
        let extent = Extent {
            bytes: Some(ByteSize::mib(4)),
            seconds: None,
        };
        let produced = produce::run(&address, topic, &load(partitions), &extent, None);
        let produced = produced.expect("produces");
        assert!(produced.bytes >= 4 << 20);
        let span = admin.span(&name, partitions).expect("has offsets");
        let what = (&span, &fetches());
        let consumed = consume::run(&address, topic, 1, what, &Extent::default());
        let consumed = consumed.expect("consumes");
        let sums =
            |figures: &crate::figures::Figures| (figures.bytes, figures.records, figures.batches);
        assert_eq!(sums(&produced), sums(&consumed));
        let span = Span {
            from: span.to,
            to: vec![i64::MAX; usize::try_from(partitions).expect("few")],
            repeats: false,
        };
        let load = Load {
            rate: Some(ByteSize::mib(4)),
            ..load(partitions)
        };
        let both = end_to_end::run(&address, topic, (&load, &fetches()), &extent, &span);
        let both = both.expect("runs");
        assert_eq!(sums(&both.produced), sums(&both.consumed));
        assert!(both.consumed.latency.at(0.5) >= both.produced.latency.at(0.0));
        admin.delete_topic(&name).expect("deletes");
    }
    node.stop().expect("stops");
}
