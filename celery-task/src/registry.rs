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
use celery_redis::wire::returned::to_raw_value;
use serde::Serialize;
use serde_json::Value;

use crate::app::TaskApp;
use crate::arguments;
use crate::context::{Call, Raised, States, TaskContext};
use crate::failure::{Ended, Retry};
use crate::hooks;
use crate::options::TaskOptions;
use crate::time_limit::{RunTime, soft_time_limit_exceeded};

/// A run on the way to its end, wherever it is polled.
pub type RunFuture = Pin<Box<dyn Future<Output = Ended> + Send>>;
type Run = dyn Fn(Call, TaskContext, TaskApp, Arc<TaskOptions>) -> RunFuture + Send + Sync;

/// How a task uses its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// It gives way, and can be dropped at any such point.
    Async,
    /// It keeps a thread of its own, and cannot be stopped.
    Blocking,
}

/// A task as the engine sees it.
#[derive(Clone)]
pub struct TaskDefinition {
    /// Wire name.
    pub name: &'static str,
    /// Names of its parameters.
    pub parameters: &'static [&'static str],
    /// How it is run: as it was registered, then as its attributes say, then as the worker does.
    pub options: Arc<TaskOptions>,
    /// Whether it can be stopped.
    pub execution: Execution,
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
        self.register_with::<T>(TaskOptions::default())
    }

    /// Knows `T`, an `async fn`, and how it is run.
    pub fn register_with<T>(&mut self, options: TaskOptions) -> &mut Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.define::<T>(
            options,
            Execution::Async,
            Arc::new(|call, context, app, options| Box::pin(run::<T>(call, context, app, options))),
        )
    }

    /// Knows `T`, a `fn` that blocks its thread: it runs on a thread of its own.
    pub fn register_blocking<T>(&mut self) -> &mut Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.register_blocking_with::<T>(TaskOptions::default())
    }

    /// Knows `T`, a `fn` that blocks its thread, and how it is run.
    pub fn register_blocking_with<T>(&mut self, options: TaskOptions) -> &mut Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.define::<T>(
            options,
            Execution::Blocking,
            Arc::new(|call, context, app, options| {
                Box::pin(run_blocking::<T>(call, context, app, options))
            }),
        )
    }

    /// Knows a function of any arguments by a name: what takes `*args` in Python.
    pub fn register_function<F, R>(
        &mut self,
        name: &'static str,
        parameters: &'static [&'static str],
        options: TaskOptions,
        function: F,
    ) -> &mut Self
    where
        F: Fn(Call, TaskContext, TaskApp) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, TaskError>> + Send + 'static,
    {
        let function = Arc::new(function);
        let run: Arc<Run> = Arc::new(move |call, context, app, options| {
            Box::pin(run_function(Arc::clone(&function), call, context, app, options))
        });
        let execution = Execution::Async;
        let options = Arc::new(options);
        self.tasks.insert(name, TaskDefinition { name, parameters, options, execution, run });
        self
    }

    fn define<T: Task>(
        &mut self,
        options: TaskOptions,
        execution: Execution,
        run: Arc<Run>,
    ) -> &mut Self {
        let definition = TaskDefinition {
            name: T::NAME,
            parameters: T::ARGS,
            options: Arc::new(options.or(&TaskOptions::of_macro::<T>())),
            execution,
            run,
        };
        self.tasks.insert(T::NAME, definition);
        self
    }

    /// What every task does that does not say otherwise.
    pub fn set_defaults(&mut self, defaults: &TaskOptions) {
        for task in self.tasks.values_mut() {
            task.options = Arc::new(TaskOptions::clone(&task.options).or(defaults));
        }
    }

    /// Replaces the options of every task by what `adjust` makes of its name and its options.
    pub fn adjust_options(&mut self, adjust: impl Fn(&str, TaskOptions) -> TaskOptions) {
        for task in self.tasks.values_mut() {
            task.options = Arc::new(adjust(task.name, TaskOptions::clone(&task.options)));
        }
    }

    /// All tasks, sorted by name.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskDefinition> {
        self.tasks.values()
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

/// A run that has begun.
pub struct Started {
    /// Its end.
    pub ended: RunFuture,
    /// What to tell it about its time.
    pub time: RunTime,
    /// What the task sees.
    pub context: TaskContext,
}

impl TaskDefinition {
    /// A task of which nothing is known; it fails with `NotRegistered`.
    pub fn unknown() -> Self {
        Self {
            name: "",
            parameters: &[],
            options: Arc::default(),
            execution: Execution::Async,
            run: Arc::new(|call, _, _, _| {
                let exception = Exception::celery("NotRegistered", &*call.task);
                Box::pin(std::future::ready(Ended::raised(exception)))
            }),
        }
    }

    /// Begins a run.
    ///
    /// It ends in [`Ended`] whatever the task does, a panic included.
    pub fn start(&self, mut call: Call, states: &Arc<States>, app: &TaskApp) -> Started {
        let time = RunTime::new();
        let arguments = (std::mem::take(&mut call.args), std::mem::take(&mut call.kwargs));
        let client = Arc::clone(app.client());
        let context = TaskContext::new(call.clone(), Arc::clone(states), client, time.clone());
        (call.args, call.kwargs) = arguments;
        let ended = (self.run)(call, context.clone(), app.clone(), Arc::clone(&self.options));
        Started { ended, time, context }
    }
}

