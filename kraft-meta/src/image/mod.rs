//! The metadata that a cluster's nodes agree on, as one immutable value whose clones share memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use highwater_types::{
    ClusterId, LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, StoreId, StreamId,
    StreamOffset, StreamRange, TopicId, WalPosition,
};
use imbl::OrdMap;

use crate::MetadataVersion;
use crate::command::{ClaimRecord, Duty, Endpoint, RegisterNode, RollRecord, WalKind};

/// The offsets that a stream skips when a log with its last batches is given up: more than a log can hold (D5).
pub const LOST_OFFSETS: i64 = 1 << 30;

mod snapshot;

pub(crate) use snapshot::Restored;
pub use snapshot::SnapshotError;

/// The whole state of the metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    pub(crate) at: LogIndex,
    pub(crate) cluster: ClusterId,
    pub(crate) store: StoreId,
    pub(crate) nodes: OrdMap<i32, Arc<NodeImage>>,
    pub(crate) topics: OrdMap<Arc<str>, Arc<TopicImage>>,
    pub(crate) topic_names: OrdMap<TopicId, Arc<str>>,
    pub(crate) streams: OrdMap<StreamId, Arc<StreamImage>>,
    pub(crate) objects: OrdMap<ObjectId, ObjectImage>,
    pub(crate) condemned: OrdMap<ObjectId, CondemnedObject>,
    pub(crate) next_stream: u64,
    pub(crate) next_producer: i64,
    pub(crate) metadata_version: MetadataVersion,
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// Its last epoch.
    pub epoch: NodeEpoch,
    /// The incarnation it registered with.
    pub incarnation: Vec<u8>,
    /// The id of the data directory it registered with; empty if it had none.
    pub directory: Vec<u8>,
    /// Where that directory was; empty if that is not known.
    pub place: String,
    /// The addresses at which clients reach it.
    pub endpoints: Vec<Endpoint>,
    /// Its epochs that are open, fenced, or closed and not swept yet; every other epoch is closed.
    pub epochs: BTreeMap<NodeEpoch, EpochImage>,
    /// Its rack; empty for none.
    pub rack: String,
    /// Which leaderships it may have.
    pub duty: Duty,
    /// Whether an operator has unregistered it: nobody sees it then, and what is known of its log stays (R3).
    pub is_unregistered: bool,
    /// The newest version of the metadata that its program knows.
    pub metadata_version: MetadataVersion,
}

/// A node epoch (E3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochImage {
    /// The kind of WAL that it writes; a change of the configuration does not change it (D4).
    pub wal: WalKind,
    /// How far the epoch has come.
    pub state: EpochState,
    /// The position in the WAL below which nothing is needed, as of the last commit. A disk WAL is one log over all
    /// epochs of a node.
    pub floor: WalPosition,
    /// The highest position up to which its WAL was reported as confirmed (D2).
    pub confirmed: WalPosition,
    /// The number of its last committed upload; 0 for none.
    pub last_upload: u64,
    /// The streams that were dropped from that upload; they are the answer to a repeated commit (U3).
    pub last_dropped: Vec<StreamId>,
    /// The number of its last index object that was registered, or condemned with a closing that was refused; 0 for none
    /// (W8, W9).
    pub last_index: u64,
}

/// How far an epoch has come (E3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochState {
    /// The epoch writes.
    Open,
    /// The epoch changes nothing any more (E6), but batches in its WAL may not be registered yet.
    Fenced,
    /// The epoch's object WAL ends at this seal, and has yet to be swept (W8, W12).
    Closed(WalPosition),
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is one of Kafka's internal topics.
    pub internal: bool,
    /// The configurations that are set on the topic itself.
    pub configs: BTreeMap<String, String>,
    /// The index of the command that changed the configurations last; the next change has to name it.
    pub configs_at: LogIndex,
    /// Its partitions, indexed by their numbers.
    pub partitions: Vec<PartitionImage>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its stream.
    pub stream: StreamId,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Whether an operator chose the replicas: then the balancer leaves them alone while one of them lives.
    pub is_chosen: bool,
    /// The index of the command that changed the replicas or the move last; the next such change has to name it. 0 if
    /// none did since the partition was created.
    pub decided_at: LogIndex,
    /// The move that its leader is asked for.
    pub moving: Option<Moving>,
    /// The node and the node epoch that lead it.
    pub leader: Option<(NodeId, NodeEpoch)>,
    /// The leader epoch; -1 before the first leader.
    pub leader_epoch: LeaderEpoch,
}

