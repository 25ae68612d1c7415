//! What happens here, told to whoever listens: never so that a task waits for it
//! (`celery.events`).

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celery_redis::Clock;
use celery_redis::transport::connection::Backoff;
use celery_redis::transport::event_dispatcher::EventDispatcher;
use celery_redis::wire::event::{Announcement, Happened, Sender, Stamp, TaskEvent, WorkerEvent};
use celery_redis::wire::exception::Exception;
use celery_redis::wire::result::{Outcome, State};
use celery_redis::wire::{isoformat, python_repr};
use chrono::Local;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::request::Request;
use crate::settle::Disposal;

/// Events that may wait while Redis is away or slow; beyond it the newest are dropped.
const CAPACITY: usize = 4096;
/// Most task events in one message.
const BATCH: usize = 64;
/// Ids of waiting tasks whose arrival was told, so that it is not told again when they are due.
const ANNOUNCED: usize = 10_000;
/// How long the end of the process waits for the last events.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where all parts of a worker tell what happens.
#[derive(Debug)]
pub(crate) struct Events {
    clock: Arc<Clock>,
    /// `-E`: remote control then cannot switch task events off.
    always: bool,
    tasks: AtomicBool,
    queue: mpsc::Sender<Queued>,
    dropped: AtomicU64,
    refused_before: AtomicBool,
    announced: Mutex<Announced>,
}

#[derive(Debug)]
enum Queued {
    Worker(WorkerEvent, Stamp),
    Task(TaskEvent, Stamp),
    Sent(TaskEvent, Stamp),
    /// Tells when all before it was sent.
    End(oneshot::Sender<()>),
}

/// The waiting side of [`Events`].
#[derive(Debug)]
pub(crate) struct EventQueue(mpsc::Receiver<Queued>);

#[derive(Debug, Default)]
struct Announced {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Events {
    /// Task events are told from the start where `always` says so, else when they are asked for.
    pub(crate) fn new(clock: Arc<Clock>, always: TaskEvents) -> (Arc<Self>, EventQueue) {
        let (queue, receiver) = mpsc::channel(CAPACITY);
        let always = always == TaskEvents::Always;
        let events = Self {
            clock,
            always,
            tasks: AtomicBool::new(always),
            queue,
            dropped: AtomicU64::new(0),
            refused_before: AtomicBool::new(false),
            announced: Mutex::default(),
        };
        (Arc::new(events), EventQueue(receiver))
    }

    /// Begins to tell of tasks; whether that is a change.
    pub(crate) fn enable_tasks(&self) -> bool {
        !self.tasks.swap(true, Ordering::Relaxed)
    }

    /// Ends to tell of tasks; whether that is a change.
    pub(crate) fn disable_tasks(&self) -> bool {
        !self.always && self.tasks.swap(false, Ordering::Relaxed)
    }

    /// Something about the worker.
    pub(crate) fn worker(&self, event: WorkerEvent) {
        self.put(Queued::Worker(event, self.stamp()));
    }

    /// A request has arrived that will run now; not told where it was told when it began to wait.
    pub(crate) fn received(&self, request: &Request) {
        if self.tells_of_tasks() && !self.announced().remove(&request.message.id) {
            self.arrived(request);
        }
    }

    /// A request has arrived that will wait in Redis and then arrive once more.
    pub(crate) fn received_early(&self, request: &Request) {
        if self.tells_of_tasks() && self.announced().add(&request.message.id) {
            self.arrived(request);
        }
    }

    fn arrived(&self, request: &Request) {
        let message = &request.message;
        let headers = &message.headers;
        let args = || python_repr::args(&message.body.args).into();
        let kwargs = || python_repr::kwargs(&message.body.kwargs).into();
        self.task(
            &message.id,
            Happened::Received {
                name: message.task.clone(),
                args: headers.argsrepr.clone().unwrap_or_else(args),
                kwargs: headers.kwargsrepr.clone().unwrap_or_else(kwargs),
                root_id: headers.root_id.clone(),
                parent_id: headers.parent_id.clone(),
                retries: headers.retries,
                eta: headers.eta.map(isoformat::format),
                expires: headers.expires.map(isoformat::format),
            },
        );
    }

