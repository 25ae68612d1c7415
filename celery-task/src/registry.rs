//! The tasks that a worker knows, by name.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use celery::error::TaskError;
use celery::protocol::{Message, MessageHeaders, MessageProperties};
use celery::task::{Request, Task};
use celery_redis::wire::exception::Exception;
use chrono::Utc;
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::sync::watch;

use crate::app::TaskApp;
use crate::arguments;
use crate::context::{Call, Progress, Raised, States, TaskContext};
use crate::failure::{Ended, Retry};

/// When a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPolicy {
    /// Before the task runs: a worker that dies with it loses it.
    Early,
    /// Together with its result: a worker that dies with it has it run again.
    Late,
}

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;
type Run = dyn Fn(Call, TaskContext, TaskApp) -> Running + Send + Sync;

/// A task as the engine sees it.
#[derive(Clone)]
pub struct TaskDefinition {
    /// Wire name.
    pub name: &'static str,
    /// Its own policy; the worker's otherwise.
    pub acks: Option<AckPolicy>,
    /// Its own hard time limit in seconds; the message's comes first.
    pub time_limit: Option<f64>,
    /// Whether it blocks its thread, so that it cannot be stopped.
    pub blocking: bool,
    run: Arc<Run>,
}

/// Name → task, and the application's state that tasks may ask for.
#[derive(Default)]
pub struct Registry {
    tasks: BTreeMap<&'static str, TaskDefinition>,
    states: Arc<States>,
}

impl Registry {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives tasks access to `state` through [`TaskContext::state`].
    pub fn state<T: Any + Send + Sync>(&mut self, state: Arc<T>) -> &mut Self {
        Arc::make_mut(&mut self.states).insert(TypeId::of::<T>(), state);
        self
    }

    /// Knows `T`, an `async fn`.
    pub fn register<T>(&mut self) -> &mut Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.define::<T>(
            false,
            Arc::new(|call, context, app| Box::pin(run::<T>(call, context, app))),
        )
    }

    /// Knows `T`, a `fn` that blocks its thread: it runs on a thread of its own.
    pub fn register_blocking<T>(&mut self) -> &mut Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.define::<T>(
            true,
            Arc::new(|call, context, app| Box::pin(run_blocking::<T>(call, context, app))),
        )
    }

    fn define<T: Task>(&mut self, blocking: bool, run: Arc<Run>) -> &mut Self {
        let options = T::DEFAULTS;
        let definition = TaskDefinition {
            name: T::NAME,
            acks: options
                .acks_late
                .map(|late| if late { AckPolicy::Late } else { AckPolicy::Early }),
            time_limit: options.hard_time_limit.or(options.time_limit).map(f64::from),
            blocking,
            run,
        };
        self.tasks.insert(T::NAME, definition);
        self
    }

    /// Whether a task of that name is known.
    pub fn contains(&self, name: &str) -> bool {
        self.tasks.contains_key(name)
    }

    /// The task of that name.
    pub fn get(&self, name: &str) -> Option<&TaskDefinition> {
        self.tasks.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tasks.keys().copied()
    }

    /// What tasks of this registry may ask for while they run.
    pub fn states(&self) -> &Arc<States> {
        &self.states
    }
}

impl TaskDefinition {
    /// Begins a run. The watcher sees the states that the task sets on its way.
    ///
    /// The run ends in [`Ended`] whatever the task does, a panic included.
    pub fn start(
        &self,
        mut call: Call,
        states: &Arc<States>,
        app: &TaskApp,
    ) -> (impl Future<Output = Ended> + Send + use<>, watch::Receiver<Option<Progress>>) {
        let arguments = (std::mem::take(&mut call.args), std::mem::take(&mut call.kwargs));
        let (context, progress) = TaskContext::new(call.clone(), Arc::clone(states));
        (call.args, call.kwargs) = arguments;
        ((self.run)(call, context, app.clone()), progress)
    }
}

async fn run<T>(call: Call, context: TaskContext, app: TaskApp) -> Ended
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    let task = match prepare::<T>(call, &app) {
        Ok(task) => task,
        Err(exception) => return raised(exception),
    };
    let params = task.request().params.clone();
    let work = context.clone().scope(async move { task.run(params).await });
    match futures_util::FutureExt::catch_unwind(AssertUnwindSafe(work)).await {
        Ok(result) => ended::<T>(result, &context),
        Err(panic) => panicked(panic.as_ref()),
    }
}

async fn run_blocking<T>(call: Call, context: TaskContext, app: TaskApp) -> Ended
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    let runtime = tokio::runtime::Handle::current();
    let work = move || runtime.block_on(run::<T>(call, context, app));
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(error) => {
            raised(Exception::builtin("RuntimeError", format!("the task's thread ended: {error}")))
        }
    }
}

fn prepare<T: Task>(call: Call, app: &TaskApp) -> Result<T, Exception> {
    let params = arguments::bind::<T::Params>(T::NAME, T::ARGS, call.args, call.kwargs)?;
    let message = Message {
        properties: MessageProperties {
            correlation_id: call.id.clone(),
            content_type: "application/json".to_owned(),
            content_encoding: "utf-8".to_owned(),
            reply_to: call.reply_to,
        },
        headers: MessageHeaders {
            id: call.id,
            task: call.task,
            root_id: call.root_id,
            parent_id: call.parent_id,
            group: call.group,
            eta: call.eta,
            expires: call.expires,
            retries: Some(call.retries),
            origin: call.origin,
            ..MessageHeaders::default()
        },
        raw_body: Vec::new(),
    };
    let mut request = Request::new(app.celery(), message, params);
    request.hostname = Some(call.hostname);
    Ok(T::from_request(request, T::DEFAULTS))
}

fn ended<T: Task>(result: Result<T::Returns, TaskError>, context: &TaskContext) -> Ended
where
    T::Returns: Serialize,
{
    let error = match result {
        Ok(value) => {
            return match to_raw_value(&value) {
                Ok(json) => Ended::Returned(json),
                Err(error) => raised(Exception::new(
                    "EncodeError",
                    "kombu.exceptions",
                    vec![format!("the result of {} is no JSON: {error}", T::NAME).into()],
                )),
            };
        }
        Err(error) => error,
    };
    match (context.take_raised(), error) {
        (Some(Raised::Retry(retry)), _) => Ended::Retries(retry),
        (Some(Raised::Exception(exception)), _) => raised(exception),
        (None, TaskError::Retry(eta)) => {
            let error = Exception::celery("Retry", "the task asked to be retried");
            let mut retry = Retry::new(error);
            if let Some(eta) = eta {
                retry.countdown = (eta - Utc::now()).to_std().unwrap_or_default();
            }
            if let Some(max_retries) = T::DEFAULTS.max_retries {
                retry.max_retries = Some(max_retries);
            }
            Ended::Retries(retry)
        }
        (None, TaskError::ExpectedError(message) | TaskError::UnexpectedError(message)) => {
            raised(Exception::celery("TaskError", message))
        }
        (None, TaskError::TimeoutError) => {
            raised(Exception::new("TimeLimitExceeded", "billiard.exceptions", Vec::new()))
        }
    }
}

fn raised(exception: Exception) -> Ended {
    let traceback = format!("Traceback (most recent call last):\n{}\n", exception.traceback_line());
    Ended::Raised { exception, traceback }
}

fn panicked(panic: &(dyn Any + Send)) -> Ended {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    raised(Exception::builtin("RuntimeError", format!("the task panicked: {message}")))
}