/// A planned move of a partition: its leader is to hand it over (C1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The broker that is to lead it.
    pub to: NodeId,
    /// Its epoch. Another epoch of it gets nothing, because it may not serve yet.
    pub epoch: NodeEpoch,
    /// The replicas before the reassignment that began the move. They come back if the move is off, unless an operator
    /// chose the new ones.
    pub before: Option<Vec<NodeId>>,
}

/// A stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamImage {
    /// The topic it belongs to.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
    /// The log start offset.
    pub start: StreamOffset,
    /// The end of its last claim.
    pub committed_end: StreamOffset,
    /// The node epoch that holds the stream open.
    pub held_by: Option<NodeEpoch>,
    /// The leader epoch under which the stream was opened last.
    pub leader_epoch: LeaderEpoch,
    /// Leader epochs with their first offsets, oldest first (E5).
    pub leader_epochs: Vec<(LeaderEpoch, StreamOffset)>,
    /// The claims of objects on this stream, by first offset: every claim that ends above [`StreamImage::kept_from`].
    pub claims: OrdMap<StreamOffset, Arc<ClaimRecord>>,
    /// The rolls of the stream, by first offset (F6). Each entry sums up the parts that the claims have of one roll; it
    /// ends where the next roll begins, and the last one ends at the committed end. An opening thus reads one entry for
    /// each roll instead of one for each claim.
    pub rolls: OrdMap<StreamOffset, RollRecord>,
    /// The newest claim with a checkpoint. Unless the checkpoint is empty, it keeps the claim's object even if the
    /// object has no data left (F5).
    pub checkpoint: Option<Arc<ClaimRecord>>,
    /// The last offsets that were lost with a log that was given up (D5); no object has them. Empty if none were. A range
    /// that was given up right behind another one is one range with it.
    pub lost: StreamRange,
}

/// A data object or an index object that claims or checkpoints refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectImage {
    /// Its size in bytes, with that of the WAL objects that it covers.
    pub bytes: u64,
    /// The number of claims and checkpoints that name it.
    pub references: u64,
    /// The WAL objects with the records, if it is the index of a sealed range (W9).
    pub covers: Option<WalObjects>,
}

/// An object that nothing refers to any more (G1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CondemnedObject {
    /// The index of the command that condemned it.
    pub at: LogIndex,
    /// The WAL objects that it covers. They are deleted before it, because nothing else names them (G3).
    pub covers: Option<WalObjects>,
}

/// Consecutive objects of the object WAL of one node epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalObjects {
    /// The node that wrote them.
    pub node: NodeId,
    /// The epoch that wrote them.
    pub epoch: NodeEpoch,
    /// The sequence of the first one.
    pub first: u64,
    /// The sequence after that of the last one.
    pub end: u64,
}

impl WalObjects {
    /// The names of the objects, in order.
    pub fn names(self) -> impl Iterator<Item = ObjectId> {
        (self.first..self.end).map(move |number| ObjectId {
            node: self.node,
            epoch: self.epoch,
            kind: ObjectKind::Wal,
            number,
        })
    }
}

impl PartitionImage {
    /// Ends a move that is not carried out.
    pub(crate) fn put_off(&mut self) {
        let before = self.moving.take().and_then(|moving| moving.before);
        if let Some(before) = before.filter(|_| !self.is_chosen) {
            self.replicas = before;
        }
    }

    /// A partition that was just created: nobody leads it, and Highwater chose its replicas.
    #[must_use]
    pub fn new(stream: StreamId, replicas: Vec<NodeId>) -> Self {
        Self {
            stream,
            replicas,
            is_chosen: false,
            decided_at: LogIndex::default(),
            moving: None,
            leader: None,
            leader_epoch: LeaderEpoch(-1),
        }
    }
}

