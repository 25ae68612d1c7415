//! Ending a delivery: its result stored and published, its message acknowledged, in one step.

use std::sync::Arc;

use celery_redis::transport::connection::TransportError;
use celery_redis::transport::dead_letters::Reason;
use celery_redis::transport::delivery::{Delivery, Position, Settled};
use celery_redis::transport::operation::{Operation, StoredResult};
use celery_redis::wire::exception::Exception;
use celery_redis::wire::python_json;
use celery_redis::wire::result::{Outcome, State, TaskMeta};
use celery_task::{Ended, Progress, Retry};
use chrono::Utc;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::aftermath::Aftermath;
use crate::aside::{LONG, LONG_TO_COPY, aside};
use crate::consumer::Consumer;
use crate::request::{Rejection, Request};
use crate::retry::{self, Again};

/// A delivery on its way to settlement; `None` where it was acknowledged before the run.
pub(crate) type Lent = Option<Delivery>;

/// What becomes of the message of a task that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    Acknowledge,
    /// It is kept as a dead letter, where it is still lent.
    Bury,
    /// It goes back to its queue, behind all others.
    Requeue,
}

impl Consumer {
    /// Ends a message that cannot be executed: its caller is told, or it becomes a dead letter.
    pub(crate) async fn reject(
        &self,
        delivery: Delivery,
        rejection: Rejection,
    ) -> Result<Settled, TransportError> {
        match rejection {
            Rejection::Bury { detail } => delivery.bury(Reason::Undecodable, detail).await,
            Rejection::Answer { id, exception } => {
                self.events.refused(&id, &exception);
                let outcome = Outcome::failure(&exception, None);
                let result =
                    self.results.encode(&TaskMeta::new(&id, &outcome, no_children(), Utc::now()));
                self.conclude(Some(delivery), Aftermath::of(Operation::Store(result))).await
            }
        }
    }

    /// Ends a message whose task will not run.
    pub(crate) async fn discard(
        &self,
        delivery: Delivery,
        request: &Request,
        outcome: Outcome,
    ) -> Result<Settled, TransportError> {
        self.settle_outcome(Some(delivery), request, &outcome, Aftermath::default()).await
    }

    /// Ends a message whose task was stopped.
    pub(crate) async fn settle_terminated(
        &self,
        lent: Lent,
        request: &Request,
    ) -> Result<Settled, TransportError> {
        let outcome = Outcome::revoked("terminated");
        self.settle_outcome(lent, request, &outcome, Aftermath::default()).await
    }

    /// Ends a message whose task has run.
    pub(crate) async fn settle(
        &self,
        lent: Lent,
        request: &Request,
        ended: Ended,
    ) -> Result<Settled, TransportError> {
        match ended {
            Ended::Returned(value) => match self.after_success(request, &value) {
                Ok(aftermath) => {
                    self.settle_outcome(lent, request, &Outcome::success(value), aftermath).await
                }
                Err(error) => {
                    let exception = error.exception();
                    Box::pin(self.settle_failure(lent, request, &exception, None)).await
                }
            },
            Ended::Replaced(canvas) => match self.replaced(request, *canvas) {
                Ok(aftermath) => {
                    log::info!("{} is replaced by another", request.label());
                    Box::pin(self.conclude(lent, aftermath)).await
                }
                Err(error) => {
                    let exception = error.exception();
                    Box::pin(self.settle_failure(lent, request, &exception, None)).await
                }
            },
            Ended::Raised { exception, traceback } => {
                Box::pin(self.settle_failure(lent, request, &exception, Some(traceback))).await
            }
            Ended::Retries(retry) => Box::pin(self.settle_retry(lent, request, *retry)).await,
            Ended::Ignored => {
                log::info!("{} is ignored by its task", request.label());
                Box::pin(self.conclude(lent, Aftermath::default())).await
            }
            Ended::Rejected { reason, requeue: false } => {
                Box::pin(self.settle_rejected(lent, request, reason)).await
            }
            Ended::Rejected { requeue: true, .. } => match lent {
                Some(delivery) => Box::pin(self.requeue(delivery, request)).await,
                None => {
                    log::warn!(
                        "{} cannot go back to its queue: it was acknowledged before it ran",
                        request.label()
                    );
                    Ok(Settled::Done)
                }
            },
        }
    }

    /// Ends a message whose task failed.
    pub(crate) async fn settle_failure(
        &self,
        lent: Lent,
        request: &Request,
        exception: &Exception,
        traceback: Option<String>,
    ) -> Result<Settled, TransportError> {
        let disposal = match request.task.options.acks_on_failure {
            Some(false) => Disposal::Bury,
            _ => Disposal::Acknowledge,
        };
        self.fail(lent, request, Outcome::failure(exception, traceback), exception, disposal).await
    }

    async fn fail(
        &self,
        lent: Lent,
        request: &Request,
        outcome: Outcome,
        exception: &Exception,
        disposal: Disposal,
    ) -> Result<Settled, TransportError> {
        log::error!("{} raised {}", request.label(), exception.exc_type);
        let mut aftermath = self.after_failure(request, exception, &outcome).await?;
        if let (Disposal::Bury, Some(delivery)) = (disposal, &lent) {
            let detail = format!("{} raised {}", request.label(), exception.exc_type);
            aftermath.then(delivery.burial(Reason::Rejected, detail));
        }
        let settled = self.settle_outcome(lent, request, &outcome, aftermath).await;
        if disposal != Disposal::Acknowledge {
            self.events.rejected(request, disposal);
        }
        settled
    }

