//! A task done by a worker: sent, and its result awaited.

use std::time::Duration;

use celery_redis::{GetError, Signature};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::Via;
use crate::failure::Failure;
use crate::session::{Session, block_on};

/// The tasks by their names on the wire.
pub(crate) mod task {
    pub(crate) const CLEANUP: &str = "jwt_auth.tasks.cleanup_expired_tokens";
    pub(crate) const ROTATE: &str = "jwt_auth.tasks.rotate_jwt_keypairs";
    pub(crate) const CLEANUP_KEYPAIRS: &str = "jwt_auth.tasks.cleanup_inactive_keypairs";
    pub(crate) const HEALTH: &str = "jwt_auth.tasks.generate_jwt_health_report";
    pub(crate) const SCOPES: &str = "jwt_auth.tasks.initialize_jwt_scopes";
}

/// A queue whose workers do the tasks.
#[derive(Debug)]
pub(crate) struct Queue<'a> {
    session: &'a Session,
    name: &'a str,
    timeout: Duration,
}

impl<'a> Queue<'a> {
    /// The queue that the command line names, if it does.
    pub(crate) fn named(session: &'a Session, via: &'a Via) -> Option<Self> {
        let name = via.queue.as_deref()?;
        Some(Self { session, name, timeout: via.timeout })
    }

    /// Has a worker do `task`, and returns its result.
    pub(crate) fn run(
        &self,
        task: &'static str,
        kwargs: &[(&str, bool)],
    ) -> Result<Value, Failure> {
        let mut signature = Signature::new(task).queue(self.name);
        for (name, value) in kwargs {
            signature = signature.kwarg(*name, *value);
        }
        let value = block_on(async {
            let client = self.session.client().await?;
            let sent = client.send(&signature).await?;
            sent.get(self.timeout).await.map_err(|error| failure(task, sent.id(), error))
        })?;
        legacy_error(task, &value).map_or(Ok(value), Err)
    }
}

/// What a task's result says.
pub(crate) fn read<T: DeserializeOwned>(task: &'static str, result: &Value) -> Result<T, Failure> {
    T::deserialize(result).map_err(|source| Failure::UnknownResult { task, source })
}

fn failure(task: &'static str, id: &str, error: GetError) -> Failure {
    let id = id.to_owned();
    match error {
        GetError::Failed(exception) => {
            Failure::Task { task, id, message: exception.traceback_line() }
        }
        GetError::Revoked(exception) => {
            let message = format!("it was revoked ({})", exception.traceback_line());
            Failure::Task { task, id, message }
        }
        GetError::TimedOut { timeout, .. } => Failure::NoResult { task, id, timeout },
        GetError::Malformed { source, .. } => Failure::UnknownResult { task, source },
        GetError::Broker(error) => Failure::Broker(error),
    }
}

/// With `JWT_LEGACY_ERROR_RESULTS`, the worker reports a failure as a success.
fn legacy_error(task: &'static str, result: &Value) -> Option<Failure> {
    if result["success"] != Value::Bool(false) {
        return None;
    }
    let message = result["error"].as_str().unwrap_or("no reason given").to_owned();
    Some(Failure::Work { action: task, message })
}
