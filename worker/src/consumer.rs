//! The line that every message goes along: fetch, decode, admit, execute, settle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use celery_redis::Clock;
use celery_redis::transport::broker::{Broker, Claim};
use celery_redis::transport::connection::{Backoff, TransportError};
use celery_redis::transport::dead_letters::Reason;
use celery_redis::transport::delivery::{Delivery, Settled};
use celery_redis::transport::publisher::Publisher;
use celery_redis::transport::result_backend::ResultBackend;
use celery_redis::transport::waiting_room::Passed;
use celery_redis::wire::envelope::is_compressed;
use celery_redis::wire::result::Outcome;
use celery_redis::wire::signature::Producer;
use celery_task::{AckPolicy, Registry, Retry, TaskApp};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::admit::{Admission, admit};
use crate::aside::{LONG, aside};
use crate::config::WorkerConfig;
use crate::events::Events;
use crate::execute::RunEnd;
use crate::limits::Limits;
use crate::request::Request;
use crate::revoked::RevokedTasks;
use crate::running::Running;
use crate::shutdown::{Shutdown, Stage};
use crate::slots::Slots;
use crate::state::WorkerState;
use crate::stuck::StuckSlots;
use crate::task_threads::TaskThreads;
use crate::waiting_room::{CalledInto, Doors};

/// Everything that a message meets on its way.
pub(crate) struct Consumer {
    pub(crate) config: WorkerConfig,
    pub(crate) broker: Arc<Broker>,
    pub(crate) results: ResultBackend,
    pub(crate) publisher: Publisher,
    pub(crate) producer: Producer,
    pub(crate) registry: Registry,
    pub(crate) app: TaskApp,
    pub(crate) slots: Slots,
    pub(crate) limits: Limits,
    pub(crate) doors: Doors,
    pub(crate) stuck: StuckSlots,
    pub(crate) threads: TaskThreads,
    pub(crate) revoked: RevokedTasks,
    pub(crate) state: Arc<WorkerState>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) events: Arc<Events>,
}

impl Consumer {
    /// Fetches for free slots until the shutdown begins; the runs go into `running`.
    pub(crate) async fn consume(
        self: &Arc<Self>,
        running: &Running,
        mut called_in: mpsc::Receiver<CalledInto>,
        mut shutdown: Shutdown,
    ) {
        let mut backoff = Backoff::default();
        loop {
            let slots = tokio::select! {
                biased;
                () = shutdown.reached(Stage::Warm) => return,
                Some((delivery, slot)) = called_in.recv() => {
                    running.begin(Arc::clone(self).take(delivery, slot));
                    continue;
                }
                slots = self.slots.free() => slots,
            };
            match self.broker.claim(slots.len()).await {
                Ok(Claim::Deliveries(deliveries)) if deliveries.is_empty() => {
                    drop(slots);
                    tokio::select! {
                        () = shutdown.reached(Stage::Warm) => return,
                        Some((delivery, slot)) = called_in.recv() => {
                            running.begin(Arc::clone(self).take(delivery, slot));
                        }
                        () = self.broker.message_waiting() => {}
                    }
                }
                Ok(Claim::Deliveries(deliveries)) => {
                    backoff.reset();
                    let line = Arc::clone(self);
                    let lent = deliveries.into_iter().zip(slots);
                    running.begin_all(
                        lent.map(move |(delivery, slot)| Arc::clone(&line).take(delivery, slot)),
                    );
                }
                Ok(Claim::LeaseGone) => self.renew_lease().await,
                Err(error) => {
                    drop(slots);
                    tokio::select! {
                        () = shutdown.reached(Stage::Warm) => return,
                        () = self.recover(&error, &mut backoff) => {}
                    }
                }
            }
        }
    }

    /// One delivery from here to its settlement, in one slot.
    ///
    /// What seldom happens is boxed: this future is moved for every message, and is as large as
    /// its largest way.
    async fn take(self: Arc<Self>, delivery: Delivery, slot: OwnedSemaphorePermit) {
        let spare = delivery.spare();
        let tag = spare.tag().to_owned();
        let handled = AssertUnwindSafe(self.handle(delivery, slot)).catch_unwind().await;
        let settled = match handled {
            Ok(settled) => settled,
            // A mistake of ours. Put back, the message would meet it again, and again.
            Err(_) => {
                let why = "the worker panicked over it".to_owned();
                Box::pin(spare.bury(Reason::Poison, why)).await
            }
        };
        match settled {
            Ok(Settled::Done) => {}
            Ok(Settled::LeaseLost) => {
                log::warn!(
                    "{tag} was taken by another worker while it ran here; nothing was stored"
                );
            }
            Err(error) => log::error!("{tag} could not be settled: {error}"),
        }
    }

