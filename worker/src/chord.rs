//! A complete chord: its parts' results are joined, and its body is called or fails
//! (`RedisBackend.on_chord_part_return`, `Backend.chord_error_from_stack`).

use std::collections::BTreeMap;
use std::time::Duration;

use celery_redis::transport::connection::TransportError;
use celery_redis::transport::operation::{ChordEnding, CompleteChord, Operation};
use celery_redis::wire::canvas::{Canvas, CanvasError};
use celery_redis::wire::exception::Exception;
use celery_redis::wire::python_json;
use celery_redis::wire::record;
use celery_redis::wire::result::{Outcome, State, StoredMeta, TaskMeta};
use celery_redis::wire::signature::Options;
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aftermath::{Aftermath, Body, ErrbackCall, Errbacks};
use crate::consumer::Consumer;
use crate::settle::no_children;

/// How long a part's result may take to be stored after the part was counted
/// (Celery's `result_chord_join_timeout`).
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a part's failure is to be seen before its chord's is. Python's `AsyncResult.get` looks at
/// the parts, and some milliseconds later at the body: with both failures stored at once, whoever asks
/// just then raises `ChordError` where a Python worker's slower steps show what the part raised.
const PARTS_FIRST: Duration = Duration::from_millis(50);

/// Why a chord's body is not called.
struct ChordFailure(Box<Causes>);

struct Causes {
    /// What the body's result is.
    error: Exception,
    /// What a part raised, where one did.
    cause: Option<Exception>,
}

impl ChordFailure {
    fn new(message: String, cause: Option<Exception>) -> Self {
        Self(Box::new(Causes { error: Exception::celery("ChordError", message), cause }))
    }
}

impl From<CanvasError> for ChordFailure {
    fn from(error: CanvasError) -> Self {
        Self::new(format!("Callback error: {}", error.exception().repr()), None)
    }
}