    /// A task begins.
    pub(crate) fn started(&self, request: &Request) {
        if self.tells_of_tasks() {
            self.task(&request.message.id, Happened::Started {});
        }
    }

    /// A request's state was stored and its message settled.
    pub(crate) fn settled(&self, request: &Request, outcome: &Outcome) {
        if !self.tells_of_tasks() {
            return;
        }
        let result: Value = serde_json::from_str(outcome.result.get()).unwrap_or_default();
        let exception: Option<Exception> = serde_json::from_value(result.clone()).ok();
        let exception =
            exception.unwrap_or_else(|| Exception::new("Exception", "builtins", vec![]));
        let traceback = || outcome.traceback.clone().unwrap_or_else(|| exception.traceback_line());
        let happened = match outcome.state {
            State::Success => Happened::Succeeded {
                result: python_repr::value(&result),
                runtime: request.reservation.runtime().as_secs_f64(),
            },
            State::Failure => {
                Happened::Failed { exception: exception.repr(), traceback: Some(traceback()) }
            }
            State::Retry => {
                // A retry without a reason is Python's `None`.
                let reason = if result.is_null() { "None".to_owned() } else { exception.repr() };
                Happened::Retried { exception: reason, traceback: traceback() }
            }
            State::Revoked => {
                let reason = exception.exc_message.first().and_then(Value::as_str);
                Happened::Revoked {
                    terminated: reason == Some("terminated"),
                    signum: request.reservation.signal().map(|signal| signal.0),
                    expired: reason == Some("expired"),
                }
            }
            State::Started | State::Other(_) => return,
        };
        self.task(&request.message.id, happened);
    }

    /// A task has refused its message.
    pub(crate) fn rejected(&self, request: &Request, disposal: Disposal) {
        if self.tells_of_tasks() {
            let requeue = disposal == Disposal::Requeue;
            self.task(&request.message.id, Happened::Rejected { requeue });
        }
    }

    /// A message was answered that names no task of ours, or cannot be read.
    pub(crate) fn refused(&self, id: &str, exception: &Exception) {
        if self.tells_of_tasks() {
            self.task(id, Happened::Failed { exception: exception.repr(), traceback: None });
        }
    }

    /// This worker has sent messages. Whoever sends tells of it, also while nobody asks for the
    /// events of tasks.
    pub(crate) fn sent(&self, messages: Vec<TaskEvent>) {
        for event in messages {
            self.put(Queued::Sent(event, self.stamp()));
        }
    }

    /// Says the last event, if there is one, and waits until all are sent, but not for long.
    pub(crate) async fn end(&self, last: Option<WorkerEvent>) {
        if let Some(last) = last {
            self.worker(last);
        }
        let (sent, all_sent) = oneshot::channel();
        let told = async {
            if self.queue.send(Queued::End(sent)).await.is_ok() {
                // An error means that nobody sends any more.
                let _ = all_sent.await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
            log::debug!("the last events could not be sent in time");
        }
    }

    fn tells_of_tasks(&self) -> bool {
        self.tasks.load(Ordering::Relaxed)
    }

    fn task(&self, id: &str, happened: Happened) {
        self.put(Queued::Task(TaskEvent { uuid: id.to_owned(), happened }, self.stamp()));
    }

    fn put(&self, event: Queued) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::at(Local::now(), self.clock.forward())
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is sent is told of (Celery's `task_send_sent_event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sendings {
    /// Each message: the calls that tasks make, and what follows from their ends.
    Told,
    /// None.
    Untold,
}

/// When a worker tells of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvents {
    /// From its start to its end.
    Always,
    /// While remote control has it do so.
    OnRequest,
}

impl Announced {
    /// Whether the id was there.
    fn remove(&mut self, id: &str) -> bool {
        self.ids.remove(id)
    }

