//! A chain's tasks made ready to be sent: unrolled, upgraded to chords, and with their ids
//! (`_chain.prepare_steps`).

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::freeze::Freeze;
use super::results::ResultId;
use super::{Canvas, Chain, Chord, Dispatch, elements};
use crate::wire::signature::Options;

/// What the steps of a chain are prepared with.
pub(super) struct Steps<'a> {
    /// Partial arguments of its first task.
    pub(super) args: &'a [Value],
    pub(super) kwargs: &'a Map<String, Value>,
    /// What is called when one of them fails.
    pub(super) link_error: &'a [Value],
    /// What its last task is frozen with; the others get its root id only.
    pub(super) last: Freeze<'a>,
}

/// What the steps are prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To be sent now.
    Send,
    /// To have their ids.
    Freeze,
}

/// Options of a chain that concern its run, not its first task (`_CHAIN_RUN_OPTIONS`).
const OF_THE_RUN: [&str; 8] =
    ["chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"];

impl Dispatch<'_> {
    /// The tasks in reverse, as the chain field of a message has them, and their results.
    pub(super) fn prepare_steps(
        &mut self,
        tasks: Vec<Canvas>,
        with: &Steps<'_>,
        purpose: Use,
    ) -> (Vec<Canvas>, Vec<ResultId>) {
        let mut steps = with_a_head(tasks);
        let mut prepared: Vec<Canvas> = Vec::new();
        let mut results: Vec<ResultId> = Vec::new();
        let mut before: Option<ResultId> = None;
        while let Some(task) = steps.pop_back() {
            let (is_first, is_last) = (steps.is_empty(), results.is_empty());
            let mut task = task.unrolled();
            if task.is_empty_group() && !(steps.is_empty() && prepared.is_empty()) {
                continue;
            }
            if purpose == Use::Send && task.has_a_chain_as_body() {
                steps.extend(with_its_body_split(task));
                continue;
            }
            if is_first {
                task = task.with_partial(with.args, with.kwargs);
            }
            if let Canvas::Chain(chain) = task {
                steps.extend(chain.tasks);
                continue;
            }
            // Whether what has been prepared before is still the next task after this one.
            if let Canvas::Group(header) = task {
                if let (Some(body), Some(result)) = (prepared.pop(), results.pop()) {
                    let mut chord = Chord::new(header, body);
                    if self.results.members(result).is_none() {
                        let id = self.results.id(result).into();
                        chord.options.insert("task_id".to_owned(), id);
                    }
                    if let Some(root_id) = with.last.root_id {
                        chord.options.insert("root_id".to_owned(), root_id.into());
                    }
                    task = Canvas::Chord(chord);
                    before = self.unlink_from(&results, result).or(before);
                } else {
                    task = Canvas::Group(header);
                }
            }
            let freeze = if is_last {
                with.last
            } else {
                Freeze { root_id: with.last.root_id, ..Freeze::default() }
            };
            let result = self.freeze(&mut task, &freeze);
            if !prepared.is_empty()
                && let Some(before) = before
                && self.results.parent(before).is_none()
            {
                self.results.set_parent(before, Some(result));
            }
            for errback in with.link_error {
                task.link_error(errback);
                if let Canvas::Chord(Chord { body: Some(body), .. }) = &mut task {
                    body.link_error(errback);
                }
            }
            before = Some(match task {
                Canvas::Chord(_) => self.results.first(result),
                _ => result,
            });
            prepared.push(task);
            results.push(result);
        }
        (prepared, results)
    }

    /// The rest of the chain followed the body; it is to follow the chord that the body becomes a
    /// part of. The result that is to be linked to the chord's.
    fn unlink_from(&mut self, results: &[ResultId], body: ResultId) -> Option<ResultId> {
        let mut node = results.last().copied();
        while let Some(result) = node {
            let parent = self.results.parent(result);
            if parent == Some(body) {
                self.results.set_parent(result, None);
                return Some(result);
            }
            node = parent;
        }
        None
    }
}

/// Brings the first real task to the front, so that it gets the partial arguments: nested chains
/// are spliced, and empty groups go as long as another step follows.
fn with_a_head(tasks: Vec<Canvas>) -> VecDeque<Canvas> {
    let mut steps = VecDeque::from(tasks);
    let mut stripped = None;
    while let Some(head) = steps.pop_front() {
        match head.unrolled() {
            Canvas::Chain(chain) => {
                for task in chain.tasks.into_iter().rev() {
                    steps.push_front(task);
                }
            }
            head if head.is_empty_group() && !steps.is_empty() => stripped = Some(head),
            head => {
                steps.push_front(head);
                return steps;
            }
        }
    }
    steps.extend(stripped);
    steps
}

impl Canvas {
    /// Whether it is a chord whose body is a chain that begins with a single task
    /// (`_is_chain_led_by_task`).
    fn has_a_chain_as_body(&self) -> bool {
        let Self::Chord(Chord { body: Some(body), .. }) = self else { return false };
        match &**body {
            Self::Chain(chain) => {
                chain.tasks.first().is_some_and(|first| !matches!(first, Self::Group(_)))
            }
            _ => false,
        }
    }
}

/// `chord(header, chain(a, b, c))` is `chord(header, a), b, c` (`_chord._unroll_body`): each of
/// the header's tasks carries the body, and need not carry what follows it.
fn with_its_body_split(canvas: Canvas) -> Vec<Canvas> {
    let Canvas::Chord(mut chord) = canvas else { return vec![canvas] };
    let chain = match chord.body.take().map(|body| *body) {
        Some(Canvas::Chain(chain)) => chain,
        body => {
            chord.body = body.map(Box::new);
            return vec![Canvas::Chord(chord)];
        }
    };
    let options: Options = chain
        .options
        .iter()
        .filter(|(name, _)| !OF_THE_RUN.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut tasks = chain.unchained().into_iter();
    chord.body = tasks.next().map(|body| Box::new(body.with_options(&options)));
    std::iter::once(Canvas::Chord(chord)).chain(tasks).collect()
}

impl Chain {
    /// Splits the bodies of nested chords (`_chain._unroll_chords`).
    pub(super) fn unroll_chords(&mut self) {
        let mut waiting = VecDeque::from(std::mem::take(&mut self.tasks));
        while let Some(mut task) = waiting.pop_front() {
            if let Canvas::Chain(chain) = &mut task {
                chain.unroll_chords();
            }
            if task.has_a_chain_as_body() {
                for task in with_its_body_split(task).into_iter().rev() {
                    waiting.push_front(task);
                }
            } else {
                self.tasks.push(task);
            }
        }
    }

    /// What its run links to its last task and to each of its tasks.
    pub(super) fn callbacks(options: &Options) -> (Vec<Value>, Vec<Value>) {
        (elements(options, "link"), elements(options, "link_error"))
    }
}