/// A part as the chord keeps it.
#[derive(Deserialize)]
struct Part(#[allow(dead_code, reason = "the version")] Value, String, State, Value);

impl Consumer {
    /// What closes a complete chord, and the chords that its failure returns parts to.
    pub(crate) async fn close_chord(
        &self,
        chord: &CompleteChord,
        body: &Body,
    ) -> Result<(Vec<Operation>, BTreeMap<String, Body>, Errbacks), TransportError> {
        let called = match self.results_of(chord).await? {
            Ok(results) => self.call_body(&body.signature, results, body).map_err(Into::into),
            Err(failure) => Err(failure),
        };
        let (ending, aftermath) = match called {
            Ok(aftermath) => (ChordEnding::Called, aftermath),
            Err(failure) => {
                log::error!("chord {} fails: {}", chord.group_id, failure.0.error.exc_type);
                tokio::time::sleep(PARTS_FIRST).await;
                (ChordEnding::Failed, self.fail_body(body, &failure).await?)
            }
        };
        let (belonging, bodies, errbacks) = aftermath.into_parts();
        let mut operations = vec![Operation::CloseChord {
            group_id: chord.group_id.clone(),
            token: body.part.token.clone(),
            ending,
            belonging: belonging.len(),
        }];
        operations.extend(belonging);
        Ok((operations, bodies, errbacks))
    }

    fn call_body(
        &self,
        signature: &Value,
        results: Vec<Value>,
        body: &Body,
    ) -> Result<Aftermath, CanvasError> {
        let canvas = Canvas::from_json(signature)?;
        self.sent(&body.parent, &body.root_id, |dispatch| {
            dispatch.apply(canvas, &[Value::Array(results)], &Options::new())?;
            Ok(())
        })
    }

    /// The results of the parts, in the structure of the header.
    async fn results_of(
        &self,
        chord: &CompleteChord,
    ) -> Result<Result<Vec<Value>, ChordFailure>, TransportError> {
        let structure = chord
            .structure
            .as_deref()
            .and_then(|record| record::decompress(record).ok())
            .and_then(|record| serde_json::from_slice::<Value>(&record).ok())
            .and_then(|record| record.pointer("/result/1").and_then(Value::as_array).cloned());
        match structure {
            Some(members) => self.joined(&members).await,
            None => Ok(chord.parts.iter().map(|part| result_of(part)).collect()),
        }
    }

    /// The results of the members of a group, each a result or a group
    /// (`GroupResult.join`).
    async fn joined(
        &self,
        members: &[Value],
    ) -> Result<Result<Vec<Value>, ChordFailure>, TransportError> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let mut results = Vec::with_capacity(members.len());
        for member in members {
            let joined = match member.get(1).and_then(Value::as_array) {
                Some(members) => Box::pin(self.joined(members)).await?.map(Value::Array),
                None => {
                    let id = member.pointer("/0/0").and_then(Value::as_str).unwrap_or_default();
                    self.awaited(id, deadline).await?
                }
            };
            match joined {
                Ok(result) => results.push(result),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(results))
    }

    async fn awaited(
        &self,
        id: &str,
        deadline: Instant,
    ) -> Result<Result<Value, ChordFailure>, TransportError> {
        const PAUSE: Duration = Duration::from_millis(50);
        loop {
            match self.results.meta(id).await? {
                Some(StoredMeta { status: State::Success, result, .. }) => return Ok(Ok(result)),
                Some(meta) if meta.status.is_ready() => {
                    let cause = exception(meta.result);
                    let message = format!("Join error: {}", cause.repr());
                    return Ok(Err(ChordFailure::new(message, Some(cause))));
                }
                _ if Instant::now() >= deadline => {
                    let message = "Join error: TimeoutError('The operation timed out.')";
                    return Ok(Err(ChordFailure::new(message.to_owned(), None)));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The failure of a body: its errbacks, and stored for whoever waits for it.
    async fn fail_body(
        &self,
        body: &Body,
        failure: &ChordFailure,
    ) -> Result<Aftermath, TransportError> {
        let mut aftermath = Aftermath::default();
        let Ok(canvas) = Canvas::from_json(&body.signature) else { return Ok(aftermath) };
        let error = &failure.0.error;
        let outcome = Outcome::failure(error, Some(error.traceback()));
        if let Canvas::Group(group) = &canvas {
            // Each task of a group fails with what the part raised, and calls its own errbacks and
            // the group's.
            let cause = failure.0.cause.as_ref().unwrap_or(error);
            let outcome = Outcome::failure(cause, Some(cause.traceback()));
            let of_group = values_of(&group.options, "link_error");
            for task in &group.tasks {
                let (id, mut errbacks) = result_and_errbacks(task);
                errbacks.extend(of_group.iter().cloned());
                let step = Failed { id, errbacks, step: task.to_json(), cause, outcome: &outcome };
                self.fail_step(step, body, &mut aftermath).await?;
            }
            if let Some(id) = canvas.id() {
                let meta = TaskMeta::new(id, &outcome, no_children(), Utc::now());
                aftermath.then(Operation::Store(self.results.encode(&meta)));
            }
        } else {
            let errbacks = values_of(canvas.options(), "link_error");
            let step = body.signature.clone();
            let step = Failed { id: canvas.id(), errbacks, step, cause: error, outcome: &outcome };
            self.fail_step(step, body, &mut aftermath).await?;
        }
        let chain = values_of(canvas.options(), "chain");
        self.fail_chain(chain, &outcome, &mut aftermath).await?;
        Ok(aftermath)
    }

    /// Fails one task of a body, with its part in an outer chord, if it has one: without it nobody
    /// would ever complete that. Celery leaves it waiting.
    async fn fail_step(
        &self,
        failed: Failed<'_>,
        body: &Body,
        aftermath: &mut Aftermath,
    ) -> Result<(), TransportError> {
        let mut errbacks = Vec::new();
        for errback in failed.errbacks {
            if !errbacks.contains(&errback) && !body.called.contains(&errback) {
                errbacks.push(errback);
            }
        }
        let mut children = Vec::new();
        if let Some(id) = failed.id {
            let request = json!({"id": id, "errbacks": errbacks});
            let (exception, traceback) = (failed.cause, None);
            let call = ErrbackCall { id, root_id: id, request, exception, traceback };
            children = self.call_errbacks(&errbacks, &call, aftermath);
        }
        let children = python_json::to_string(&children).and_then(RawValue::from_string);
        let children = children.as_deref().unwrap_or(no_children());
        let mut failure = Aftermath::default();
        self.fail_steps(vec![failed.step], failed.outcome, children, &mut failure).await?;
        for outer in failure.bodies.values_mut() {
            outer.called = [errbacks.as_slice(), &body.called].concat();
        }
        aftermath.absorb(failure);
        Ok(())
    }
}

/// A task of a body that cannot be called.
struct Failed<'a> {
    id: Option<&'a str>,
    errbacks: Vec<Value>,
    step: Value,
    cause: &'a Exception,
    outcome: &'a Outcome,
}

/// A part's result, or what it raised.
fn result_of(part: &[u8]) -> Result<Value, ChordFailure> {
    let part = record::decompress(part).ok();
    let part = part.and_then(|part| serde_json::from_slice::<Part>(&part).ok());
    let Some(Part(_, id, state, result)) = part else {
        return Err(ChordFailure::new("Join error: a part has no result".to_owned(), None));
    };
    match state {
        State::Failure | State::Revoked => {
            let cause = exception(result);
            let message = format!("Dependency {id} raised {}", cause.repr());
            Err(ChordFailure::new(message, Some(cause)))
        }
        _ => Ok(result),
    }
}

fn exception(result: Value) -> Exception {
    serde_json::from_value(result).unwrap_or_else(|_| Exception::builtin("Exception", "unknown"))
}

/// The id of a canvas's result, and the errbacks linked to it (`_result_errbacks`).
fn result_and_errbacks(canvas: &Canvas) -> (Option<&str>, Vec<Value>) {
    let mut canvas = canvas;
    let mut errbacks = Vec::new();
    loop {
        errbacks.extend(values_of(canvas.options(), "link_error"));
        match canvas {
            Canvas::Chord(chord) => match &chord.body {
                Some(body) => canvas = body,
                None => break,
            },
            Canvas::Group(group) => {
                let of_tasks = group.tasks.iter().map(result_and_errbacks);
                errbacks.extend(of_tasks.flat_map(|(_, errbacks)| errbacks));
                break;
            }
            _ => break,
        }
    }
    (canvas.id(), errbacks)
}

/// One value or a list of values.
fn values_of(options: &Options, name: &str) -> Vec<Value> {
    match options.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
    }
}
