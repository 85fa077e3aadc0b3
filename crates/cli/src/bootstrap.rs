//! The way to a cluster that runs, from the address of one of its brokers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use highwater_broker::config;
use highwater_client::{Connection, Options};
use highwater_io::net::{Network, TcpNetwork};
use highwater_runtime::WallClock;
use highwater_tls::{Context, TlsNetwork};
use tokio::time::{Instant, sleep};

use crate::ClusterArgs;
use crate::config::{Text, environment};

const TRY_EVERY: Duration = Duration::from_millis(500);
/// How long one request may take.
const CALL_MAX: Duration = Duration::from_secs(10);

/// A refusal that will be the same the next time.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Final(pub(crate) String);

/// A broker's address, and how it is reached.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    network: Arc<dyn Network>,
    host: String,
    port: u16,
    timeout: Duration,
}

impl Bootstrap {
    /// Reads and checks what a command was given.
    pub(crate) fn of(args: &ClusterArgs) -> anyhow::Result<Self> {
        let (host, port) = config::address(&args.bootstrap_server).map_err(|why| {
            anyhow::anyhow!("--bootstrap-server {}: {why}", args.bootstrap_server)
        })?;
        let mut network: Arc<dyn Network> = Arc::new(TcpNetwork);
        if let Some(path) = &args.command_config {
            let file = Text::read(path)?;
            if let Some(settings) = config::client(file.file(), environment()?)? {
                let context = Context::open(settings, WallClock::system())?;
                let (inner, context) = (network, Arc::new(context));
                network = Arc::new(TlsNetwork { inner, context });
            }
        }
        Ok(Self {
            network,
            host,
            port,
            timeout: Duration::from_secs(args.timeout.into()),
        })
    }

    /// Opens a connection to a broker of the cluster.
    pub(crate) async fn open(&self, host: &str, port: u16) -> anyhow::Result<Connection> {
        let options = Options {
            timeout: Some(CALL_MAX),
            ..Options::default()
        };
        Ok(Connection::open(&*self.network, host, port, options).await?)
    }

    /// Repeats a task on a fresh connection until it succeeds, is refused for good, or the command's time is over.
    pub(crate) fn attempt(
        &self,
        task: &impl AsyncFn(&mut Connection) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (host, port) = (&self.host, self.port);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let deadline = Instant::now() + self.timeout;
            loop {
                let done = async { task(&mut self.open(host, port).await?).await }.await;
                match done {
                    Err(error) if !error.is::<Final>() && Instant::now() < deadline => {
                        sleep(TRY_EVERY).await;
                    }
                    done => return done.with_context(|| format!("at {host}:{port}")),
                }
            }
        })
    }
}
