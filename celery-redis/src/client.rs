//! The producer's side: send a signature, await its result.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::transport::connection::{Connection, ConnectionSettings, TransportError, UrlError};
use crate::transport::keys::{self, Keys};
use crate::transport::publisher::Publisher;
use crate::wire::exception::Exception;
use crate::wire::result::{State, StoredMeta};
use crate::wire::signature::{Encoded, Producer, Signature, SignatureError};

/// A producer: what `app.send_task` is in Python.
#[derive(Debug, Clone)]
pub struct Client {
    publisher: Publisher,
    backend: Arc<Connection>,
    producer: Producer,
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
        Self { publisher, backend, producer: Producer::current() }
    }

    /// What this process's messages say about it.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The message of a signature, as it would be sent now.
    pub fn encode(&self, signature: &Signature) -> Result<Encoded, ClientError> {
        Ok(signature.encode(&self.producer, Utc::now())?)
    }

    /// Sends a call. After an outage error it may or may not have been sent.
    pub async fn send(&self, signature: &Signature) -> Result<AsyncResult, ClientError> {
        let message = self.encode(signature)?;
        self.publisher.publish(&message).await?;
        Ok(self.result(&message.id))
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
        serde_json::from_slice(record)
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
