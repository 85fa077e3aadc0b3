//! How long a connection may take for its requests.

use super::*;

// connections.max.idle.ms
#[tokio::test(start_paused = true)]
async fn a_frame_that_moves_is_not_idle_however_long_it_takes() {
    let idle = Duration::from_secs(10);
    let slow = Slow::new(Waits::ToBeLetGo);
    slow.let_go.notify_one();
    let limits = ConnectionLimits {
        patience: Patience::Idle(idle),
        ..limits(LONG)
    };
    let service = Arc::new(SlowService(slow));
    let (mut client, mut running) = connect_in_process(service, limits);
    for byte in REQUEST {
        client.write_all(&[byte]).await.expect("is taken");
        tokio::time::sleep(idle / 2).await;
    }
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.expect("is answered");
    // half of a frame, whose rest never comes
    client.write_all(&REQUEST[..6]).await.expect("is taken");
    let ended = running.join_next().await.expect("it ran");
    let ended = ended.expect("no panic");
    assert!(matches!(ended, Ended::Idle), "{ended}");
}

// A node connects to a controller only when it has a call to send, so that a silent connection is no node's.
#[tokio::test(start_paused = true)]
async fn a_request_has_to_be_whole_in_time_however_it_moves() {
    let (first, next) = (Duration::from_secs(5), Duration::from_secs(60));
    let connect = || {
        let limits = ConnectionLimits {
            patience: Patience::Request { first, next },
            ..limits(LONG)
        };
        connect_in_process(Arc::new(AtOnce::default()), limits)
    };
    let ends = async |mut running: JoinSet<Ended>| {
        let since = Instant::now();
        let ended = tokio::time::timeout(LONG * 10, running.join_next()).await;
        let ended = ended.expect("it ends").expect("it ran");
        let ended = ended.expect("no panic");
        assert!(matches!(ended, Ended::Idle), "{ended}");
        since.elapsed()
    };
    let (_silent, running) = connect();
    assert_eq!(ends(running).await, first);

    let (mut served, running) = connect();
    tokio::time::sleep(first / 2).await;
    served.write_all(&REQUEST).await.expect("is taken");
    let ended = ends(running);
    // each byte comes before a connection would count as idle
    let trickle = async {
        for byte in &REQUEST[..REQUEST.len() - 1] {
            tokio::time::sleep(first).await;
            drop(served.write_all(&[*byte]).await);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        after = ended => assert_eq!(after, next),
        () = trickle => {}
    }
}
