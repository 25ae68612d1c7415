//! What a running task can ask and say.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use celery::error::TaskError;
use celery_redis::wire::exception::Exception;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::failure::Retry;

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// Application state by type.
pub type States = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// A call as the engine hands it to a task.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Name of the task.
    pub task: String,
    /// Id of the task.
    pub id: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// How often it was retried.
    pub retries: u32,
    /// First task of the workflow.
    pub root_id: Option<String>,
    /// Task that sent this one.
    pub parent_id: Option<String>,
    /// Group that it belongs to.
    pub group: Option<String>,
    /// Not before.
    pub eta: Option<DateTime<Utc>>,
    /// Not after.
    pub expires: Option<DateTime<Utc>>,
    /// Producer.
    pub origin: Option<String>,
    /// `properties.reply_to`.
    pub reply_to: Option<String>,
    /// Node name of the worker.
    pub hostname: String,
    /// Queue that it came from.
    pub queue: String,
    /// Delivered before.
    pub redelivered: bool,
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
    raised: Mutex<Option<Raised>>,
    progress: watch::Sender<Option<Progress>>,
}

/// What a task said before it returned an error that rusty-celery's types cannot express.
#[derive(Debug)]
pub(crate) enum Raised {
    Exception(Exception),
    Retry(Retry),
}

impl TaskContext {
    pub(crate) fn new(
        call: Call,
        states: Arc<States>,
    ) -> (Self, watch::Receiver<Option<Progress>>) {
        let (progress, updates) = watch::channel(None);
        (Self(Arc::new(Run { call, states, raised: Mutex::default(), progress })), updates)
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

    /// Shows a state of the task's own to whoever asks; the last one wins.
    pub fn update_state(&self, state: &str, meta: Value) {
        self.0.progress.send_replace(Some(Progress { state: state.to_owned(), meta }));
    }

    fn raise(&self, raised: Raised) {
        *self.0.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(raised);
    }

    pub(crate) fn take_raised(&self) -> Option<Raised> {
        self.0.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
