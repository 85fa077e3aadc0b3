//! Decides how an epoch is sealed (W7). This code is pure, and knows neither time nor store.

/// The sealing of one epoch, number by number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sealing {
    next: u64,
}

/// The object at the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Absent,
    GroupCommit,
    /// A seal, whichever sealer made it.
    Seal,
}

/// The answer to the creation of the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Creation {
    Created,
    /// Another object is there, or the seal may be there.
    Unclear,
    /// The seal was not created.
    NotDone,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SealStep {
    /// Read the object at this number.
    Read(u64),
    /// Create the seal at this number, if no object is there.
    Create(u64),
    /// The epoch is sealed at this number.
    Sealed(u64),
}

impl Sealing {
    /// Begins at the floor.
    pub(crate) fn new(floor: u64) -> Self {
        Self { next: floor }
    }

    /// The step after a read of the next number. A number is never left out: the seal is at the first absent one.
    pub(crate) fn seen(&mut self, seen: Seen) -> SealStep {
        match seen {
            Seen::Absent => SealStep::Create(self.next),
            Seen::Seal => SealStep::Sealed(self.next),
            Seen::GroupCommit => {
                self.next += 1;
                SealStep::Read(self.next)
            }
        }
    }

    /// The step after an attempt to create the seal.
    pub(crate) fn created(&self, creation: Creation) -> SealStep {
        match creation {
            Creation::Created => SealStep::Sealed(self.next),
            Creation::Unclear => SealStep::Read(self.next),
            Creation::NotDone => SealStep::Create(self.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // W7
    #[test]
    fn a_put_that_comes_before_the_seal_belongs_to_the_epoch() {
        let mut sealing = Sealing::new(3);
        assert_eq!(sealing.seen(Seen::GroupCommit), SealStep::Read(4));
        assert_eq!(sealing.seen(Seen::Absent), SealStep::Create(4));
        assert_eq!(sealing.created(Creation::Unclear), SealStep::Read(4));
        assert_eq!(sealing.seen(Seen::GroupCommit), SealStep::Read(5));
        assert_eq!(sealing.seen(Seen::Absent), SealStep::Create(5));
        assert_eq!(sealing.created(Creation::NotDone), SealStep::Create(5));
        assert_eq!(sealing.created(Creation::Created), SealStep::Sealed(5));
    }

    // W7: another sealer was faster, or the answer to our own seal was lost
    #[test]
    fn a_seal_that_is_there_is_the_seal() {
        let mut sealing = Sealing::new(0);
        assert_eq!(sealing.seen(Seen::Absent), SealStep::Create(0));
        assert_eq!(sealing.created(Creation::Unclear), SealStep::Read(0));
        assert_eq!(sealing.seen(Seen::Seal), SealStep::Sealed(0));
    }
}
