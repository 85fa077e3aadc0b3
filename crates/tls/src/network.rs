//! A network whose connections are of TLS.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_io::net::{Acceptor, Network, Socket};

use crate::Context;

/// Connects by TLS over another network, and listens as that one does.
#[derive(Debug, Clone)]
pub struct TlsNetwork {
    /// The other network.
    pub inner: Arc<dyn Network>,
    /// The own certificate, and the trust in servers.
    pub context: Arc<Context>,
}

#[async_trait]
impl Network for TlsNetwork {
    /// Fails with a [`Failure`](crate::Failure) within the error if the handshake does.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Socket>> {
        let socket = self.inner.connect(host, port).await?;
        Ok(Box::new(self.context.connect(socket, host).await?))
    }

    async fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Acceptor>> {
        self.inner.listen(host, port).await
    }

    fn connections_max(&self) -> usize {
        self.inner.connections_max()
    }
}
