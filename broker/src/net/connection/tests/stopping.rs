//! Connections of a node that stops (A5).

use highwater_runtime::{TaskKind, Tasks};

use super::*;
use crate::addresses::Listening;
use crate::net::{Connections, Limits, serve};

/// A client of a listener that serves one slow request at a time.
async fn client(slow: &Arc<Slow>) -> (TcpStream, Arc<Connections>, Tasks) {
    let ConnectionLimits {
        frames,
        patience,
        budgets,
        class_of,
        ..
    } = limits(LONG);
    let limits = Limits {
        frames,
        patience,
        connections_max: 10,
        connections_per_ip_max: 10,
        read_buffers_bytes: 0,
        connections_per_ip: BTreeMap::new(),
    };
    let connections = Connections::new(limits, budgets, class_of);
    let acceptor = TcpNetwork.listen("127.0.0.1", 0).await.expect("listens");
    let address = acceptor.local_addr().expect("an address");
    let listening = Listening {
        name: Arc::from("PLAINTEXT"),
        acceptor: Arc::from(acceptor),
        tls: None,
    };
    let tasks = Tasks::default();
    let service = Arc::new(SlowService(Arc::clone(slow)));
    let serving = serve(
        listening,
        Arc::clone(&connections),
        service,
        (tasks.clone(), TaskKind::Connection),
    );
    tasks.spawn(TaskKind::Listener, serving);
    let client = TcpStream::connect(address).await.expect("connects");
    (client, connections, tasks)
}

// A request that creates a topic is carried out before it is answered: without the answer its client asks again, and is
// told that the topic exists.
#[tokio::test]
async fn a_request_in_progress_is_answered_and_the_next_one_is_not_served() {
    let slow = Slow::new(Waits::ToBeLetGo);
    let (mut client, connections, tasks) = client(&slow).await;
    let requests = REQUEST.repeat(2);
    client.write_all(&requests).await.expect("is taken");
    slow.begun.notified().await;
    let mut stopping = JoinSet::new();
    stopping.spawn(async move { connections.finish(Instant::now() + LONG).await });
    tokio::time::sleep(PROMPT).await;
    assert!(stopping.try_join_next().is_none());
    slow.let_go.notify_one();
    let mut answers = Vec::new();
    let read = client.read_to_end(&mut answers);
    let read = tokio::time::timeout(ENDS_WITHIN, read).await;
    read.expect("not for ever")
        .expect("the connection is closed");
    assert_eq!(answers, [0, 0, 0, 1, 9]);
    let stopped = tokio::time::timeout(ENDS_WITHIN, stopping.join_next()).await;
    stopped
        .expect("not for ever")
        .expect("it ran")
        .expect("no panic");
    assert_eq!(*slow.served.borrow(), 1);
    tasks.stop().await;
}

#[tokio::test]
async fn what_waits_for_others_is_answered_at_once() {
    for waits in [Waits::ForTheEnd, Waits::ForTheEndAdmitted] {
        let slow = Slow::new(waits);
        let (mut client, connections, tasks) = client(&slow).await;
        client.write_all(&REQUEST).await.expect("is taken");
        slow.begun.notified().await;
        let finish = connections.finish(Instant::now() + LONG);
        let finished = tokio::time::timeout(ENDS_WITHIN, finish).await;
        finished.expect("not for ever");
        let mut answer = [0; 5];
        client.read_exact(&mut answer).await.expect("is answered");
        tasks.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_left() {
    let slow = Slow::new(Waits::ToBeLetGo);
    let (mut client, connections, tasks) = client(&slow).await;
    client.write_all(&REQUEST).await.expect("is taken");
    slow.begun.notified().await;
    connections.finish(Instant::now() + PROMPT).await;
    assert_eq!(*slow.served.borrow(), 0);
    tasks.stop().await;
    assert_eq!(client.read(&mut [0; 5]).await.unwrap_or(0), 0);
}
