//! The outcome of one put (W3): which request follows which answer. This code is pure, and knows neither time nor store.

/// The requests of one put that are under way, and what was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    /// The puts that were sent and not answered.
    puts: u32,
    /// The most of them at once.
    puts_max: u32,
    is_reading: bool,
    /// Whether an answer came during the read, which the read may not have seen.
    must_read_again: bool,
    resting: Option<Rest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rest {
    ThenPut,
    ThenRead,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A put was answered.
    Answered(Answer),
    /// The read of the key was answered.
    Found(Found),
    /// The put has had no answer for long.
    IsLate,
    /// The wait is over.
    Rested,
}

/// The answer to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Created,
    Exists,
    /// The put may have been applied, or may be applied later.
    Unknown,
    /// The put was not applied.
    NotDone,
}

/// The object at the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    /// Nonce, length and every byte are ours (W1).
    Ours,
    Others,
    Absent,
    Unreadable,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Send the same put.
    Put,
    /// Read the key.
    Read,
    /// Wait for a while.
    Rest,
    /// Nothing before the next event.
    Nothing,
    /// The object is durable.
    Done,
    /// Another process has the number: the epoch was sealed.
    Fenced,
}

impl Attempt {
    /// An attempt whose first put is sent now.
    pub(crate) fn new(puts_max: u32) -> Self {
        Self {
            puts: 1,
            puts_max: puts_max.max(1),
            is_reading: false,
            must_read_again: false,
            resting: None,
        }
    }

    /// Takes an event and decides on the next action. Nothing waits for a put that may never be answered.
    pub(crate) fn on(&mut self, event: Event) -> Action {
        match event {
            Event::Answered(answer) => self.answered(answer),
            Event::Found(found) => self.found(found),
            Event::IsLate if self.resting.is_none() && !self.is_reading => self.put(),
            Event::IsLate => Action::Nothing,
            Event::Rested => match self.resting.take() {
                Some(Rest::ThenRead) => self.read(),
                Some(Rest::ThenPut) if self.is_reading => Action::Nothing,
                Some(Rest::ThenPut) => self.put(),
                None => Action::Nothing,
            },
        }
    }

    fn answered(&mut self, answer: Answer) -> Action {
        self.puts = self.puts.saturating_sub(1);
        match answer {
            Answer::Created => Action::Done,
            Answer::Exists | Answer::Unknown if self.is_reading => {
                self.must_read_again = true;
                Action::Nothing
            }
            Answer::Exists | Answer::Unknown => self.read(),
            Answer::NotDone if self.is_reading => Action::Nothing,
            Answer::NotDone => self.rest(Rest::ThenPut),
        }
    }

    fn found(&mut self, found: Found) -> Action {
        self.is_reading = false;
        match found {
            Found::Ours => Action::Done,
            Found::Others => Action::Fenced,
            Found::Absent if self.must_read_again => self.read(),
            Found::Absent => self.rest(Rest::ThenPut),
            Found::Unreadable => self.rest(Rest::ThenRead),
        }
    }

    /// Sends the same put, unless as many are under way as may be; their deadlines end them.
    fn put(&mut self) -> Action {
        if self.puts >= self.puts_max {
            return Action::Nothing;
        }
        self.puts += 1;
        Action::Put
    }

    fn read(&mut self) -> Action {
        self.is_reading = true;
        self.must_read_again = false;
        self.resting = None;
        Action::Read
    }

    fn rest(&mut self, then: Rest) -> Action {
        if self.resting.is_some() {
            return Action::Nothing;
        }
        self.resting = Some(then);
        Action::Rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    fn run(events: &[Event]) -> Vec<Action> {
        let mut attempt = Attempt::new(3);
        events.iter().map(|event| attempt.on(*event)).collect()
    }

    // W3
    #[test]
    fn every_answer_that_proves_nothing_is_resolved_by_reading() {
        for answer in [Answer::Exists, Answer::Unknown] {
            let answered = Event::Answered(answer);
            let ours = [answered, Event::Found(Found::Ours)];
            assert_eq!(run(&ours), [Action::Read, Action::Done]);
            let others = [answered, Event::Found(Found::Others)];
            assert_eq!(run(&others), [Action::Read, Action::Fenced]);
            let absent = [answered, Event::Found(Found::Absent), Event::Rested];
            assert_eq!(run(&absent), [Action::Read, Action::Rest, Action::Put]);
            let unreadable = [answered, Event::Found(Found::Unreadable), Event::Rested];
            assert_eq!(run(&unreadable), [Action::Read, Action::Rest, Action::Read]);
        }
        let not_done = [Event::Answered(Answer::NotDone), Event::Rested];
        assert_eq!(run(&not_done), [Action::Rest, Action::Put]);
    }

    // W3: the read may have come before the twin was applied
    #[test]
    fn an_answer_during_a_read_is_read_again_if_the_object_was_absent() {
        let events = [
            Event::IsLate,
            Event::Answered(Answer::Unknown),
            Event::Answered(Answer::Exists),
            Event::Found(Found::Absent),
        ];
        let actions = [Action::Put, Action::Read, Action::Nothing, Action::Read];
        assert_eq!(run(&events), actions);
    }

    #[test]
    fn a_hedge_never_waits_for_its_twin_and_there_are_few() {
        let events = [
            Event::IsLate,
            Event::IsLate,
            Event::IsLate,
            Event::Answered(Answer::NotDone),
            Event::Rested,
            Event::Answered(Answer::Created),
        ];
        let actions = [
            Action::Put,
            Action::Put,
            Action::Nothing,
            Action::Rest,
            Action::Put,
            Action::Done,
        ];
        assert_eq!(run(&events), actions);
    }

    /// Whether something is under way whose end brings the next event.
    fn is_alive(attempt: &Attempt) -> bool {
        attempt.puts > 0 || attempt.is_reading || attempt.resting.is_some()
    }

    #[test]
    fn no_order_of_answers_leaves_an_attempt_without_a_next_event() {
        let mut seen = HashSet::new();
        let mut next = vec![Attempt::new(2)];
        let mut ends = BTreeSet::new();
        while let Some(attempt) = next.pop() {
            if !seen.insert(attempt.clone()) {
                continue;
            }
            assert!(is_alive(&attempt), "{attempt:?}");
            assert!(attempt.puts <= 2, "{attempt:?}");
            let mut events = vec![Event::IsLate];
            if attempt.puts > 0 {
                let answers = [
                    Answer::Created,
                    Answer::Exists,
                    Answer::Unknown,
                    Answer::NotDone,
                ];
                events.extend(answers.map(Event::Answered));
            }
            if attempt.is_reading {
                let found = [Found::Ours, Found::Others, Found::Absent, Found::Unreadable];
                events.extend(found.map(Event::Found));
            }
            if attempt.resting.is_some() {
                events.push(Event::Rested);
            }
            for event in events {
                let mut after = attempt.clone();
                match after.on(event) {
                    Action::Done => drop(ends.insert("done")),
                    Action::Fenced => drop(ends.insert("fenced")),
                    _ => next.push(after),
                }
            }
        }
        assert_eq!(ends.len(), 2);
    }
}
