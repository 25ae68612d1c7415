//! The `Celery` value that rusty-celery's types want, with a transport of ours inside.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use celery::Celery;
use celery::broker::{Broker, Delivery, DeliveryStream};
use celery::error::{BrokerError, CeleryError};
use celery::protocol::Message;
use celery_redis::{Client, Signature};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use crate::context::TaskContext;

/// What tasks send through: `task.request().app.send_task(…)`.
#[derive(Clone)]
pub struct TaskApp {
    celery: Arc<Celery>,
    client: Arc<Client>,
}

/// Why there is no app.
#[derive(Debug, thiserror::Error)]
pub enum TaskAppError {
    /// No local socket could be opened.
    #[error("no local socket for setting up the task library")]
    Socket(#[from] std::io::Error),
    /// The task library refused its settings.
    #[error("the task library could not be set up")]
    Library(#[from] CeleryError),
}

impl TaskApp {
    /// An app whose tasks send through `client`.
    ///
    /// rusty-celery's builder insists on a connection of its own, which says nothing before it is
    /// used; it gets a local listener, and its broker is then replaced by ours.
    pub async fn build(name: &str, client: Client) -> Result<Self, TaskAppError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("redis://{}/0", listener.local_addr()?);
        let mut celery = celery::CeleryBuilder::new(name, &url).hostname(name).build().await?;
        celery.broker = Box::new(SendingBroker { client: client.clone() });
        Ok(Self { celery: Arc::new(celery), client: Arc::new(client) })
    }

    pub(crate) fn celery(&self) -> Arc<Celery> {
        Arc::clone(&self.celery)
    }

    /// What tasks send through.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl fmt::Debug for TaskApp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TaskApp").field(&self.celery.hostname).finish()
    }
}

/// Sends; consuming is the engine's.
struct SendingBroker {
    client: Client,
}

#[async_trait]
impl Broker for SendingBroker {
    fn safe_url(&self) -> String {
        self.client.connection().settings().to_string()
    }

    async fn consume(
        &self,
        queue: &str,
        _: Box<dyn Fn(BrokerError) + Send + Sync + 'static>,
    ) -> Result<(String, Box<dyn DeliveryStream>), BrokerError> {
        Err(BrokerError::UnknownQueue(queue.to_owned()))
    }

    async fn cancel(&self, _: &str) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn ack(&self, _: &dyn Delivery) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn retry(&self, _: &dyn Delivery, _: Option<DateTime<Utc>>) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn send(&self, message: &Message, queue: &str) -> Result<(), BrokerError> {
        let signature = signature(message, queue)?;
        let sent = self.client.send(&signature).await;
        sent.map(|_| ()).map_err(|error| std::io::Error::other(error).into())
    }

    async fn increase_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn decrease_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn reconnect(&self, _: u32) -> Result<(), BrokerError> {
        Ok(())
    }
}

/// A message of rusty-celery's as a signature of ours, sent by the running task.
fn signature(message: &Message, queue: &str) -> Result<Signature, BrokerError> {
    let (_, kwargs, _): (Vec<Value>, Map<String, Value>, Value) =
        serde_json::from_slice(&message.raw_body)?;
    let headers = &message.headers;
    let limits = headers.timelimit;
    let mut signature = Signature::new(&headers.task)
        .id(&headers.id)
        .queue(queue)
        .time_limits(limits.0.map(f64::from), limits.1.map(f64::from));
    for (name, value) in kwargs {
        signature = signature.kwarg(name, value);
    }
    if let Some(eta) = headers.eta {
        signature = signature.eta(eta);
    }
    if let Some(expires) = headers.expires {
        signature = signature.expires(expires);
    }
    let context = TaskContext::current();
    let root = context.call().root_id.as_deref().unwrap_or(context.task_id());
    Ok(signature.sent_by(context.task_id(), root))
}
