//! Slots on their way into queues.

use chrono::{DateTime, Utc};
use redis::{FromRedisValue, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use super::{BeatState, BeatStateError, Lease, SEND};
use crate::wire::isoformat;
use crate::wire::signature::Encoded;

/// A slot to be sent, or to be passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The entry's name.
    pub entry: String,
    /// Up to where its slots were dealt with when this was decided.
    pub expected: DateTime<Utc>,
    /// Up to where they are dealt with then.
    pub slot: DateTime<Utc>,
    /// What is sent; `None` to pass the slot over.
    pub message: Option<Outgoing>,
}

/// The message of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The message.
    pub message: Encoded,
    /// When it was to be sent: the slot, and the entry's jitter.
    pub due: DateTime<Utc>,
    /// When it is sent.
    pub at: DateTime<Utc>,
}

/// The latest slot of an entry that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Which.
    pub slot: DateTime<Utc>,
    /// When it was to be sent.
    pub due: DateTime<Utc>,
    /// When it was sent.
    pub at: DateTime<Utc>,
    /// The task's id.
    pub id: String,
}

/// What became of the attempt to send slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// This beat leads.
    Leading {
        /// What became of each slot.
        outcomes: Vec<Outcome>,
        /// The other end of each list that got a message.
        tails: Vec<Tail>,
    },
    /// Nothing was sent: the lease is gone.
    NotLeading,
}

/// What became of the attempt to send a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its message is in its queue, and its entry is advanced.
    Sent,
    /// It was sent before, or was not decided from the last run that there is.
    Before,
    /// The key of its queue holds something else than a list; the entry is not advanced.
    NoQueue,
}

/// The message of a list that a consumer takes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The list.
    pub list: String,
    /// A digest of the message.
    pub digest: String,
}

impl BeatState {
    /// Puts the message of each slot into its queue and advances its entry, both or neither, where
    /// `lease` still leads. Trying again after a lost answer sends nothing twice.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer: then it is not known what was sent.
    pub async fn send(&self, lease: &Lease, slots: &[Slot]) -> Result<Sending, BeatStateError> {
        let mut call = SEND.prepare_invoke();
        call.key(&self.leader).key(&self.last_runs).key(&self.run_counts).key(&self.sent);
        call.arg(lease.token());
        for slot in slots {
            call.arg(&slot.entry)
                .arg(isoformat::format(slot.expected))
                .arg(isoformat::format(slot.slot));
            match &slot.message {
                Some(Outgoing { message, due, at }) => {
                    let id = message.id.clone();
                    let record = Sent { slot: slot.slot, due: *due, at: *at, id };
                    call.key(self.keys.list(&message.queue, message.priority))
                        .arg(serde_json::to_string(&record).unwrap_or_default())
                        .arg(message.bytes.as_slice());
                }
                None => {
                    call.key("").arg("").arg("");
                }
            }
        }
        let answer: Answer = self.connection.script("sending beat's messages", &call).await?;
        Ok(answer.0)
    }
}

struct Answer(Sending);

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let Value::Array(parts) = value else { return Ok(Self(Sending::NotLeading)) };
        let mut parts = parts.into_iter().skip(1);
        let (Some(outcomes), Some(tails)) = (parts.next(), parts.next()) else {
            return Ok(Self(Sending::NotLeading));
        };
        let outcomes: Vec<i64> = from_redis_value(outcomes)?;
        let outcomes = outcomes.into_iter().map(|outcome| match outcome {
            1 => Outcome::Sent,
            -1 => Outcome::NoQueue,
            _ => Outcome::Before,
        });
        let tails: Vec<String> = from_redis_value(tails)?;
        let (lists, digests) = tails.split_at(tails.len() / 2);
        let tails = lists
            .iter()
            .zip(digests)
            .map(|(list, digest)| Tail { list: list.clone(), digest: digest.clone() });
        Ok(Self(Sending::Leading { outcomes: outcomes.collect(), tails: tails.collect() }))
    }
}
