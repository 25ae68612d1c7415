//! What follows from the end of a task (`celery.app.trace`, `celery.backends.base`): callbacks
//! and the next step of its chain, or errbacks and the failure of the steps that will not run,
//! and in any case its part in a chord.

use std::collections::BTreeMap;
use std::sync::Arc;

use celery_redis::Signature;
use celery_redis::transport::connection::TransportError;
use celery_redis::transport::operation::{ChordPart, Operation, StoredResult};
use celery_redis::wire::canvas::{
    Canvas, CanvasError, Directory, Dispatch, Group, Origin, Replacement,
};
use celery_redis::wire::exception::Exception;
use celery_redis::wire::python_json;
use celery_redis::wire::raw_list::RawList;
use celery_redis::wire::result::{Outcome, State, TaskMeta};
use celery_redis::wire::signature::{Options, Parent, Sending};
use celery_task::{Call, Ended, TaskDefinition};
use chrono::Utc;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::consumer::Consumer;
use crate::request::Request;
use crate::settle::no_children;

/// What is to be done together with a result, in this order: what comes before it, the result
/// itself, what comes after it.
#[derive(Default)]
pub(crate) struct Aftermath {
    operations: Vec<Operation>,
    /// How many of them come before the result.
    before: usize,
    /// What was sent, for the result.
    pub(crate) children: Vec<Value>,
    /// Signatures of the bodies of the chords whose parts are returned, by their groups.
    pub(crate) bodies: BTreeMap<String, Body>,
    /// Errbacks that run within this worker once all else is done.
    errbacks: Vec<(TaskDefinition, Call)>,
}

/// Errbacks that run within this worker.
#[derive(Default)]
pub(crate) struct Errbacks(Vec<(TaskDefinition, Call)>);

impl Errbacks {
    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// The body of a chord that a part was returned to.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) signature: Value,
    pub(crate) part: ChordPart,
    /// The part's task, the body's parent, and the first of its workflow.
    pub(crate) parent: String,
    pub(crate) root_id: String,
    /// Errbacks that were called already for what failed the part.
    pub(crate) called: Vec<Value>,
}

impl Aftermath {
    /// Only this.
    pub(crate) fn of(operation: Operation) -> Self {
        Self { operations: vec![operation], ..Self::default() }
    }

    /// This before the result.
    pub(crate) fn before(operation: Operation) -> Self {
        Self { operations: vec![operation], before: 1, ..Self::default() }
    }

    /// Sets the result, once.
    pub(crate) fn store(&mut self, result: StoredResult) {
        // Mostly there is nothing else.
        self.operations.reserve_exact(1);
        self.operations.insert(self.before, Operation::Store(result));
    }

    /// Something that comes after the result.
    pub(crate) fn then(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// All of another after it.
    pub(crate) fn absorb(&mut self, other: Self) {
        let (operations, bodies, errbacks) = other.into_parts();
        self.operations.extend(operations);
        self.bodies.extend(bodies);
        self.errbacks.extend(errbacks.0);
    }

    fn then_part(&mut self, body: Body) {
        self.insert_part(self.operations.len(), body);
    }

    fn insert_part(&mut self, at: usize, body: Body) {
        self.operations.insert(at, Operation::ReturnPart(body.part.clone()));
        self.bodies.insert(body.part.group_id.clone(), body);
    }

    /// All of it, in order; the bodies of the chords in it; and the errbacks to run at the end.
    pub(crate) fn into_parts(self) -> (Vec<Operation>, BTreeMap<String, Body>, Errbacks) {
        (self.operations, self.bodies, Errbacks(self.errbacks))
    }
}

/// Tasks as this worker knows them.
struct Known<'a>(&'a Consumer);

impl Directory for Known<'_> {
    fn ignore_result(&self, task: &str) -> Option<bool> {
        let task = self.0.registry.get(task)?;
        Some(task.options.ignore_result.unwrap_or(false))
    }

    fn queue(&self, task: &str) -> &str {
        self.0.config.routes.queue(task)
    }
}

