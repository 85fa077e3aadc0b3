//! Changes of the voters, as a node asks the active controller for them.

use tokio::time::Instant;

use super::ANSWER_DEADLINE;
use super::voters::{Failure, NO_ACTIVE, UNEXPECTED, Voters};
use crate::quorum_state::{VotersChange, VotersError};
use crate::raft::change::CHANGE_MAX;
use crate::raft::change::message::{ChangeVoters, Join};
use crate::raft::message::{Call, Reply};

impl Voters {
    /// Asks the active controller to change the voters. A change whose answer is lost is not asked for again.
    pub(in crate::raft) async fn change(
        &self,
        change: &VotersChange,
        cluster: Vec<u8>,
        until: Instant,
    ) -> Result<(), VotersError> {
        let call = Call::ChangeVoters(ChangeVoters::new(change, cluster.clone()));
        loop {
            // an active controller that is to be removed leaves that to the next one
            let found = self.describe(cluster.clone(), until).await;
            found.map_err(VotersError::Unavailable)?;
            match self.ask_active(&call, CHANGE_MAX + ANSWER_DEADLINE).await {
                Ok(Reply::VotersChanged(changed)) => return changed.into(),
                Ok(_) => return Err(VotersError::Unavailable(UNEXPECTED.to_owned())),
                Err(why) if why == NO_ACTIVE && Instant::now() < until => {}
                Err(why) => return Err(VotersError::Unavailable(why)),
            }
        }
    }

    /// Asks the active controller to send its log to this one.
    pub(in crate::raft) async fn join(&self, join: Join) -> Result<(), Failure> {
        match self.ask_active(&Call::Join(join), ANSWER_DEADLINE).await {
            Ok(Reply::Done(_)) => Ok(()),
            Ok(_) => Err(Failure::unexpected()),
            Err(why) => Err(Failure::Unreachable(why)),
        }
    }
}
