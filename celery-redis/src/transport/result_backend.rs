//! Where results are stored and announced.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Backoff, Connection, TransportError};
use super::keys::Keys;
use super::operation::{Completed, Operation, StoredResult};
use super::{keys, scripts, settlements};
use crate::wire::compression::Compression;
use crate::wire::record;
use crate::wire::result::{State, StoredMeta, TaskMeta};

/// The result backend of one worker.
#[derive(Debug, Clone)]
pub struct ResultBackend {
    connection: Arc<Connection>,
    with_broker: bool,
    options: ResultOptions,
}

/// How results are kept.
#[derive(Debug, Clone, Default)]
pub struct ResultOptions {
    /// How long they live; zero is for ever.
    pub expires: Duration,
    /// How long those of failed tasks live, zero for ever; `None` as long as the others.
    pub failure_expires: Option<Duration>,
    /// How they are compressed; Celery reads them since 5.7.
    pub compression: Option<Compression>,
}

impl ResultBackend {
    /// Results go to `connection`.
    ///
    /// `with_broker` says that it is the broker's own database: then a result is stored in the
    /// same step as the acknowledgement.
    pub fn new(connection: Arc<Connection>, with_broker: bool, options: ResultOptions) -> Self {
        Self { connection, with_broker, options }
    }

    /// The same results over another connection to the same Redis.
    pub fn over(&self, connection: Arc<Connection>) -> Self {
        Self { connection, ..self.clone() }
    }

    /// Whether a result can be stored in the step that settles the delivery.
    pub fn is_with_broker(&self) -> bool {
        self.with_broker
    }

    /// The connection to the backend.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The record as it is stored.
    pub fn encode(&self, meta: &TaskMeta<'_>) -> StoredResult {
        let ResultOptions { expires, failure_expires, compression } = self.options;
        let failed = meta.status == State::Failure.as_str();
        let record = meta.encode();
        let state = State::from(meta.status.to_owned());
        // Into memory, every encoder can write.
        let compressed =
            compression.and_then(|compression| record::compress(&record, &state, compression).ok());
        StoredResult {
            key: keys::task_meta(meta.task_id),
            ttl_seconds: failure_expires.filter(|_| failed).unwrap_or(expires).as_secs(),
            record: compressed.unwrap_or(record),
        }
    }

    /// Seconds that the records of a chord live; 0 for ever.
    pub fn chord_ttl_seconds(&self) -> u64 {
        self.options.expires.as_secs()
    }

    /// Does operations of the result backend that nothing fences.
    pub async fn perform(&self, operations: Vec<Operation>) -> Result<Completed, TransportError> {
        if operations.is_empty() {
            return Ok(Completed::default());
        }
        // None of these operations names a key of the broker's.
        settlements::perform(&self.connection, &Keys::default(), operations).await
    }

    /// The record of a task, if there is one that can be read. Goes on through any outage.
    pub async fn meta(&self, task_id: &str) -> Result<Option<StoredMeta>, TransportError> {
        let mut command = redis::cmd("GET");
        command.arg(keys::task_meta(task_id));
        let mut backoff = Backoff::default();
        loop {
            match self.connection.query::<Option<Vec<u8>>>("read a result", &command).await {
                Err(error) if error.is_outage() => backoff.wait().await,
                record => {
                    return Ok(record?.and_then(|record| {
                        serde_json::from_slice(&record::decompress(&record).ok()?).ok()
                    }));
                }
            }
        }
    }

    /// The state of a task, if it has one.
    pub async fn state(&self, task_id: &str) -> Result<Option<State>, TransportError> {
        Ok(self.meta(task_id).await?.map(|meta| meta.status))
    }

    /// Stores and publishes, through any outage; a SUCCESS that is there stays.
    pub async fn store(&self, result: &StoredResult) -> Result<(), TransportError> {
        let mut script = scripts::STORE_RESULT.prepare_invoke();
        script.key(&result.key).arg(result.ttl_seconds).arg(&result.record);
        let mut backoff = Backoff::default();
        loop {
            match self.connection.script::<i64>("store a result", &script).await {
                Err(error) if error.is_outage() => backoff.wait().await,
                reply => return reply.map(|_| ()),
            }
        }
    }
}
