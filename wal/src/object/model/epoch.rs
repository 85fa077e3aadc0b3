//! One node epoch of the model: its objects, its writer, and its sealers.

use super::search::fingerprint;
use super::{Fault, Model};
use crate::object::attempt::{Action, Answer, Attempt, Event, Found};
use crate::object::sealing::{Creation, SealStep, Sealing, Seen};

/// The keys of an epoch.
const KEYS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Object {
    /// A group commit with these bytes: 0 for those that were sent first (W1).
    Group(usize),
    Seal,
}

/// E3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Status {
    Open,
    Fenced,
    Closed(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Epoch {
    /// The offset of its first group commit. Each group commit has one offset.
    pub(super) base: usize,
    pub(super) status: Status,
    pub(super) closings: usize,
    pub(super) floor: usize,
    pub(super) store: [Option<Object>; KEYS],
    pub(super) puts: Vec<Put>,
    pub(super) has_ended: bool,
    /// Whether a seal was ever created.
    pub(super) was_sealed: bool,
    pub(super) sealers: Vec<Sealer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Put {
    attempt: Attempt,
    sends: usize,
    /// Requests that may be applied and answered, by the bytes that they carry.
    requests: [usize; 2],
    /// Requests that may be applied although the writer has given up their answer.
    late: [usize; 2],
    /// Answers under way.
    created: usize,
    exists: usize,
    is_reading: bool,
    found: Option<Found>,
    is_resting: bool,
    is_durable: bool,
    pub(super) is_acked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sealer {
    sealing: Option<(Sealing, SealStep)>,
    /// The bytes of the group commits that were read.
    range: Vec<usize>,
    creations: usize,
    /// The numbers at which a request that creates the seal is under way.
    requests: Vec<usize>,
    /// Whether the sealer still waits for its last request.
    is_waiting: bool,
    has_finished: bool,
}

impl Put {
    fn send(&mut self, model: &Model, number: usize) {
        // a request beyond the bound is one that never arrives
        if self.sends < model.size.sends[number] {
            let is_other = model.fault == Fault::OtherBytes && self.sends > 0;
            self.requests[usize::from(is_other)] += 1;
            self.sends += 1;
        }
    }

    fn forget(&mut self) {
        self.late[0] += self.requests[0];
        self.late[1] += self.requests[1];
        self.requests = [0; 2];
        (self.created, self.exists) = (0, 0);
        (self.is_reading, self.found, self.is_resting) = (false, None, false);
    }
}

impl Epoch {
    pub(super) fn new(base: usize, sealers: usize) -> Self {
        let sealer = Sealer {
            sealing: None,
            range: Vec::new(),
            creations: 0,
            requests: Vec::new(),
            is_waiting: false,
            has_finished: false,
        };
        Self {
            base,
            status: Status::Open,
            closings: 0,
            floor: 0,
            store: [None; KEYS],
            puts: Vec::new(),
            has_ended: false,
            was_sealed: false,
            sealers: vec![sealer; sealers],
        }
    }

    /// Sealers are alike, so their order must not make two states of one.
    pub(super) fn sort_sealers(&mut self) {
        self.sealers.sort_by_cached_key(fingerprint);
    }

    /// The writer sends the first request of its next put.
    pub(super) fn begin(&mut self) {
        self.puts.push(Put {
            attempt: Attempt::new(2),
            sends: 1,
            requests: [1, 0],
            late: [0; 2],
            created: 0,
            exists: 0,
            is_reading: false,
            found: None,
            is_resting: false,
            is_durable: false,
            is_acked: false,
        });
    }

    fn create(&mut self, number: usize, object: Object) -> bool {
        let is_free = self.store[number].is_none();
        if is_free {
            self.store[number] = Some(object);
            self.was_sealed |= object == Object::Seal;
        }
        is_free
    }

    /// The steps of the requests of one put, and of its writer.
    pub(super) fn put_steps(&self, model: &Model, number: usize) -> Vec<(&'static str, Self)> {
        let put = &self.puts[number];
        let mut next = Vec::new();
        for bytes in 0..2 {
            if put.late[bytes] > 0 {
                let mut after = self.clone();
                after.create(number, Object::Group(bytes));
                after.puts[number].late[bytes] -= 1;
                next.push(("late put", after));
            }
            if put.requests[bytes] > 0 {
                let mut sent = self.clone();
                sent.puts[number].requests[bytes] -= 1;
                let mut applied = sent.clone();
                match applied.create(number, Object::Group(bytes)) {
                    true => applied.puts[number].created += 1,
                    false => applied.puts[number].exists += 1,
                }
                next.push(("put", applied));
                let not_done = Event::Answered(Answer::NotDone);
                next.push(("failed put", sent.on(model, number, not_done)));
                // the request is applied later or never
                sent.puts[number].late[bytes] += 1;
                let unknown = Event::Answered(Answer::Unknown);
                next.push(("deadline", sent.on(model, number, unknown)));
            }
        }
        next.extend(self.answer_steps(model, number));
        next
    }

    fn answer_steps(&self, model: &Model, number: usize) -> Vec<(&'static str, Self)> {
        let put = &self.puts[number];
        let mut next = Vec::new();
        let mut after = self.clone();
        if put.created > 0 {
            after.puts[number].created -= 1;
            for answer in [Answer::Created, Answer::Unknown] {
                next.push(("created", after.on(model, number, Event::Answered(answer))));
            }
        }
        let mut after = self.clone();
        if put.exists > 0 {
            after.puts[number].exists -= 1;
            for answer in [Answer::Exists, Answer::Unknown] {
                next.push(("exists", after.on(model, number, Event::Answered(answer))));
            }
        }
        let mut after = self.clone();
        if put.is_reading {
            after.puts[number].is_reading = false;
            after.puts[number].found = Some(match self.store[number] {
                None => Found::Absent,
                Some(Object::Group(0)) => Found::Ours,
                Some(_) => Found::Others,
            });
            next.push(("read", after));
            let mut after = self.clone();
            after.puts[number].is_reading = false;
            let unreadable = Event::Found(Found::Unreadable);
            next.push(("failed read", after.on(model, number, unreadable)));
        }
        let mut after = self.clone();
        if let Some(found) = after.puts[number].found.take() {
            next.push(("found", after.on(model, number, Event::Found(found))));
        }
        let mut after = self.clone();
        if put.is_resting {
            after.puts[number].is_resting = false;
            next.push(("rested", after.on(model, number, Event::Rested)));
        }
        if !put.is_durable && !self.has_ended && put.sends < model.size.sends[number] {
            next.push(("late", self.on(model, number, Event::IsLate)));
        }
        next
    }

    /// The writer takes an event of one put.
    fn on(&self, model: &Model, number: usize, event: Event) -> Self {
        let mut after = self.clone();
        if after.has_ended || after.puts[number].is_durable {
            return after;
        }
        let mut action = after.puts[number].attempt.on(event);
        if model.fault == Fault::ExistsIsFence && event == Event::Answered(Answer::Exists) {
            action = Action::Fenced;
        }
        if model.fault == Fault::Zombie && action == Action::Fenced {
            action = Action::Done;
        }
        let put = &mut after.puts[number];
        match action {
            Action::Put => put.send(model, number),
            Action::Read => put.is_reading = true,
            Action::Rest => put.is_resting = true,
            Action::Nothing => {}
            Action::Done => {
                put.is_durable = true;
                put.forget();
                after.acknowledge(model, number);
            }
            Action::Fenced => {
                after.has_ended = true;
                after.puts.iter_mut().for_each(Put::forget);
            }
        }
        after
    }

    /// W2
    fn acknowledge(&mut self, model: &Model, number: usize) {
        if model.fault == Fault::NotContiguous {
            self.puts[number].is_acked = true;
        }
        let prefix = self.puts.iter_mut().take_while(|put| put.is_durable);
        prefix.for_each(|put| put.is_acked = true);
    }

    pub(super) fn sealer_steps(
        &self,
        model: &Model,
        which: usize,
        floor: usize,
    ) -> Vec<(&'static str, Self)> {
        let mut next = Vec::new();
        let sealer = &self.sealers[which];
        for (at, number) in sealer.requests.iter().enumerate() {
            let mut after = self.clone();
            let is_created = after.create(*number, Object::Seal);
            let applied = &mut after.sealers[which];
            applied.requests.remove(at);
            let is_last = at + 1 == sealer.requests.len();
            if sealer.is_waiting && is_last {
                let mut lost = after.clone();
                lost.sealers[which].created(Creation::Unclear);
                next.push(("seal put, answer lost", lost));
                if is_created {
                    after.sealers[which].created(Creation::Created);
                    next.push(("seal put", after));
                }
            } else {
                next.push(("late seal put", after));
            }
        }
        let mut after = self.clone();
        let own = &mut after.sealers[which];
        if sealer.is_waiting {
            own.created(Creation::Unclear);
            next.push(("seal deadline", after));
            return next;
        }
        match own.sealing.as_mut() {
            None if sealer.has_finished => return next,
            None => own.begin(floor),
            Some((sealing, step)) => match *step {
                SealStep::Sealed(_) => return next,
                SealStep::Read(number) => {
                    let seen = match self.store[index(number)] {
                        None => Seen::Absent,
                        Some(Object::Group(bytes)) => {
                            own.range.push(bytes);
                            Seen::GroupCommit
                        }
                        Some(Object::Seal) => Seen::Seal,
                    };
                    *step = sealing.seen(seen);
                }
                SealStep::Create(_) if sealer.creations >= model.size.creations => return next,
                SealStep::Create(number) => {
                    own.requests.push(index(number));
                    own.creations += 1;
                    own.is_waiting = true;
                }
            },
        }
        next.push(("sealer", after));
        next
    }
}

impl Sealer {
    fn begin(&mut self, floor: usize) {
        let floor = u64::try_from(floor).expect("a model is small");
        self.sealing = Some((Sealing::new(floor), SealStep::Read(floor)));
    }

    fn created(&mut self, creation: Creation) {
        self.is_waiting = false;
        if let Some((sealing, step)) = &mut self.sealing {
            *step = sealing.created(creation);
        }
    }

    /// The end and the values that its command to close the epoch names (W8, W9).
    pub(super) fn proposes(&self) -> Option<(usize, &[usize])> {
        match self.sealing {
            Some((_, SealStep::Sealed(end))) => Some((index(end), &self.range)),
            _ => None,
        }
    }

    pub(super) fn finish(&mut self) {
        self.sealing = None;
        self.range.clear();
        self.has_finished = true;
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a model is small")
}
