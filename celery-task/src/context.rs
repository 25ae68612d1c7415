//! What a running task can ask and say.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use celery::error::TaskError;
use celery_redis::wire::envelope;
use celery_redis::wire::exception::Exception;
use celery_redis::{Canvas, Client};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::failure::Retry;
use crate::time_limit::{RunTime, soft_time_limit_exceeded};

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// Application state by type.
pub type States = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// A call as the engine hands it to a task.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Name of the task.
    pub task: Arc<str>,
    /// Id of the task.
    pub id: Arc<str>,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// How often it was retried.
    pub retries: u32,
    /// First task of the workflow.
    pub root_id: Option<Arc<str>>,
    /// Task that sent this one.
    pub parent_id: Option<Arc<str>>,
    /// Group that it belongs to.
    pub group: Option<Arc<str>>,
    /// Its place in the group.
    pub group_index: Option<i64>,
    /// Signature of the body of the chord whose header it belongs to.
    pub chord: Option<Value>,
    /// Not before.
    pub eta: Option<DateTime<Utc>>,
    /// Not after.
    pub expires: Option<DateTime<Utc>>,
    /// Producer.
    pub origin: Option<Arc<str>>,
    /// `properties.reply_to`.
    pub reply_to: Option<Arc<str>>,
    /// Node name of the worker.
    pub hostname: Arc<str>,
    /// Queue that it came from.
    pub queue: Arc<str>,
    /// Delivered before.
    pub redelivered: bool,
    /// 0 to 9.
    pub priority: i64,
    /// How often the task was replaced on its way here (`Task.replace`).
    pub replaced_task_nesting: u64,
    /// Hard time limit in seconds, the message's before the task's.
    pub time_limit: Option<f64>,
    /// Soft time limit in seconds, the message's before the task's.
    pub soft_time_limit: Option<f64>,
    /// The message as it came, for what nobody reads otherwise.
    pub envelope: Bytes,
}

impl Call {
    /// The headers that the caller added to Celery's own (`task.request.headers`).
    pub fn headers(&self) -> Map<String, Value> {
        envelope::user_headers(&self.envelope)
    }

    /// The message's properties (`task.request.properties`).
    pub fn properties(&self) -> Map<String, Value> {
        envelope::properties(&self.envelope)
    }
}

/// A state of the task's own, on its way.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Name, such as `PROGRESS`.
    pub state: String,
    /// What `AsyncResult.info` shows.
    pub meta: Value,
}

/// The run that the current code belongs to; cheap to clone.
#[derive(Clone)]
pub struct TaskContext(Arc<Run>);

struct Run {
    call: Call,
    states: Arc<States>,
    client: Arc<Client>,
    children: Mutex<Vec<Value>>,
    raised: Mutex<Option<Raised>>,
    progress: Mutex<Option<Progress>>,
    progressed: Notify,
    time: RunTime,
}

/// What a task said before it returned an error that rusty-celery's types cannot express.
#[derive(Debug)]
pub(crate) enum Raised {
    Exception(Exception),
    Retry(Retry),
    Ignore,
    Reject { reason: Value, requeue: bool },
    Replace(Box<Canvas>),
}

impl TaskContext {
    pub(crate) fn new(call: Call, states: Arc<States>, client: Arc<Client>, time: RunTime) -> Self {
        let (raised, children, progress, progressed) = Default::default();
        let run = Run { call, states, client, children, raised, progress, progressed, time };
        Self(Arc::new(run))
    }

    /// The context of the task that is running.
    ///
    /// # Panics
    ///
    /// Outside of a task.
    pub fn current() -> Self {
        CURRENT.with(Self::clone)
    }

    /// Runs `work` with this as [`TaskContext::current`].
    pub(crate) async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Id of the task.
    pub fn task_id(&self) -> &str {
        &self.0.call.id
    }

    /// Name of the task.
    pub fn task_name(&self) -> &str {
        &self.0.call.task
    }

    /// How often it was retried.
    pub fn retries(&self) -> u32 {
        self.0.call.retries
    }

