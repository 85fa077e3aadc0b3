//! Connections that are slow, and connections that end.

use std::sync::atomic::AtomicUsize;

use highwater_io::Pipe;
use highwater_io::net::{Network, TcpNetwork};
use highwater_runtime::ByteBudget;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::auth::Principal;
use crate::config::MemoryPlan;

mod patience;
mod stopping;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

const LARGE_BYTES: usize = 64 << 20;
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// Answers with more bytes than the operating system buffers, from shared memory, under a permit for all of it.
struct Large {
    shared: Bytes,
    budget: ByteBudget,
}

impl Large {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: Bytes::from(vec![0; LARGE_BYTES]),
            budget: ByteBudget::new(LARGE_BYTES as u64),
        })
    }
}

impl Service for Large {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        let body = vec![self.shared.clone()];
        let permit = self.budget.try_acquire(LARGE_BYTES as u64);
        let permit = permit.unwrap_or_else(BytePermit::empty);
        let answer = Answer::Frame(body, permit);
        Box::pin(async { Served::Now(answer) })
    }
}

/// A request; no service of these tests reads its content.
const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
/// A request that may overlap with others of its class.
const OVERLAPPING: [u8; 14] = [0, 0, 0, 10, 0, 9, 0, 0, 0, 0, 0, 1, 255, 255];

fn limits(write: Duration) -> ConnectionLimits {
    ConnectionLimits {
        frames: FrameLimits {
            held: 1000,
            read: 1000,
        },
        patience: Patience::Endless,
        write,
        pool: BufferPool::new(0),
        budgets: RequestBudgets::new(&MemoryPlan::new(64 << 20)),
        class_of: |key| RequestClass {
            overlaps: key == i16::from(OVERLAPPING[5]),
            ..RequestClass::default()
        },
    }
}

/// An answer that comes later, at no fixed time.
fn later(answer: impl Future<Output = Answer> + Send + 'static) -> Served<BoxFuture<Answer>> {
    Served::Later(Later {
        answer: Box::pin(answer),
        deadline: Instant::now() + Duration::from_secs(3600),
    })
}

fn session() -> Arc<Session> {
    Arc::new(Session::anonymous())
}

/// A client that has sent a request, and its running connection.
async fn connect<S: Service>(
    write: Duration,
    service: &Arc<S>,
) -> (TcpStream, JoinSet<(Ended, bool)>) {
    connect_with(&REQUEST, write, service).await
}

async fn connect_with<S: Service>(
    request: &[u8],
    write: Duration,
    service: &Arc<S>,
) -> (TcpStream, JoinSet<(Ended, bool)>) {
    let acceptor = TcpNetwork.listen("127.0.0.1", 0).await.expect("listens");
    let address = acceptor.local_addr().expect("an address");
    let mut client = TcpStream::connect(address).await.expect("connects");
    let (socket, peer) = acceptor.accept().await.expect("accepts");
    let info = Arc::new(ConnectionInfo::new(peer, Arc::from("PLAINTEXT")));
    let limits = limits(write);
    client.write_all(request).await.expect("is taken");
    let service = Arc::clone(service);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let seen = Arc::clone(&info);
        let ended = run(socket, info, session(), service, limits).await;
        (ended, seen.takes_promptly())
    });
    (client, running)
}

/// A client and its connection on a socket within the process, so that time can stand still.
fn connect_in_process<S: Service>(
    service: Arc<S>,
    limits: ConnectionLimits,
) -> (DuplexStream, JoinSet<Ended>) {
    let (client, socket) = tokio::io::duplex(1 << 20);
    let socket = Box::new(Pipe::new(socket));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let info = Arc::new(ConnectionInfo::new(peer, Arc::from("PLAINTEXT")));
    let mut running = JoinSet::new();
    running.spawn(run(socket, info, session(), service, limits));
    (client, running)
}

async fn end_of(mut running: JoinSet<(Ended, bool)>) -> (Ended, bool) {
    let ended = tokio::time::timeout(ENDS_WITHIN, running.join_next()).await;
    let ended = ended.expect("not for ever").expect("it ran");
    ended.expect("no panic")
}

// M3
#[tokio::test]
async fn who_does_not_take_an_answer_is_closed() {
    let (_client, running) = connect(Duration::from_millis(300), &Large::new()).await;
    let (ended, prompt) = end_of(running).await;
    assert!(matches!(ended, Ended::Slow), "{ended}");
    assert!(!prompt);
}

