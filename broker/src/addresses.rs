//! The addresses that a node listens on. They stay bound while the node starts again, so that no other process takes
//! them, and clients that connect meanwhile wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use highwater_io::net::{self, Acceptor, Network};
use highwater_runtime::Control;
use highwater_tls::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::config::{Advertised, Config, Listener};
use crate::machine::Machine;
use crate::metrics;
use crate::node_error::NodeError;
use crate::tls::Contexts;

/// A listener that is bound. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its socket.
    pub(crate) acceptor: Arc<dyn Acceptor>,
    /// Its key, certificates and trust; `None` on PLAINTEXT.
    pub(crate) tls: Option<Arc<Context>>,
}

/// The bound addresses of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// The listeners of clients and of nodes.
    pub(crate) listeners: Vec<Listening>,
    /// The addresses that clients are told, with the ports that the machine chose.
    pub(crate) advertised: Vec<Advertised>,
    /// The listener of health and metrics, unless there is none.
    pub(crate) admin: Option<Admin>,
    /// The keys, certificates and trust of the listeners and the calls that are on TLS.
    pub(crate) tls: Arc<Contexts>,
}

/// The listener of health and metrics, and what it serves.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) metrics: PrometheusHandle,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin on {:?}", self.listener)
    }
}

impl Addresses {
    /// Reads the certificates and binds every address of a configuration. The sockets of controllers' listeners belong to the runtime of the control
    /// work.
    ///
    /// # Errors
    /// [`NodeError::Tls`]; [`NodeError::Listen`], with the setting that names the address.
    pub(crate) async fn bind(
        config: &Config,
        machine: &Machine,
        control: &Control,
    ) -> Result<Self, NodeError> {
        let tls = Contexts::open(config, &machine.clock).await?;
        let (listeners, advertised) = listen(config, &tls, &machine.network, control).await?;
        let admin = listen_admin(config).await?;
        Ok(Self {
            listeners,
            advertised,
            admin,
            tls: Arc::new(tls),
        })
    }

    /// The address of each listener, with the port that the machine chose.
    pub(crate) fn local(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let listeners = self.listeners.iter();
        let local = listeners.map(|listening| {
            let address = listening.acceptor.local_addr().ok()?;
            Some((Arc::clone(&listening.name), address))
        });
        local.flatten().collect()
    }
}

async fn listen(
    config: &Config,
    tls: &Contexts,
    network: &Arc<dyn Network>,
    control: &Control,
) -> Result<(Vec<Listening>, Vec<Advertised>), NodeError> {
    let mut listeners: Vec<Listening> = Vec::new();
    let mut advertised = config.advertised.clone();
    for listener in &config.listeners {
        let error = |source| NodeError::Listen {
            setting: "listeners",
            address: format!("{}:{}", listener.host, listener.port),
            source,
        };
        let runtime = match config.quorum.is_listener(&listener.name) {
            true => control,
            false => &Control::default(),
        };
        let acceptor = bind(network, listener, runtime).await.map_err(error)?;
        let port = acceptor.local_addr().map_err(error)?.port();
        for told in advertised
            .iter_mut()
            .filter(|told| told.name == listener.name)
        {
            if told.port == 0 {
                told.port = port;
            }
        }
        listeners.push(Listening {
            name: Arc::from(listener.name.as_str()),
            acceptor: Arc::from(acceptor),
            tls: tls.of(&listener.name),
        });
    }
    Ok((listeners, advertised))
}

/// Binds one address, on the runtime that waits for its connections.
async fn bind(
    network: &Arc<dyn Network>,
    listener: &Listener,
    runtime: &Control,
) -> io::Result<Box<dyn Acceptor>> {
    let network = Arc::clone(network);
    let (host, port) = (listener.host.clone(), listener.port);
    let listening = async move { network.listen(&host, port).await };
    runtime.run(listening.boxed()).await?
}

/// Binds the admin address and starts counting, so that the metrics include everything that follows, such as the first
/// requests to the object store.
async fn listen_admin(config: &Config) -> Result<Option<Admin>, NodeError> {
    let Some((host, port)) = &config.admin else {
        return Ok(None);
    };
    let listening = net::bind(host, *port).await;
    let listener = listening.map_err(|source| NodeError::Listen {
        setting: "highwater.admin.listener",
        address: format!("{host}:{port}"),
        source,
    })?;
    let metrics = metrics::install().map_err(|error| NodeError::Metrics(error.to_string()))?;
    Ok(Some(Admin {
        listener: Arc::new(listener),
        metrics,
    }))
}