    /// Whether the id is new.
    fn add(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > ANNOUNCED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl EventQueue {
    /// Sends what is told, in its order: by the worker as `sender`, of what it has sent as
    /// `producer`. Never ends.
    pub(crate) async fn send(
        mut self,
        events: &Events,
        dispatcher: &EventDispatcher,
        sender: &Sender,
        producer: &Sender,
    ) {
        let mut told = Vec::with_capacity(BATCH);
        let mut tasks = Vec::with_capacity(BATCH);
        while self.0.recv_many(&mut told, BATCH).await > 0 {
            for event in told.drain(..) {
                match event {
                    Queued::Task(event, stamp) => tasks.push((event, stamp)),
                    Queued::Worker(event, stamp) => {
                        publish_tasks(&mut tasks, events, dispatcher, sender).await;
                        publish(sender.worker(&event, stamp), events, dispatcher).await;
                    }
                    // Each by itself, as Celery's.
                    Queued::Sent(event, stamp) => {
                        publish_tasks(&mut tasks, events, dispatcher, sender).await;
                        publish(producer.task(&event, stamp), events, dispatcher).await;
                    }
                    Queued::End(sent) => {
                        publish_tasks(&mut tasks, events, dispatcher, sender).await;
                        // Whoever waited may have given up.
                        let _ = sent.send(());
                    }
                }
            }
            publish_tasks(&mut tasks, events, dispatcher, sender).await;
        }
    }
}

async fn publish_tasks(
    tasks: &mut Vec<(TaskEvent, Stamp)>,
    events: &Events,
    dispatcher: &EventDispatcher,
    sender: &Sender,
) {
    if !tasks.is_empty() {
        publish(sender.tasks(tasks), events, dispatcher).await;
        tasks.clear();
    }
}

/// Publishes through an outage; what comes meanwhile waits, and beyond the capacity is dropped.
async fn publish(
    event: serde_json::Result<Announcement>,
    events: &Events,
    dispatcher: &EventDispatcher,
) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            log::error!("an event is no JSON: {error}");
            return;
        }
    };
    let mut backoff = Backoff::default();
    loop {
        match dispatcher.publish(&event).await {
            Ok(()) => break,
            Err(error) if error.is_outage() => backoff.wait().await,
            Err(error) => {
                if !events.refused_before.swap(true, Ordering::Relaxed) {
                    log::error!("monitors see nothing of this worker: {error}");
                }
                return;
            }
        }
    }
    events.refused_before.store(false, Ordering::Relaxed);
    match events.dropped.swap(0, Ordering::Relaxed) {
        0 => {}
        dropped => {
            log::warn!("{dropped} events were dropped, because Redis took none for too long");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_was_told_of_until_it_runs() {
        let mut announced = Announced::default();
        assert!(announced.add("1"));
        assert!(!announced.add("1"));
        assert!(announced.remove("1"));
        assert!(!announced.remove("1"));
        for id in 0..=ANNOUNCED {
            announced.add(&id.to_string());
        }
        assert!(!announced.remove("0"));
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_makes_nobody_wait() {
        let (events, queue) = Events::new(Arc::default(), TaskEvents::Always);
        for _ in 0..CAPACITY + 3 {
            events.refused("1", &Exception::builtin("ValueError", "x"));
        }
        assert_eq!(events.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(queue.0.len(), CAPACITY);
    }

    #[test]
    fn task_events_of_the_command_line_cannot_be_switched_off() {
        let (always, _) = Events::new(Arc::default(), TaskEvents::Always);
        assert!(!always.enable_tasks() && !always.disable_tasks() && always.tells_of_tasks());
        let (asked, _) = Events::new(Arc::default(), TaskEvents::OnRequest);
        assert!(asked.enable_tasks() && !asked.enable_tasks());
        assert!(asked.disable_tasks() && !asked.disable_tasks());
    }
}
