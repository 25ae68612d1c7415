//! Breadth-first exploration of everything that can happen.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::{Broken, Protocol, State, Step};

/// What the exploration found.
#[derive(Debug)]
pub struct Report {
    /// Different states reached.
    pub states: usize,
    /// Transitions between them.
    pub transitions: usize,
    /// The shortest way to a broken promise, if there is one.
    pub counterexample: Option<Counterexample>,
}

/// How a promise is broken.
pub struct Counterexample {
    /// Which one.
    pub broken: Broken,
    /// The steps from the initial state.
    pub steps: Vec<Step>,
    /// Where they end.
    pub state: State,
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?} after", self.broken)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(formatter, "{:3} {step}", number + 1)?;
        }
        write!(formatter, "{:#?}", self.state)
    }
}

/// How a state was first reached.
#[derive(Clone, Copy)]
struct Origin {
    parent: usize,
    step: Option<Step>,
}

/// A state by its hash: with the numbers reached here, two of 64 bits do not collide.
struct Known {
    hasher: BuildHasherDefault<DefaultHasher>,
    numbers: HashMap<u64, usize>,
}

impl Known {
    /// The state's number, and whether it is new.
    fn number(&mut self, state: &State) -> (usize, bool) {
        let next = self.numbers.len();
        let number = *self.numbers.entry(self.hasher.hash_one(state)).or_insert(next);
        (number, number == next)
    }
}

/// Explores every reachable state of `protocol`.
///
/// First safety: no step breaks a promise. Then progress: from each state there are steps that
/// need no further fault, nobody's death and no kombu client, to one where every message is
/// settled or dead ([`Broken::Stuck`] otherwise).
pub fn check(protocol: &Protocol) -> Report {
    let mut known = Known { hasher: BuildHasherDefault::default(), numbers: HashMap::new() };
    let mut states = Vec::new();
    let mut origins = Vec::new();
    let mut progress: Vec<(usize, usize)> = Vec::new();
    let mut transitions = 0;
    let initial = protocol.initial();
    known.number(&initial);
    states.push(initial);
    origins.push(Origin { parent: 0, step: None });
    let mut at = 0;
    let mut next = Vec::new();
    while at < states.len() {
        protocol.steps(&states[at], &mut next);
        transitions += next.len();
        for (step, outcome) in next.drain(..) {
            let state = match outcome {
                Ok(state) => state,
                Err((broken, state)) => {
                    let mut steps = path(&origins, at);
                    steps.push(step);
                    let counterexample = Some(Counterexample { broken, steps, state });
                    return Report { states: states.len(), transitions, counterexample };
                }
            };
            let (number, is_new) = known.number(&state);
            if is_new {
                states.push(state);
                origins.push(Origin { parent: at, step: Some(step) });
            }
            if step.is_progress() && number != at {
                progress.push((number, at));
            }
        }
        at += 1;
    }
    let counterexample = stuck(&states, progress).map(|number| Counterexample {
        broken: Broken::Stuck,
        steps: path(&origins, number),
        state: states[number],
    });
    Report { states: states.len(), transitions, counterexample }
}

/// The first state from which no progress leads to the end; `progress` holds (to, from).
fn stuck(states: &[State], mut progress: Vec<(usize, usize)>) -> Option<usize> {
    progress.sort_unstable();
    let mut ends = vec![false; states.len()];
    let mut open: Vec<usize> = Vec::new();
    for (number, state) in states.iter().enumerate() {
        if state.redis.is_over() {
            ends[number] = true;
            open.push(number);
        }
    }
    while let Some(to) = open.pop() {
        let first = progress.partition_point(|edge| edge.0 < to);
        for (_, from) in progress[first..].iter().take_while(|edge| edge.0 == to) {
            if !ends[*from] {
                ends[*from] = true;
                open.push(*from);
            }
        }
    }
    ends.iter().position(|ends| !ends)
}

fn path(origins: &[Origin], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = origins[at].step {
        steps.push(step);
        at = origins[at].parent;
    }
    steps.reverse();
    steps
}
