//! Tests of a store that goes as a hook decides, in virtual time.

use super::*;

fn key() -> ObjectKey {
    ObjectKey::new("data/x")
}

async fn put(store: &Hooked) -> Result<(), StorageError> {
    let body = vec![Bytes::from_static(b"body")];
    let key = key();
    let put = store.put(&key, body, PutMode::IfAbsent, IoClass::Wal);
    put.await.map(drop)
}

async fn is_there(store: &Hooked) -> bool {
    let read = store.inner().get(&key(), 0..4, IoClass::ColdRead).await;
    read.is_ok()
}

fn hooked(hook: impl Fn(&Request<'_>) -> Plan + Send + Sync + 'static) -> Hooked {
    Hooked::new(Arc::<MemoryStorage>::default(), hook)
}

#[tokio::test]
async fn all_requests_pass_without_a_fault() {
    crate::conformance::run(&Hooked::default()).await;
    crate::conformance::replaces(&Hooked::default()).await;
}

#[tokio::test]
async fn a_put_fails_before_or_after_it_is_applied() {
    let store = hooked(|_| Plan::fail(Failure::Unknown));
    let failed = put(&store).await;
    assert!(matches!(failed, Err(StorageError::Unknown { .. })));
    assert!(!is_there(&store).await);
    store.set_hook(|request| match request.nth {
        1 => Plan::pass().answered(Failure::Unknown),
        _ => Plan::pass(),
    });
    let lost = put(&store).await;
    assert!(matches!(lost, Err(StorageError::Unknown { .. })));
    assert!(is_there(&store).await);
    let again = put(&store).await;
    assert!(matches!(again, Err(StorageError::Precondition { .. })));
    assert_eq!(store.calls(RequestKind::Put), 3);
}

#[tokio::test(start_paused = true)]
async fn a_put_is_held_on_either_side_of_its_effect() {
    for is_after in [false, true] {
        let gate = Gate::default();
        let at = gate.clone();
        let store = hooked(move |_| match is_after {
            false => Plan::pass().held(&at),
            true => Plan::pass().answer_held(&at),
        });
        let mut held = Box::pin(put(&store));
        tokio::select! {
            _ = &mut held => panic!("the gate is closed"),
            () = gate.reached(1) => {}
        }
        assert_eq!(is_there(&store).await, is_after);
        gate.open();
        held.await.expect("is put");
        assert!(is_there(&store).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_given_up_lands_later_if_it_is_detached() {
    for is_detached in [false, true] {
        let store = hooked(move |_| {
            let late = Plan::pass().delayed(Duration::from_secs(60));
            if is_detached { late.detached() } else { late }
        });
        let given_up = tokio::time::timeout(Duration::from_secs(1), put(&store)).await;
        assert!(given_up.is_err() && !is_there(&store).await);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(is_there(&store).await, is_detached);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_hang_and_bodies_are_cut() {
    let store = hooked(|request| match request.operation {
        Operation::Get(_) => Plan::pass().truncated(3),
        Operation::GetSuffix(_) => Plan::hang(),
        Operation::List => Plan::pass().leaves_out(1),
        Operation::Put { .. } => Plan::pass(),
        Operation::Delete(_) => Plan::pretend(),
    });
    put(&store).await.expect("is put");
    let read = store.get(&key(), 0..4, IoClass::ColdRead).await;
    assert_eq!(read.expect("is there"), "bod");
    let key = key();
    let end = store.get_suffix(&key, 4, IoClass::ColdRead);
    let hung = tokio::time::timeout(Duration::from_secs(1_000_000), end).await;
    assert!(hung.is_err(), "{hung:?}");
    let data = ObjectKey::new("data");
    assert_eq!(store.list(&data, None).count().await, 0);
    store.delete(&[key]).await.expect("claims to delete");
    assert!(is_there(&store).await);
    assert_eq!(store.most_at_once(RequestKind::Get), 1);
}
