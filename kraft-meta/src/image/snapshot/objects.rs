//! Objects that are in use, and condemned objects.

use highwater_types::{LogIndex, NodeEpoch, NodeId, ObjectId};
use prost::Message;

use crate::Rejection;
use crate::command::ObjectName;
use crate::image::{CondemnedObject, MetadataImage, ObjectImage, WalObjects};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ObjectRecord {
    #[prost(message, optional, tag = "1")]
    name: Option<ObjectName>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(uint64, tag = "3")]
    references: u64,
    #[prost(uint64, optional, tag = "4")]
    condemned_at: Option<u64>,
    #[prost(message, optional, tag = "5")]
    covers: Option<CoversRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct CoversRecord {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    first: u64,
    #[prost(uint64, tag = "4")]
    end: u64,
}

impl From<WalObjects> for CoversRecord {
    fn from(covers: WalObjects) -> Self {
        Self {
            node: covers.node.0,
            epoch: covers.epoch.0,
            first: covers.first,
            end: covers.end,
        }
    }
}

impl From<CoversRecord> for WalObjects {
    fn from(covers: CoversRecord) -> Self {
        Self {
            node: NodeId(covers.node),
            epoch: NodeEpoch(covers.epoch),
            first: covers.first,
            end: covers.end,
        }
    }
}

pub(super) fn named(id: ObjectId, object: ObjectImage) -> ObjectRecord {
    ObjectRecord {
        name: Some(id.into()),
        bytes: object.bytes,
        references: object.references,
        condemned_at: None,
        covers: object.covers.map(Into::into),
    }
}

pub(super) fn condemned(id: ObjectId, object: CondemnedObject) -> ObjectRecord {
    ObjectRecord {
        name: Some(id.into()),
        condemned_at: Some(object.at.0),
        covers: object.covers.map(Into::into),
        ..ObjectRecord::default()
    }
}

impl ObjectRecord {
    /// Adds the object to the image.
    ///
    /// # Errors
    /// [`Rejection`] when the object's name is malformed.
    pub(super) fn push(self, image: &mut MetadataImage) -> Result<(), Rejection> {
        let name = ObjectId::try_from(self.name.unwrap_or_default())?;
        let covers = self.covers.map(Into::into);
        match self.condemned_at {
            Some(at) => {
                let at = LogIndex(at);
                let condemned = CondemnedObject { at, covers };
                image.condemned.insert(name, condemned);
            }
            None => {
                let object = ObjectImage {
                    bytes: self.bytes,
                    references: self.references,
                    covers,
                };
                image.objects.insert(name, object);
            }
        }
        Ok(())
    }
}
