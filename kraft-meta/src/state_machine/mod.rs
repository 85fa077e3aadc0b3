//! Applying commands is deterministic and total: the same commands lead to the same state on every node.

mod given_up;
mod invariants;
mod moves;
mod nodes;
mod objects;
mod rolls;
mod streams;
mod topics;

use highwater_types::{LogIndex, NodeEpoch, ObjectId};

use crate::command::{Action, Command, Outcome, Rejection, uuid};
use crate::image::MetadataImage;

impl MetadataImage {
    /// Applies the command at a log index. A refused command changes nothing but that index; a refused
    /// closing also condemns the index object that it names (W8).
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn apply(&mut self, at: LogIndex, command: Command) -> Result<Outcome, Rejection> {
        self.at = at;
        match command.action.ok_or(Rejection::NotUnderstood)? {
            Action::Format(format) => {
                if self.cluster.is_zero() {
                    self.cluster = uuid(&format.cluster_id);
                }
                Ok(Outcome::Done)
            }
            Action::ClaimStore(claim) => {
                if self.store.is_zero() {
                    self.store = uuid(&claim.store);
                }
                Ok(Outcome::Done)
            }
            Action::RegisterNode(register) => self.register_node(at, register),
            Action::FenceEpoch(fence) => self.fence_epoch(fence),
            Action::CloseEpoch(close) => self.close_epoch(close),
            Action::EpochSwept(swept) => self.epoch_swept(swept),
            Action::GiveUpEpoch(give_up) => self.give_up_epoch(give_up),
            Action::AssignLeaders(assign) => self.assign_leaders(&assign),
            Action::MovePartitions(moves) => self.move_partitions(at, moves),
            Action::SetDuty(set) => self.set_duty(set),
            Action::UnregisterNode(gone) => self.unregister_node(gone),
            Action::SetMetadataVersion(set) => self.set_metadata_version(set),
            Action::CreateTopic(create) => self.create_topic(at, create),
            Action::DeleteTopic(delete) => self.delete_topic(&delete),
            Action::CreatePartitions(create) => self.create_partitions(&create),
            Action::SetTopicConfigs(set) => self.set_topic_configs(at, set),
            Action::OpenStreams(open) => self.open_streams(&open),
            Action::CommitObject(commit) => self.commit_object(commit),
            Action::TrimStream(trim) => self.trim_stream(trim),
            Action::ObjectsDeleted(deleted) => {
                let named = deleted.objects.into_iter().map(ObjectId::try_from);
                for id in named.collect::<Result<Vec<_>, _>>()? {
                    self.condemned.remove(&id);
                }
                Ok(Outcome::Done)
            }
            Action::AllocateProducerIds(allocate) => {
                self.open_epoch(NodeEpoch(allocate.node_epoch))?;
                let first = self.next_producer;
                let next = first.checked_add(allocate.count.max(0));
                self.next_producer = next.ok_or(Rejection::NotUnderstood)?;
                Ok(Outcome::ProducerIds(first))
            }
        }
    }
}

#[cfg(test)]
mod tests;
