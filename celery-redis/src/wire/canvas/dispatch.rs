//! Turning a canvas into the messages and records that start it (`Signature.apply_async` and
//! those of chain, group and chord).

use serde_json::{Map, Value, json};

use super::freeze::{Freeze, fresh_id};
use super::results::{ResultId, Results};
use super::steps::{Steps, Use};
use super::{
    Canvas, CanvasError, Chain, Chord, Group, append, elements, given, merge_options, text,
};
use crate::wire::python_json;
use crate::wire::raw_list::RawList;
use crate::wire::signature::{Options, Sending, Signature, SignatureError};
use crate::wire::task_message::Encoded;

/// What a sender knows about tasks by their names.
pub trait Directory: Sync {
    /// Whether the task stores no result; `None` for a task that the sender does not know.
    fn ignore_result(&self, task: &str) -> Option<bool>;
    /// The queue of a call that names none.
    fn queue(&self, task: &str) -> &str;
}

/// What has to be done to start a canvas, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Results of what was sent, as the `children` of the task that sends.
    pub children: Vec<ResultId>,
}

/// One of them.
#[derive(Debug)]
pub enum Step {
    /// A message goes to its queue.
    Send(Encoded),
    /// A chord begins: its body waits for this many parts.
    StartChord {
        /// The header's group.
        group_id: String,
        /// Number of parts.
        size: usize,
    },
    /// The structure of a header that has groups in it is kept until the chord is complete.
    SaveGroup {
        /// The header's group.
        group_id: String,
        /// The record.
        record: String,
    },
}

/// Starts canvases: collects what has to be sent.
pub struct Dispatch<'a> {
    pub(super) sending: Sending<'a>,
    directory: &'a dyn Directory,
    /// Results of everything that was frozen.
    pub results: Results,
    /// What has been collected.
    pub plan: Plan,
}

/// Whether what is sent counts as a child of the task that sends it (`add_to_parent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trail {
    Add,
    Skip,
}

impl<'a> Dispatch<'a> {
    /// Nothing collected yet. `sending.queue` and `sending.ignore_result` are the directory's.
    pub fn new(sending: Sending<'a>, directory: &'a dyn Directory) -> Self {
        Self { sending, directory, results: Results::default(), plan: Plan::default() }
    }

    /// Starts a canvas with partial arguments and options.
    pub fn apply(
        &mut self,
        canvas: Canvas,
        args: &[Value],
        options: &Options,
    ) -> Result<ResultId, CanvasError> {
        self.apply_with(canvas, args, &Map::new(), options.clone(), Trail::Add)
    }

    /// Starts the next step of a chain, its last element, with the others as what follows it.
    pub fn apply_next(
        &mut self,
        chain: &RawList,
        args: &[Value],
        mut options: Options,
    ) -> Result<(), CanvasError> {
        let Some((next, others)) = chain.split_last() else { return Ok(()) };
        let next: Value = serde_json::from_str(next).unwrap_or_default();
        match Canvas::from_json(&next)? {
            // All that the others need is to be passed on.
            Canvas::Task(task) if !is_chunks(&task) && !task.options.contains_key("chain") => {
                let result = self.send(task, args, &Map::new(), &options, |task, sending| {
                    task.message_before(others, sending)
                })?;
                self.follow(result, Trail::Add);
            }
            canvas => {
                options.insert("chain".to_owned(), others.values().into());
                self.apply(canvas, args, &options)?;
            }
        }
        Ok(())
    }

    /// Gives a canvas its ids, and starts nothing.
    pub fn assign_ids(&mut self, canvas: &mut Canvas) -> ResultId {
        self.freeze(canvas, &Freeze::default())
    }

    pub(super) fn apply_with(
        &mut self,
        canvas: Canvas,
        args: &[Value],
        kwargs: &Map<String, Value>,
        mut options: Options,
        trail: Trail,
    ) -> Result<ResultId, CanvasError> {
        options.retain(|_, value| !value.is_null());
        match canvas {
            Canvas::Task(task) => self.apply_task(task, args, kwargs, &options, trail),
            Canvas::Chain(chain) => self.apply_chain(chain, args, kwargs, options, trail),
            Canvas::Group(group) => self.apply_group(group, args, kwargs, &options, trail),
            Canvas::Chord(chord) => self.apply_chord(chord, args, kwargs.clone(), options, trail),
        }
    }

