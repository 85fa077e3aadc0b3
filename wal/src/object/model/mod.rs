//! A model of the seal protocol (W1 to W3, W6 to W8, W10, W11, E3, E4), which is checked for every schedule of a small
//! size. The decisions are the product's own: [`Attempt`] and [`Sealing`].
//!
//! A pause needs no step, because every other step may come first. A request is applied at any time or never, its answer
//! may be lost, and a request whose answer was given up may be applied later. A sealer reads one number at a time.

mod epoch;
mod search;
#[cfg(test)]
mod tests;

use epoch::{Epoch, Object, Status};
use search::Label;

/// A fault that is planted in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A writer takes the answer "exists" for a fence (W3).
    ExistsIsFence,
    /// A sealer begins at a number below the floor (W7).
    SealsFreed,
    /// A writer acknowledges a put before the puts of lower numbers are durable (W2).
    NotContiguous,
    /// The second request of a put sends other bytes (W1).
    OtherBytes,
    /// A writer that met a seal goes on, and takes its put for durable (W11).
    Zombie,
    /// The metadata takes a command that closes a closed epoch (W8).
    ClosesTwice,
    /// The sweep deletes seals too (W10).
    DeletesSeals,
}

/// The bounds of a model.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// The group commits of each epoch. A later epoch is opened when the one before it is closed.
    groups: [usize; 2],
    /// The requests of the put of each number.
    sends: [usize; 2],
    sealers: usize,
    /// The requests that create a seal, of each sealer.
    creations: usize,
}

#[derive(Debug, Clone, Copy)]
struct Model {
    size: Size,
    fault: Fault,
}

/// A value at an offset: the epoch that appended it, and whose bytes it has.
type Value = (usize, usize);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    epochs: Vec<Epoch>,
    /// The values that the metadata has registered, by offset.
    registered: Vec<Value>,
}

impl Model {
    fn first(&self) -> State {
        State {
            epochs: vec![Epoch::new(0, self.size.sealers)],
            registered: Vec::new(),
        }
    }

    fn next(&self, state: &State) -> Vec<(Label, State)> {
        let mut next = Vec::new();
        for at in 0..state.epochs.len() {
            self.writer_steps(state, at, &mut next);
            self.metadata_steps(state, at, &mut next);
            self.sealer_steps(state, at, &mut next);
        }
        if let [only] = &state.epochs[..]
            && matches!(only.status, Status::Closed(_))
            && self.size.groups[1] > 0
        {
            let mut after = state.clone();
            let base = after.registered.len();
            after.epochs.push(Epoch::new(base, self.size.sealers));
            next.push((("open", 1, base), after));
        }
        next
    }

    fn writer_steps(&self, state: &State, at: usize, next: &mut Vec<(Label, State)>) {
        let epoch = &state.epochs[at];
        if !epoch.has_ended && epoch.puts.len() < self.size.groups[at] {
            let mut after = state.clone();
            after.epochs[at].begin();
            next.push((("begin", at, epoch.puts.len()), after));
        }
        for number in 0..epoch.puts.len() {
            for (step, after) in epoch.put_steps(self, number) {
                let mut whole = state.clone();
                whole.epochs[at] = after;
                next.push(((step, at, number), whole));
            }
        }
    }

    /// Commits, fences and deletes (W6).
    fn metadata_steps(&self, state: &State, at: usize, next: &mut Vec<(Label, State)>) {
        let epoch = &state.epochs[at];
        if epoch.status == Status::Open {
            let mut after = state.clone();
            after.epochs[at].status = Status::Fenced;
            next.push((("fence", at, 0), after));
            let floor = epoch.floor;
            if !epoch.has_ended && epoch.puts.get(floor).is_some_and(|put| put.is_acked) {
                let mut after = state.clone();
                after.epochs[at].floor += 1;
                after.registered.push((at, 0));
                next.push((("commit", at, floor), after));
            }
        }
        for (number, object) in epoch.store.iter().enumerate() {
            let is_free = number < epoch.floor || matches!(epoch.status, Status::Closed(_));
            let may_go = match object {
                None => false,
                Some(Object::Group(_)) => true,
                Some(Object::Seal) => self.fault == Fault::DeletesSeals,
            };
            if is_free && may_go {
                let mut after = state.clone();
                after.epochs[at].store[number] = None;
                next.push((("delete", at, number), after));
            }
        }
    }

    fn sealer_steps(&self, state: &State, at: usize, next: &mut Vec<(Label, State)>) {
        let epoch = &state.epochs[at];
        if epoch.status == Status::Open {
            return;
        }
        // the floor of the node is in its newest epoch that committed
        let is_newest = state.epochs[at + 1..].iter().all(|it| it.floor == 0);
        let floor = match is_newest && self.fault != Fault::SealsFreed {
            true => epoch.floor,
            false => 0,
        };
        for which in 0..epoch.sealers.len() {
            for (step, after) in epoch.sealer_steps(self, which, floor) {
                let mut whole = state.clone();
                whole.epochs[at] = after;
                whole.epochs[at].sort_sealers();
                next.push(((step, at, which), whole));
            }
            let Some((end, range)) = epoch.sealers[which].proposes() else {
                continue;
            };
            let mut whole = state.clone();
            let after = &mut whole.epochs[at];
            after.sealers[which].finish();
            after.sort_sealers();
            if after.status == Status::Fenced || self.fault == Fault::ClosesTwice {
                after.status = Status::Closed(end);
                after.closings += 1;
                whole.registered.extend(range.iter().map(|it| (at, *it)));
            }
            next.push((("close", at, which), whole));
        }
    }

    fn check(state: &State) -> Result<(), &'static str> {
        let mut acked = Vec::new();
        for (at, epoch) in state.epochs.iter().enumerate() {
            if epoch.closings > 1 {
                return Err("an epoch was closed twice");
            }
            if epoch.has_ended && !epoch.was_sealed {
                return Err("a log ended without a seal");
            }
            let mut ended_at = None;
            if let Status::Closed(end) = epoch.status {
                let highest = epoch.store.iter().rposition(|it| *it == Some(Object::Seal));
                if highest != Some(end) {
                    return Err("the highest seal is not the end");
                }
                ended_at = Some(end);
            }
            for (number, put) in epoch.puts.iter().enumerate() {
                if !put.is_acked {
                    continue;
                }
                let offset = epoch.base + number;
                if acked.contains(&offset) {
                    return Err("two values were acknowledged at one offset");
                }
                acked.push(offset);
                let is_registered = state.registered.get(offset) == Some(&(at, 0));
                let is_stored = epoch.store[number] == Some(Object::Group(0));
                let holds = match ended_at {
                    Some(end) => number < end && is_registered,
                    None if number < epoch.floor => is_registered,
                    None => is_stored,
                };
                if !holds {
                    return Err("an acknowledged batch is not registered at its offset");
                }
            }
        }
        Ok(())
    }
}
