//! The mailbox of remote control: a channel that all nodes listen to, and the askers' queues.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSubStream;

use super::connection::{Connection, ConnectionSettings, TransportError};
use super::keys::Keys;
use super::side_connection::SideConnection;

/// How long a reply waits for an asker that does not fetch it.
const REPLY_TTL: Duration = Duration::from_secs(60);

/// What is broadcast to all nodes, from the moment of subscription.
pub struct Mailbox {
    messages: PubSubStream,
}

impl Mailbox {
    /// Subscribes, on a connection of its own.
    pub async fn open(connection: &Connection, keys: &Keys) -> Result<Self, TransportError> {
        let settings = connection.settings();
        let failed = |source| connection.error("listen to control commands", source);
        let mut pubsub = settings.open_pubsub().await.map_err(failed)?;
        pubsub.subscribe(keys.mailbox(settings.database())).await.map_err(failed)?;
        Ok(Self { messages: pubsub.into_on_message() })
    }

    /// The next broadcast; `None` when the connection is lost.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.messages.next().await.map(|message| message.get_payload_bytes().to_vec())
    }
}

/// Replying to askers, on a connection of its own.
#[derive(Debug)]
pub struct Replies {
    connection: SideConnection,
    keys: Keys,
}

impl Replies {
    /// Replies to askers at the broker at `settings`.
    pub fn new(settings: ConnectionSettings, keys: Keys) -> Self {
        Self { connection: SideConnection::new(settings), keys }
    }

    /// Puts a reply into the queue of the asker that listens to `routing_key`; an asker that is
    /// gone gets none (`kombu.pidbox`, `_publish_reply`).
    pub async fn send(&self, routing_key: &str, message: &str) -> Result<(), TransportError> {
        let mut pipeline = redis::pipe();
        pipeline.smembers(self.keys.binding(crate::wire::control::REPLY_EXCHANGE));
        let (members,): (Vec<String>,) =
            self.connection.run("look for the asker", &pipeline).await?;
        for member in members.iter().filter(|member| Keys::is_bound_by(member, routing_key)) {
            let Some(queue) = Keys::bound_queue(member) else { continue };
            let list = self.keys.list(queue, 0);
            let ttl = i64::try_from(REPLY_TTL.as_secs()).unwrap_or(i64::MAX);
            let mut pipeline = redis::pipe();
            pipeline.lpush(&list, message).ignore().expire(&list, ttl).ignore();
            self.connection.run::<()>("reply to a control command", &pipeline).await?;
        }
        Ok(())
    }
}
