//! The mailbox of remote control: a channel that all nodes listen to, and the askers' queues.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{FromRedisValue, Pipeline};

use super::connection::{Connection, ConnectionSettings, TransportError};
use super::keys::{Keys, SEPARATOR};
use super::scripts;
use super::side_connection::SideConnection;
use crate::wire::control::{REPLY_EXCHANGE, ReplyTo};

/// Sent whole: a pipeline cannot ask for a script and then send it.
const REPLY: &str = include_str!("scripts/reply.lua");
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

    /// Puts a reply into the asker's queue; an asker that is gone gets none (`kombu.pidbox`,
    /// `_publish_reply`), nor does one whose queue is none for replies: it gets a TTL.
    pub async fn send(&self, asker: &ReplyTo, message: &str) -> Result<(), TransportError> {
        if !asker.exchange.starts_with(REPLY_EXCHANGE) {
            return Ok(());
        }
        let mut reply = scripts::whole(REPLY, &[self.keys.binding(&asker.exchange)]);
        reply.arg(SEPARATOR).arg(&asker.routing_key).arg(REPLY_EXCHANGE).arg(self.keys.list("", 0));
        reply.arg(REPLY_TTL.as_secs()).arg(message);
        let mut pipeline = redis::pipe();
        pipeline.add_command(reply).ignore();
        self.connection.run("reply to a control command", &pipeline).await
    }
}

/// Asking all nodes something, and a queue for what they reply.
///
/// Its names follow from the asker's: whoever asks again finds, and removes, what it left behind
/// when it was killed. The binding has a TTL, without which nobody replies.
pub struct Inquiry {
    connection: MultiplexedConnection,
    settings: ConnectionSettings,
    channel: String,
    binding: String,
    queue: String,
    reply_to: ReplyTo,
}

impl Inquiry {
    /// Listens for replies to the node `name`, on a connection of its own. One reply may take
    /// `patience`.
    pub async fn open(
        connection: &Connection,
        keys: &Keys,
        name: &str,
        patience: Duration,
    ) -> Result<Self, TransportError> {
        let settings = connection.settings().clone();
        let timeout = settings.command_timeout() + patience;
        let opened = settings.open(timeout).await;
        let exchange = format!("{REPLY_EXCHANGE}.{name}");
        let queue = format!("{name}.{REPLY_EXCHANGE}");
        let mut inquiry = Self {
            connection: opened.map_err(|source| connection.error("ask all nodes", source))?,
            channel: keys.mailbox(settings.database()),
            binding: keys.binding(&exchange),
            queue: keys.list(&queue, 0),
            settings,
            reply_to: ReplyTo { exchange, routing_key: name.to_owned() },
        };
        let ttl = i64::try_from(REPLY_TTL.as_secs()).unwrap_or(i64::MAX);
        let mut listen = redis::pipe();
        listen.del(&inquiry.binding).ignore().del(&inquiry.queue).ignore();
        listen.sadd(&inquiry.binding, Keys::direct_binding(&queue, name)).ignore();
        listen.expire(&inquiry.binding, ttl).ignore();
        inquiry.run::<()>(&listen).await?;
        Ok(inquiry)
    }

    /// Where replies have to go.
    pub fn reply_to(&self) -> &ReplyTo {
        &self.reply_to
    }

    /// Broadcasts the question; how many listen, all of whom reply if they are Celery's or ours.
    pub async fn ask(&mut self, question: &str) -> Result<usize, TransportError> {
        let mut publish = redis::pipe();
        publish.publish(&self.channel, question);
        let (listeners,) = self.run(&publish).await?;
        Ok(listeners)
    }

    /// The next reply; `None` where none comes in time.
    pub async fn reply(&mut self, time: Duration) -> Result<Option<Vec<u8>>, TransportError> {
        let mut pop = redis::pipe();
        // Zero would be for ever.
        pop.brpop(&self.queue, time.as_secs_f64().max(0.001));
        let (reply,): (Option<(String, Vec<u8>)>,) = self.run(&pop).await?;
        Ok(reply.map(|(_, message)| message))
    }

    /// Listens no more; drops what has come too late.
    pub async fn close(&mut self) -> Result<(), TransportError> {
        let mut close = redis::pipe();
        close.del(&self.binding).ignore().del(&self.queue).ignore();
        self.run(&close).await
    }

    async fn run<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, TransportError> {
        let reply = pipeline.query_async(&mut self.connection).await;
        reply.map_err(|source| self.settings.error("ask all nodes", source))
    }
}
