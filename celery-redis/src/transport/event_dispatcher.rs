//! Publishing events: a worker's on a connection of their own.

use super::connection::{Connection, ConnectionSettings, TransportError};
use super::keys::Keys;
use super::side_connection::SideConnection;
use crate::wire::event::Announcement;

/// Sends events to whoever listens.
#[derive(Debug)]
pub struct EventDispatcher {
    connection: SideConnection,
    keys: Keys,
}

impl EventDispatcher {
    /// Events of the broker at `settings`.
    pub fn new(settings: ConnectionSettings, keys: Keys) -> Self {
        Self { connection: SideConnection::new(settings), keys }
    }

    /// Publishes one message. Nobody listening is no error.
    pub async fn publish(&self, event: &Announcement) -> Result<(), TransportError> {
        let database = self.connection.settings().database();
        let channel = self.keys.events(database, &event.routing_key);
        let mut pipeline = redis::pipe();
        pipeline.publish(channel, event.bytes.as_bytes()).ignore();
        self.connection.run("publish an event", &pipeline).await
    }
}

/// Publishes messages on a connection that there is anyway. Nobody listening is no error.
pub(crate) async fn announce(
    connection: &Connection,
    keys: &Keys,
    events: &[Announcement],
) -> Result<(), TransportError> {
    let database = connection.settings().database();
    let mut pipeline = redis::pipe();
    for event in events {
        pipeline.publish(keys.events(database, &event.routing_key), &event.bytes).ignore();
    }
    connection.pipeline("publish events", &pipeline).await
}
