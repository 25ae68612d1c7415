//! What becomes of a task that asks to be run again (`celery.app.task`, `Task.retry`).

use std::time::Duration;

use celery_redis::wire::exception::Exception;
use celery_redis::wire::python_json::float_repr;
use celery_redis::wire::result::{Outcome, State};
use celery_redis::wire::retry::{self, Retried};
use celery_redis::wire::signature::Encoded;
use celery_task::{Retry, RetryTime};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use crate::request::Request;

/// The decision.
pub(crate) enum Again {
    /// The message that it becomes, and what is shown until then.
    Send { message: Encoded, outcome: Outcome, when: String },
    /// It will not run again: it fails.
    GiveUp(Exception),
}

/// Decides on the retry that the run of `request` asked for at `now`.
pub(crate) fn again(request: &Request, retry: Retry, now: DateTime<Utc>, origin: &str) -> Again {
    let options = &request.task.options;
    let most = retry.max_retries.unwrap_or(options.max_retries());
    if !most.allow(request.message.headers.retries) {
        return Again::GiveUp(retry.error.unwrap_or_else(|| max_retries_exceeded(request)));
    }
    let when = retry.when.unwrap_or(RetryTime::Countdown(options.default_retry_delay()));
    let (eta, when) = match when {
        RetryTime::Eta(eta) => (Some(eta), format!("at {eta}")),
        RetryTime::Countdown(countdown) => match after(now, countdown) {
            Some(eta) => {
                ((!countdown.is_zero()).then_some(eta), format!("in {}s", seconds(countdown)))
            }
            None => {
                let message = format!("a retry in {} s is beyond all dates", seconds(countdown));
                return Again::GiveUp(Exception::builtin("OverflowError", message));
            }
        },
    };
    let parameters = request.task.parameters.iter();
    let names: Vec<&str> = parameters.map(|name| name.trim_start_matches("r#")).collect();
    let changed = Retried {
        eta,
        args: retry.args.as_deref(),
        kwargs: retry.kwargs.as_ref(),
        names: &names,
        ignore_result: options.ignore_result.unwrap_or(false),
    };
    match retry::retried(&request.envelope, &changed, now, origin) {
        Ok(bytes) => Again::Send {
            message: Encoded {
                id: request.message.id.to_string(),
                queue: request.queue.to_string(),
                priority: request.message.priority,
                bytes,
            },
            outcome: waiting(retry.error.as_ref(), &when),
            when,
        },
        Err(error) => Again::GiveUp(Exception::celery(
            "MaxRetriesExceededError",
            format!("the message cannot be sent again: {error}"),
        )),
    }
}

/// What is shown while it waits: its error, and the traceback that Python's `Retry` has.
fn waiting(error: Option<&Exception>, when: &str) -> Outcome {
    let mut traceback =
        format!("Traceback (most recent call last):\ncelery.exceptions.Retry: Retry {when}");
    if let Some(error) = error {
        traceback.push_str(": ");
        traceback.push_str(&error.repr());
    }
    traceback.push('\n');
    let outcome = match error {
        Some(error) => Outcome::failure(error, Some(traceback)),
        None => Outcome {
            state: State::Retry,
            result: RawValue::NULL.to_owned(),
            traceback: Some(traceback),
        },
    };
    Outcome { state: State::Retry, ..outcome }
}

/// In Celery's words; its arguments as their producer lets them be shown.
fn max_retries_exceeded(request: &Request) -> Exception {
    let headers = &request.message.headers;
    Exception::celery(
        "MaxRetriesExceededError",
        format!(
            "Can't retry {}[{}] args:{} kwargs:{}",
            request.message.task,
            request.message.id,
            headers.argsrepr.as_deref().unwrap_or("()"),
            headers.kwargsrepr.as_deref().unwrap_or("{}"),
        ),
    )
}

fn after(now: DateTime<Utc>, countdown: Duration) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(countdown).ok()?)
}

/// As Python shows a number of seconds: `3` or `0.5`.
fn seconds(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => duration.as_secs().to_string(),
        _ => float_repr(duration.as_secs_f64()),
    }
}