impl TopicImage {
    /// A partition by its number.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.partitions.get(index))
    }

    /// The numbers of its partitions.
    pub fn partition_indexes(&self) -> Range<i32> {
        0..i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

impl MetadataImage {
    /// The index of the last command that was applied.
    #[must_use]
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// The cluster's id; zero before the cluster is formatted.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The id of the object store that the cluster has claimed (D2); zero if it has claimed none, or did so with an earlier
    /// release.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The version of the metadata.
    #[must_use]
    pub fn metadata_version(&self) -> MetadataVersion {
        self.metadata_version
    }

    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topic_names
            .get(&id)
            .and_then(|name| self.topics.get(name))
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics that are new or differ from an older image, each as it is now. The cost is that of the changes.
    #[must_use]
    pub fn topics_changed_since(&self, older: &Self) -> Vec<Arc<TopicImage>> {
        older
            .topics
            .diff(&self.topics)
            .filter_map(|change| match change {
                imbl::ordmap::DiffItem::Add(_, topic) => Some(Arc::clone(topic)),
                imbl::ordmap::DiffItem::Update { new, .. } => Some(Arc::clone(new.1)),
                imbl::ordmap::DiffItem::Remove(..) => None,
            })
            .collect()
    }

    /// The streams that were trimmed since an older image. The cost is that of the changes.
    #[must_use]
    pub fn streams_trimmed_since(&self, older: &Self) -> Vec<(StreamId, StreamOffset)> {
        let changes = older.streams.diff(&self.streams);
        let trimmed = changes.filter_map(|change| match change {
            imbl::ordmap::DiffItem::Update { old, new } if old.1.start != new.1.start => {
                Some((*new.0, new.1.start))
            }
            _ => None,
        });
        trimmed.collect()
    }

    /// The topics of an older image that were deleted since. The cost is that of the changes.
    pub fn topics_lost_since<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = TopicId> + 'a {
        let changes = older.topic_names.diff(&self.topic_names);
        changes.filter_map(|change| match change {
            imbl::ordmap::DiffItem::Remove(id, _) => Some(*id),
            imbl::ordmap::DiffItem::Add(..) | imbl::ordmap::DiffItem::Update { .. } => None,
        })
    }

    /// The id of the next stream; it grows by one with each partition that is created.
    #[must_use]
    pub fn next_stream(&self) -> StreamId {
        StreamId(self.next_stream)
    }

    /// The streams that epochs of a node on its disk WAL hold, each with its committed end: what they have after it is
    /// lost if the log is given up (D5). The cost grows with the number of streams.
    pub fn held_on_disk(&self, node: &NodeImage) -> Vec<(StreamId, StreamOffset)> {
        let is_on_disk = |epoch: NodeEpoch| node.on_disk().any(|(id, _)| id == epoch);
        let held = self.streams.iter();
        let held = held.filter(|(_, stream)| stream.held_by.is_some_and(is_on_disk));
        held.map(|(id, stream)| (*id, stream.committed_end))
            .collect()
    }

    /// Every registered node, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeImage)> {
        self.nodes_to_sweep()
            .filter(|(_, node)| !node.is_unregistered)
    }

    /// Every node of which anything is known, also one that was unregistered, whose epochs may still have to be swept (W12).
    pub fn nodes_to_sweep(&self) -> impl Iterator<Item = (NodeId, &NodeImage)> {
        self.nodes.iter().map(|(id, node)| (NodeId(*id), &**node))
    }

    /// The live nodes, each with its open epoch, by id.
    pub fn live(&self) -> impl Iterator<Item = (NodeId, NodeEpoch)> {
        let live = self.nodes().filter(|(_, node)| node.is_live());
        live.map(|(id, node)| (id, node.epoch))
    }

    /// A registered node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeImage> {
        let node = self.remembered(id);
        node.filter(|node| !node.is_unregistered)
    }

    /// A node, also one that was unregistered: what is known of its log outlives its registration (R3, W10, W12).
    #[must_use]
    pub fn remembered(&self, id: NodeId) -> Option<&NodeImage> {
        self.nodes.get(&id.0).map(|node| &**node)
    }

    /// Every partition, topic by topic.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionImage> {
        self.topics.values().flat_map(|topic| &topic.partitions)
    }

    /// The leader of a partition, if the epoch that was given the partition is open.
    #[must_use]
    pub fn live_leader(&self, partition: &PartitionImage) -> Option<(NodeId, NodeEpoch)> {
        let (node, epoch) = partition.leader?;
        self.node(node)?.is_open(epoch).then_some((node, epoch))
    }

    /// The epoch of a node that may lead partitions, if the node is live.
    #[must_use]
    pub fn live_epoch(&self, id: NodeId) -> Option<NodeEpoch> {
        let node = self.node(id).filter(|node| node.is_live());
        node.map(|node| node.epoch)
    }

    /// A stream.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<&Arc<StreamImage>> {
        self.streams.get(&id)
    }

    /// Whether this metadata has ever given out a leader epoch of a stream (D2), which may be deleted since.
    #[must_use]
    pub fn has_given(&self, id: StreamId, epoch: LeaderEpoch) -> bool {
        match self.streams.get(&id) {
            Some(stream) => epoch <= stream.leader_epoch,
            None => id.0 < self.next_stream,
        }
    }

    /// The condemned objects, each with the index of the command that condemned it (G1).
    pub fn condemned(&self) -> impl Iterator<Item = (ObjectId, LogIndex)> {
        self.condemned.iter().map(|(id, object)| (*id, object.at))
    }

    /// The WAL objects that an index object covers, whether the index is in use or condemned (W9).
    #[must_use]
    pub fn covered_by(&self, index: ObjectId) -> Option<WalObjects> {
        let condemned = self.condemned.get(&index).map(|object| object.covers);
        let in_use = self.objects.get(&index).map(|object| object.covers);
        condemned.or(in_use).flatten()
    }

    /// The WAL objects that index objects cover, each with its index. The cost grows with the number of all objects.
    pub fn covered(&self) -> impl Iterator<Item = (ObjectId, WalObjects)> {
        let in_use = self.objects.iter().map(|(id, object)| (*id, object.covers));
        let condemned = self.condemned.iter();
        let condemned = condemned.map(|(id, object)| (*id, object.covers));
        let all = in_use.chain(condemned);
        all.filter_map(|(id, covers)| Some((id, covers?)))
    }

    /// The number of claims, each of which takes some 500 bytes of memory. The cost grows with the number of streams.
    #[must_use]
    pub fn claims(&self) -> usize {
        let streams = self.streams.values();
        streams.map(|stream| stream.claims.len()).sum()
    }

    /// The number of objects that claims or checkpoints refer to, and their size in bytes.
    #[must_use]
    pub fn objects(&self) -> (usize, u64) {
        (
            self.objects.len(),
            self.objects.values().map(|object| object.bytes).sum(),
        )
    }
}

