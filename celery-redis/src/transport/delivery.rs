//! A message lent to this process, and the ways to give it back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::broker::Broker;
use super::connection::{Backoff, TransportError};
use super::dead_letters::{DeadLetter, Reason};
use super::lease::Process;
pub use super::operation::StoredResult;
use super::operation::{Completed, Operation, Reply};
use super::scripts;
use super::settlements::Settlement;
use crate::wire::envelope::{Redelivery, delivery_count, mark_redelivered};
use crate::wire::signature::Encoded;

/// A message lent to us: in Redis it is recorded under a tag that only this claim has.
#[must_use = "an unsettled delivery stays with this process until it ends"]
pub struct Delivery(Arc<Lent>);

struct Lent {
    broker: Arc<Broker>,
    process: Arc<Process>,
    tag: Arc<str>,
    list: Arc<str>,
    queue: Arc<str>,
    message: Bytes,
    origin: Origin,
    /// Whether it is no longer among what we have.
    forgotten: AtomicBool,
}

/// Where a delivery was fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Its queue.
    Queue,
    /// Its task's waiting room, which has let it begin.
    WaitingRoom,
}

/// Whether a delivery was still ours when it was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// It was, and all of it was done.
    Done,
    /// The lease had run out and another has it: nothing was done.
    LeaseLost,
}

/// Where a requeued message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// It is served next.
    Head,
    /// It is served after all others.
    Tail,
}

/// How far a settlement came.
#[derive(Debug)]
#[must_use]
pub enum Conclusion {
    /// It is over.
    Settled(Settled),
    /// All was done but the acknowledgement: it completes chords, whose bodies come first.
    Completes {
        /// The delivery, still lent.
        delivery: Delivery,
        /// The chords.
        chords: Completed,
    },
}

impl Delivery {
    pub(super) fn new(
        broker: Arc<Broker>,
        process: Arc<Process>,
        tag: Arc<str>,
        list: Arc<str>,
        queue: Arc<str>,
        message: Bytes,
        origin: Origin,
    ) -> Self {
        let forgotten = AtomicBool::new(false);
        Self(Arc::new(Lent { broker, process, tag, list, queue, message, origin, forgotten }))
    }

    /// A second handle on the same delivery, for when the first is lost in a panic. Whichever ends
    /// it first has ended it; it has to outlive the other.
    pub fn spare(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Where it was fetched from.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.0.broker
    }

    /// The message with the list that it goes back to.
    pub(super) fn put_away(&self) -> Vec<u8> {
        let mut value = format!("{}:{}", self.0.list.len(), self.0.list).into_bytes();
        value.extend_from_slice(&self.0.message);
        value
    }

    /// The message's bytes; a clone shares them.
    pub fn message(&self) -> &Bytes {
        &self.0.message
    }

    /// The list it came from.
    pub(super) fn list(&self) -> &str {
        &self.0.list
    }

    /// The queue it came from; a clone shares the name.
    pub fn queue(&self) -> &Arc<str> {
        &self.0.queue
    }

    /// Acknowledges: the message is done with. Model step: `settle`.
    pub async fn ack(self) -> Result<Settled, TransportError> {
        self.settle(Vec::new(), None).await
    }

    /// Acknowledges, sends `follow_ups` and stores `result`, in one step. Model step: `settle`.
    ///
    /// Goes on through any outage of Redis until it is done or the delivery is another's.
    pub async fn settle(
        self,
        follow_ups: Vec<Encoded>,
        result: Option<StoredResult>,
    ) -> Result<Settled, TransportError> {
        let sends = follow_ups.into_iter().map(Operation::Send);
        let operations = sends.chain(result.map(Operation::Store)).collect();
        match self.conclude(operations).await? {
            Conclusion::Settled(settled) => Ok(settled),
            // Only the return of a part completes a chord.
            Conclusion::Completes { .. } => Ok(Settled::Done),
        }
    }

    /// Does `operations` in their order and acknowledges, in one step. Model step: `settle`.
    ///
    /// A delivery whose part completes a chord is not acknowledged yet. Goes on through any outage
    /// of Redis until it is done or the delivery is another's.
    pub async fn conclude(self, operations: Vec<Operation>) -> Result<Conclusion, TransportError> {
        let settlement = Settlement {
            tag: Arc::clone(&self.0.tag),
            held: Arc::clone(&self.0.process.held),
            operations,
        };
        let (connection, keys) = (self.0.broker.connection(), self.0.broker.keys());
        Ok(match self.0.broker.settlements.settle(connection, keys, settlement).await? {
            Reply::Settled => Conclusion::Settled(Settled::Done),
            Reply::Lost => Conclusion::Settled(Settled::LeaseLost),
            Reply::Completes(chords) => Conclusion::Completes { delivery: self, chords },
        })
    }

    /// New for each claim.
    pub fn tag(&self) -> &str {
        &self.0.tag
    }