impl Consumer {
    /// The callbacks of a task that returned `value`, and the next step of its chain.
    pub(crate) fn after_success(
        &self,
        request: &Request,
        value: &RawValue,
    ) -> Result<Aftermath, CanvasError> {
        let embed = &request.message.body.embed;
        let callbacks = values(&embed.callbacks);
        let chain = embed.chain.as_ref().filter(|chain| !chain.is_empty());
        if callbacks.is_empty() && chain.is_none() {
            return Ok(Aftermath::default());
        }
        let value: Value = serde_json::from_str(value.get()).unwrap_or_default();
        let argument = std::slice::from_ref(&value);
        let root_id = request.root_id();
        let options = sent_by(&request.message.id, root_id);
        self.sent(&request.message.id, root_id, |dispatch| {
            let callbacks: Vec<Canvas> =
                callbacks.iter().map(Canvas::from_json).collect::<Result<_, _>>()?;
            if callbacks.len() > 1 {
                let (groups, others): (Vec<_>, Vec<_>) = callbacks
                    .into_iter()
                    .partition(|callback| matches!(callback, Canvas::Group(_)));
                for group in groups {
                    dispatch.apply(group, argument, &options)?;
                }
                if !others.is_empty() {
                    let group = Canvas::Group(Group { tasks: others, options: Options::new() });
                    dispatch.apply(group, argument, &options)?;
                }
            } else if let Some(callback) = callbacks.into_iter().next() {
                dispatch.apply(callback, argument, &options)?;
            }
            chain.map_or(Ok(()), |chain| dispatch.apply_next(chain, argument, options))
        })
    }

    /// What takes the task's place.
    pub(crate) fn replaced(
        &self,
        request: &Request,
        canvas: Canvas,
    ) -> Result<Aftermath, CanvasError> {
        let (headers, embed) = (&request.message.headers, &request.message.body.embed);
        let origin = Origin {
            id: request.message.id.to_string(),
            root_id: headers.root_id.as_deref().map(ToOwned::to_owned),
            group: headers.group.as_deref().map(ToOwned::to_owned),
            group_index: headers.group_index,
            chord: request.chord(),
            callbacks: values(&embed.callbacks),
            errbacks: values(&embed.errbacks),
            chain: embed.chain.as_ref().map(RawList::values).unwrap_or_default(),
            replaced_task_nesting: headers.replaced_task_nesting,
        };
        self.sent(&request.message.id, request.root_id(), |dispatch| {
            dispatch.replace(Replacement(canvas), &origin)
        })
    }

    /// The failure of what was to follow a task that failed, and its errbacks.
    pub(crate) async fn after_failure(
        &self,
        request: &Request,
        exception: &Exception,
        outcome: &Outcome,
    ) -> Result<Aftermath, TransportError> {
        let embed = &request.message.body.embed;
        let mut aftermath = Aftermath::default();
        let chain = embed.chain.as_ref().map(RawList::values).unwrap_or_default();
        self.fail_chain(chain, outcome, &mut aftermath).await?;
        let call = ErrbackCall {
            id: &request.message.id,
            root_id: request.root_id(),
            request: request.described(&self.config.node),
            exception,
            traceback: outcome.traceback.as_deref(),
        };
        self.call_errbacks(&values(&embed.errbacks), &call, &mut aftermath);
        Ok(aftermath)
    }

    /// Its part in the chord whose header the task belongs to.
    pub(crate) fn return_part(
        &self,
        request: &Request,
        outcome: &Outcome,
        aftermath: &mut Aftermath,
    ) {
        let headers = &request.message.headers;
        let (Some(signature), Some(group_id)) = (request.chord(), &headers.group) else { return };
        // First of all that comes after the result, which is not there yet: the chain that failed
        // may have others.
        let body = Body {
            part: self.part(group_id, &request.message.id, headers.group_index, outcome),
            signature,
            parent: request.message.id.to_string(),
            root_id: request.root_id().to_owned(),
            called: Vec::new(),
        };
        aftermath.insert_part(aftermath.before, body);
    }

