//! Objects that are in use, and condemned objects.

use highwater_types::{LogIndex, ObjectId};
use prost::Message;

use crate::Rejection;
use crate::command::ObjectName;
use crate::image::{MetadataImage, ObjectImage};

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
}

pub(super) fn named(id: ObjectId, object: ObjectImage) -> ObjectRecord {
    ObjectRecord {
        name: Some(id.into()),
        bytes: object.bytes,
        references: object.references,
        condemned_at: None,
    }
}

pub(super) fn condemned(id: ObjectId, at: LogIndex) -> ObjectRecord {
    ObjectRecord {
        name: Some(id.into()),
        condemned_at: Some(at.0),
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
        match self.condemned_at {
            Some(at) => drop(image.condemned.insert(name, LogIndex(at))),
            None => {
                let (bytes, references) = (self.bytes, self.references);
                let object = ObjectImage { bytes, references };
                image.objects.insert(name, object);
            }
        }
        Ok(())
    }
}
