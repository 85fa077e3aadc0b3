//! Checks that a store keeps the guarantees that every record relies on, before the first record is written to it.
//!
//! The WAL is fenced by creations (W1, W3, W7), so that the probe shows that a creation is atomic: of several requests
//! that create one key exactly one wins, and all others are told that the object exists. The probe costs [`ROUNDS`] times
//! [`WRITERS`] + 1 PUTs and 3 GETs, 3 PUTs and 3 GETs for replacing an object, one LIST and one POST, all of a few
//! bytes.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use crate::{IoClass, ObjectKey, ObjectStorage, PutMode, StorageError, layout};

const ROUNDS: usize = 3;
const WRITERS: usize = 8;
const ATTEMPTS_MAX: u32 = 5;
const REST: Duration = Duration::from_millis(200);
const CLASS: IoClass = IoClass::Start;

/// The reason why a store is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The store breaks a guarantee. Use another store.
    #[error("{0}")]
    Untrusted(String),
    /// The store failed to answer as it should. Mend the cause and start again.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn untrusted(what: impl Into<String>) -> ProbeError {
    ProbeError::Untrusted(what.into())
}

/// Races creations of one key, replaces, reads, lists, deletes, and reads again. The whole probe begins again if a request fails,
/// since a store may close a connection at any time. Several nodes may probe one store at once, since each uses only
/// its own keys.
///
/// # Errors
/// [`ProbeError`].
pub(crate) async fn run(
    store: &dyn ObjectStorage,
    node: NodeId,
    rng: &SeededRng,
) -> Result<(), ProbeError> {
    for attempt in 1..ATTEMPTS_MAX {
        match once(store, node, rng).await {
            Err(ProbeError::Storage(error)) => {
                tracing::debug!(attempt, %error, "the store is probed again");
                tokio::time::sleep(REST).await;
            }
            other => return other,
        }
    }
    once(store, node, rng).await
}

