//! Connections to a controller's listener that are no node's.

mod tls;

use std::net::SocketAddr;

use highwater_io::Pipe;
use highwater_io::net::{Acceptor, Network, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::*;
use crate::fixture;

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A call that no voter understands.
const CALL_BYTES: &[u8] = &[0, 0, 0, 12, 0x48, 0x57, 0, 0, 0, 0, 0, 7, 0, 0, 0xff, 0xff];

/// A request for the versions that are served.
const API_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

type Connected = (Box<dyn Socket>, SocketAddr);

/// Accepts the connections of a channel.
#[derive(Debug)]
struct Channel(Mutex<mpsc::Receiver<Connected>>);

#[async_trait]
impl Acceptor for Channel {
    async fn accept(&self) -> io::Result<Connected> {
        match self.0.lock().await.recv().await {
            Some(connected) => Ok(connected),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9093)))
    }
}

/// A controller that is still starting, and the way to connect to it.
struct Controller {
    connections: mpsc::Sender<Connected>,
    _transport: NetworkTransport,
    _tasks: Tasks,
}

impl Controller {
    fn start() -> Self {
        Self::start_on(None)
    }

    fn start_on(tls: Option<Arc<Context>>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = fixture::config(dir.path(), &[]);
        let transport = NetworkTransport::new(&config, &Machine::real(), &Control::default(), None);
        let (connections, accepted) = mpsc::channel(2 * CONNECTIONS_MAX);
        let tasks = Tasks::default();
        let acceptor: Arc<dyn Acceptor> = Arc::new(Channel(Mutex::new(accepted)));
        let listening = Listening {
            name: Arc::from("CONTROLLER"),
            acceptor,
            tls,
        };
        transport.listen(vec![listening], &tasks);
        Self {
            connections,
            _transport: transport,
            _tasks: tasks,
        }
    }

    fn connect(&self, address: [u8; 4]) -> DuplexStream {
        let (client, socket) = tokio::io::duplex(1 << 10);
        let socket: Box<dyn Socket> = Box::new(Pipe::new(socket));
        let connected = (socket, SocketAddr::from((address, 1)));
        let sent = self.connections.try_send(connected);
        sent.expect("the controller listens");
        client
    }

    /// Whether a call on a new connection is answered.
    async fn answers(&self, address: [u8; 4]) -> bool {
        let mut node = self.connect(address);
        node.write_all(CALL_BYTES).await.expect("is taken");
        let mut answer = [0; 9];
        let read = timeout(PATIENCE, node.read_exact(&mut answer)).await;
        read.expect("is answered or closed").is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_floods_the_listener_does_not_flood_the_log() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let writer = log.reopen().expect("opens");
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(writer));
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    let controller = Controller::start();
    for address in [[10, 0, 0, 2], [10, 0, 0, 3]] {
        for _ in 0..3 {
            let mut client = controller.connect(address);
            for _ in 0..10 {
                client.write_all(API_VERSIONS).await.expect("is taken");
                let length = timeout(PATIENCE, client.read_u32()).await;
                let length = length.expect("is answered").expect("is open");
                let mut answer = vec![0; usize::try_from(length).expect("is small")];
                client.read_exact(&mut answer).await.expect("is whole");
            }
            // Produce is refused
            client
                .write_all(&[0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff])
                .await
                .expect("is taken");
            let closed = timeout(PATIENCE, client.read_u32()).await;
            closed.expect("is closed").expect_err("is not answered");
        }
    }
    let text = std::fs::read_to_string(log.path()).expect("is text");
    assert_eq!(text.matches("request refused").count(), 1, "{text}");
}

const NODE: [u8; 4] = [10, 0, 0, 1];

/// A network on which nothing answers.
#[derive(Debug)]
struct Void;

#[async_trait]
impl Network for Void {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<Box<dyn Socket>> {
        std::future::pending().await
    }

    async fn listen(&self, _host: &str, _port: u16) -> io::Result<Box<dyn Acceptor>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

// a proposal is repeated after this error, and so finds a controller that is back
#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_is_given_up_long_before_a_call_is_late() {
    let addresses = BTreeMap::from([(NodeId(1), ("gone".to_owned(), 9093))]);
    let calls = NetworkCalls::new(Arc::new(Void), (NodeId(2), Vec::new()), addresses);
    let within = Duration::from_secs(20);
    let called = timeout(within / 4, calls.call(NodeId(1), Bytes::new(), within)).await;
    let error = called.expect("is given up").expect_err("is not answered");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[tokio::test(start_paused = true)]
async fn silent_connections_do_not_lock_a_node_out() {
    let controller = Controller::start();
    let address = |number: usize| {
        let number = u32::try_from(number / 100).expect("is small");
        (u32::from_be_bytes([192, 168, 0, 0]) + number).to_be_bytes()
    };
    let silent: Vec<DuplexStream> = (0..CONNECTIONS_MAX + 100)
        .map(|number| controller.connect(address(number)))
        .collect();
    assert!(controller.answers(NODE).await);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn one_address_does_not_take_the_connections_of_all_nodes() {
    let controller = Controller::start();
    let other = [10, 0, 0, 2];
    let taken: Vec<DuplexStream> = (0..CONNECTIONS_PER_ADDRESS_MAX)
        .map(|_| controller.connect(other))
        .collect();
    assert!(!controller.answers(other).await, "it has as many as it may");
    assert!(controller.answers(NODE).await);
    drop(taken);
}

// An address in the metadata may be wrong, and is corrected only by a quorum.
#[tokio::test]
async fn a_controller_that_does_not_answer_where_the_metadata_says_is_called_where_it_is_configured()
 {
    let own = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let own = own.expect("binds");
    let port = own.local_addr().expect("is bound").port();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let closed = closed.expect("binds").local_addr().expect("is bound");
    let network: Arc<dyn Network> = Arc::new(highwater_io::net::TcpNetwork);
    let host = "127.0.0.1".to_owned();
    let configured = BTreeMap::from([(NodeId(1), (host.clone(), port))]);
    let calls = NetworkCalls::new(network, (NodeId(2), Vec::new()), configured);
    let wrong = Endpoint {
        listener: "CONTROLLER".to_owned(),
        host,
        port: closed.port().into(),
    };
    calls.learn(&BTreeMap::from([(NodeId(1), vec![wrong])]));
    let serving = async {
        let (mut socket, _) = own.accept().await.expect("is called");
        let mut frame = [0; 64];
        let read = socket.read(&mut frame).await.expect("is sent");
        assert!(read > 0);
        // status ANSWERED, and nothing
        let answer = [0, 0, 0, 5, 0, 0, 0, 0, ANSWERED];
        socket.write_all(&answer).await.expect("is taken");
    };
    let call = calls.call(NodeId(1), Bytes::from_static(b"?"), Duration::from_secs(5));
    let (answer, ()) = tokio::join!(call, serving);
    assert_eq!(answer.expect("is answered"), Bytes::new());
}
