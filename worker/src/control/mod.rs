//! Remote control: what `celery inspect`, `celery control` and monitors ask of this worker
//! (`celery.worker.control`). One file for each subject; the table is in `commands`.

mod arguments;
mod commands;
mod events;
mod info;
mod limits;
mod mingle;
mod pool;
mod queues;
mod revoke;
mod settings;
mod stats;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use celery_redis::transport::connection::{Backoff, Connection, TransportError};
use celery_redis::transport::mailbox::{Mailbox, Replies};
use celery_redis::transport::publisher::Publisher;
use celery_redis::transport::result_backend::ResultBackend;
use celery_redis::wire::control::Request;
use chrono::Utc;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::consumer::Consumer;
use crate::shutdown::Shutdown;

/// Which commands a worker obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteControl {
    /// None; it does not listen.
    Off,
    /// Those that only look, the ones of `celery inspect`.
    Inspect,
    /// All.
    Full,
}

/// Whether a worker asks the others what they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mingle {
    /// When it starts, and when it has lost touch.
    AtStart,
    /// Not at all.
    Never,
}

/// Everything that a command can look at or change. What it asks of Redis goes over connections
/// that no task holds up.
pub(crate) struct Panel {
    consumer: Arc<Consumer>,
    results: ResultBackend,
    publisher: Publisher,
    shutdown: Shutdown,
    replies: Replies,
}

/// What becomes of a command.
enum Answer {
    Reply(Value),
    /// Celery's worker ends without a reply.
    Silence,
}

/// A command that was not obeyed, with the text that the asker sees as `error`.
#[derive(Debug, PartialEq)]
struct Refusal(String);

impl Refusal {
    /// The `repr` of one of Python's exceptions with one argument.
    fn raised(exception: &str, message: &str) -> Self {
        let message = celery_redis::wire::python_repr::value(&Value::from(message));
        Self(format!("{exception}({message})"))
    }
}

/// Redis did not do what the command needs.
impl From<TransportError> for Refusal {
    fn from(error: TransportError) -> Self {
        Self::raised("OperationalError", &error.to_string())
    }
}

/// A reply under Celery's key for what was done.
fn ok(text: impl Into<String>) -> Value {
    json!({"ok": text.into()})
}

impl Panel {
    /// Commands for `consumer`, whose results are at `backend`; `shutdown` is how they end it.
    pub(crate) fn new(
        consumer: Arc<Consumer>,
        backend: Arc<Connection>,
        shutdown: Shutdown,
    ) -> Self {
        let (beside, keys) = (consumer.broker.beside(), consumer.broker.keys());
        let replies = Replies::new(beside.settings().clone(), keys.clone());
        let publisher = Publisher::new(Arc::clone(beside), keys.clone());
        let results = consumer.results.over(backend);
        Self { consumer, results, publisher, shutdown, replies }
    }

    /// Answers what is broadcast. Never ends.
    ///
    /// `listening` is told once nothing is missed any more, or that Redis refuses us the channel.
    pub(crate) async fn answer(&self, listening: oneshot::Sender<Result<(), TransportError>>) {
        let mut listening = Some(listening);
        let mut backoff = Backoff::default();
        loop {
            let ended = match self.open().await {
                Ok(mailbox) => {
                    backoff.reset();
                    let met = async {
                        let config = &self.consumer.config;
                        let inquiry = match (config.mingle, config.remote_control) {
                            (Mingle::AtStart, RemoteControl::Full) => self.mingle().await,
                            _ => None,
                        };
                        // Whoever waited may be gone.
                        listening.take().map(|listening| listening.send(Ok(())));
                        self.tidy(inquiry).await;
                    };
                    tokio::select! {
                        () = self.listen(mailbox) => {}
                        () = met => {}
                    }
                    continue;
                }
                Err(error) => error,
            };
            if !ended.is_outage()
                && let Some(listening) = listening.take()
            {
                let _ = listening.send(Err(ended));
            } else {
                log::debug!("remote control is interrupted: {ended}");
            }
            backoff.wait().await;
        }
    }

    /// Subscribes, and learns what was revoked before.
    async fn open(&self) -> Result<Mailbox, TransportError> {
        let broker = &self.consumer.broker;
        let mailbox = Mailbox::open(broker.beside(), broker.keys()).await?;
        // After the subscription, so that nothing is missed in between.
        self.consumer.revoked.load(broker).await?;
        Ok(mailbox)
    }

    /// Ends when the connection is lost.
    async fn listen(&self, mut mailbox: Mailbox) {
        let consumer = &self.consumer;
        let node = &consumer.config.node;
        while let Some(message) = mailbox.next().await {
            #[allow(clippy::cast_precision_loss)]
            let now = Utc::now().timestamp_millis() as f64 / 1000.0;
            let request = Request::decode(&message, now).filter(|request| request.concerns(node));
            let Some(request) = request else { continue };
            consumer.clock.adjust(request.clock.unwrap_or(0));
            let obeyed = AssertUnwindSafe(self.obey(&request)).catch_unwind().await;
            let reply = match obeyed {
                Ok(Ok(Answer::Silence)) => continue,
                Ok(Ok(Answer::Reply(reply))) => reply,
                Ok(Err(Refusal(error))) => {
                    log::warn!("the command {} was refused: {error}", request.method);
                    json!({"error": error})
                }
                // A mistake of ours; the next command can be obeyed all the same.
                Err(_) => json!({"error": "RuntimeError('the worker panicked over it')"}),
            };
            if let Err(error) = self.reply(&request, &reply).await {
                log::debug!("the reply to {} was lost: {error}", request.method);
            }
        }
    }

    async fn reply(&self, request: &Request, reply: &Value) -> Result<(), TransportError> {
        let Some(asker) = request.reply_to() else { return Ok(()) };
        let consumer = &self.consumer;
        match request.reply(&consumer.config.node, reply, consumer.clock.forward()) {
            Ok(message) => self.replies.send(asker, &message).await,
            Err(error) => {
                log::error!("the reply to {} is no JSON: {error}", request.method);
                Ok(())
            }
        }
    }
}
