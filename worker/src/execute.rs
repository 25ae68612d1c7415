//! Running one task to its end, within its time limit, while its own states are stored.

use std::sync::Arc;
use std::time::Duration;

use celery_redis::wire::exception::Exception;
use celery_task::{Ended, Progress};
use serde_json::Value;
use tokio::sync::watch;

use crate::consumer::Consumer;
use crate::request::Request;

/// A run that ended, or that ran out of time.
pub(crate) enum Execution {
    /// It ended by itself.
    Ended(Ended),
    /// Its hard time limit passed. A blocking task's thread goes on: `rest` is what is left of it.
    TimedOut { exception: Exception, rest: Option<tokio::task::JoinHandle<Ended>> },
    /// Somebody had it stopped. A blocking task's thread goes on, too.
    Terminated { rest: Option<tokio::task::JoinHandle<Ended>> },
}

impl Consumer {
    /// Runs the task of `request`.
    pub(crate) async fn execute(self: &Arc<Self>, request: &mut Request) -> Execution {
        let call = request.take_call(&self.config.node);
        let limit = request.time_limit();
        let (run, progress) = request.task.start(call, self.registry.states(), &self.app);
        let mut run = tokio::spawn(run);
        let reports = self.store_progress(request, progress);
        tokio::select! {
            biased;
            ended = &mut run => Execution::Ended(joined(ended)),
            () = time_limit(limit) => {
                let exception = Exception::new(
                    "TimeLimitExceeded",
                    "billiard.exceptions",
                    vec![limit.map_or(Value::Null, Value::from)],
                );
                if request.task.blocking {
                    return Execution::TimedOut { exception, rest: Some(run) };
                }
                run.abort();
                Execution::TimedOut { exception, rest: None }
            }
            signal = request.reservation.terminated() => {
                log::warn!("{} is terminated (signal {})", request.label(), signal.0);
                if request.task.blocking {
                    return Execution::Terminated { rest: Some(run) };
                }
                run.abort();
                Execution::Terminated { rest: None }
            }
            ended = reports => match ended {},
        }
    }

    /// Stores each state that the task sets; never ends.
    async fn store_progress(
        &self,
        request: &Request,
        mut updates: watch::Receiver<Option<Progress>>,
    ) -> std::convert::Infallible {
        while updates.changed().await.is_ok() {
            let progress = updates.borrow_and_update().clone();
            if let Some(progress) = progress {
                self.store_state(request, progress).await;
            }
        }
        std::future::pending().await
    }
}

async fn time_limit(seconds: Option<f64>) {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn joined(ended: Result<Ended, tokio::task::JoinError>) -> Ended {
    ended.unwrap_or_else(|error| Ended::Raised {
        exception: Exception::builtin(
            "RuntimeError",
            format!("the run ended without a result: {error}"),
        ),
        traceback: String::new(),
    })
}
