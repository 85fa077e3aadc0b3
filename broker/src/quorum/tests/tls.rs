//! Calls over TLS, and those that are refused.

use highwater_runtime::WallClock;
use highwater_tls::fixture::{Authority, Leaf};
use highwater_tls::{ClientAuth, Keystore, Secret, Settings, Source};
use tokio::net::TcpStream;

use super::*;

fn text(setting: &str, text: String) -> Source {
    Source::Text {
        setting: setting.to_owned(),
        text: Secret(text),
    }
}

/// The settings of a node whose certificate `issuer` issued, and that trusts `trusted`.
fn settings(issuer: &Authority, leaf: &Leaf<'_>, trusted: &Authority) -> Settings {
    let (key, chain) = issuer.issue(leaf);
    Settings {
        keystore: Some(Keystore::Texts {
            chain: text("chain", chain),
            key: text("key", key),
        }),
        truststore: Some(text("trust", trusted.pem())),
        client_auth: ClientAuth::Required,
        ..Settings::default()
    }
}

fn context(settings: Settings) -> Arc<Context> {
    Arc::new(Context::open(settings, WallClock::system()).expect("is sound"))
}

/// The network on which a controller listens.
#[derive(Debug)]
struct ToController(mpsc::Sender<Connected>);

#[async_trait]
impl Network for ToController {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<Box<dyn Socket>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let far: Box<dyn Socket> = Box::new(Pipe::new(far));
        let connected = (far, SocketAddr::from(([10, 0, 0, 1], 1)));
        self.0.try_send(connected).expect("the controller listens");
        Ok(Box::new(Pipe::new(near)))
    }

    async fn listen(&self, _host: &str, _port: u16) -> io::Result<Box<dyn Acceptor>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The calls of a node with a context to a controller.
fn calls(controller: &Controller, context: Arc<Context>) -> NetworkCalls {
    let inner = Arc::new(ToController(controller.connections.clone()));
    let network = TlsNetwork { inner, context };
    let addresses = BTreeMap::from([(NodeId(1), ("localhost".to_owned(), 9093))]);
    NetworkCalls::new(Arc::new(network), (NodeId(2), Vec::new()), addresses)
}

/// Why a call is not carried out.
async fn refusal(calls: &NetworkCalls) -> String {
    let called = calls.call(NodeId(1), Bytes::from_static(b"?"), Duration::from_secs(20));
    let error = timeout(PATIENCE, called).await;
    let error = error.expect("is answered").expect_err("is refused");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_node_with_a_certificate_reaches_the_controller() {
    let authority = Authority::new("nodes");
    let node = context(settings(&authority, &Leaf::local("node-2"), &authority));
    let controller = Controller::start_on(Some(Arc::clone(&node)));
    let told = refusal(&calls(&controller, node)).await;
    assert_eq!(told, "the controller is still starting");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_certificate_is_refused_and_told_so() {
    let authority = Authority::new("nodes");
    let with = settings(&authority, &Leaf::local("node"), &authority);
    let without = context(Settings {
        keystore: None,
        ..with.clone()
    });
    let requested = context(Settings {
        client_auth: ClientAuth::Requested,
        ..with.clone()
    });
    let controller = Controller::start_on(Some(requested));
    let told = refusal(&calls(&controller, Arc::clone(&without))).await;
    assert!(
        told.contains("calls between nodes need a certificate"),
        "{told}"
    );
    let controller = Controller::start_on(Some(context(with)));
    let told = refusal(&calls(&controller, without)).await;
    assert!(told.contains("refuses this side's certificate"), "{told}");
    assert!(told.contains("CertificateRequired"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_handshake_is_told_once_for_each_cause_with_its_certificate() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let writer = log.reopen().expect("opens");
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(writer));
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    let (authority, other) = (Authority::new("nodes"), Authority::new("others"));
    let node = context(settings(&authority, &Leaf::local("node"), &authority));
    let controller = Controller::start_on(Some(node));
    let stranger = context(settings(&other, &Leaf::local("stranger"), &authority));
    let distrustful = context(settings(&authority, &Leaf::local("distrustful"), &other));
    for (context, subject) in [(stranger, "CN=stranger"), (distrustful, "CN=node")] {
        let calls = calls(&controller, context);
        let subject = format!("subject=\"{subject}\"");
        for _ in 0..20 {
            let told = refusal(&calls).await;
            let all = [&*subject, "issuer=\"CN=", "not_after=2200-01-01T00:00:00Z"];
            assert!(all.iter().all(|part| told.contains(part)), "{told}");
        }
        let text = std::fs::read_to_string(log.path()).expect("is text");
        // the node and the controller both say it, in this process
        for message in [
            "TLS handshake with a controller failed",
            "TLS handshake failed",
        ] {
            let lines = text.lines().filter(|line| line.contains(message));
            assert_eq!(
                lines.filter(|line| line.contains(&subject)).count(),
                1,
                "{text}"
            );
        }
    }
}

// What a node sends to a controller is unknown on the listener of clients, whatever certificate comes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_certificate_cannot_call_a_controller_by_a_listener_of_clients() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("clients");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let keystore = authority.keystore(&Leaf::local("broker"));
    std::fs::write(at("keystore.pem"), keystore).expect("is written");
    std::fs::write(at("truststore.pem"), authority.pem()).expect("is written");
    let node = fixture::TestNode::start(&[
        ("listeners", "SSL://127.0.0.1:0,PLAINTEXT://127.0.0.1:0"),
        ("ssl.keystore.type", "PEM"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.keystore.location", &at("keystore.pem")),
        ("ssl.truststore.location", &at("truststore.pem")),
        ("ssl.client.auth", "required"),
    ])
    .await;
    let client = context(settings(&authority, &Leaf::local("client"), &authority));
    for request in [API_VERSIONS, CALL_BYTES] {
        let address = node.node.address().expect("it listens");
        let stream = TcpStream::connect(address).await.expect("connects");
        let mut stream = client
            .connect(Box::new(stream), "localhost")
            .await
            .expect("is verified");
        stream.write_all(request).await.expect("is sent");
        stream.flush().await.expect("is sent");
        let answered = timeout(Duration::from_secs(60), stream.read_u32()).await;
        let answered = answered.expect("is answered or closed");
        // an unknown key closes the connection: KAFKA-BEHAVIOUR 5
        assert_eq!(answered.is_ok(), request == API_VERSIONS, "{answered:?}");
    }
    node.stop().await;
}
