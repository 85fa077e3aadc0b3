//! Seals the object WALs of fenced node epochs, and registers what they hold, so that live brokers can open the
//! partitions (E7, W7 to W9).
//!
//! No message says which broker seals an epoch. Each broker finds its place in the line of live brokers from the image
//! alone, and waits in proportion to it. Two brokers that seal one epoch at the same time, because their images differ or
//! the first one is slow, do no harm: both find the same end, and the metadata takes one of them (W8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::WalKind;
use highwater_kraft_meta::{MetadataImage, MetadataStore, NodeImage, ProposeError};
use highwater_runtime::{Backoff, SeededRng, crash_point, reasons, until};
use highwater_s3stream::ObjectStreamStore;
use highwater_types::{NodeEpoch, NodeId, WalPosition};
use highwater_wal::SealedWal;
use highwater_wal::object::ObjectWalFactory;
use tokio::time::Instant;

use crate::node_error::NodeError;
use crate::registration;

/// How long each broker in the line leaves the sealing to those before it.
const TURN: Duration = Duration::from_secs(5);
/// The waits before a sealing that failed is tried again.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The waits before a sealing whose closing the metadata refused is tried again. Each attempt puts another index, and
/// hardly any refusal passes by itself.
const REST_REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A fenced epoch that is to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fenced {
    node: NodeId,
    epoch: NodeEpoch,
    floor: WalPosition,
}

/// How a sealing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failed {
    /// Another attempt may succeed.
    Now,
    /// The metadata refused the closing.
    Refused,
}

impl Failed {
    fn of(error: &NodeError) -> Self {
        match error {
            NodeError::Propose(ProposeError::Rejected(_)) => Self::Refused,
            _ => Self::Now,
        }
    }

    /// The waits before other attempts.
    fn rests(self, rng: &SeededRng) -> Backoff {
        let (first, max) = match self {
            Self::Now => REST,
            Self::Refused => REST_REFUSED,
        };
        Backoff::new(first, max, rng.clone())
    }
}

/// The task of one broker.
#[derive(Debug)]
pub(crate) struct Takeover {
    pub(crate) node: NodeId,
    pub(crate) epoch: NodeEpoch,
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) streams: ObjectStreamStore,
    pub(crate) logs: ObjectWalFactory,
    pub(crate) rng: SeededRng,
}

impl Takeover {
    /// Follows the image, and seals one epoch after the other; never returns.
    pub(crate) async fn run(self) {
        let mut images = self.metadata.watch();
        let mut turns: BTreeMap<NodeEpoch, Instant> = BTreeMap::new();
        let mut rests: BTreeMap<(NodeEpoch, Failed), Backoff> = BTreeMap::new();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            let fenced = fenced(&image);
            let epochs: BTreeSet<NodeEpoch> = fenced.iter().map(|one| one.epoch).collect();
            turns.retain(|epoch, _| epochs.contains(epoch));
            rests.retain(|(epoch, _), _| epochs.contains(epoch));
            let now = Instant::now();
            let turn = |one: &Fenced| place(&image, one, self.node).map(|place| now + TURN * place);
            for one in &fenced {
                if let Some(turn) = turn(one) {
                    turns.entry(one.epoch).or_insert(turn);
                }
            }
            let is_due = |one: &&Fenced| turns.get(&one.epoch).is_some_and(|turn| *turn <= now);
            if let Some(one) = fenced.iter().find(is_due) {
                // one that can't be sealed now rests, and holds up no other
                let rest = match self.take_over(*one).await {
                    Ok(()) => Duration::ZERO,
                    Err(failed) => {
                        let rest = rests.entry((one.epoch, failed));
                        rest.or_insert_with(|| failed.rests(&self.rng)).next_wait()
                    }
                };
                turns.insert(one.epoch, Instant::now() + rest);
                continue;
            }
            let next = turns.values().min().copied();
            tokio::select! {
                changed = images.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = until(next) => {}
            }
        }
    }

    /// Seals an epoch and closes it, or logs why that is not possible now. Succeeds if the epoch is closed, by this broker
    /// or by another one.
    async fn take_over(&self, fenced: Fenced) -> Result<(), Failed> {
        let since = Instant::now();
        let sealed = self.seal(fenced).await;
        let (node_id, node_epoch) = (fenced.node.0, fenced.epoch.0);
        match sealed {
            Ok(()) => {
                let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    node_id,
                    node_epoch,
                    elapsed_ms,
                    "the log of a fenced broker is sealed: its partitions are given to live ones"
                );
                Ok(())
            }
            Err(failure) => {
                let error = reasons(&failure);
                tracing::warn!(
                    node_id,
                    node_epoch,
                    error,
                    "the log of a fenced broker cannot be sealed; trying again"
                );
                Err(Failed::of(&failure))
            }
        }
    }

    async fn seal(&self, fenced: Fenced) -> Result<(), NodeError> {
        crash_point("takeover-before-seal");
        let range = self
            .logs
            .seal(fenced.node, fenced.epoch, fenced.floor)
            .await?;
        crash_point("takeover-after-seal");
        let recovered = self.streams.recover(SealedWal::Range(range)).await;
        let recovered = recovered.map_err(|source| NodeError::Recover {
            path: format!("of node {}", fenced.node),
            source,
        })?;
        crash_point("takeover-before-close");
        let how = registration::closing(&recovered);
        let (by, of) = (self.epoch, (fenced.node, fenced.epoch));
        registration::close((&*self.metadata, &self.rng), of, by, how).await?;
        crash_point("takeover-after-close");
        Ok(())
    }
}

