//! Putting canvases together: `link`, `link_error`, `|`, and the constructors.

use serde_json::{Map, Value, json};

use super::{Canvas, Chain, Chord, Group, append, elements, merge_options};
use crate::wire::signature::{Options, Signature};

impl Canvas {
    /// Tasks one after the other, merged as Celery merges them: `chain(x, y, z)` is `x | y | z`.
    pub fn chain(tasks: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        tasks
            .into_iter()
            .map(Into::into)
            .fold(Self::Chain(Chain::default()), |chain, task| chain.then(task))
    }

    /// Tasks side by side.
    pub fn group(tasks: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let tasks = tasks.into_iter().map(Into::into).collect();
        Self::Group(Group { tasks, options: Options::new() })
    }

    /// Tasks side by side, and what is called with the list of their results.
    pub fn chord(header: impl IntoIterator<Item = impl Into<Self>>, body: impl Into<Self>) -> Self {
        let tasks = header.into_iter().map(Into::into).collect();
        Self::Chord(Chord::new(Group { tasks, options: Options::new() }, body.into()))
    }

    /// Adds what is called with the result when it succeeds (`Signature.link`).
    pub fn link(&mut self, callback: Value) {
        match self {
            Self::Task(task) => append(&mut task.options, "link", callback),
            Self::Chain(chain) => append(&mut chain.options, "link", callback),
            Self::Group(group) => {
                // The first task alone has not the results of the others to pass on.
                let mut callback = callback;
                if let Value::Object(fields) = &mut callback {
                    fields.insert("immutable".to_owned(), true.into());
                }
                if let Some(first) = group.tasks.first_mut() {
                    first.link(callback);
                }
            }
            Self::Chord(chord) => {
                if let Some(body) = &mut chord.body {
                    body.link(callback);
                }
            }
        }
    }

    /// Adds what is called when it fails (`Signature.link_error`).
    pub fn link_error(&mut self, errback: &Value) {
        match self {
            Self::Task(task) => append(&mut task.options, "link_error", errback.clone()),
            Self::Chain(chain) => append(&mut chain.options, "link_error", errback.clone()),
            Self::Group(group) => {
                for task in &mut group.tasks {
                    task.link_error(errback);
                }
            }
            Self::Chord(chord) => {
                for task in &mut chord.header.tasks {
                    if matches!(task, Self::Chord(_)) {
                        task.link_error(errback);
                    }
                }
                if let Some(body) = &mut chord.body {
                    body.link_error(errback);
                }
            }
        }
    }

    /// `self | next` (`Signature.__or__` and those of chain, group and chord).
    pub fn then(self, next: impl Into<Self>) -> Self {
        let next = next.into();
        match self {
            Self::Task(_) => chained(vec![self], next),
            Self::Group(_) if next.is_empty_group() => self,
            Self::Group(group) => Self::Chord(Chord::new(group, next)),
            Self::Chain(chain) => chain.then(next),
            Self::Chord(mut chord) => match next {
                Self::Task(_) | Self::Chord(_) => {
                    chord.extend_body(next);
                    Self::Chord(chord)
                }
                Self::Group(mut group) if group.tasks.len() == 1 => {
                    chord.extend_body(group.tasks.remove(0));
                    Self::Chord(chord)
                }
                next => chained(vec![Self::Chord(chord)], next),
            },
        }
    }

    pub(super) fn is_empty_group(&self) -> bool {
        matches!(self, Self::Group(group) if group.tasks.is_empty())
    }

    pub(super) fn is_empty_chain(&self) -> bool {
        matches!(self, Self::Chain(chain) if chain.tasks.is_empty())
    }

    /// A group of one is that one (`maybe_unroll_group`).
    pub(super) fn unrolled(self) -> Self {
        match self {
            Self::Group(mut group) if group.tasks.len() == 1 => group.tasks.remove(0),
            other => other,
        }
    }

