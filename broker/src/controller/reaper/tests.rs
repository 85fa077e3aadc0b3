//! Tests of the reaper with a store that does not delete every object, and a leadership that comes and goes, in virtual
//! time.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use highwater_kraft_meta::command::{Command, CommitObject, RegisterNode, WalKind};
use highwater_kraft_meta::{MetadataImage, OpenError, Outcome, ProposeError};
use highwater_object_storage::{
    Failure, Hooked, MemoryStorage, ObjectKey, Operation, Plan, RequestKind,
};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{LogIndex, NodeEpoch, NodeId, ObjectKind};
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;

const NODE: NodeId = NodeId(1);
const GRACE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(10_000);

/// Metadata in memory of a node that leads in the terms that the test sets.
#[derive(Debug)]
struct Led {
    image: watch::Sender<Arc<MetadataImage>>,
    term: Mutex<Option<Term>>,
}

impl Led {
    fn apply(&self, action: Action) -> Result<(LogIndex, Outcome), ProposeError> {
        let mut image = (*self.image()).clone();
        let at = LogIndex(image.at().0 + 1);
        let applied = image.apply(at, action.into());
        self.image.send_replace(Arc::new(image));
        applied
            .map(|outcome| (at, outcome))
            .map_err(ProposeError::Rejected)
    }
}

#[async_trait]
impl MetadataStore for Led {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.subscribe()
    }

    fn leads(&self) -> Option<Term> {
        *self.term.lock().expect("is whole")
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError> {
        self.apply(command.action.expect("a command of ours"))
    }

    async fn ended(&self) -> String {
        std::future::pending().await
    }

    async fn shutdown(&self) -> Result<(), OpenError> {
        Ok(())
    }
}

/// The keys that the store does not delete.
type Stuck = Arc<Mutex<BTreeSet<ObjectKey>>>;

/// A reaper, its metadata and its store.
struct Reaped {
    metadata: Arc<Led>,
    store: Arc<Hooked>,
    stuck: Stuck,
    epoch: NodeEpoch,
    tasks: Tasks,
}

impl Reaped {
    /// A reaper of a node that leads in a term, with condemned objects numbered from 1 to `count`.
    fn start(term: Option<Term>, count: u64) -> Self {
        let metadata = Arc::new(Led {
            image: watch::Sender::default(),
            term: Mutex::new(term),
        });
        let register = RegisterNode {
            node: NODE.0,
            incarnation: vec![1],
            wal: WalKind::Disk.into(),
            ..RegisterNode::default()
        };
        let registered = metadata.apply(Action::RegisterNode(register));
        let epoch = NodeEpoch(registered.expect("registers").0.0);
        // An object without records is condemned with its commit.
        for number in 1..=count {
            let commit = CommitObject {
                node: NODE.0,
                node_epoch: epoch.0,
                number,
                bytes: 1,
                lowest_in_flight: number,
                ..CommitObject::default()
            };
            let condemned = metadata.apply(Action::CommitObject(commit));
            condemned.expect("is condemned");
        }
        let stuck = Stuck::default();
        let keeps = Arc::clone(&stuck);
        let store = Hooked::new(Arc::<MemoryStorage>::default(), move |request| {
            let stuck = keeps.lock().expect("is whole");
            match request.operation {
                Operation::Delete(keys) if keys.iter().any(|key| stuck.contains(key)) => {
                    Plan::fail(Failure::Failed("it is held"))
                }
                _ => Plan::pass(),
            }
        });
        let store = Arc::new(store);
        let reaper = Reaper::new(
            Arc::<Led>::clone(&metadata),
            Arc::<Hooked>::clone(&store),
            GRACE,
        );
        let tasks = Tasks::default();
        tasks.spawn(TaskKind::Reaper, reaper.run());
        Self {
            metadata,
            store,
            stuck,
            epoch,
            tasks,
        }
    }

    fn objects(&self, numbers: impl IntoIterator<Item = u64>) -> BTreeSet<ObjectId> {
        let object = |number| ObjectId {
            node: NODE,
            epoch: self.epoch,
            kind: ObjectKind::Upload,
            number,
        };
        numbers.into_iter().map(object).collect()
    }

    fn hold(&self, objects: &BTreeSet<ObjectId>) {
        let keys = objects.iter().map(|id| layout::object(*id)).collect();
        *self.stuck.lock().expect("is whole") = keys;
    }

    fn requests(&self) -> usize {
        self.store.calls(RequestKind::Delete)
    }

    fn leads(&self, term: Option<Term>) {
        *self.metadata.term.lock().expect("is whole") = term;
    }

    fn condemned(&self) -> BTreeSet<ObjectId> {
        let image = self.metadata.image();
        image.condemned().map(|(id, _)| id).collect()
    }

    async fn only_are_left(&self, left: &BTreeSet<ObjectId>) {
        let mut images = self.metadata.watch();
        let is_left = |image: &Arc<MetadataImage>| image.condemned().count() == left.len();
        let reached = timeout(NEVER, images.wait_for(is_left)).await;
        drop(reached.expect("they go").expect("the metadata lives"));
        assert_eq!(self.condemned(), *left);
    }
}

// G1
#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_deleted_holds_up_no_other() {
    let reaped = Reaped::start(Some(Term(1)), 600);
    let stuck = reaped.objects([1, 2, 3, 4, 300]);
    reaped.hold(&stuck);
    reaped.only_are_left(&stuck).await;
    assert!(reaped.requests() < 600, "most go together");
    reaped.hold(&BTreeSet::new());
    reaped.only_are_left(&BTreeSet::new()).await;
    reaped.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_not_asked_for_each_object() {
    let reaped = Reaped::start(Some(Term(1)), 300);
    reaped.hold(&reaped.objects(1..=300));
    tokio::time::sleep(GRACE * 10).await;
    let requests = reaped.requests();
    assert!(
        (10..200).contains(&requests),
        "{requests} requests in ten minutes"
    );
    assert_eq!(reaped.condemned().len(), 300);
    reaped.hold(&BTreeSet::new());
    reaped.only_are_left(&BTreeSet::new()).await;
    reaped.tasks.stop().await;
}

// G1: the clock is the active controller's own, and begins again with each leadership.
#[tokio::test(start_paused = true)]
async fn it_deletes_as_active_controller_alone_and_counts_each_grace_from_then_on() {
    let reaped = Reaped::start(None, 1);
    tokio::time::sleep(GRACE * 10).await;
    assert_eq!(reaped.requests(), 0, "another node leads");
    for term in [Term(3), Term(5), Term(6)] {
        reaped.leads(Some(term));
        tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
        assert_eq!(reaped.requests(), 0, "{term:?}");
    }
    // It does not lead for as long as a round takes, in which it drops its clocks.
    reaped.leads(None);
    tokio::time::sleep(GRACE).await;
    reaped.leads(Some(Term(8)));
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    assert_eq!(reaped.requests(), 0, "its grace begins anew");
    reaped.only_are_left(&BTreeSet::new()).await;
    reaped.tasks.stop().await;
}
