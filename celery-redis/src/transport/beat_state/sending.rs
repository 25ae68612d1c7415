//! Slots on their way into queues.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use redis::{Cmd, FromRedisValue, Value, from_redis_value};
use serde::{Deserialize, Serialize};

use super::{BeatState, BeatStateError, Lease, SEND};
use crate::wire::isoformat;
use crate::wire::signature::Encoded;

const ADVANCE: &str = include_str!("../scripts/beat_advance.lua");
/// Whether all is allowed that the other script has to be able to do.
const MAY_ADVANCE: &str = r"
for _, command in ipairs({{'TYPE'}, {'LTRIM', 0, -1}, {'LINDEX', -1}}) do
  local reply = redis.pcall(command[1], KEYS[1], unpack(command, 2))
  if type(reply) == 'table' and reply.err then return 0 end
end
return 1";
/// Most entries and lists of one transaction: Lua's stack bounds what a command may be given, and
/// each list is one command more.
const MOST_ENTRIES: usize = 1000;
const MOST_LISTS: usize = 100;

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
        if let Some(batch) = Batch::of(slots)
            && self.may_send_all().await?
            && let Some(sending) = self.send_all(lease, &batch, slots.len()).await?
        {
            return Ok(sending);
        }
        self.send_each(lease, slots).await
    }

    /// Whether Redis lets us have transactions, and take out of a list what was put there. Where an
    /// administrator has not allowed it, slots are decided one by one.
    async fn may_send_all(&self) -> Result<bool, BeatStateError> {
        let asked = async || {
            // Not as a transaction of the client's: it counts on each of its commands being allowed.
            let mut question = redis::pipe();
            question.ignore_errors();
            question.cmd("MULTI");
            question.cmd("EVAL").arg(MAY_ADVANCE).arg(1).arg(&self.probe);
            question.cmd("EXEC").cmd("DISCARD");
            let answers: Vec<Value> =
                self.connection.pipeline("asking what beat may do", &question).await?;
            Ok::<_, BeatStateError>(answers.get(2) == Some(&Value::Array(vec![Value::Int(1)])))
        };
        Ok(*self.may_send_all.get_or_try_init(asked).await?)
    }

    /// Sends a batch in one transaction that passes no message through a script. `None` where it
    /// cannot be sent as a whole; then nothing was done.
    async fn send_all(
        &self,
        lease: &Lease,
        batch: &Batch<'_>,
        slots: usize,
    ) -> Result<Option<Sending>, BeatStateError> {
        let mut transaction = redis::pipe();
        // What a list does not take, the script finds out.
        transaction.atomic().ignore_errors();
        let mut lists = Vec::with_capacity(batch.lists.len());
        for List { queue, priority, messages } in &batch.lists {
            let list = self.keys.list(queue, *priority);
            let bytes = messages.iter().map(|message| message.len() + 16).sum();
            let mut push = Cmd::with_capacity(messages.len() + 2, bytes);
            push.arg("LPUSH").arg(&list);
            for message in messages {
                push.arg(*message);
            }
            transaction.add_command(push).ignore();
            lists.push(list);
        }
        let mut advance = redis::cmd("EVAL");
        advance.arg(ADVANCE).arg(4 + lists.len());
        advance.arg(&self.leader).arg(&self.last_runs).arg(&self.run_counts).arg(&self.sent);
        advance.arg(&lists);
        batch.describe(lease, &mut advance);
        transaction.add_command(advance);
        let replies: Vec<Value> =
            match self.connection.pipeline("sending beat's messages", &transaction).await {
                Ok(replies) => replies,
                Err(error) if error.is_outage() => return Err(error.into()),
                Err(error) => {
                    log::debug!("slots are sent one by one: {error}");
                    return Ok(None);
                }
            };
        let Some(Value::Array(reply)) = replies.into_iter().next() else { return Ok(None) };
        let reply: Vec<String> =
            reply.into_iter().filter_map(|word| from_redis_value(word).ok()).collect();
        Ok(match reply.split_first() {
            Some((word, digests)) if word == "leading" => {
                let outcomes = vec![Outcome::Sent; slots];
                let tails = lists.into_iter().zip(digests);
                let tails = tails.map(|(list, digest)| Tail { list, digest: digest.clone() });
                Some(Sending::Leading { outcomes, tails: tails.collect() })
            }
            Some((word, _)) if word == "not leading" => Some(Sending::NotLeading),
            _ => None,
        })
    }

    /// Decides for each slot by itself, in one script.
    async fn send_each(&self, lease: &Lease, slots: &[Slot]) -> Result<Sending, BeatStateError> {
        let mut call = SEND.prepare_invoke();
        call.key(&self.leader).key(&self.last_runs).key(&self.run_counts).key(&self.sent);
        call.arg(lease.token());
        for slot in slots {
            call.arg(&slot.entry)
                .arg(isoformat::format(slot.expected))
                .arg(isoformat::format(slot.slot));
            match &slot.message {
                Some(outgoing) => {
                    let message = &outgoing.message;
                    call.key(self.keys.list(&message.queue, message.priority))
                        .arg(outgoing.record(slot.slot))
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

impl Outgoing {
    /// What is kept of it.
    fn record(&self, slot: DateTime<Utc>) -> String {
        let id = self.message.id.clone();
        let sent = Sent { slot, due: self.due, at: self.at, id };
        serde_json::to_string(&sent).unwrap_or_default()
    }
}

/// Slots by their lists and entries.
struct Batch<'a> {
    lists: Vec<List<'a>>,
    entries: Vec<Advance<'a>>,
}

/// What one list gets.
struct List<'a> {
    queue: &'a str,
    priority: i64,
    messages: Vec<&'a [u8]>,
}

/// What becomes of one entry.
struct Advance<'a> {
    name: &'a str,
    expected: DateTime<Utc>,
    to: DateTime<Utc>,
    sent: usize,
    latest: Option<(&'a Outgoing, DateTime<Utc>)>,
}

impl<'a> Batch<'a> {
    /// `None` where they are too many for one command, or one does not begin where the one before
    /// ends.
    fn of(slots: &'a [Slot]) -> Option<Self> {
        let mut lists: Vec<List<'_>> = Vec::new();
        let mut entries: Vec<Advance<'_>> = Vec::with_capacity(slots.len());
        let mut places = HashMap::with_capacity(slots.len());
        for slot in slots {
            let place = *places.entry(slot.entry.as_str()).or_insert(entries.len());
            if place == entries.len() {
                entries.push(Advance {
                    name: &slot.entry,
                    expected: slot.expected,
                    to: slot.expected,
                    sent: 0,
                    latest: None,
                });
            }
            let entry = entries.get_mut(place)?;
            if entry.to != slot.expected {
                return None;
            }
            entry.to = slot.slot;
            let Some(outgoing) = &slot.message else { continue };
            entry.sent += 1;
            entry.latest = Some((outgoing, slot.slot));
            let message = &outgoing.message;
            let (queue, priority) = (message.queue.as_str(), message.priority);
            let known =
                lists.iter_mut().find(|list| list.queue == queue && list.priority == priority);
            match known {
                Some(list) => list.messages.push(&message.bytes),
                None => lists.push(List { queue, priority, messages: vec![&message.bytes] }),
            }
        }
        let fits = entries.len() <= MOST_ENTRIES && lists.len() <= MOST_LISTS;
        (fits && !entries.is_empty()).then_some(Self { lists, entries })
    }

    fn describe(&self, lease: &Lease, advance: &mut Cmd) {
        let entries = &self.entries;
        let sent = || entries.iter().filter_map(|entry| Some((entry.name, entry.latest?)));
        advance.arg(lease.token()).arg(entries.len()).arg(sent().count());
        for list in &self.lists {
            advance.arg(list.messages.len());
        }
        for entry in entries {
            advance.arg(entry.name);
        }
        for entry in entries {
            advance.arg(isoformat::format(entry.expected));
        }
        for entry in entries {
            advance.arg(entry.sent);
        }
        for entry in entries {
            advance.arg(entry.name).arg(isoformat::format(entry.to));
        }
        for (name, (outgoing, slot)) in sent() {
            advance.arg(name).arg(outgoing.record(slot));
        }
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