/// The fenced epochs on object WALs, oldest first. An epoch on a disk WAL waits for its own node (D4).
fn fenced(image: &MetadataImage) -> Vec<Fenced> {
    let of_node = |(node, own): (NodeId, &NodeImage)| {
        let on_objects = own
            .fenced()
            .filter(|(_, epoch)| epoch.wal == WalKind::Object);
        let fenced = on_objects.map(move |(epoch, image)| Fenced {
            node,
            epoch,
            floor: image.floor,
        });
        fenced.collect::<Vec<_>>()
    };
    let mut all: Vec<Fenced> = image.nodes().flat_map(of_node).collect();
    all.sort_by_key(|one| one.epoch);
    all
}

/// The place of a broker in the line of those that seal an epoch, from 0; `None` if the broker is not live itself. The
/// epoch's own node is first if it has started again. The order of the others follows from a hash of both epochs, so that
/// every epoch has another order.
fn place(image: &MetadataImage, fenced: &Fenced, own: NodeId) -> Option<u32> {
    let key =
        |(id, epoch): (NodeId, NodeEpoch)| (id != fenced.node, mixed(fenced.epoch, epoch), id);
    let mut line: Vec<_> = image.live().map(key).collect();
    line.sort_unstable();
    let place = line.iter().position(|(_, _, id)| *id == own)?;
    u32::try_from(place).ok()
}

/// A hash of two epochs: the finalizer of SplitMix64.
fn mixed(one: NodeEpoch, other: NodeEpoch) -> u64 {
    let mut hash = one.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ other.0;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ImageBuilder;

    fn four() -> ImageBuilder {
        let mut images = ImageBuilder::default();
        for node in 1..=4 {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        images
    }

    fn places(images: &ImageBuilder, node: i32, epoch: NodeEpoch) -> Vec<Option<u32>> {
        let image = images.image();
        let fenced = Fenced {
            node: NodeId(node),
            epoch,
            floor: WalPosition::default(),
        };
        (1..=4)
            .map(|own| place(&image, &fenced, NodeId(own)))
            .collect()
    }

    fn epoch_of(images: &ImageBuilder, node: i32) -> NodeEpoch {
        images.image().node(NodeId(node)).expect("is there").epoch
    }

    // E7
    #[test]
    fn each_live_broker_has_a_place_of_its_own_in_the_line() {
        let mut images = four();
        let dead = epoch_of(&images, 2);
        images.fence(2);
        let found = places(&images, 2, dead);
        assert_eq!(found[1], None, "a dead broker seals nothing");
        let mut taken: Vec<u32> = found.into_iter().flatten().collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
    }

    #[test]
    fn a_node_that_has_started_again_is_first_for_its_own_epochs() {
        let mut images = four();
        let dead = epoch_of(&images, 2);
        images.fence(2);
        images.restart(2);
        let found = places(&images, 2, dead);
        assert_eq!(found[1], Some(0));
        let others = found.iter().flatten().filter(|place| **place > 0);
        assert_eq!(others.count(), 3);
    }

    #[test]
    fn the_sealings_are_spread_over_the_brokers() {
        let images = four();
        let firsts = (100..200).map(|epoch| {
            let found = places(&images, 9, NodeEpoch(epoch));
            found
                .iter()
                .position(|place| *place == Some(0))
                .expect("one is first")
        });
        let mut counts = [0; 4];
        firsts.for_each(|first| counts[first] += 1);
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }
}
