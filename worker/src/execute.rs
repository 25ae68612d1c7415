//! Running one task to its end, within its time limits, while its own states are stored.

use std::sync::Arc;
use std::time::Duration;

use celery_redis::wire::exception::Exception;
use celery_task::{
    Ended, Execution, RunTime, SoftLimitPassed, TaskContext, soft_time_limit_exceeded,
};
use serde_json::Value;

use crate::consumer::Consumer;
use crate::request::Request;
use crate::task_threads::Run;

/// How a run came to its end.
pub(crate) struct Executed {
    pub(crate) how: RunEnd,
    /// What is left of a run that was ended before its time: a task that blocks its thread goes on.
    pub(crate) rest: Option<Run>,
}

/// Who ended a run.
pub(crate) enum RunEnd {
    /// Itself, or its soft time limit.
    Ended(Ended),
    /// Its hard time limit.
    TimedOut(Exception),
    /// Somebody had it stopped.
    Terminated,
}

impl Consumer {
    /// Runs the task of `request`.
    pub(crate) async fn execute(self: &Arc<Self>, request: &mut Request) -> Executed {
        let limits = self.limits.times(&request.message.task, &request.message.headers);
        if let Some(seconds) = limits.hard {
            request.reservation.limited(seconds);
        }
        let call = request.take_call(&self.config.node, limits);
        let started = request.task.start(call, self.registry.states(), &self.app);
        let mut run = self.threads.begin(request.task.name, started.ended);
        let reports = self.store_progress(request, &started.context);
        let how = tokio::select! {
            biased;
            ended = run.end() => {
                request.children = started.context.children();
                return Executed { how: RunEnd::Ended(ended), rest: None };
            }
            () = soft_limit(limits.soft, request, &started.time) => {
                let retries = request.message.headers.retries;
                RunEnd::Ended(request.task.options.after(soft_time_limit_exceeded(), retries))
            }
            seconds = passed(limits.hard) => {
                log::error!("{}: its hard time limit ({seconds} s) is exceeded", request.label());
                RunEnd::TimedOut(Exception::new(
                    "TimeLimitExceeded",
                    "billiard.exceptions",
                    vec![number(seconds)],
                ))
            }
            signal = request.reservation.terminated() => {
                log::warn!("{} is terminated (signal {})", request.label(), signal.0);
                RunEnd::Terminated
            }
            ended = reports => match ended {},
        };
        started.time.end();
        if request.task.execution == Execution::Async {
            run.abort();
        }
        Executed { how, rest: Some(run) }
    }

    /// Stores each state that the task sets; never ends.
    async fn store_progress(
        &self,
        request: &Request,
        context: &TaskContext,
    ) -> std::convert::Infallible {
        loop {
            let progress = context.next_state().await;
            Box::pin(self.store_state(request, progress)).await;
        }
    }
}

/// Ends when the soft limit has passed and the run has to be ended for it.
async fn soft_limit(limit: Option<f64>, request: &Request, time: &RunTime) {
    let seconds = passed(limit).await;
    log::warn!("{}: its soft time limit ({seconds} s) is exceeded", request.label());
    let ends_itself = time.pass_soft_limit() == SoftLimitPassed::TaskEndsItself;
    if ends_itself || request.task.execution == Execution::Blocking {
        std::future::pending::<()>().await;
    }
}

/// Ends when so many seconds have passed.
async fn passed(limit: Option<f64>) -> f64 {
    match limit.and_then(|seconds| Some((seconds, Duration::try_from_secs_f64(seconds).ok()?))) {
        Some((seconds, limit)) => {
            // Boxed, because few runs have a limit: this future is part of every run's.
            Box::pin(tokio::time::sleep(limit)).await;
            seconds
        }
        None => std::future::pending().await,
    }
}

/// Whole seconds are the integer that Python's callers give.
fn number(seconds: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)]
    let whole = (seconds.fract() == 0.0 && seconds < 1e15).then_some(seconds as i64);
    whole.map_or_else(|| Value::from(seconds), Value::from)
}
