//! A bounded breadth-first search through all states of a model.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// The step that led to a state: its name, the epoch, and the number or the sealer.
pub(super) type Label = (&'static str, usize, usize);

/// The result of a search without a violation.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
}

struct Visited<S> {
    state: S,
    /// The index of the state before it, and the step between them.
    from: Option<(usize, Label)>,
}

/// Visits every state that can be reached, each once, told apart by a hash of 64 bits.
///
/// # Errors
/// The shortest schedule that leads to a violation.
pub(super) fn search<S: Hash + Debug>(
    first: S,
    next: impl Fn(&S) -> Vec<(Label, S)>,
    check: impl Fn(&S) -> Result<(), &'static str>,
    states_max: usize,
) -> Result<Explored, String> {
    let mut seen = HashSet::from([fingerprint(&first)]);
    let mut visited = vec![Visited {
        state: first,
        from: None,
    }];
    let mut at = 0;
    while at < visited.len() {
        if let Err(violation) = check(&visited[at].state) {
            return Err(format!("{violation}\n{}", schedule(&visited, at)));
        }
        for (label, state) in next(&visited[at].state) {
            if seen.insert(fingerprint(&state)) {
                let from = Some((at, label));
                visited.push(Visited { state, from });
            }
        }
        assert!(visited.len() <= states_max, "over {states_max} states");
        at += 1;
    }
    let states = visited.len();
    Ok(Explored { states })
}

pub(super) fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn schedule<S: Debug>(visited: &[Visited<S>], end: usize) -> String {
    let mut steps = vec![format!("{:?}", visited[end].state)];
    let mut at = end;
    while let Some((before, label)) = visited[at].from {
        steps.push(format!("{label:?}"));
        at = before;
    }
    steps.reverse();
    steps.join("\n")
}
