//! Sending messages into queues.

use std::sync::Arc;

use super::connection::{Backoff, Connection, TransportError};
use super::keys::Keys;
use super::operation::{Completed, Operation};
use super::settlements;
use crate::wire::signature::Encoded;

/// Sends to the queues under one key prefix.
#[derive(Debug, Clone)]
pub struct Publisher {
    connection: Arc<Connection>,
    keys: Keys,
}

impl Publisher {
    /// A publisher over `connection`.
    pub fn new(connection: Arc<Connection>, keys: Keys) -> Self {
        Self { connection, keys }
    }

    /// Appends a message to its queue's list. Sent once: after an error it may or may not be there.
    pub async fn publish(&self, message: &Encoded) -> Result<(), TransportError> {
        let list = self.keys.list(&message.queue, message.priority);
        let mut command = redis::cmd("LPUSH");
        command.arg(list).arg(message.bytes.as_slice());
        self.connection.query("send a message", &command).await
    }

    /// Appends a message through any outage. One whose reply was lost may be there twice.
    pub async fn persist(&self, message: &Encoded) -> Result<(), TransportError> {
        let mut backoff = Backoff::default();
        loop {
            match self.publish(message).await {
                Err(error) if error.is_outage() => backoff.wait().await,
                reply => return reply,
            }
        }
    }

    /// Does operations of one Redis that is broker and result backend, in one step and through any
    /// outage. What was done before a reply was lost is done twice.
    pub async fn perform(&self, operations: Vec<Operation>) -> Result<Completed, TransportError> {
        settlements::perform(&self.connection, &self.keys, operations).await
    }

    /// Does operations on `connection`, the broker's or another Redis with the same keys, once:
    /// after an outage error they may have been done or not.
    pub async fn perform_once(
        &self,
        connection: &Connection,
        operations: Vec<Operation>,
    ) -> Result<Completed, TransportError> {
        settlements::perform_once(connection, &self.keys, operations).await
    }

    /// Binds a queue under its own name, for producers that send through a named exchange.
    pub async fn bind(&self, queue: &str) -> Result<(), TransportError> {
        self.bind_to(queue, queue, queue).await
    }

    /// Binds a queue to a direct exchange.
    pub async fn bind_to(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), TransportError> {
        let member = Keys::direct_binding(queue, routing_key);
        let mut pipeline = redis::pipe();
        pipeline.sadd(self.keys.binding(exchange), &member).ignore();
        pipeline.sadd(self.keys.permanent_binding(exchange), &member).ignore();
        self.connection.pipeline("bind a queue", &pipeline).await
    }

    /// The keys of the broker.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The connection that messages go through.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}