// M3: long before its deadline, if another request waits for the memory
#[tokio::test]
async fn who_hardly_takes_an_answer_gives_way_and_pins_no_cache() {
    let large = Large::new();
    let (_client, mut running) = connect(Duration::from_secs(3600), &large).await;
    let holds = || async {
        while large.budget.used() == 0 || !large.shared.is_unique() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let copied = tokio::time::timeout(ENDS_WITHIN, holds()).await;
    copied.expect("what it shares is let go of while it is written");
    tokio::time::sleep(2 * LOOK).await;
    assert!(running.try_join_next().is_none(), "no other request waits");
    let wanted = large.budget.acquire(1);
    let wanted = tokio::time::timeout(ENDS_WITHIN, wanted).await;
    let permit = wanted.expect("not for ever").expect("fits");
    assert_eq!(permit.bytes(), 1);
    let (ended, _) = end_of(running).await;
    assert!(matches!(ended, Ended::Slow), "{ended}");
}

#[tokio::test]
async fn who_takes_an_answer_at_once_is_known_to() {
    let large = Large::new();
    let (mut client, running) = connect(Duration::from_secs(3600), &large).await;
    let mut answer = vec![0; LARGE_BYTES];
    client.read_exact(&mut answer).await.expect("is written");
    while large.budget.used() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    let (ended, prompt) = end_of(running).await;
    assert!(matches!(ended, Ended::Client), "{ended}");
    // a write that took longer on a busy machine has copied the shared memory
    assert!(prompt || large.shared.is_unique());
}

/// Answers the first request with [`Large`], once the second one is in line for the budget.
struct InLine {
    large: Arc<Large>,
    requests: AtomicUsize,
    in_line: Arc<Notify>,
}

impl Service for InLine {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        let in_line = Arc::clone(&self.in_line);
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            let body = vec![self.large.shared.clone()];
            let answer = async move {
                in_line.notified().await;
                Answer::Frame(body, BytePermit::empty())
            };
            return Box::pin(async { later(answer) });
        }
        let budget = self.large.budget.clone();
        Box::pin(async move {
            in_line.notify_one();
            drop(budget.acquire(1).await.expect("fits"));
            Served::Now(Answer::Silent)
        })
    }
}

// M3
#[tokio::test]
async fn who_takes_no_answer_holds_up_nobody_in_line_for_memory() {
    let service = Arc::new(InLine {
        large: Large::new(),
        requests: AtomicUsize::new(0),
        in_line: Arc::default(),
    });
    let budget = &service.large.budget;
    let all = budget.try_acquire(LARGE_BYTES as u64).expect("is free");
    let for_long = Duration::from_secs(3600);
    let (mut client, mut running) = connect_with(&OVERLAPPING, for_long, &service).await;
    client.write_all(&OVERLAPPING).await.expect("is taken");
    let given_up = Instant::now() + ENDS_WITHIN;
    while budget.try_acquire(0).is_some() {
        assert!(Instant::now() < given_up, "the second request gets in line");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // the first answer is being written
    tokio::time::sleep(PROMPT).await;
    drop(all);
    let behind = tokio::time::timeout(ENDS_WITHIN, budget.acquire(1)).await;
    let permit = behind.expect("not for ever").expect("fits");
    assert_eq!(permit.bytes(), 1);
    assert!(running.try_join_next().is_none());
}

/// The event that a request waits for: the test's word, or the client's end, as a fetch or an admitted produce does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    ToBeLetGo,
    ForTheEnd,
    ForTheEndAdmitted,
}

/// Serves one request at a time.
struct Slow {
    begun: Notify,
    served: watch::Sender<usize>,
    let_go: Notify,
    waits: Waits,
}

impl Slow {
    fn new(waits: Waits) -> Arc<Self> {
        Arc::new(Self {
            begun: Notify::new(),
            served: watch::Sender::new(0),
            let_go: Notify::new(),
            waits,
        })
    }
}

#[derive(Debug)]
struct SlowService(Arc<Slow>);

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slow({})", *self.served.borrow())
    }
}

impl Service for SlowService {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        let slow = Arc::clone(&self.0);
        slow.begun.notify_one();
        let connection = Arc::clone(connection);
        let waits = slow.waits;
        let answer = async move {
            match waits {
                Waits::ToBeLetGo => slow.let_go.notified().await,
                Waits::ForTheEnd | Waits::ForTheEndAdmitted => connection.ends().await,
            }
            slow.served.send_modify(|served| *served += 1);
            let body = Bytes::from_static(&[0, 0, 0, 1, 9]);
            Answer::Frame(vec![body], BytePermit::empty())
        };
        Box::pin(async move {
            match waits {
                Waits::ForTheEndAdmitted => later(answer),
                Waits::ToBeLetGo | Waits::ForTheEnd => Served::Now(answer.await),
            }
        })
    }
}

