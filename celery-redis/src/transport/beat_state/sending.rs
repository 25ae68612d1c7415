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
    /// The message, with when it is sent; `None` to pass the slot over.
    pub message: Option<(Encoded, DateTime<Utc>)>,
}

/// The latest slot of an entry that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Which.
    pub slot: DateTime<Utc>,
    /// When.
    pub at: DateTime<Utc>,
    /// The task's id.
    pub id: String,
}

/// What became of the attempt to send slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// This beat leads.
    Leading {
        /// For each slot whether it was sent: its message is in its queue and its entry advanced.
        /// One that was not has been sent before, or was never decided from the last run there is.
        sent: Vec<bool>,
        /// The other end of each list that got a message.
        tails: Vec<Tail>,
    },
    /// Nothing was sent: the lease is gone.
    NotLeading,
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
                Some((message, at)) => {
                    let record = Sent { slot: slot.slot, at: *at, id: message.id.clone() };
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
        let (Some(sent), Some(tails)) = (parts.next(), parts.next()) else {
            return Ok(Self(Sending::NotLeading));
        };
        let sent: Vec<bool> = from_redis_value(sent)?;
        let tails: Vec<String> = from_redis_value(tails)?;
        let (lists, digests) = tails.split_at(tails.len() / 2);
        let tails = lists
            .iter()
            .zip(digests)
            .map(|(list, digest)| Tail { list: list.clone(), digest: digest.clone() });
        Ok(Self(Sending::Leading { sent, tails: tails.collect() }))
    }
}