    /// The call as it arrived, without its arguments, which the task has.
    pub fn call(&self) -> &Call {
        &self.0.call
    }

    /// The time; a task asks here and nowhere else.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// The application's state of type `T`.
    ///
    /// # Panics
    ///
    /// Where the registry was given none: a mistake in the program's `main`.
    pub fn state<T: Any + Send + Sync>(&self) -> Arc<T> {
        let state = self.0.states.get(&TypeId::of::<T>()).cloned();
        match state.and_then(|state| state.downcast().ok()) {
            Some(state) => state,
            None => panic!("the registry has no state of type {}", std::any::type_name::<T>()),
        }
    }

    /// An error that Python's `.get()` raises as `exception`.
    pub fn fail(&self, exception: Exception) -> TaskError {
        let message = exception.traceback_line();
        self.raise(Raised::Exception(exception));
        TaskError::UnexpectedError(message)
    }

    /// An error that has the task run again later, until its retries are used up.
    pub fn retry(&self, retry: Retry) -> TaskError {
        self.raise(Raised::Retry(retry));
        TaskError::Retry(None)
    }

    /// An error that acknowledges the message and stores nothing, now or later: whoever calls
    /// `.get()` waits for somebody else to store a result (`Ignore` in Celery).
    pub fn ignore(&self) -> TaskError {
        self.raise(Raised::Ignore);
        TaskError::ExpectedError("the task ignores its message".to_owned())
    }

    /// An error that refuses the message for good: its caller is told, and where it is acknowledged
    /// late it becomes a dead letter (`Reject` in Celery).
    pub fn reject(&self, reason: impl Into<Value>) -> TaskError {
        self.raise(Raised::Reject { reason: reason.into(), requeue: false });
        TaskError::ExpectedError("the task rejects its message".to_owned())
    }

    /// An error that gives the message back to its queue, behind all others, for any worker to take
    /// (`Reject(requeue=True)` in Celery). One that is acknowledged early is already gone.
    pub fn requeue(&self, reason: impl Into<Value>) -> TaskError {
        self.raise(Raised::Reject { reason: reason.into(), requeue: true });
        TaskError::ExpectedError("the task gives its message back".to_owned())
    }

    /// Ends when the run's soft time limit passes, so that an async task can bring its work to an
    /// end before the hard limit does.
    ///
    /// A task that never asks is dropped at its soft limit and fails with `SoftTimeLimitExceeded`;
    /// one that has asked goes on and decides itself:
    ///
    /// ```ignore
    /// tokio::select! {
    ///     report = build_report() => Ok(report),
    ///     () = context.soft_time_limit() => Ok(what_there_is()),
    /// }
    /// ```
    pub fn soft_time_limit(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.0.time.handle()
    }

    /// For a task that blocks its thread, which nothing can interrupt: to be called between its
    /// steps. An error from the soft time limit on, and when the run was terminated.
    pub fn check_time_limit(&self) -> Result<(), TaskError> {
        if self.0.time.is_up() { Err(self.fail(soft_time_limit_exceeded())) } else { Ok(()) }
    }

    /// Shows a state of the task's own to whoever asks; the last one wins.
    pub fn update_state(&self, state: &str, meta: Value) {
        let progress = Progress { state: state.to_owned(), meta };
        *self.0.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        self.0.progressed.notify_one();
    }

    /// The next state that the task sets; one that was replaced meanwhile is passed over.
    pub async fn next_state(&self) -> Progress {
        loop {
            let progress = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner).take();
            match progress {
                Some(progress) => return progress,
                // Keeps one notification for who was not waiting yet.
                None => self.0.progressed.notified().await,
            }
        }
    }

    /// What this task sends through.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Results of what this task has sent, as Celery's `children`.
    pub fn children(&self) -> Vec<Value> {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_children(&self, children: Vec<Value>) {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).extend(children);
    }

    pub(crate) fn raise(&self, raised: Raised) {
        *self.0.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(raised);
    }

    pub(crate) fn take_raised(&self) -> Option<Raised> {
        self.0.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
