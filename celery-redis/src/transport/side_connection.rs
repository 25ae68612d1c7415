//! A connection for what may be lost: it fails soon, and leaves telling of outages to the others.

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline};
use tokio::sync::Mutex;

use super::connection::{ConnectionSettings, TransportError};

/// Events and replies go here, so that nothing else waits for them, nor they for anything else.
#[derive(Debug)]
pub(super) struct SideConnection {
    settings: ConnectionSettings,
    current: Mutex<Option<MultiplexedConnection>>,
}

impl SideConnection {
    /// Connects when it is first needed.
    pub(super) fn new(settings: ConnectionSettings) -> Self {
        Self { settings, current: Mutex::new(None) }
    }

    /// Runs a pipeline; after an error the next one has a new connection.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        action: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, TransportError> {
        let mut current = self.current.lock().await;
        let reply = match &mut *current {
            Some(connection) => pipeline.query_async(connection).await,
            None => match self.settings.open(self.settings.command_timeout()).await {
                Ok(connection) => pipeline.query_async(current.insert(connection)).await,
                Err(error) => Err(error),
            },
        };
        reply.map_err(|source| {
            *current = None;
            self.settings.error(action, source)
        })
    }

    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }
}