async fn once(store: &dyn ObjectStorage, node: NodeId, rng: &SeededRng) -> Result<(), ProbeError> {
    let new_key = || layout::probe(node, u128::from_be_bytes(rng.next_id()));
    let mut keys: Vec<ObjectKey> = std::iter::repeat_with(new_key).take(ROUNDS).collect();
    for key in &keys {
        race(store, key).await?;
    }
    let replaced = new_key();
    replace(store, &replaced).await?;
    keys.push(replaced);
    let listed: Vec<ObjectKey> = store
        .list(&layout::probes(node), None)
        .map_ok(|entry| entry.key)
        .try_collect()
        .await?;
    if !keys.iter().all(|key| listed.contains(key)) {
        return Err(untrusted("a listing leaves out objects written before it"));
    }
    // this also deletes the probes of this node's earlier starts that were killed
    store.delete(&listed).await?;
    for key in &keys {
        match store.get(key, 0..1, CLASS).await {
            Err(StorageError::NotFound { .. }) => {}
            Ok(_) => return Err(untrusted("it reads an object that was deleted")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is known of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creation {
    Won,
    /// Another request created the object.
    Lost,
    /// An answer was missing, and then the object was there.
    Unknown,
}

/// Creates an object. A request whose outcome is not certain is sent again: a server may close a connection after a
/// refusal, and the next request on it is lost; and it may refuse a creation because another one is under way.
async fn create(
    store: &dyn ObjectStorage,
    key: &ObjectKey,
    body: Bytes,
) -> Result<Creation, StorageError> {
    let mut refused = Creation::Lost;
    let mut attempt = 1;
    loop {
        let put = store.put(key, vec![body.clone()], PutMode::IfAbsent, CLASS);
        match put.await {
            Ok(_) => return Ok(Creation::Won),
            Err(StorageError::Precondition { .. }) => return Ok(refused),
            Err(error) if attempt == ATTEMPTS_MAX => return Err(error),
            Err(StorageError::Unknown { .. }) => refused = Creation::Unknown,
            Err(StorageError::Failed { .. }) => {}
            Err(error) => return Err(error),
        }
        attempt += 1;
        tokio::time::sleep(REST).await;
    }
}

fn body(writer: usize) -> Bytes {
    Bytes::from(format!("writer {writer}"))
}

async fn race(store: &dyn ObjectStorage, key: &ObjectKey) -> Result<(), ProbeError> {
    let puts = (0..WRITERS).map(|writer| create(store, key, body(writer)));
    let puts: Result<Vec<Creation>, StorageError> = join_all(puts).await.into_iter().collect();
    let puts = puts?;
    let of = |outcome| (0..WRITERS).filter(move |writer| puts[*writer] == outcome);
    let (won, unknown): (Vec<usize>, Vec<usize>) = (
        of.clone()(Creation::Won).collect(),
        of(Creation::Unknown).collect(),
    );
    // an answer that was lost may have been the winner's
    let winners = match (won.len(), unknown.len()) {
        (1, _) => won,
        (0, 0) => return Err(untrusted("it says of a new key that an object is there")),
        (0, _) => unknown,
        (many, _) => {
            return Err(untrusted(format!(
                "{many} of {WRITERS} requests created the same object: create-if-absent (If-None-Match: *) is not \
                 atomic there, or not known"
            )));
        }
    };
    if create(store, key, body(WRITERS)).await? == Creation::Won {
        return Err(untrusted(
            "it overwrites an object that was to be created only if absent (If-None-Match: *)",
        ));
    }
    // this read comes after the refusals, since a server may close the connection after one: reads are retried, but
    // listings are not
    let read = read_back(store, key).await?;
    let Some(winner) = winners.into_iter().find(|writer| read == body(*writer)) else {
        return Err(untrusted(
            "it reads back another body than the one it accepted",
        ));
    };
    let part = store.get(key, 2..5, CLASS).await?;
    if part != body(winner).slice(2..5) {
        return Err(untrusted("it reads another range than was asked for"));
    }
    Ok(())
}

/// Replaces an object by its version, and then tries to replace it by the version that it no longer has.
async fn replace(store: &dyn ObjectStorage, key: &ObjectKey) -> Result<(), ProbeError> {
    let put = |writer, mode| store.put(key, vec![body(writer)], mode, CLASS);
    let first = put(0, PutMode::IfAbsent).await?;
    match put(1, PutMode::IfVersion(first.clone())).await {
        Ok(_) => {}
        Err(StorageError::Precondition { .. }) => {
            return Err(untrusted(
                "it does not replace an object that has the version asked for (If-Match)",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    let replaced = |read: &Bytes| match *read == body(1) {
        true => Ok(()),
        false => Err(untrusted("it reads back another body than the last one")),
    };
    replaced(&read_back(store, key).await?)?;
    let mut stale = put(2, PutMode::IfVersion(first.clone())).await;
    for _ in 1..ATTEMPTS_MAX {
        if !matches!(
            stale,
            Err(StorageError::Unknown { .. } | StorageError::Failed { .. })
        ) {
            break;
        }
        tokio::time::sleep(REST).await;
        stale = put(2, PutMode::IfVersion(first.clone())).await;
    }
    match stale {
        Err(StorageError::Precondition { .. }) => replaced(&read_back(store, key).await?),
        Ok(_) => Err(untrusted(
            "it replaces an object that has another version than the one asked for (If-Match)",
        )),
        Err(error) => Err(error.into()),
    }
}

async fn read_back(store: &dyn ObjectStorage, key: &ObjectKey) -> Result<Bytes, ProbeError> {
    match store.get(key, 0..64, CLASS).await {
        Err(StorageError::NotFound { .. }) => {
            Err(untrusted("an object written a moment ago is not found"))
        }
        read => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Failure, Gate, Hooked, MemoryStorage, Operation, Plan, Request};

    const NODE: NodeId = NodeId(1);

    async fn probe(hook: fn(&Request<'_>) -> Plan) -> Result<(), String> {
        let store = Hooked::new(Arc::<MemoryStorage>::default(), hook);
        let probed = run(&store, NODE, &SeededRng::from_seed(1)).await;
        probed.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_store_that_breaks_a_promise_is_refused_with_the_reason() {
        assert_eq!(probe(|_| Plan::pass()).await, Ok(()));
        type Fault = fn(&Request<'_>) -> Plan;
        let faults: [(Fault, &str); 7] = [
            (
                |request| match request.operation {
                    Operation::Put { .. } => Plan::pass().with_mode(PutMode::Overwrite),
                    _ => Plan::pass(),
                },
                "8 of 8 requests created the same object",
            ),
            // it checks whether the object is there, and then writes
            (
                |request| match request.operation {
                    Operation::Put { .. } if request.nth < 2 => {
                        Plan::pass().with_mode(PutMode::Overwrite)
                    }
                    _ => Plan::pass(),
                },
                "is not atomic",
            ),
            // it ignores the condition of a replacement
            (
                |request| match request.operation {
                    Operation::Put {
                        mode: PutMode::IfVersion(_),
                        ..
                    } => Plan::pass().with_mode(PutMode::Overwrite),
                    _ => Plan::pass(),
                },
                "has another version",
            ),
            (
                |request| match request.operation {
                    Operation::Get(_) => Plan::fail(Failure::NotFound),
                    _ => Plan::pass(),
                },
                "is not found",
            ),
            (|_| Plan::pass().leaves_out(1), "leaves out"),
            (
                |request| match request.operation {
                    Operation::Get(_) => Plan::pass().with_range(0..64),
                    _ => Plan::pass(),
                },
                "another range",
            ),
            (
                |request| match request.operation {
                    Operation::Delete(_) => Plan::pretend(),
                    _ => Plan::pass(),
                },
                "was deleted",
            ),
        ];
        for (fault, reason) in faults {
            let refused = probe(fault).await.expect_err("is refused");
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sound_store_is_trusted_though_answers_are_lost_or_ask_for_a_retry() {
        let lost: fn(&Request<'_>) -> Plan = |request| match request.operation {
            Operation::Put { .. } if request.nth == 0 => Plan::pass().answered(Failure::Unknown),
            _ => Plan::pass(),
        };
        let busy: fn(&Request<'_>) -> Plan = |request| match request.operation {
            Operation::Put { .. } if (1..8).contains(&request.nth) => {
                Plan::fail(Failure::Failed("another request is under way"))
            }
            _ => Plan::pass(),
        };
        assert_eq!(race_alone(lost).await, Ok(()));
        assert_eq!(race_alone(busy).await, Ok(()));
        // a put that never has a certain outcome fences nothing
        let never = race_alone(|request| match request.operation {
            Operation::Put { .. } => Plan::pass().answered(Failure::Unknown),
            _ => Plan::pass(),
        });
        assert!(never.await.expect_err("is refused").contains("unknown"));
    }

    async fn race_alone(hook: fn(&Request<'_>) -> Plan) -> Result<(), String> {
        let store = Hooked::new(Arc::<MemoryStorage>::default(), hook);
        let raced = race(&store, &layout::probe(NODE, 1)).await;
        raced.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn two_nodes_that_start_at_once_trust_one_store() {
        // each request of the probe is interrupted once; a number after the last request interrupts nothing
        let mut interrupted = 0;
        for after in 0..100 {
            let inner = Arc::new(MemoryStorage::default());
            let left_by_other = layout::probe(NodeId(2), 7);
            let left = layout::probe(NODE, 7);
            for key in [&left_by_other, &left] {
                let put = inner.put(key, vec![Bytes::new()], PutMode::IfAbsent, CLASS);
                put.await.expect("is put");
            }
            let (gate, requests) = (Gate::default(), AtomicUsize::new(0));
            let at = gate.clone();
            let store = Hooked::new(Arc::<MemoryStorage>::clone(&inner), move |_| {
                match requests.fetch_add(1, Ordering::Relaxed) == after {
                    true => Plan::pass().held(&at),
                    false => Plan::pass(),
                }
            });
            // the whole probe of the other node comes before one request of the first
            let other = async {
                gate.reached(1).await;
                let other = run(&*inner, NodeId(2), &SeededRng::from_seed(2)).await;
                other.expect("the other node trusts the store");
                gate.open();
                std::future::pending().await
            };
            let rng = SeededRng::from_seed(1);
            let probed = tokio::select! {
                probed = run(&store, NODE, &rng) => probed,
                () = other => unreachable!("it never ends"),
            };
            assert!(probed.is_ok(), "{probed:?}");
            let still = |key| inner.get(key, 0..0, CLASS);
            assert!(still(&left).await.is_err(), "a killed start's probe stays");
            let was_interrupted = still(&left_by_other).await.is_err();
            interrupted += usize::from(was_interrupted);
        }
        assert_eq!(interrupted, ROUNDS * (WRITERS + 1 + 2 + 1) + 6 + 2);
    }
}
