//! The searches: none of the sizes violates a property, and each planted fault is found.

use super::search::{Explored, search};
use super::{Fault, Model, Size};

const STATES_MAX: usize = 5_000_000;

/// Two group commits, the first one hedged, and one sealer.
const HEDGES: Size = Size {
    groups: [2, 0],
    sends: [2, 1],
    sealers: 1,
    creations: 1,
};
/// One group commit with hedges, and two sealers.
const SEALERS: Size = Size {
    groups: [1, 0],
    sends: [2, 1],
    sealers: 2,
    creations: 2,
};
/// The node restarts as a later epoch, which is sealed too.
const RESTART: Size = Size {
    groups: [1, 1],
    sends: [1, 1],
    sealers: 1,
    creations: 2,
};
/// Two group commits, both hedged. `HIGHWATER_MODEL=large` searches this size as well, which takes some minutes.
const LARGE: Size = Size {
    groups: [2, 0],
    sends: [2, 2],
    sealers: 1,
    creations: 2,
};

fn explore(size: Size, fault: Fault) -> Result<Explored, String> {
    let model = Model { size, fault };
    search(
        model.first(),
        |state| model.next(state),
        Model::check,
        STATES_MAX,
    )
}

fn holds(size: Size) {
    match explore(size, Fault::None) {
        Ok(explored) => {
            assert!(explored.states > 1000, "{explored:?}");
            println!("{} states of {size:?}", explored.states);
        }
        Err(violation) => panic!("{violation}"),
    }
}

fn is_found(size: Size, fault: Fault, property: &str) {
    let violation = explore(size, fault).expect_err("the planted fault is not found");
    assert!(violation.starts_with(property), "{violation}");
}

const NOT_REGISTERED: &str = "an acknowledged batch is not registered at its offset";

// W1, W2, W3, W6, W7, W11
#[test]
fn every_schedule_of_hedges_and_a_sealer_keeps_what_was_acknowledged() {
    holds(HEDGES);
}

// W7, W8, W10
#[test]
fn every_schedule_of_two_sealers_ends_an_epoch_once() {
    holds(SEALERS);
}

// E3, E4
#[test]
fn every_schedule_of_a_restart_gives_an_offset_one_value() {
    holds(RESTART);
}

#[test]
fn the_large_size_holds_if_the_environment_asks_for_it() {
    match std::env::var("HIGHWATER_MODEL").as_deref() {
        Ok("large") => holds(LARGE),
        Ok(other) => panic!("HIGHWATER_MODEL is {other}; the only value is large"),
        Err(_unset) => {}
    }
}

// W3
#[test]
fn an_answer_exists_that_is_taken_for_a_fence_is_found() {
    is_found(HEDGES, Fault::ExistsIsFence, "a log ended without a seal");
}

// W7
#[test]
fn a_seal_at_a_freed_number_is_found() {
    is_found(HEDGES, Fault::SealsFreed, NOT_REGISTERED);
}

// W2
#[test]
fn an_acknowledgement_that_is_not_contiguous_is_found() {
    is_found(HEDGES, Fault::NotContiguous, NOT_REGISTERED);
}

// W1
#[test]
fn a_hedge_with_other_bytes_is_found() {
    is_found(HEDGES, Fault::OtherBytes, NOT_REGISTERED);
}

// W11
#[test]
fn a_zombie_that_keeps_acknowledging_is_found() {
    is_found(HEDGES, Fault::Zombie, NOT_REGISTERED);
}

// W8
#[test]
fn a_second_closing_is_found() {
    is_found(SEALERS, Fault::ClosesTwice, "an epoch was closed twice");
}

// W10
#[test]
fn a_seal_that_is_deleted_is_found() {
    is_found(
        SEALERS,
        Fault::DeletesSeals,
        "the highest seal is not the end",
    );
}
