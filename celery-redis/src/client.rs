//! The producer's side: send a signature, await its result.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use serde::de::Error as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::sent_events::SentEvents;
use crate::transport::connection::{Connection, ConnectionSettings, TransportError, UrlError};
use crate::transport::keys::{self, Keys};
use crate::transport::operation::Operation;
use crate::transport::publisher::Publisher;
use crate::wire::canvas::{Canvas, CanvasError, Directory, Dispatch, ResultId, Results};
use crate::wire::exception::Exception;
use crate::wire::record;
use crate::wire::result::{State, StoredMeta};
use crate::wire::routes::Routes;
use crate::wire::signature::{
    Encoded, Options, Parent, Producer, Sending, Signature, SignatureError,
};

/// A producer: what `app.send_task` is in Python.
#[derive(Debug, Clone)]
pub struct Client {
    publisher: Publisher,
    backend: Arc<Connection>,
    producer: Producer,
    known: Known,
    sent: Option<SentEvents>,
}

/// What a client knows about tasks.
#[derive(Debug, Clone, Default)]
struct Known {
    routes: Arc<Routes>,
    /// The tasks that are known; `None` where nothing says which ones are not.
    tasks: Option<Arc<BTreeSet<String>>>,
}

impl Directory for Known {
    fn ignore_result(&self, task: &str) -> Option<bool> {
        self.tasks.as_ref().is_none_or(|tasks| tasks.contains(task)).then_some(false)
    }

    fn queue(&self, task: &str) -> &str {
        self.routes.queue(task)
    }
}