    /// Gives a message back to its queue.
    async fn requeue(
        &self,
        delivery: Delivery,
        request: &Request,
    ) -> Result<Settled, TransportError> {
        log::info!("{} goes back to its queue", request.label());
        let settled = delivery.requeue(Position::Tail).await;
        self.events.rejected(request, Disposal::Requeue);
        settled
    }

    /// Sends the task once more, or fails it when its retries are used up.
    pub(crate) async fn settle_retry(
        &self,
        lent: Lent,
        request: &Request,
        retry: Retry,
    ) -> Result<Settled, TransportError> {
        match retry::again(request, retry, Utc::now(), &self.producer.origin) {
            Again::GiveUp(exception) => {
                let traceback = exception.traceback();
                self.settle_failure(lent, request, &exception, Some(traceback)).await
            }
            Again::Send { message, outcome, when } => {
                log::info!("{} retries {when}", request.label());
                let mut aftermath = Aftermath::before(Operation::Send(message));
                aftermath.children.push(json!([[request.message.id, null], null]));
                self.settle_outcome(lent, request, &outcome, aftermath).await
            }
        }
    }

    /// Ends a message that its task refused (`Reject` in Celery).
    async fn settle_rejected(
        &self,
        lent: Lent,
        request: &Request,
        reason: Value,
    ) -> Result<Settled, TransportError> {
        let args = vec![reason, Value::Bool(false)];
        let exception = Exception::new("Reject", "celery.exceptions", args);
        let outcome = Outcome::failure(&exception, None);
        self.fail(lent, request, outcome, &exception, Disposal::Bury).await
    }

    /// Ends a message whose run met its hard time limit.
    pub(crate) async fn settle_timeout(
        &self,
        lent: Lent,
        request: &Request,
        exception: &Exception,
    ) -> Result<Settled, TransportError> {
        match lent {
            Some(delivery) if request.task.options.acks_on_timeout == Some(false) => {
                if !delivery.is_ours().await? {
                    return Ok(Settled::LeaseLost);
                }
                let outcome = Outcome::failure(exception, None);
                if !request.drops(&outcome) {
                    self.results.store(&self.record(request, &outcome, no_children())).await?;
                }
                self.events.settled(request, &outcome);
                self.requeue(delivery, request).await
            }
            lent => {
                let outcome = Outcome::failure(exception, None);
                self.fail(lent, request, outcome, exception, Disposal::Acknowledge).await
            }
        }
    }

    async fn settle_outcome(
        &self,
        lent: Lent,
        request: &Request,
        outcome: &Outcome,
        mut aftermath: Aftermath,
    ) -> Result<Settled, TransportError> {
        if outcome.state.is_ready() {
            self.return_part(request, outcome, &mut aftermath);
        }
        if !request.drops(outcome) {
            let children: Vec<&Value> =
                request.children.iter().chain(&aftermath.children).collect();
            let children = python_json::to_string(&children).and_then(RawValue::from_string);
            let children = children.as_deref().unwrap_or(no_children());
            aftermath.store(self.record(request, outcome, children));
        }
        let settled = self.conclude(lent, aftermath).await;
        if let Ok(Settled::Done) = settled {
            self.events.settled(request, outcome);
        }
        settled
    }

    /// Records that a slot has begun the task.
    pub(crate) async fn store_started(&self, request: &Request) {
        let meta = serde_json::json!({"pid": std::process::id(), "hostname": self.config.node});
        self.store_state(request, Progress { state: State::Started.as_str().to_owned(), meta })
            .await;
    }

    /// Stores a state that the task has on its way. Lost states are not made up for: the next one
    /// says more.
    pub(crate) async fn store_state(&self, request: &Request, progress: Progress) {
        let result = python_json::to_string(&progress.meta).and_then(RawValue::from_string);
        let Ok(result) = result else { return };
        let outcome = Outcome { state: State::from(progress.state), result, traceback: None };
        if request.drops(&outcome) {
            return;
        }
        let record = self.record(request, &outcome, no_children());
        if let Err(error) = self.results.store(&record).await {
            log::warn!(
                "{}: its state {} was not stored: {error}",
                request.label(),
                outcome.state.as_str()
            );
        }
    }

    pub(crate) fn record(
        &self,
        request: &Request,
        outcome: &Outcome,
        children: &RawValue,
    ) -> StoredResult {
        let headers = &request.message.headers;
        let mut meta = TaskMeta::new(&request.message.id, outcome, children, Utc::now());
        meta.group_id = headers.group.as_deref();
        meta.parent_id = headers.parent_id.as_deref();
        meta.call = request.call_record.as_ref();
        let encode = || self.results.encode(&meta);
        let long = self.config.results.compression.map_or(LONG_TO_COPY, |_| LONG);
        if outcome.result.get().len() >= long { aside(encode) } else { encode() }
    }
}

/// `[]`: this task sent no others.
pub(crate) fn no_children() -> &'static RawValue {
    static NONE: std::sync::LazyLock<Arc<RawValue>> = std::sync::LazyLock::new(|| {
        RawValue::from_string("[]".to_owned())
            .map_or_else(|_| Arc::from(RawValue::NULL.to_owned()), Arc::from)
    });
    &NONE
}