    /// With partial arguments before its own, unless it is immutable (`Signature.clone`).
    pub(super) fn with_partial(mut self, args: &[Value], kwargs: &Map<String, Value>) -> Self {
        match &mut self {
            Self::Task(task) if !task.immutable => {
                task.args.splice(0..0, args.iter().cloned());
                for (name, value) in kwargs {
                    task.kwargs.insert(name.clone(), value.clone());
                }
            }
            Self::Chord(chord) if !chord.immutable => {
                chord.args.splice(0..0, args.iter().cloned());
            }
            _ => {}
        }
        self
    }

    /// With options over its own (`Signature.clone`).
    pub(super) fn with_options(mut self, options: &Options) -> Self {
        merge_options(self.options_mut(), options);
        self
    }
}

/// `tasks | next` where `tasks` is no chain.
fn chained(mut tasks: Vec<Canvas>, next: Canvas) -> Canvas {
    match next.unrolled() {
        Canvas::Chain(chain) => tasks.extend(chain.unchained()),
        other => tasks.push(other),
    }
    Canvas::Chain(Chain { tasks, options: Options::new() })
}

impl Chain {
    /// `self | next` (`_chain.__or__`).
    fn then(mut self, next: Canvas) -> Canvas {
        if next.is_empty_group() {
            return Canvas::Chain(self);
        }
        match next.unrolled() {
            Canvas::Chain(chain) => chain
                .unchained()
                .into_iter()
                .fold(Canvas::Chain(self), |chain, task| chain.then(task)),
            group @ Canvas::Group(_) => {
                let mut tasks = self.unchained();
                match tasks.last_mut() {
                    None => return group,
                    Some(Canvas::Chord(chord)) => chord.extend_body(group),
                    Some(_) => tasks.push(group),
                }
                Canvas::Chain(Self { tasks, options: Options::new() })
            }
            next => {
                let group = self.tasks.pop_if(|task| matches!(task, Canvas::Group(_)));
                if let Some(Canvas::Group(group)) = group {
                    let chord = Canvas::Chord(Chord::new(group, next));
                    match self.tasks.last_mut() {
                        // Of two chords in a row the second is what the first calls.
                        Some(Canvas::Chord(before)) => before.extend_body(chord),
                        _ => self.tasks.push(chord),
                    }
                    return Canvas::Chain(self);
                }
                if !matches!(next, Canvas::Chord(_))
                    && let Some(Canvas::Chord(chord)) = self.tasks.last_mut()
                {
                    chord.extend_body(next);
                    return Canvas::Chain(self);
                }
                let mut tasks = self.unchained();
                tasks.push(next);
                Canvas::Chain(Self { tasks, options: Options::new() })
            }
        }
    }

    /// Its tasks, with its callbacks at the last and its errbacks at each (`unchain_tasks`).
    pub(super) fn unchained(self) -> Vec<Canvas> {
        let Self { mut tasks, options } = self;
        if let Some(last) = tasks.last_mut() {
            for callback in elements(&options, "link") {
                last.link(callback);
            }
        }
        for errback in elements(&options, "link_error") {
            for task in &mut tasks {
                task.link_error(&errback);
            }
        }
        tasks
    }
}

impl Chord {
    pub(super) fn new(header: Group, body: Canvas) -> Self {
        Self {
            header,
            body: Some(Box::new(body)),
            args: Vec::new(),
            kwargs: Map::from_iter([("kwargs".to_owned(), json!({}))]),
            options: Options::new(),
            immutable: false,
        }
    }

    /// `body | next`.
    fn extend_body(&mut self, next: Canvas) {
        self.body = Some(Box::new(match self.body.take() {
            Some(body) => body.then(next),
            None => next,
        }));
    }
}

/// The call that takes the list out of a group's results (`celery.accumulate`).
pub(super) fn accumulate() -> Signature {
    Signature::new("celery.accumulate").kwarg("index", 0)
}
