//! Tests of the reaper with a store that does not delete every object, and a leadership that comes and goes, in virtual
//! time.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_kraft_meta::command::{
    CloseEpoch, Closing, Command, CommitObject, FenceEpoch, Position, RegisterNode, Sealed, WalKind,
};
use highwater_kraft_meta::{
    Heard, HeartbeatError, MetadataImage, OpenError, Outcome, ProposeError, QuorumState, Taken,
    Told, VotersChange, VotersError,
};
use highwater_object_storage::{
    Failure, Hooked, IoClass, MemoryStorage, ObjectKey, Operation, Plan, PutMode, RequestKind,
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
pub(in crate::controller) struct Led {
    image: watch::Sender<Arc<MetadataImage>>,
    pub(in crate::controller) heard: watch::Sender<Heard>,
    term: Mutex<Option<Term>>,
}

impl Led {
    pub(in crate::controller) fn new(term: Option<Term>) -> Arc<Self> {
        Arc::new(Self {
            image: watch::Sender::default(),
            heard: watch::Sender::default(),
            term: Mutex::new(term),
        })
    }

    pub(in crate::controller) fn apply(
        &self,
        action: Action,
    ) -> Result<(LogIndex, Outcome), ProposeError> {
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

    fn has_vote(&self) -> bool {
        true
    }

    async fn heartbeat(
        &self,
        _node: NodeId,
        _epoch: NodeEpoch,
        _told: Told,
    ) -> Result<Taken, HeartbeatError> {
        Ok(Taken::default())
    }

    async fn quorum(&self) -> Result<QuorumState, String> {
        Err("there is none".to_owned())
    }

    async fn caught_up(&self) -> Result<(), String> {
        Ok(())
    }

    async fn change_voters(&self, _change: VotersChange) -> Result<(), VotersError> {
        Err(VotersError::Unavailable("there is none".to_owned()))
    }

    fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    fn silent(&self) -> Vec<(NodeId, NodeEpoch)> {
        Vec::new()
    }

    fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)> {
        Vec::new()
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
        let metadata = Led::new(term);
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

/// The names of the WAL objects of another node, which is sealed at 3 with nothing to register, so that its index is
/// condemned.
fn sealed(reaped: &Reaped) -> (Vec<ObjectId>, ObjectId) {
    let node = NodeId(2);
    let register = RegisterNode {
        node: node.0,
        incarnation: vec![2],
        wal: WalKind::Object.into(),
        ..RegisterNode::default()
    };
    let registered = reaped.metadata.apply(Action::RegisterNode(register));
    let epoch = NodeEpoch(registered.expect("registers").0.0);
    let fence = FenceEpoch {
        node: node.0,
        epoch: epoch.0,
    };
    let fenced = reaped.metadata.apply(Action::FenceEpoch(fence));
    fenced.expect("fences");
    let index = ObjectId {
        node: NODE,
        epoch: reaped.epoch,
        kind: ObjectKind::Index,
        number: 1,
    };
    let sealed = Sealed {
        at: Some(Position {
            epoch: epoch.0,
            at: 3,
        }),
        index: Some(index.into()),
        bytes: 1,
        claims: Vec::new(),
    };
    let close = CloseEpoch {
        node: node.0,
        epoch: epoch.0,
        by: reaped.epoch.0,
        how: Some(Closing::Sealed(sealed)),
    };
    let closed = reaped.metadata.apply(Action::CloseEpoch(close));
    closed.expect("closes");
    let covers = reaped.metadata.image().covered_by(index);
    (covers.expect("covers them").names().collect(), index)
}

// W9, G3
#[tokio::test(start_paused = true)]
async fn the_objects_that_an_index_covers_are_deleted_before_it() {
    let reaped = Reaped::start(Some(Term(1)), 1);
    let (covered, index) = sealed(&reaped);
    assert_eq!(covered.len(), 3);
    for id in covered.iter().chain([&index]) {
        let (key, body) = (layout::object(*id), vec![Bytes::from_static(b"object")]);
        let (mode, class) = (PutMode::IfAbsent, IoClass::Upload);
        let put = reaped.store.put(&key, body, mode, class);
        put.await.expect("puts");
    }
    let is_there = async |id: &ObjectId| {
        let key = layout::object(*id);
        let got = reaped.store.get(&key, 0..1, IoClass::Upload);
        got.await.is_ok()
    };
    // one of them cannot be deleted: the index stays, and holds up no other object
    reaped.hold(&BTreeSet::from([covered[1]]));
    reaped.only_are_left(&BTreeSet::from([index])).await;
    assert!(is_there(&index).await && is_there(&covered[1]).await);
    reaped.hold(&BTreeSet::new());
    reaped.only_are_left(&BTreeSet::new()).await;
    for id in covered.iter().chain([&index]) {
        assert!(!is_there(id).await, "{id}");
    }
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
