//! What the tasks have in common: their registration, and how they answer.

use std::time::Duration;

use celery::error::TaskError;
use celery_task::{MaxRetries, Registry, Retry, TaskContext};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    JwtAuth, JwtError, cleanup_expired_tokens, cleanup_inactive_keypairs,
    generate_jwt_health_report, initialize_jwt_scopes, isoformat, rotate_jwt_keypairs,
};

/// The names on the wire.
pub(crate) mod task_name {
    pub(crate) const CLEANUP_TOKENS: &str = "jwt_auth.tasks.cleanup_expired_tokens";
    pub(crate) const ROTATE: &str = "jwt_auth.tasks.rotate_jwt_keypairs";
    pub(crate) const CLEANUP_KEY_PAIRS: &str = "jwt_auth.tasks.cleanup_inactive_keypairs";
    pub(crate) const HEALTH: &str = "jwt_auth.tasks.generate_jwt_health_report";
    pub(crate) const SCOPES: &str = "jwt_auth.tasks.initialize_jwt_scopes";
}

/// How often a task is tried again where that can help.
const MAX_RETRIES: u32 = 3;

/// How long until it is tried again, after `retries` tries: 10, 30 and 90 seconds.
fn countdown(retries: u32) -> Duration {
    Duration::from_secs(10 * 3_u64.pow(retries.min(4)))
}

/// Makes the five tasks known. They ask the registry for a [`JwtAuth`] when they run.
pub fn register(registry: &mut Registry) {
    registry
        .register_blocking::<cleanup_expired_tokens::cleanup_expired_tokens>()
        .register_blocking::<rotate_jwt_keypairs::rotate_jwt_keypairs>()
        .register_blocking::<cleanup_inactive_keypairs::cleanup_inactive_keypairs>()
        .register_blocking::<generate_jwt_health_report::generate_jwt_health_report>()
        .register_blocking::<initialize_jwt_scopes::initialize_jwt_scopes>();
}

/// Turns a report into the task's result; an error into a retry where that can help, into an
/// exception where not, or into the dictionary that older callers expect, whose time is called
/// `time_key`.
pub(crate) fn answer<R: Serialize>(
    context: &TaskContext,
    jwt: &JwtAuth,
    time_key: &str,
    report: Result<R, JwtError>,
) -> Result<Value, TaskError> {
    let error = match report {
        Ok(report) => {
            return serde_json::to_value(report).map_err(|error| {
                TaskError::UnexpectedError(format!("the report is not JSON: {error}"))
            });
        }
        Err(error) => error,
    };
    let name = context.task_name();
    if error.is_passing() && context.retries() < MAX_RETRIES {
        let countdown = countdown(context.retries());
        log::warn!("{name}: {}; again in {} seconds", error.message(), countdown.as_secs());
        let retry = Retry::new().countdown(countdown).error(error.exception());
        return Err(context.retry(retry.max_retries(MaxRetries::AtMost(MAX_RETRIES))));
    }
    log::error!("{name}: {}", error.message());
    if jwt.settings.legacy_error_results {
        return Ok(json!({
            "success": false,
            "error": error.message(),
            time_key: isoformat(context.now()),
        }));
    }
    Err(context.fail(error.exception()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_tasks_have_the_names_that_django_calls() {
        let mut registry = Registry::new();
        register(&mut registry);
        let names: Vec<&str> = registry.names().collect();
        let mut expected = [
            task_name::CLEANUP_TOKENS,
            task_name::ROTATE,
            task_name::CLEANUP_KEY_PAIRS,
            task_name::HEALTH,
            task_name::SCOPES,
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
