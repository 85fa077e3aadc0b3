//! The numbers of a node epoch's objects (rule U2). This code is pure.

use std::sync::atomic::{AtomicU64, Ordering};

use highwater_types::limits::UPLOADS_IN_FLIGHT_MAX;

/// The numbers that were taken and the last one that was committed. A number names one body for ever, so none is given
/// twice.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: AtomicU64,
    committed: AtomicU64,
}

impl Numbers {
    /// The next number. Uploads run one at a time, and one that fails for good is the last (A1). So no more are in
    /// flight than the metadata accepts, and condemns when it closes the epoch (U2, U5).
    ///
    /// # Panics
    /// When more are in flight.
    pub(super) fn take(&self) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let committed = self.committed.load(Ordering::Relaxed);
        assert!(
            number - committed <= UPLOADS_IN_FLIGHT_MAX,
            "uploads in flight are bounded (U2)"
        );
        number
    }

    /// Takes the last number back, whose object was never put because its body was not finished. Uploads run one at a time,
    /// so no later number was taken since.
    pub(super) fn give_back(&self, number: u64) {
        self.last.store(number - 1, Ordering::Relaxed);
    }

    /// Notes that the object with this number is committed, and with it every earlier one.
    pub(super) fn commit(&self, number: u64) {
        self.committed.store(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_and_no_more_than_may_be_in_flight() {
        let numbers = Numbers::default();
        for number in 1..100 {
            assert_eq!(numbers.take(), number);
            numbers.commit(number);
        }
        for number in 0..UPLOADS_IN_FLIGHT_MAX {
            assert_eq!(numbers.take(), 100 + number);
        }
        std::panic::catch_unwind(|| numbers.take()).expect_err("one too many");
    }

    #[test]
    fn the_number_of_an_object_that_was_never_whole_is_the_next_one_again() {
        let numbers = Numbers::default();
        for _ in 0..100 {
            assert_eq!(numbers.take(), 1);
            numbers.give_back(1);
        }
        assert_eq!(numbers.take(), 1);
    }
}