    async fn handle(
        self: &Arc<Self>,
        delivery: Delivery,
        slot: OwnedSemaphorePermit,
    ) -> Result<Settled, TransportError> {
        let decode = || Request::decode(&delivery, &self.registry, &self.config, &self.state);
        let message = delivery.message();
        let takes_long = message.len() >= LONG || is_compressed(message);
        let decoded = if takes_long { aside(decode) } else { decode() };
        let mut request = match decoded {
            Ok(request) => request,
            Err(rejection) => return Box::pin(self.reject(delivery, rejection)).await,
        };
        if let Some(exception) = request.refusal.take() {
            return Box::pin(self.settle_failure(Some(delivery), &request, &exception, None)).await;
        }
        let revoked = self.revoked.covers(&request.message);
        let now = self.broker.now();
        match admit(&request.message, &request.task.options, revoked, now) {
            Admission::Run => match self.pass(delivery, &request).await? {
                Passed::In(delivery) => self.run(delivery, request, slot).await,
                Passed::Waits => {
                    self.events.received_early(&request);
                    Ok(Settled::Done)
                }
                Passed::LeaseLost => Ok(Settled::LeaseLost),
            },
            Admission::Defer { until } => {
                self.events.received_early(&request);
                Box::pin(delivery.defer(until)).await
            }
            Admission::Expired => {
                self.revoked.add_expired(&request.message.id);
                Box::pin(self.discard(delivery, &request, Outcome::revoked("expired"))).await
            }
            Admission::Revoked => {
                Box::pin(self.discard(delivery, &request, Outcome::revoked("revoked"))).await
            }
            Admission::Retry(exception) => {
                let retry = Retry::new().error(exception);
                Box::pin(self.settle_retry(Some(delivery), &request, retry)).await
            }
            Admission::Refuse(exception) => {
                Box::pin(self.settle_failure(Some(delivery), &request, &exception, None)).await
            }
        }
    }

    async fn run(
        self: &Arc<Self>,
        delivery: Delivery,
        mut request: Box<Request>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Settled, TransportError> {
        log::info!("{} received", request.label());
        self.events.received(&request);
        let lent = match request.task.options.acks() {
            AckPolicy::Late => Some(delivery),
            AckPolicy::Early => {
                if Box::pin(delivery.ack()).await? == Settled::LeaseLost {
                    return Ok(Settled::LeaseLost);
                }
                request.reservation.acknowledged();
                None
            }
        };
        if request.task.options.track_started == Some(true) {
            Box::pin(self.store_started(&request)).await;
        }
        request.reservation.begin();
        self.events.started(&request);
        let executed = self.execute(&mut request).await;
        let settled = match executed.how {
            RunEnd::Ended(ended) => self.settle(lent, &request, ended).await,
            RunEnd::TimedOut(exception) => {
                Box::pin(self.settle_timeout(lent, &request, &exception)).await
            }
            RunEnd::Terminated => Box::pin(self.settle_terminated(lent, &request)).await,
        };
        self.leave_place(&request);
        if let Ok(Settled::Done) = settled {
            let seconds = request.reservation.runtime().as_secs_f64();
            log::info!("{} settled after {seconds:.3} s", request.label());
        }
        if let Some(rest) = executed.rest.filter(|rest| !rest.is_over()) {
            self.stuck.hold(rest, slot, request);
        }
        settled
    }

    /// After a claim whose end is unknown: once Redis serves again, what it took goes back.
    async fn recover(&self, error: &TransportError, backoff: &mut Backoff) {
        if !error.is_outage() {
            log::error!("messages cannot be fetched: {error}");
        }
        loop {
            backoff.wait().await;
            match self.broker.return_unknown_claims().await {
                Ok(0) => return,
                Ok(returned) => {
                    log::warn!(
                        "{returned} messages were taken by a fetch whose reply was lost; they are back in their queues"
                    );
                    return;
                }
                Err(error) => log::debug!("Redis still cannot serve: {error}"),
            }
        }
    }

    async fn renew_lease(&self) {
        if let Err(error) = self.broker.renew().await {
            log::debug!("the lease could not be renewed: {error}");
            Backoff::default().wait().await;
        }
    }
}