    fn apply_task(
        &mut self,
        task: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        options: &Options,
        trail: Trail,
    ) -> Result<ResultId, CanvasError> {
        if is_chunks(&task) {
            return self.apply_with(chunks(&task)?, args, kwargs, options.clone(), trail);
        }
        let result = self.send(task, args, kwargs, options, Signature::message)?;
        self.follow(result, trail);
        Ok(result)
    }

    /// Sends one task.
    fn send(
        &mut self,
        task: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        options: &Options,
        message: impl FnOnce(&Signature, &Sending<'_>) -> Result<Encoded, SignatureError>,
    ) -> Result<ResultId, CanvasError> {
        let canvas = Canvas::Task(task).with_partial(args, kwargs).with_options(options);
        let Canvas::Task(mut task) = canvas else { unreachable!("a task stays a task") };
        let id = match text(&task.options, "task_id") {
            Some(id) => id.to_owned(),
            None => {
                let id = fresh_id();
                task.options.insert("task_id".to_owned(), id.clone().into());
                id
            }
        };
        let sending = Sending {
            ignore_result: self.directory.ignore_result(&task.task),
            queue: self.directory.queue(&task.task),
            ..self.sending
        };
        self.plan.steps.push(Step::Send(message(&task, &sending)?));
        Ok(self.results.task(id))
    }

    /// `_chain.run`: its first task is sent with the others in its chain field.
    fn apply_chain(
        &mut self,
        chain: Chain,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given_options: Options,
        trail: Trail,
    ) -> Result<ResultId, CanvasError> {
        let Chain { tasks, mut options } = chain;
        options.extend(given_options);
        let (link, link_error) = Chain::callbacks(&options);
        let (id, group_id, root_id) =
            (text(&options, "task_id"), text(&options, "group_id"), text(&options, "root_id"));
        let last = Freeze {
            id,
            group_id,
            root_id,
            chord: given(&options, "chord"),
            parent_id: None,
            group_index: given(&options, "group_index").and_then(Value::as_i64),
        };
        let steps = Steps { args, kwargs, link_error: &link_error, last };
        let (mut tasks, results) = self.prepare_steps(tasks, &steps, Use::Send);
        let Some(&result) = results.first() else {
            return Err(CanvasError::Refused("an empty chain cannot be sent"));
        };
        if let Some(last) = tasks.first_mut() {
            let mut links = elements(last.options(), "link");
            if !link.is_empty() {
                links.extend(link);
                last.options_mut().insert("link".to_owned(), links.into());
            }
        }
        let Some(first) = tasks.pop() else { return Ok(result) };
        for name in [
            "group_id",
            "chord",
            "task_id",
            "link",
            "link_error",
            "root_id",
            "parent_id",
            "group_index",
        ] {
            options.shift_remove(name);
        }
        let mut rest = elements(&options, "chain");
        rest.extend(tasks.iter().map(Canvas::to_json));
        options.insert("chain".to_owned(), rest.into());
        let alone = tasks.is_empty();
        let sent = self.apply_with(first, &[], &Map::new(), options, trail)?;
        // Of a single task the result that was sent, which a group's frozen one is not.
        Ok(if alone { sent } else { result })
    }

    fn apply_group(
        &mut self,
        group: Group,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given_options: &Options,
        trail: Trail,
    ) -> Result<ResultId, CanvasError> {
        if given_options.contains_key("link") || given_options.contains_key("link_error") {
            return Err(CanvasError::Refused("Cannot add link to group: use a chord"));
        }
        let mut group = group;
        if group.tasks.is_empty() {
            return Ok(self.freeze(&mut Canvas::Group(group), &Freeze::default()));
        }
        let mut options = std::mem::take(&mut group.options);
        merge_options(&mut options, given_options);
        let id = match options.shift_remove("task_id") {
            Some(Value::String(id)) if !id.is_empty() => id,
            _ => fresh_id(),
        };
        options.insert("group_id".to_owned(), id.clone().into());
        let root_id = text(&options, "root_id").map(ToOwned::to_owned);
        let mut members = Vec::with_capacity(group.tasks.len());
        self.freeze_members(group.tasks, &id, root_id.as_deref(), &mut members);

        let chord = options.shift_remove("chord").filter(|chord| !chord.is_null());
        options.shift_remove("group_index");
        let chord = chord.or_else(|| {
            members.last().and_then(|(task, _)| given(task.options(), "chord").cloned())
        });
        if chord.is_some() {
            let size = members.iter().map(|(task, _)| parts(task)).sum();
            self.plan.steps.push(Step::StartChord { group_id: id.clone(), size });
        }
        if let Some(chord) = chord {
            options.insert("chord".to_owned(), chord);
        }
        let mut results = Vec::with_capacity(members.len());
        for (task, result) in members {
            self.apply_with(task, args, kwargs, options.clone(), Trail::Skip)?;
            results.push(result);
        }
        let result = match results.as_slice() {
            // A chain that ends in a group is that group.
            [only] if self.results.members(*only).is_some() => *only,
            _ => self.results.group(id, results),
        };
        self.follow(result, trail);
        Ok(result)
    }

    /// The tasks of a group and of the groups in it, each with its ids (`group._prepared`).
    fn freeze_members(
        &mut self,
        tasks: Vec<Canvas>,
        group_id: &str,
        root_id: Option<&str>,
        members: &mut Vec<(Canvas, ResultId)>,
    ) {
        for (index, mut task) in tasks.into_iter().enumerate() {
            if let Canvas::Group(nested) = task {
                self.freeze_members(nested.tasks, group_id, root_id, members);
            } else if !task.is_empty_chain() {
                let freeze = Freeze {
                    group_id: Some(group_id),
                    root_id,
                    group_index: i64::try_from(index).ok(),
                    ..Freeze::default()
                };
                let result = self.freeze(&mut task, &freeze);
                members.push((task, result));
            }
        }
    }

    /// `_chord.apply_async` and `_chord.run`: the header is sent, each task with the body.
    fn apply_chord(
        &mut self,
        chord: Chord,
        args: &[Value],
        mut kwargs: Map<String, Value>,
        mut given_options: Options,
        trail: Trail,
    ) -> Result<ResultId, CanvasError> {
        let body = match kwargs.shift_remove("body") {
            Some(body) if !body.is_null() => Canvas::from_json(&body)?,
            _ => match chord.body {
                Some(body) => *body,
                None => return Err(CanvasError::Refused("a chord without a body cannot be sent")),
            },
        };
        let mut partial = chord.args;
        if !chord.immutable {
            partial.splice(0..0, args.iter().cloned());
        }
        let mut header_kwargs = match chord.kwargs.get("kwargs") {
            Some(Value::Object(kwargs)) => kwargs.clone(),
            _ => Map::new(),
        };
        header_kwargs.extend(kwargs);

        let callbacks: Vec<(&str, Option<Value>)> = ["link", "link_error"]
            .map(|name| (name, given_options.shift_remove(name)))
            .into_iter()
            .collect();
        let task_id = given_options.shift_remove("task_id");
        // A delay is the header's: put on the body it would only come after the header's run.
        let mut delay = Options::new();
        for name in ["countdown", "eta"] {
            if let Some(value) = given_options.shift_remove(name) {
                delay.insert(name.to_owned(), value);
            }
        }
        let mut body = body.with_options(&without_parent(&given_options));

        let mut header = chord.header;
        let own_id = text(&header.options, "task_id").or(text(&chord.options, "task_id"));
        let group_id = own_id.map_or_else(fresh_id, ToOwned::to_owned);
        let mut options = chord.options;
        options.extend(given_options);
        for (name, value) in callbacks {
            if let Some(value) = value {
                options.insert(name.to_owned(), value);
            }
        }
        for name in ["countdown", "eta"] {
            if let Some(value) = options.shift_remove(name).filter(|value| !value.is_null())
                && !delay.contains_key(name)
            {
                delay.insert(name.to_owned(), value);
            }
        }
        let task_id = task_id.or_else(|| options.get("task_id").cloned());
        options.shift_remove("task_id");

        let root_id = text(body.options(), "root_id").map(ToOwned::to_owned);
        add_body_callbacks(&mut body, &mut options);
        body.options_mut().extend(without_parent(&options));
        if let Canvas::Chain(chain) = &mut body {
            chain.unroll_chords();
        }
        let body_id =
            task_id.as_ref().and_then(Value::as_str).map_or_else(fresh_id, ToOwned::to_owned);
        let result = self.freeze(
            &mut body,
            &Freeze {
                id: Some(&body_id),
                group_id: Some(&group_id),
                root_id: root_id.as_deref(),
                ..Freeze::default()
            },
        );
        // What follows and encloses the chord follows the body.
        options.shift_remove("chain");
        options.shift_remove("chord");

        header.options.insert("task_id".to_owned(), group_id.clone().into());
        let freeze =
            Freeze { group_id: Some(&group_id), root_id: root_id.as_deref(), ..Freeze::default() };
        let header_result = self.freeze_group(&mut header, &freeze);
        if header.tasks.is_empty() {
            self.apply_with(body, &[json!([])], &Map::new(), Options::new(), Trail::Add)?;
        } else {
            self.save_structure(header_result)?;
            header.options.insert("chord".to_owned(), body.to_json());
            options.extend(delay);
            options.insert("task_id".to_owned(), group_id.into());
            self.apply_with(Canvas::Group(header), &partial, &header_kwargs, options, trail)?;
        }
        let first = self.results.first(result);
        if first != header_result {
            self.results.set_parent(first, Some(header_result));
        }
        Ok(result)
    }

    /// A header with groups among its results is kept, so that its results have the same form
    /// when they are passed on (`RedisBackend.apply_chord`).
    fn save_structure(&mut self, header: ResultId) -> Result<(), CanvasError> {
        let members = self.results.members(header).unwrap_or_default();
        if !members.iter().any(|member| self.results.members(*member).is_some()) {
            return Ok(());
        }
        let record = python_json::to_string(&json!({"result": self.results.as_tuple(header)}))
            .map_err(|source| {
                let task = "celery.chord".to_owned();
                SignatureError::Json { task, source }
            })?;
        let group_id = self.results.id(header).to_owned();
        self.plan.steps.push(Step::SaveGroup { group_id, record });
        Ok(())
    }

    fn follow(&mut self, result: ResultId, trail: Trail) {
        if trail == Trail::Add {
            self.plan.children.push(result);
        }
    }
}

/// The task that completes a chord's header is the body's parent, not the one that sends it.
fn without_parent(options: &Options) -> Options {
    let mut options = options.clone();
    options.shift_remove("parent_id");
    options
}

/// Moves the callbacks of a chord to its body (`_chord._add_body_callbacks`).
fn add_body_callbacks(body: &mut Canvas, options: &mut Options) {
    let callbacks = elements(options, "link");
    let errbacks = elements(options, "link_error");
    options.shift_remove("link");
    options.shift_remove("link_error");
    for callback in callbacks {
        if body.is_empty_group() {
            append(body.options_mut(), "link", callback);
        } else {
            body.link(callback);
        }
    }
    for errback in errbacks {
        match &mut *body {
            Canvas::Group(_) => link_error_to_tasks(body, &errback, Runs::AsGroup),
            body => append(body.options_mut(), "link_error", errback),
        }
    }
}

/// Whether a group keeps its options, or is flattened into another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    AsGroup,
    Flattened,
}

