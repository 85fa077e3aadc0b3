//! The controllers of a cluster in the test's process, and the links between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_kafka_peer::process::free_port;
use highwater_runtime::ControlRuntime;
use highwater_types::Uuid;
use tempfile::TempDir;

use crate::cluster::Member;
use crate::{Link, connect};

/// Nodes with the role `controller`, which are the voters of one quorum. Each reaches the others by links of its own.
#[derive(Debug)]
pub struct Controllers {
    roles: &'static str,
    settings: Vec<(String, String)>,
    /// The ports on which they listen; 0, which is any, if there is one controller.
    ports: BTreeMap<i32, u16>,
    /// Those that joined later, and the addresses with which they are configured.
    joined: BTreeMap<i32, Vec<String>>,
    /// From one controller to another.
    links: BTreeMap<(i32, i32), Link>,
    dirs: BTreeMap<i32, TempDir>,
    running: BTreeMap<i32, Member>,
}

impl Controllers {
    /// Controllers that are still to be started, with these ids, `process.roles` and settings.
    ///
    /// # Errors
    /// The machine has no port or directory.
    pub async fn new(
        ids: Range<i32>,
        roles: &'static str,
        settings: &[(String, String)],
    ) -> Result<Self> {
        let mut made = Self {
            roles,
            settings: settings.to_vec(),
            ports: BTreeMap::new(),
            joined: BTreeMap::new(),
            links: BTreeMap::new(),
            dirs: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        for id in ids.clone() {
            let port = match ids.len() {
                1 => 0,
                _ => free_port()?,
            };
            made.ports.insert(id, port);
            made.dirs.insert(id, TempDir::new()?);
        }
        for from in ids.clone() {
            for to in ids.clone().filter(|to| *to != from) {
                let link = Link::to(made.address_of(to)).await?;
                made.links.insert((from, to), link);
            }
        }
        Ok(made)
    }

    fn address_of(&self, id: i32) -> SocketAddr {
        if self.ports[&id] == 0
            && let Some(running) = self.running.get(&id)
        {
            return running.address;
        }
        SocketAddr::from(([127, 0, 0, 1], self.ports[&id]))
    }

    /// The addresses of the controllers' listeners, once they run.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ids()
            .into_iter()
            .map(|id| self.address_of(id))
            .collect()
    }

    /// The ids.
    #[must_use]
    pub fn ids(&self) -> Vec<i32> {
        self.ports.keys().copied().collect()
    }

    /// The settings of one of them.
    fn settings_of(&self, id: i32) -> Vec<(String, String)> {
        let founders = self
            .ids()
            .into_iter()
            .filter(|to| !self.joined.contains_key(to));
        let voters = founders.map(|to| {
            let link = self.links.get(&(id, to));
            let address = link.map_or(self.address_of(to), |link| link.address);
            format!("{to}@{address}")
        });
        let clients = match self.roles.contains("broker") {
            true => "PLAINTEXT://127.0.0.1:0,",
            false => "",
        };
        let own = [
            ("process.roles", self.roles.to_owned()),
            ("node.id", id.to_string()),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            (
                "listeners",
                format!("{clients}CONTROLLER://{}", self.address_of(id)),
            ),
            match self.ports.len() {
                _ if self.joined.contains_key(&id) => (
                    "controller.quorum.bootstrap.servers",
                    self.joined[&id].join(","),
                ),
                // it is the only one, and calls no other
                1 => ("controller.quorum.voters", format!("{id}@127.0.0.1:1")),
                _ => (
                    "controller.quorum.voters",
                    voters.collect::<Vec<_>>().join(","),
                ),
            },
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        [self.settings.clone(), own.to_vec()].concat()
    }

    /// Starts all of them at once; those with these ids run on these machines.
    ///
    /// # Errors
    /// The error of a start.
    pub async fn start_all(&mut self, machines: &BTreeMap<i32, Machine>) -> Result<()> {
        let ids = self.ids().into_iter();
        let starting = ids.filter_map(|id| {
            let (dir, settings) = (self.dirs.remove(&id)?, self.settings_of(id));
            let machine = machines.get(&id).cloned().unwrap_or_else(machine);
            Some(async move {
                Ok::<_, anyhow::Error>((id, Member::start(dir, settings, machine).await?))
            })
        });
        let started = try_join_all(starting.collect::<Vec<_>>()).await?;
        self.running.extend(started);
        Ok(())
    }

    /// Starts one in its directory.
    ///
    /// # Errors
    /// The error of its start.
    pub async fn start(&mut self, id: i32) -> Result<()> {
        let dir = self.dirs.remove(&id).context("it does not run")?;
        let started = Member::start(dir, self.settings_of(id), machine()).await?;
        self.running.insert(id, started);
        Ok(())
    }

    /// Starts another controller, which is configured with the addresses of these ones alone. Returns its port.
    ///
    /// # Errors
    /// The error of its start.
    pub async fn join(&mut self, id: i32, known: &[i32]) -> Result<u16> {
        let known = known.iter().map(|id| self.address_of(*id).to_string());
        self.joined.insert(id, known.collect());
        let port = free_port()?;
        self.ports.insert(id, port);
        self.dirs.insert(id, TempDir::new()?);
        self.start(id).await?;
        Ok(port)
    }

    /// The port on which one listens.
    ///
    /// # Panics
    /// It does not exist.
    #[must_use]
    pub fn port(&self, id: i32) -> u16 {
        self.ports[&id]
    }

    /// The id of the directory of one that runs, as Kafka's tool reads it.
    ///
    /// # Errors
    /// It has none.
    ///
    /// # Panics
    /// It does not run.
    pub fn directory(&self, id: i32) -> Result<Uuid> {
        let path = self.running[&id].dir().join("metadata/meta.properties");
        let text = std::fs::read_to_string(path)?;
        let told = text
            .lines()
            .find_map(|line| line.strip_prefix("directory.id="));
        let told = told.context("it has no directory.id")?;
        told.parse().map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    /// Kills one.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&mut self, id: i32) {
        let killed = self.running.remove(&id).expect("it runs");
        self.dirs.insert(id, killed.kill().await);
    }

    /// Gives one that does not run an empty directory.
    ///
    /// # Errors
    /// The machine has no directory.
    pub fn lose_disk(&mut self, id: i32) -> Result<()> {
        self.dirs.insert(id, TempDir::new()?);
        Ok(())
    }

    /// Cuts the links of one to the others and back, or mends them.
    pub fn set_cut(&self, id: i32, is_cut: bool) {
        for ((from, to), link) in &self.links {
            if *from == id || *to == id {
                link.set_cut(is_cut);
            }
        }
    }

    /// Opens a connection to the first listener of one.
    ///
    /// # Errors
    /// The node refused the connection.
    ///
    /// # Panics
    /// It does not run.
    pub async fn client(&self, id: i32) -> Result<Connection> {
        connect(self.running[&id].address).await
    }

    /// Stops all of them cleanly, one after the other.
    ///
    /// # Errors
    /// The first error of a stop.
    pub async fn stop(self) -> Result<()> {
        for (_, member) in self.running {
            member.stop().await?;
        }
        Ok(())
    }
}

/// A machine on which a node dies with its control work.
fn machine() -> Machine {
    Machine {
        control: ControlRuntime::shared(),
        ..Machine::real()
    }
}
