//! What an operator lets a broker lead: cordon, drain and uncordon.

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_kraft_meta::command::SetDuty;
use highwater_kraft_meta::{Action, MetadataImage, NodeImage};
use highwater_types::NodeId;

pub use highwater_kraft_meta::command::Duty;

use crate::config::Config;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::operator::Operator;

/// A broker whose duty an operator changes, and the metadata in which that is recorded.
#[derive(Debug)]
pub struct Duties {
    operator: Operator,
    node: NodeId,
}

/// How far a broker is with handing over what it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    /// The number of partitions that it leads.
    pub led: usize,
    /// Whether it runs; one that does not hands nothing over.
    pub is_live: bool,
    /// The number of other brokers that run and may lead what it hands over.
    pub others: usize,
}

impl Duties {
    /// Opens the metadata by a call of the controllers that the configuration names.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NoControllers`] or [`NodeError::NoAnswer`];
    /// [`NodeError::NotRegistered`] if there is no such broker.
    pub fn open<'a>(
        config: &'a Config,
        machine: &'a Machine,
        node: i32,
    ) -> BoxFuture<'a, Result<Self, NodeError>> {
        // boxed in this crate, so that it is compiled once
        Self::open_for(config, machine, NodeId(node)).boxed()
    }

    async fn open_for(config: &Config, machine: &Machine, node: NodeId) -> Result<Self, NodeError> {
        let operator = Operator::open(config, machine).await?;
        if operator.metadata.image().node(node).is_none() {
            operator.close().await?;
            return Err(NodeError::NotRegistered(node));
        }
        Ok(Self { operator, node })
    }

    /// Says which leaderships the broker may have from now on.
    ///
    /// # Errors
    /// [`NodeError::Duty`]; after an unclear outcome the duty may have changed.
    pub async fn set(&self, duty: Duty) -> Result<(), NodeError> {
        let set = SetDuty {
            node: self.node.0,
            duty: duty.into(),
        };
        let metadata = &self.operator.metadata;
        let proposed = metadata.propose(Action::SetDuty(set).into()).await;
        proposed.map(drop).map_err(|source| NodeError::Duty {
            node: self.node,
            source,
        })
    }

    /// How far the broker is. The cost grows with the number of partitions.
    #[must_use]
    pub fn draining(&self) -> Draining {
        draining(&self.operator.metadata.image(), self.node)
    }

    /// Closes the metadata.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn close(self) -> Result<(), NodeError> {
        self.operator.close().await
    }
}

fn draining(image: &MetadataImage, id: NodeId) -> Draining {
    let node = image.node(id);
    let partitions = image.partitions();
    let led = partitions.filter(|partition| {
        let own = partition.leader.filter(|(leader, _)| *leader == id);
        own.is_some_and(|(_, epoch)| node.is_some_and(|node| node.is_unclosed(epoch)))
    });
    let may_lead = |(other, node): &(NodeId, &NodeImage)| *other != id && node.may_lead();
    Draining {
        led: led.count(),
        is_live: node.is_some_and(NodeImage::is_live),
        others: image.nodes().filter(may_lead).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ImageBuilder;

    #[test]
    fn a_drain_tells_what_is_led_and_whether_others_may_lead_it() {
        let mut images = ImageBuilder::default();
        for node in 1..=3 {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        images.create("t", &[&[1], &[2], &[1]]);
        let told = |images: &ImageBuilder| {
            let told = draining(&images.image(), NodeId(1));
            (told.led, told.is_live, told.others)
        };
        assert_eq!(told(&images), (2, true, 2));
        images.set_duty(2, Duty::Cordoned);
        images.fence(3);
        assert_eq!(told(&images), (2, true, 0));
        images.fence(1);
        assert_eq!(told(&images), (2, false, 0), "its log still has them");
        images.restart(1);
        assert_eq!(told(&images), (0, true, 0), "others are to lead them");
    }
}