// a client pipelines requests and closes: they are served, as Kafka serves the requests that its selector has read
#[tokio::test]
async fn what_was_received_is_served_though_the_client_is_gone() {
    let slow = Slow::new(Waits::ToBeLetGo);
    let service = Arc::new(SlowService(Arc::clone(&slow)));
    let (mut client, running) = connect(Duration::from_secs(3600), &service).await;
    client
        .write_all(&REQUEST.repeat(3))
        .await
        .expect("is taken");
    // the client has nothing unread when it closes, so that only the answers meet a reset connection
    drop(client);
    let mut served = slow.served.subscribe();
    for count in 1..=4 {
        slow.let_go.notify_one();
        let served = served.wait_for(|served| *served == count);
        let served = tokio::time::timeout(ENDS_WITHIN, served).await;
        assert!(served.expect("all are served").is_ok());
    }
    let (ended, _) = end_of(running).await;
    assert!(matches!(ended, Ended::Client | Ended::Read(_)), "{ended}");
}

#[tokio::test]
async fn a_client_that_closed_its_side_alone_gets_its_answers() {
    for waits in [Waits::ToBeLetGo, Waits::ForTheEnd, Waits::ForTheEndAdmitted] {
        let slow = Slow::new(waits);
        let service = Arc::new(SlowService(Arc::clone(&slow)));
        let (mut client, running) = connect(Duration::from_secs(3600), &service).await;
        client.shutdown().await.expect("its side");
        slow.let_go.notify_one();
        let mut answer = Vec::new();
        let read = client.read_to_end(&mut answer);
        let read = tokio::time::timeout(ENDS_WITHIN, read).await;
        read.expect("is answered at once").expect("is answered");
        assert_eq!(answer, [0, 0, 0, 1, 9]);
        let (ended, _) = end_of(running).await;
        assert!(matches!(ended, Ended::Client), "{ended}");
    }
}

// M3: no client can occupy a connection's slot for ever by going away
#[tokio::test]
async fn what_takes_for_ever_is_given_up_after_the_end_of_its_client() {
    let slow = Slow::new(Waits::ToBeLetGo);
    let service = Arc::new(SlowService(slow));
    let (client, running) = connect(Duration::from_millis(100), &service).await;
    drop(client);
    let (ended, _) = end_of(running).await;
    assert!(matches!(ended, Ended::Client), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sent_many_requests_has_one_served_at_a_turn() {
    let service = Arc::new(AtOnce::default());
    let requests = 100;
    let (mut client, _running) = connect_in_process(Arc::clone(&service), limits(LONG));
    let sent = client.write_all(&REQUEST.repeat(requests)).await;
    sent.expect("is taken");
    let served = || service.0.load(Ordering::Relaxed);
    let mut turns = 0;
    while served() < requests {
        let before = served();
        tokio::task::yield_now().await;
        turns += 1;
        assert!(served() <= before + 1, "others have a turn after each");
        assert!(turns < 10 * requests, "it goes on");
    }
}

/// Serves every request at once.
#[derive(Debug, Default)]
struct AtOnce(AtomicUsize);

impl Service for AtOnce {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        self.0.fetch_add(1, Ordering::Relaxed);
        let body = Bytes::from_static(&[0, 0, 0, 1, 9]);
        let answer = Answer::Frame(vec![body], BytePermit::empty());
        Box::pin(async { Served::Now(answer) })
    }
}

/// The first answer waits for the test's word, and the others are ready at once; each holds memory of a budget of its
/// own.
struct Holding {
    budgets: [ByteBudget; 2],
    served: AtomicUsize,
    word: Arc<Notify>,
}

impl Service for Holding {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        let turn = self.served.fetch_add(1, Ordering::Relaxed);
        let permit = self.budgets[turn % 2].force(10);
        let answer = Answer::Frame(vec![Bytes::from_static(b"x")], permit);
        if turn > 0 {
            self.word.notify_one();
            return Box::pin(async { Served::Now(answer) });
        }
        let word = Arc::clone(&self.word);
        let answer = async move {
            word.notified().await;
            answer
        };
        Box::pin(async { later(answer) })
    }
}