    fn part(
        &self,
        group_id: &str,
        task_id: &str,
        place: Option<i64>,
        outcome: &Outcome,
    ) -> ChordPart {
        let record = (1, task_id, outcome.state.as_str(), &outcome.result);
        ChordPart {
            group_id: group_id.to_owned(),
            task_id: task_id.to_owned(),
            place,
            // A tuple of texts and JSON always is JSON.
            record: python_json::to_string(&record).unwrap_or_default(),
            ttl_seconds: self.results.chord_ttl_seconds(),
            token: Uuid::new_v4().simple().to_string(),
        }
    }

    /// Stores the failure for each step of a chain that will not run (`Backend._fail_chain`).
    pub(crate) async fn fail_chain(
        &self,
        chain: Vec<Value>,
        outcome: &Outcome,
        aftermath: &mut Aftermath,
    ) -> Result<(), TransportError> {
        self.fail_steps(chain, outcome, no_children(), aftermath).await
    }

    /// The same, with the results of what was sent because of it.
    pub(crate) async fn fail_steps(
        &self,
        chain: Vec<Value>,
        outcome: &Outcome,
        children: &RawValue,
        aftermath: &mut Aftermath,
    ) -> Result<(), TransportError> {
        let mut steps = std::collections::VecDeque::from(chain);
        while let Some(step) = steps.pop_front() {
            let options = step.get("options").and_then(Value::as_object);
            let empty = Map::new();
            let options = options.unwrap_or(&empty);
            let text = |name| options.get(name).and_then(Value::as_str);
            let id = text("task_id");
            let chord = options.get("chord").filter(|chord| !chord.is_null());
            let already_failed = match (chord, id) {
                (Some(_), Some(id)) => {
                    let state = self.results.state(id).await?;
                    matches!(state, Some(State::Failure | State::Revoked))
                }
                _ => false,
            };
            if let Some(id) = id {
                let mut meta = TaskMeta::new(id, outcome, children, Utc::now());
                meta.group_id = text("group_id");
                meta.parent_id = text("parent_id");
                aftermath.then(Operation::Store(self.results.encode(&meta)));
            }
            if let (Some(chord), Some(id), Some(group_id), false) =
                (chord, id, text("group_id"), already_failed)
            {
                let place = options.get("group_index").and_then(Value::as_i64);
                aftermath.then_part(Body {
                    part: self.part(group_id, id, place, outcome),
                    signature: chord.clone(),
                    parent: id.to_owned(),
                    root_id: text("root_id").unwrap_or(id).to_owned(),
                    called: Vec::new(),
                });
            }
            // What a chord's result is, its body stores.
            if step.get("subtask_type").and_then(Value::as_str) == Some("chord")
                && let Some(body) = step.pointer("/kwargs/body").filter(|body| !body.is_null())
            {
                steps.push_back(body.clone());
            }
        }
        Ok(())
    }

    /// Calls errbacks (`Backend._call_task_errbacks`): those known here that take more than the
    /// task's id within this worker, after everything else; all others as tasks.
    ///
    /// An immutable one takes nothing of what has failed: it is a task, which no crash loses.
    /// Returns the results of what was sent.
    pub(crate) fn call_errbacks(
        &self,
        errbacks: &[Value],
        call: &ErrbackCall<'_>,
        aftermath: &mut Aftermath,
    ) -> Vec<Value> {
        let mut tasks = Vec::new();
        for errback in errbacks {
            match Canvas::from_json(errback) {
                Ok(Canvas::Task(task)) => match self.registry.get(&task.task) {
                    Some(known) if takes_more_than_the_id(known.parameters.len(), &task) => {
                        let run = (known.clone(), call.of(task, &self.config.node));
                        aftermath.errbacks.push(run);
                    }
                    _ => tasks.push(Canvas::Task(task)),
                },
                Ok(canvas) => tasks.push(canvas),
                Err(error) => log::error!("an errback of {} is not called: {error}", call.id),
            }
        }
        if tasks.is_empty() {
            return Vec::new();
        }
        let options = sent_by(call.id, call.root_id);
        let sent = self.sent(call.id, call.root_id, |dispatch| {
            let group = Canvas::Group(Group { tasks, options: Options::new() });
            dispatch.apply(group, &[json!(call.id)], &options)?;
            Ok(())
        });
        match sent {
            Ok(sent) => {
                aftermath.operations.extend(sent.operations);
                sent.children
            }
            Err(error) => {
                log::error!("the errbacks of {} are not called: {error}", call.id);
                Vec::new()
            }
        }
    }