async fn run<T>(call: Call, context: TaskContext, app: TaskApp, options: Arc<TaskOptions>) -> Ended
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    let ended = match prepare::<T>(call, &app) {
        Ok(task) => {
            let params = task.request().params.clone();
            let inside = context.clone();
            let work = async {
                let result = task.run(params).await;
                ended(&task, result, &inside, &options).await
            };
            let work = context.clone().scope(work);
            match futures_util::FutureExt::catch_unwind(AssertUnwindSafe(work)).await {
                Ok(ended) => ended,
                Err(panic) => panicked(panic.as_ref()),
            }
        }
        Err(exception) => Ended::raised(exception),
    };
    // Boxed, because few have any: this future is made for every run.
    if options.on_retry.is_some() || options.after_return.is_some() {
        Box::pin(hooks::call(&ended, &context, &options)).await;
    }
    ended
}

async fn run_blocking<T>(
    call: Call,
    context: TaskContext,
    app: TaskApp,
    options: Arc<TaskOptions>,
) -> Ended
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    let runtime = tokio::runtime::Handle::current();
    let work = move || runtime.block_on(run::<T>(call, context, app, options));
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(error) => Ended::raised(Exception::builtin(
            "RuntimeError",
            format!("the task's thread ended: {error}"),
        )),
    }
}

async fn run_function<F, R>(
    function: Arc<F>,
    call: Call,
    context: TaskContext,
    app: TaskApp,
    options: Arc<TaskOptions>,
) -> Ended
where
    F: Fn(Call, TaskContext, TaskApp) -> R,
    R: Future<Output = Result<Value, TaskError>>,
{
    let inside = context.clone();
    let work = context.clone().scope(async move { function(call, inside, app).await });
    match futures_util::FutureExt::catch_unwind(AssertUnwindSafe(work)).await {
        Ok(Ok(value)) => match to_raw_value(&value) {
            Ok(json) => Ended::Returned(json),
            Err(error) => Ended::raised(Exception::builtin("TypeError", error.to_string())),
        },
        Ok(Err(error)) => after_error(&error, &context, &options),
        Err(panic) => panicked(panic.as_ref()),
    }
}

fn prepare<T: Task>(call: Call, app: &TaskApp) -> Result<T, Exception> {
    // rusty-celery's request has its own copy of each.
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
    let params = arguments::bind::<T::Params>(T::NAME, T::ARGS, call.args, call.kwargs)?;
    let message = Message {
        properties: MessageProperties {
            correlation_id: call.id.to_string(),
            content_type: "application/json".to_owned(),
            content_encoding: "utf-8".to_owned(),
            reply_to: text(call.reply_to),
        },
        headers: MessageHeaders {
            id: call.id.to_string(),
            task: call.task.to_string(),
            root_id: text(call.root_id),
            parent_id: text(call.parent_id),
            group: text(call.group),
            eta: call.eta,
            expires: call.expires,
            retries: Some(call.retries),
            origin: text(call.origin),
            ..MessageHeaders::default()
        },
        raw_body: Vec::new(),
    };
    let mut request = Request::new(app.celery(), message, params);
    request.hostname = Some(call.hostname.to_string());
    Ok(T::from_request(request, T::DEFAULTS))
}

/// What the task's answer means; its `on_success` and `on_failure` are called for a final one.
async fn ended<T: Task>(
    task: &T,
    result: Result<T::Returns, TaskError>,
    context: &TaskContext,
    options: &TaskOptions,
) -> Ended
where
    T::Returns: Serialize,
{
    let error = match result {
        Ok(value) => {
            let json = match to_raw_value(&value) {
                Ok(json) => json,
                Err(error) => {
                    return Ended::raised(Exception::new(
                        "EncodeError",
                        "kombu.exceptions",
                        vec![format!("the result of {} is no JSON: {error}", T::NAME).into()],
                    ));
                }
            };
            hooks::harmless(context, task.on_success(&value)).await;
            return Ended::Returned(json);
        }
        Err(error) => error,
    };
    let ended = after_error(&error, context, options);
    let is_final = match &ended {
        Ended::Raised { .. } => true,
        Ended::Retries(retry) => hooks::gives_up(retry, context, options),
        _ => false,
    };
    if is_final {
        hooks::harmless(context, task.on_failure(&error)).await;
    }
    ended
}

/// What a task's error means: what it said to its context before, or the error itself.
fn after_error(error: &TaskError, context: &TaskContext, options: &TaskOptions) -> Ended {
    match context.take_raised() {
        Some(Raised::Retry(retry)) => Ended::Retries(Box::new(retry)),
        Some(Raised::Replace(canvas)) => Ended::Replaced(canvas),
        Some(Raised::Ignore) => Ended::Ignored,
        Some(Raised::Reject { reason, requeue }) => Ended::Rejected { reason, requeue },
        Some(Raised::Exception(exception)) => options.after(exception, context.retries()),
        None => meant_by(error, context, options),
    }
}

/// One of rusty-celery's own errors.
fn meant_by(error: &TaskError, context: &TaskContext, options: &TaskOptions) -> Ended {
    match error {
        TaskError::Retry(eta) => {
            let retry = Retry::new();
            Ended::Retries(Box::new(match eta {
                Some(eta) => retry.eta(*eta),
                None => retry,
            }))
        }
        TaskError::ExpectedError(message) | TaskError::UnexpectedError(message) => {
            options.after(Exception::celery("TaskError", message.as_str()), context.retries())
        }
        TaskError::TimeoutError => Ended::raised(soft_time_limit_exceeded()),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Ended {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Ended::raised(Exception::builtin("RuntimeError", format!("the task panicked: {message}")))
}