// M3: answers that are written together
#[tokio::test]
async fn memory_goes_back_to_the_budget_it_came_from() {
    let holding = Arc::new(Holding {
        budgets: [ByteBudget::new(100), ByteBudget::new(100)],
        served: AtomicUsize::new(0),
        word: Arc::default(),
    });
    let for_long = Duration::from_secs(3600);
    let (mut client, running) = connect_with(&OVERLAPPING, for_long, &holding).await;
    client.write_all(&OVERLAPPING).await.expect("is taken");
    client.shutdown().await.expect("ends");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.expect("is read");
    assert_eq!(answers, b"xx");
    end_of(running).await;
    assert_eq!(holding.budgets.each_ref().map(ByteBudget::used), [0, 0]);
}

/// Answers each request with the name of its principal. A request that does not overlap others gives the connection
/// another principal.
struct Negotiating {
    word: Arc<Notify>,
}

impl Service for Negotiating {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        session: &Arc<Session>,
        frame: Frame,
    ) -> Self::Serving {
        let principal = session
            .principal
            .as_ref()
            .map(|principal| principal.name.clone());
        let told = Bytes::from(format!("{} ", principal.expect("has one")));
        let answer = Answer::Frame(vec![told], BytePermit::empty());
        if frame.class.overlaps {
            let word = Arc::clone(&self.word);
            let answer = async move {
                word.notified().await;
                answer
            };
            return Box::pin(async { later(answer) });
        }
        let other = Principal {
            name: "alice".to_owned(),
            ..Principal::anonymous()
        };
        let session = Session {
            principal: Some(Arc::new(other)),
            ..Session::clone(session)
        };
        Box::pin(async { Served::Negotiated(answer, Arc::new(session)) })
    }
}

#[tokio::test]
async fn a_session_that_is_negotiated_is_that_of_later_requests_only() {
    let word = Arc::new(Notify::new());
    let service = Arc::new(Negotiating {
        word: Arc::clone(&word),
    });
    let for_long = Duration::from_secs(3600);
    let (mut client, running) = connect_with(&OVERLAPPING, for_long, &service).await;
    // the second request does not begin before the overlapping one is answered
    client.write_all(&REQUEST).await.expect("is taken");
    client.write_all(&OVERLAPPING).await.expect("is taken");
    word.notify_one();
    let mut first = [0; 20];
    client.read_exact(&mut first).await.expect("is answered");
    assert_eq!(&first, b"ANONYMOUS ANONYMOUS ");
    word.notify_one();
    client.shutdown().await.expect("its side");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("is answered");
    assert_eq!(rest, b"alice ");
    end_of(running).await;
}

/// Admits requests that are answered at their deadlines.
#[derive(Debug)]
struct AtDeadlines(Mutex<VecDeque<Duration>>);

impl Service for AtDeadlines {
    type Serving = BoxFuture<Served<Self::Answer>>;
    type Answer = BoxFuture<Answer>;

    fn serve(
        &self,
        _connection: &Arc<ConnectionInfo>,
        _session: &Arc<Session>,
        _frame: Frame,
    ) -> Self::Serving {
        let mut timeouts = self.0.lock().expect("is sound");
        let timeout = timeouts.pop_front().expect("another request");
        let deadline = Instant::now() + timeout;
        let told = Bytes::from(vec![u8::try_from(timeout.as_secs()).expect("is short")]);
        let answer = std::future::poll_fn(move |_cx| match Instant::now() >= deadline {
            true => Poll::Ready(Answer::Frame(vec![told.clone()], BytePermit::empty())),
            false => Poll::Pending,
        });
        let answer: Self::Answer = Box::pin(answer);
        Box::pin(std::future::ready(Served::Later(Later {
            answer,
            deadline,
        })))
    }
}

// A2: nothing but the connection's own timer wakes these answers
#[tokio::test(start_paused = true)]
async fn what_is_admitted_is_asked_again_at_its_deadline_in_the_order_of_requests() {
    let timeouts = [30, 7, 40, 41, 41, 5];
    let service = AtDeadlines(Mutex::new(timeouts.map(Duration::from_secs).into()));
    let (mut client, _running) = connect_in_process(Arc::new(service), limits(LONG));
    let since = Instant::now();
    let sent = client.write_all(&OVERLAPPING.repeat(5)).await;
    sent.expect("is taken");
    for (timeout, at) in [(30, 30), (7, 30), (40, 40), (41, 41), (41, 41)] {
        let answer = client.read_u8().await.expect("is answered");
        let took = since.elapsed().as_secs();
        assert_eq!((answer, took), (timeout, at));
    }
    // earlier than the time the alarm was set to
    client.write_all(&OVERLAPPING).await.expect("is taken");
    assert_eq!(client.read_u8().await.expect("is answered"), 5);
    assert_eq!(since.elapsed().as_secs(), 46);
}
