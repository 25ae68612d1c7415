//! Where results are stored and announced.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Backoff, Connection, TransportError};
use super::delivery::StoredResult;
use super::{keys, scripts};
use crate::wire::result::TaskMeta;

/// The result backend of one worker.
#[derive(Debug, Clone)]
pub struct ResultBackend {
    connection: Arc<Connection>,
    with_broker: bool,
    expires: Duration,
}

impl ResultBackend {
    /// Results go to `connection` and live for `expires`; zero is for ever.
    ///
    /// `with_broker` says that it is the broker's own database: then a result is stored in the
    /// same step as the acknowledgement.
    pub fn new(connection: Arc<Connection>, with_broker: bool, expires: Duration) -> Self {
        Self { connection, with_broker, expires }
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
        StoredResult {
            key: keys::task_meta(meta.task_id),
            ttl_seconds: self.expires.as_secs(),
            record: meta.encode(),
        }
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