    /// Runs errbacks within this worker.
    pub(crate) async fn run_errbacks(&self, errbacks: Errbacks) {
        for (errback, call) in errbacks.0 {
            let name = call.task.clone();
            let started = errback.start(call, self.registry.states(), &self.app);
            let mut run = self.threads.begin(errback.name, started.ended);
            if let Ended::Raised { exception, .. } = run.end().await {
                log::error!("errback {name:?} raised {}", exception.exc_type);
            }
        }
    }

    /// What `collect` sends in the name of the task `id`.
    pub(crate) fn sent(
        &self,
        id: &str,
        root_id: &str,
        collect: impl FnOnce(&mut Dispatch<'_>) -> Result<(), CanvasError>,
    ) -> Result<Aftermath, CanvasError> {
        let known = Known(self);
        let sending = Sending {
            producer: &self.producer,
            now: Utc::now(),
            ignore_result: None,
            queue: self.config.routes.queue(""),
            parent: Some(Parent { id, root_id }),
        };
        let mut dispatch = Dispatch::new(sending, &known);
        collect(&mut dispatch)?;
        let Dispatch { results, plan, .. } = dispatch;
        let children = plan.children.iter().map(|child| results.as_tuple(*child)).collect();
        let operations: Vec<_> =
            Operation::of_plan(plan, self.results.chord_ttl_seconds()).collect();
        let before = operations.len();
        Ok(Aftermath { operations, before, children, ..Aftermath::default() })
    }
}

/// What an errback is called with.
pub(crate) struct ErrbackCall<'a> {
    /// The task that failed.
    pub(crate) id: &'a str,
    /// The first of its workflow.
    pub(crate) root_id: &'a str,
    /// Its request.
    pub(crate) request: Value,
    /// What it raised.
    pub(crate) exception: &'a Exception,
    /// The text of its traceback.
    pub(crate) traceback: Option<&'a str>,
}

impl ErrbackCall<'_> {
    fn of(&self, errback: Signature, node: &Arc<str>) -> Call {
        let mut args = vec![self.request.clone(), json!(self.exception), json!(self.traceback)];
        args.extend(errback.args);
        Call {
            task: errback.task.into(),
            id: self.id.into(),
            args,
            kwargs: errback.kwargs,
            root_id: Some(self.root_id.into()),
            hostname: Arc::clone(node),
            ..Call::default()
        }
    }
}

/// Whether an errback takes the request, the exception and the traceback: arguments that its
/// signature has already do not count (`Backend._errback_arity_greater`).
fn takes_more_than_the_id(parameters: usize, errback: &Signature) -> bool {
    let given = errback.args.len() + errback.kwargs.len();
    !errback.immutable && parameters.saturating_sub(given) > 1
}

fn sent_by(id: &str, root_id: &str) -> Options {
    Options::from_iter([
        ("parent_id".to_owned(), id.into()),
        ("root_id".to_owned(), root_id.into()),
    ])
}

fn values(signatures: &Option<Vec<Box<RawValue>>>) -> Vec<Value> {
    let signatures = signatures.iter().flatten();
    signatures.map(|signature| serde_json::from_str(signature.get()).unwrap_or_default()).collect()
}