/// Links an errback to each task of the group that a chord's body is
/// (`_link_error_to_body_tasks`).
fn link_error_to_tasks(canvas: &mut Canvas, errback: &Value, runs: Runs) {
    match canvas {
        Canvas::Group(group) => {
            if runs == Runs::AsGroup && given(&group.options, "link_error").is_some() {
                append(&mut group.options, "link_error", errback.clone());
            } else {
                for task in &mut group.tasks {
                    link_error_to_tasks(task, errback, Runs::Flattened);
                }
            }
        }
        Canvas::Chord(chord) => {
            if let Some(body) = &mut chord.body {
                link_error_to_tasks(body, errback, Runs::AsGroup);
            }
        }
        other => other.link_error(errback),
    }
}

/// How many parts of a chord a canvas completes (`_chord._descend`).
fn parts(canvas: &Canvas) -> usize {
    match canvas {
        Canvas::Task(_) => 1,
        Canvas::Group(group) => group.tasks.iter().map(parts).sum(),
        Canvas::Chain(chain) => {
            chain.tasks.iter().rev().map(parts).find(|size| *size > 0).unwrap_or(0)
        }
        Canvas::Chord(chord) => chord.body.as_deref().map_or(0, parts),
    }
}

fn is_chunks(task: &Signature) -> bool {
    task.subtask_type.as_deref() == Some("chunks")
}

/// A partition into chunks is a group of star maps (`celery.canvas.chunks`).
fn chunks(task: &Signature) -> Result<Canvas, CanvasError> {
    let part = |part, expected| CanvasError::Part { task: task.task.clone(), part, expected };
    let items = task
        .kwargs
        .get("it")
        .and_then(Value::as_array)
        .ok_or_else(|| part("kwargs.it", "a list"))?;
    let size = task
        .kwargs
        .get("n")
        .and_then(Value::as_u64)
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size > 0)
        .ok_or_else(|| part("kwargs.n", "a number above 0"))?;
    let mapped = task.kwargs.get("task").cloned().unwrap_or_default();
    Ok(Canvas::group(items.chunks(size).map(|part| {
        Signature::new("celery.starmap").kwarg("task", mapped.clone()).kwarg("it", part).immutable()
    })))
}