    /// Whether it is still recorded as ours: before a step that Redis cannot fence.
    pub async fn is_ours(&self) -> Result<bool, TransportError> {
        let mut command = redis::cmd("HEXISTS");
        command.arg(self.0.broker.keys().unacked()).arg(&*self.0.tag);
        let mut backoff = Backoff::default();
        loop {
            match self.0.broker.connection().query("look for a delivery", &command).await {
                Err(error) if error.is_outage() => backoff.wait().await,
                reply => return reply,
            }
        }
    }

    /// Gives the message back to its queue. Model step: `requeue`.
    pub async fn requeue(self, position: Position) -> Result<Settled, TransportError> {
        let message = mark_redelivered(&self.0.message, Redelivery::Restored);
        let mut script = scripts::REQUEUE.prepare_invoke();
        self.name_keys(&mut script);
        script.key(&*self.0.list).arg(&*self.0.tag).arg(message).arg(match position {
            Position::Head => "head",
            Position::Tail => "tail",
        });
        self.persist("requeue a message", &script).await
    }

    /// Puts the message away until `due`; any worker brings it back then. Model step: `defer`.
    pub async fn defer(self, due: DateTime<Utc>) -> Result<Settled, TransportError> {
        let keys = self.0.broker.keys();
        let mut script = scripts::DEFER.prepare_invoke();
        self.name_keys(&mut script);
        script.key(keys.scheduled()).key(keys.scheduled_messages());
        script.arg(&*self.0.tag).arg(epoch_seconds(due)).arg(self.put_away());
        let settled = self.persist("defer a message", &script).await;
        self.0.broker.deferred.notify_one();
        settled
    }

    /// What makes the message a dead letter in the step that settles it.
    pub fn burial(&self, reason: Reason, detail: String) -> Operation {
        let letter = self.letter(reason, detail);
        letter.log();
        Operation::Bury {
            letter,
            message: self.0.message.clone(),
            kept: self.0.broker.options().dead_letters_kept,
        }
    }

    fn letter(&self, reason: Reason, detail: String) -> DeadLetter {
        DeadLetter {
            reason,
            detail,
            queue: self.0.queue.to_string(),
            list: self.0.list.to_string(),
            deliveries: delivery_count(&self.0.message),
            time: Utc::now().timestamp(),
        }
    }

    /// Moves the message to the dead letters. Model step: `bury`.
    pub async fn bury(self, reason: Reason, detail: String) -> Result<Settled, TransportError> {
        let keys = self.0.broker.keys();
        let now = Utc::now();
        let letter = self.letter(reason, detail);
        letter.log();
        let mut script = scripts::BURY.prepare_invoke();
        self.name_keys(&mut script);
        script
            .key(keys.dead())
            .key(keys.dead_records())
            .key(keys.dead_messages())
            .arg(&*self.0.tag)
            .arg(epoch_seconds(now))
            .arg(letter.encode())
            .arg(self.0.message.as_ref())
            .arg(self.0.broker.options().dead_letters_kept);
        let (buried, dropped): (bool, usize) =
            self.persist_reply("bury a message", &script).await?;
        self.0.broker.log_dropped(dropped);
        Ok(if buried { Settled::Done } else { Settled::LeaseLost })
    }

    /// unacked, unacked_index, held and apart come first in every script that settles.
    pub(super) fn name_keys(&self, script: &mut redis::ScriptInvocation<'_>) {
        let keys = self.0.broker.keys();
        script
            .key(keys.unacked())
            .key(keys.unacked_index())
            .key(&*self.0.process.held)
            .key(keys.apart(&self.0.tag));
    }

    async fn persist(
        &self,
        action: &'static str,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<Settled, TransportError> {
        let ours: bool = self.persist_reply(action, script).await?;
        Ok(if ours { Settled::Done } else { Settled::LeaseLost })
    }

    /// Repeats through an outage. A step whose reply was lost finds its tag gone, which is the
    /// same as having been done.
    async fn persist_reply<T: redis::FromRedisValue>(
        &self,
        action: &'static str,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, TransportError> {
        let mut backoff = Backoff::default();
        loop {
            match self.0.broker.connection().script(action, script).await {
                Err(error) if error.is_outage() => backoff.wait().await,
                reply => return reply,
            }
        }
    }
}

/// Epoch seconds to the microsecond, as a score.
pub(super) fn epoch_seconds(at: DateTime<Utc>) -> String {
    let micros = at.timestamp_micros();
    format!("{}.{:06}", micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000))
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.0.forgotten.swap(true, Ordering::Relaxed) {
            self.0.broker.forget(&self.0.tag);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message may carry arguments that nobody may read.
        formatter
            .debug_struct("Delivery")
            .field("tag", &self.0.tag)
            .field("queue", &self.0.queue)
            .finish_non_exhaustive()
    }
}
