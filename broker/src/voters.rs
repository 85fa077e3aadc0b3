//! The controllers that have a vote, as an operator adds and removes them.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_kraft_meta::{QuorumState, ReplicaState, VotersChange};
use highwater_types::NodeId;

use crate::config::Config;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::operator::Operator;

/// How long a controller has to catch up with the metadata before it gets its vote.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(20);

/// The controllers of a cluster that runs.
#[derive(Debug)]
pub struct Voters(Operator);

impl Voters {
    /// Calls the controllers that the configuration names.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NoControllers`] or [`NodeError::NoAnswer`].
    pub fn open<'a>(
        config: &'a Config,
        machine: &'a Machine,
    ) -> BoxFuture<'a, Result<Self, NodeError>> {
        // boxed in this crate, so that it is compiled once
        async move { Ok(Self(Operator::open(config, machine).await?)) }.boxed()
    }

    /// Gives a controller a vote that follows the metadata without one, as Kafka's AddRaftVoter does (KIP-853). Its
    /// directory and its addresses are those that it told the active controller.
    ///
    /// # Errors
    /// [`NodeError::NoVoter`] if it has a vote or does not follow; [`NodeError::Voters`].
    pub async fn add(&self, node: i32) -> Result<(), NodeError> {
        let added = addition(&self.quorum().await?, NodeId(node))?;
        Ok(self.0.metadata.change_voters(added).await?)
    }

    /// Takes the vote of a controller, whether it runs or not (KIP-853).
    ///
    /// # Errors
    /// [`NodeError::NoVoter`] if it has none; [`NodeError::Voters`].
    pub async fn remove(&self, node: i32) -> Result<(), NodeError> {
        let removed = removal(&self.quorum().await?, NodeId(node))?;
        Ok(self.0.metadata.change_voters(removed).await?)
    }

    async fn quorum(&self) -> Result<QuorumState, NodeError> {
        let state = self.0.metadata.quorum().await;
        state.map_err(NodeError::NoQuorum)
    }

    /// Closes the metadata.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn close(self) -> Result<(), NodeError> {
        self.0.close().await
    }
}

fn of(replicas: &[ReplicaState], node: NodeId) -> Option<&ReplicaState> {
    replicas.iter().find(|replica| replica.node == node)
}

fn addition(state: &QuorumState, node: NodeId) -> Result<VotersChange, NodeError> {
    if let Some(voter) = of(&state.voters, node) {
        let directory = voter.directory;
        let why = format!(
            "it has a vote, with directory.id={directory}. If it has lost that directory, take the vote away first, with \
             highwater remove-controller {node}"
        );
        return Err(NodeError::NoVoter { node, why });
    }
    // brokers follow too, and have no addresses there
    let follows = of(&state.observers, node).filter(|replica| !replica.endpoints.is_empty());
    let Some(follows) = follows else {
        let why = "the active controller does not hear it: start it first, with controller.quorum.bootstrap.servers and \
                   the role controller"
            .to_owned();
        return Err(NodeError::NoVoter { node, why });
    };
    Ok(VotersChange::Add {
        node,
        directory: follows.directory,
        endpoints: follows.endpoints.clone(),
        within: CATCHES_UP_WITHIN,
        awaits_commit: true,
    })
}

fn removal(state: &QuorumState, node: NodeId) -> Result<VotersChange, NodeError> {
    let Some(voter) = of(&state.voters, node) else {
        let voters: Vec<String> = state.voters.iter().map(|it| it.node.to_string()).collect();
        let why = format!("it has no vote; the voters are {}", voters.join(", "));
        return Err(NodeError::NoVoter { node, why });
    };
    Ok(VotersChange::Remove {
        node,
        directory: voter.directory,
    })
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::Endpoint;
    use highwater_types::{Term, Uuid};

    use super::*;

    fn replica(node: i32, is_controller: bool) -> ReplicaState {
        let endpoint = Endpoint {
            listener: "CONTROLLER".to_owned(),
            host: "host".to_owned(),
            port: 9093,
        };
        ReplicaState {
            node: NodeId(node),
            directory: Uuid([u8::try_from(node).expect("is small"); 16]),
            endpoints: is_controller.then_some(endpoint).into_iter().collect(),
            is_recorded: is_controller,
            log_end: Some(5),
            heard_before: Some(Duration::ZERO),
            is_caught_up: true,
        }
    }

    fn state() -> QuorumState {
        QuorumState {
            leader: NodeId(1),
            term: Term(1),
            committed_end: 5,
            has_decided: true,
            voters: [1, 2].map(|node| replica(node, true)).into(),
            observers: vec![replica(3, true), replica(4, false)],
        }
    }

    #[test]
    fn a_controller_that_follows_is_added_with_what_it_has_told() {
        let added = addition(&state(), NodeId(3)).expect("may be added");
        let VotersChange::Add {
            node,
            directory,
            endpoints,
            ..
        } = added
        else {
            panic!("{added:?}");
        };
        assert_eq!((node, directory), (NodeId(3), Uuid([3; 16])));
        assert_eq!(endpoints[0].port, 9093);
    }

    #[test]
    fn what_cannot_be_added_or_removed_is_refused_with_the_way_out() {
        for (refused, hint) in [
            (addition(&state(), NodeId(1)), "remove-controller 1"),
            // a broker, and a node that nobody knows
            (addition(&state(), NodeId(4)), "start it first"),
            (addition(&state(), NodeId(5)), "start it first"),
            (removal(&state(), NodeId(3)), "the voters are 1, 2"),
        ] {
            let told = refused.expect_err("is refused").to_string();
            assert!(told.contains(hint), "{told}");
        }
    }
}
