//! A link between two nodes that a test cuts and mends.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use highwater_runtime::{TaskKind, Tasks};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to an address. It ends with this value.
#[derive(Debug)]
pub struct Link {
    /// The address that takes the place of the other one.
    pub address: SocketAddr,
    is_cut: Arc<watch::Sender<bool>>,
    tasks: Tasks,
}

impl Link {
    /// Opens a link to an address.
    ///
    /// # Errors
    /// The error of the machine.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let is_cut = Arc::new(watch::Sender::new(false));
        let tasks = Tasks::default();
        let (cut, connections) = (Arc::clone(&is_cut), tasks.clone());
        tasks.spawn(TaskKind::Listener, async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut cut = cut.subscribe();
                connections.spawn(TaskKind::Connection, async move {
                    let forward = async {
                        let mut to = TcpStream::connect(target).await?;
                        copy_bidirectional(&mut from, &mut to).await
                    };
                    // a connection that is dropped is reset
                    tokio::select! {
                        biased;
                        _cut = cut.wait_for(|is_cut| *is_cut) => {}
                        _ended = forward => {}
                    }
                });
            }
        });
        Ok(Self {
            address,
            is_cut,
            tasks,
        })
    }

    /// Cuts the link, so that every connection ends at once, or mends it.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}