impl NodeImage {
    /// Whether this is an epoch of the node, and it is open (E3).
    #[must_use]
    pub fn is_open(&self, epoch: NodeEpoch) -> bool {
        let epoch = self.epochs.get(&epoch);
        epoch.is_some_and(|epoch| epoch.state == EpochState::Open)
    }

    /// Whether the node's last epoch is open.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_open(self.epoch)
    }

    /// Whether the node is live and no operator keeps leaderships away from it.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.is_live() && self.duty == Duty::Full
    }

    /// Its epochs that are not closed, oldest first.
    pub fn unclosed(&self) -> impl Iterator<Item = (NodeEpoch, &EpochImage)> {
        let all = self.epochs.iter().map(|(epoch, image)| (*epoch, image));
        all.filter(|(_, image)| !matches!(image.state, EpochState::Closed(_)))
    }

    /// Whether it has an epoch that is not closed.
    #[must_use]
    pub fn is_unclosed(&self, epoch: NodeEpoch) -> bool {
        let image = self.epochs.get(&epoch);
        image.is_some_and(|image| !matches!(image.state, EpochState::Closed(_)))
    }

    /// Its epochs on a disk WAL that are not closed, oldest first.
    pub fn on_disk(&self) -> impl Iterator<Item = (NodeEpoch, &EpochImage)> {
        self.unclosed()
            .filter(|(_, epoch)| epoch.wal == WalKind::Disk)
    }

    /// Its last epoch on a disk WAL that is not closed.
    #[must_use]
    pub fn last_on_disk(&self) -> Option<NodeEpoch> {
        self.on_disk().last().map(|(epoch, _)| epoch)
    }

    /// Whether a start has the data directory that the node had last, at the same place as far as both are known.
    pub(crate) fn is_at(&self, start: &RegisterNode) -> bool {
        let is_known = !self.place.is_empty() && !start.place.is_empty();
        self.directory == start.directory && (!is_known || self.place == start.place)
    }

    /// The data directory without which the node may not start, because a disk WAL that is not closed is in it, and the
    /// last epoch on that WAL (D2, D4).
    #[must_use]
    pub fn bound_to(&self) -> Option<(NodeEpoch, &[u8])> {
        let epoch = self.last_on_disk()?;
        // a registration without a directory says nothing of where the log is
        (!self.directory.is_empty()).then_some((epoch, &*self.directory))
    }

    /// Its epochs whose object WAL is sealed and has yet to be swept, each with its seal, oldest first (W12).
    pub fn closed(&self) -> impl Iterator<Item = (NodeEpoch, WalPosition)> {
        let all = self.epochs.iter();
        all.filter_map(|(epoch, image)| match image.state {
            EpochState::Closed(seal) => Some((*epoch, seal)),
            EpochState::Open | EpochState::Fenced => None,
        })
    }

    /// Its epochs that are fenced, oldest first.
    pub fn fenced(&self) -> impl Iterator<Item = (NodeEpoch, &EpochImage)> {
        self.unclosed()
            .filter(|(_, image)| image.state == EpochState::Fenced)
    }
}