/// Why a client could not be made, or a message not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL names no Redis.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Redis did not take it.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An option that cannot be sent.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A chain, group or chord that cannot be sent.
    #[error(transparent)]
    Canvas(#[from] CanvasError),
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The task raised.
    #[error("the task failed: {}", .0.traceback_line())]
    Failed(Exception),
    /// The task will never run.
    #[error("the task will not run: {}", .0.traceback_line())]
    Revoked(Exception),
    /// Nothing came in time.
    #[error("no result of {id} within {} s; is a worker running that consumes the queue?", .timeout.as_secs_f64())]
    TimedOut {
        /// The task's id.
        id: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// The record is none.
    #[error("the record of {id} is no task's state: {source}")]
    Malformed {
        /// The task's id.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The result backend did not answer.
    #[error(transparent)]
    Broker(#[from] TransportError),
}

impl Client {
    /// Connects to the broker, which is the result backend too.
    pub async fn connect(broker_url: &str) -> Result<Self, ClientError> {
        Self::connect_with(ConnectionSettings::parse(broker_url)?, None, "").await
    }

    /// Connects to a broker under kombu's `global_keyprefix`, and to a result backend of its own.
    pub async fn connect_with(
        broker: ConnectionSettings,
        result_backend: Option<ConnectionSettings>,
        global_keyprefix: &str,
    ) -> Result<Self, ClientError> {
        let broker = Arc::new(Connection::new(broker));
        let backend = match result_backend {
            Some(settings) => Arc::new(Connection::new(settings)),
            None => Arc::clone(&broker),
        };
        let client = Self::new(Publisher::new(broker, Keys::new(global_keyprefix)), backend);
        client.publisher.connection().query::<String>("ping", &redis::cmd("PING")).await?;
        Ok(client)
    }

    /// A client over connections that exist already.
    pub fn new(publisher: Publisher, backend: Arc<Connection>) -> Self {
        let (producer, known) = (Producer::current(), Known::default());
        Self { publisher, backend, producer, known, sent: None }
    }

    /// With the queues that calls go to which name none.
    pub fn with_routes(mut self, routes: Routes) -> Self {
        self.known.routes = Arc::new(routes);
        self
    }

    /// With the names of the tasks that are known here: calls of others leave it to the worker
    /// whether they store a result, as Celery's `send_task` does.
    pub fn knowing(mut self, tasks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.known.tasks = Some(Arc::new(tasks.into_iter().map(Into::into).collect()));
        self
    }

    /// Telling monitors of each call that it sends, stamped with `clock`.
    pub fn telling_what_it_sends(mut self, clock: Arc<Clock>) -> Self {
        let keys = self.publisher.keys().clone();
        self.sent = Some(SentEvents::new(&self.producer, clock, keys));
        self
    }

    /// What this process's messages say about it.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The message of a signature, as it would be sent now.
    pub fn encode(&self, signature: &Signature) -> Result<Encoded, ClientError> {
        Ok(signature.message(&self.sending(signature.task(), None))?)
    }

    /// Sends a call. After an outage error it may or may not have been sent.
    pub async fn send(&self, signature: &Signature) -> Result<AsyncResult, ClientError> {
        let message = self.encode(signature)?;
        self.publisher.publish(&message).await?;
        let result = self.result(&message.id);
        if let Some(sent) = &self.sent {
            sent.tell(self.connection(), [&message]).await;
        }
        Ok(result)
    }

    /// Starts a chain, group or chord, in one step where broker and result backend are one Redis.
    /// After an outage error it may or may not have been started.
    pub async fn apply(&self, canvas: impl Into<Canvas>) -> Result<CanvasResult, ClientError> {
        Ok(self.apply_as(canvas.into(), None).await?.result)
    }

    /// Starts a canvas from within the task `parent`.
    pub async fn apply_as(
        &self,
        canvas: Canvas,
        parent: Option<Parent<'_>>,
    ) -> Result<Applied, ClientError> {
        let mut dispatch = Dispatch::new(self.sending("", parent), &self.known);
        let result = dispatch.apply(canvas, &[], &Options::new())?;
        let Dispatch { results, plan, .. } = dispatch;
        let children = plan.children.iter().map(|child| results.as_tuple(*child)).collect();
        let operations: Vec<_> = Operation::of_plan(plan, CHORD_TTL_SECONDS).collect();
        let sends = |operation: &Operation| match operation {
            Operation::Send(message) => Some(message.clone()),
            _ => None,
        };
        let told = self.sent.as_ref();
        let told = told.map(|sent| (sent, operations.iter().filter_map(sends).collect::<Vec<_>>()));
        if Arc::ptr_eq(self.connection(), &self.backend) {
            self.publisher.perform_once(&self.backend, operations).await?;
        } else {
            // A chord has to be known before its parts run.
            let (sends, records): (Vec<_>, Vec<_>) = operations
                .into_iter()
                .partition(|operation| matches!(operation, Operation::Send(_)));
            self.publisher.perform_once(&self.backend, records).await?;
            self.publisher.perform_once(self.connection(), sends).await?;
        }
        if let Some((sent, messages)) = told {
            sent.tell(self.connection(), &messages).await;
        }
        Ok(Applied { result: self.canvas_result(&results, result), children })
    }

    /// Does operations of the result backend, once.
    pub async fn record(&self, operations: Vec<Operation>) -> Result<(), ClientError> {
        self.publisher.perform_once(&self.backend, operations).await?;
        Ok(())
    }

    fn canvas_result(&self, results: &Results, result: ResultId) -> CanvasResult {
        let members = results.members(result).map(|members| {
            members.iter().map(|member| self.canvas_result(results, *member)).collect()
        });
        let tuple = results.as_tuple(result);
        CanvasResult { result: self.result(results.id(result)), members, tuple }
    }

    fn sending<'a>(&'a self, task: &str, parent: Option<Parent<'a>>) -> Sending<'a> {
        Sending {
            producer: &self.producer,
            now: Utc::now(),
            ignore_result: self.known.ignore_result(task),
            queue: self.known.queue(task),
            parent,
        }
    }

    /// The result of a task that was sent before.
    pub fn result(&self, id: &str) -> AsyncResult {
        AsyncResult { id: id.to_owned(), backend: Arc::clone(&self.backend) }
    }

    /// The connection to the broker.
    pub fn connection(&self) -> &Arc<Connection> {
        self.publisher.connection()
    }
}

/// The records of a chord live for a day, as Celery's do (`result_expires`).
const CHORD_TTL_SECONDS: u64 = 24 * 60 * 60;

/// A canvas that was started.
#[derive(Debug)]
pub struct Applied {
    /// Its result.
    pub result: CanvasResult,
    /// What was sent, as the `children` of the task that sent it.
    pub children: Vec<Value>,
}

/// The result of a canvas: of its last task, or of each member of a group.
#[derive(Debug, Clone)]
pub struct CanvasResult {
    result: AsyncResult,
    members: Option<Vec<CanvasResult>>,
    tuple: Value,
}

impl CanvasResult {
    /// Id of the task or of the group.
    pub fn id(&self) -> &str {
        self.result.id()
    }

    /// The results of a group's members; `None` for a single result.
    pub fn members(&self) -> Option<&[Self]> {
        self.members.as_deref()
    }

    /// As Celery passes results around: `[[id, parent], members]`.
    pub fn as_tuple(&self) -> &Value {
        &self.tuple
    }

    /// Waits for the result, or for all of a group's, which come as a list.
    pub async fn get(&self, timeout: Duration) -> Result<Value, GetError> {
        let Some(members) = &self.members else { return self.result.get(timeout).await };
        let deadline = Instant::now() + timeout;
        let mut values = Vec::with_capacity(members.len());
        for member in members {
            let left = deadline.saturating_duration_since(Instant::now());
            values.push(Box::pin(member.get(left)).await?);
        }
        Ok(Value::Array(values))
    }
}

/// A result that may not be there yet.
#[derive(Debug, Clone)]
pub struct AsyncResult {
    id: String,
    backend: Arc<Connection>,
}

impl AsyncResult {
    /// The task's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the task to end: subscribes, looks, then waits for the announcement.
    pub async fn get(&self, timeout: Duration) -> Result<Value, GetError> {
        let deadline = Instant::now() + timeout;
        let timed_out = || GetError::TimedOut { id: self.id.clone(), timeout };
        let outage = |source| {
            GetError::Broker(TransportError::Outage {
                server: self.backend.settings().to_string(),
                source,
            })
        };
        let channel = keys::task_meta(&self.id);
        let mut pubsub = self.backend.settings().open_pubsub().await.map_err(outage)?;
        pubsub.subscribe(&channel).await.map_err(outage)?;
        if let Some(meta) = self.meta().await?.filter(|meta| meta.status.is_ready()) {
            return ended(meta);
        }
        let mut announcements = pubsub.on_message();
        loop {
            match timeout_at(deadline, announcements.next()).await {
                Err(_) => return Err(timed_out()),
                Ok(None) => {
                    return Err(outage(
                        std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
                    ));
                }
                Ok(Some(message)) => {
                    let meta = self.parse(message.get_payload_bytes())?;
                    if meta.status.is_ready() {
                        return ended(meta);
                    }
                }
            }
        }
    }

    /// The stored record, if there is one.
    pub async fn meta(&self) -> Result<Option<StoredMeta>, GetError> {
        let mut command = redis::cmd("GET");
        command.arg(keys::task_meta(&self.id));
        let record: Option<Vec<u8>> = self.backend.query("read a result", &command).await?;
        record.map(|record| self.parse(&record)).transpose()
    }

    fn parse(&self, record: &[u8]) -> Result<StoredMeta, GetError> {
        record::decompress(record)
            .map_err(serde_json::Error::custom)
            .and_then(|record| serde_json::from_slice(&record))
            .map_err(|source| GetError::Malformed { id: self.id.clone(), source })
    }
}

fn ended(meta: StoredMeta) -> Result<Value, GetError> {
    let exception = |result| {
        serde_json::from_value(result)
            .unwrap_or_else(|_| Exception::celery("TaskError", "the record holds no exception"))
    };
    match meta.status {
        State::Success => Ok(meta.result),
        State::Revoked => Err(GetError::Revoked(exception(meta.result))),
        _ => Err(GetError::Failed(exception(meta.result))),
    }
}