impl StreamImage {
    /// The offset from which claims are kept. A claim that ends here or below is not needed: its records are trimmed,
    /// and its effect on the stream's state is in the checkpoint (F5). Claims after the checkpoint are kept even if
    /// their records are trimmed, because no other object has their deltas (I6).
    #[must_use]
    pub fn kept_from(&self) -> StreamOffset {
        let checkpoint = self.checkpoint.as_ref().map_or(0, |claim| claim.next);
        self.start.min(checkpoint)
    }

    /// The claims after the newest checkpoint, in order; the checkpoint lacks their deltas (F4).
    pub fn claims_after_checkpoint(&self) -> impl Iterator<Item = &Arc<ClaimRecord>> {
        let checkpoint = self.checkpoint.as_ref().map_or(0, |claim| claim.next);
        self.claims_in(checkpoint..StreamOffset::MAX)
    }

    /// The rolls, each with its end, oldest first.
    pub fn rolls(&self) -> impl Iterator<Item = (&RollRecord, StreamOffset)> {
        let ends = self.rolls.keys().skip(1).copied();
        self.rolls.values().zip(ends.chain([self.committed_end]))
    }

    /// The first claim in offset order that overlaps a range and whose largest timestamp is `at` or later. Rolls whose
    /// largest timestamp is earlier are skipped with all their claims.
    #[must_use]
    pub fn first_claim_at(&self, range: StreamRange, at: i64) -> Option<&Arc<ClaimRecord>> {
        let reach = self.rolls().filter(|(roll, _)| roll.max_timestamp >= at);
        let within = reach.map(|(roll, end)| roll.base.max(range.start)..end.min(range.end));
        let mut within = within.filter(|within| !within.is_empty());
        within.find_map(|within| {
            let mut claims = self.claims_in(within);
            claims.find(|claim| claim.max_timestamp >= at)
        })
    }

    /// The claims that overlap a range, in order; the cost grows with the number of claims taken.
    pub fn claims_in(&self, range: StreamRange) -> impl Iterator<Item = &Arc<ClaimRecord>> {
        let from = self
            .claims
            .range(..=range.start)
            .next_back()
            .map_or(range.start, |(first, _)| *first);
        self.claims
            .range(from..range.end.max(from))
            .map(|(_, claim)| claim)
            .filter(move |claim| claim.next > range.start)
    }
}
