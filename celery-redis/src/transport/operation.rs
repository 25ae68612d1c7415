//! What a settlement does besides acknowledging: each is one operation of `settle.lua`.

use bytes::Bytes;
use redis::{Cmd, Value};

use super::apart::LARGE;
use super::audience::Announcing;
use super::dead_letters::DeadLetter;
use super::keys::{self, Keys};
use crate::wire::canvas::{Plan, Step};
use crate::wire::signature::Encoded;

/// How long a claim on sending a chord's body holds (`RedisBackend.on_chord_part_return`: twice
/// the default `result_chord_join_timeout`).
const CLAIM_SECONDS: u64 = 6;

/// A result to store and publish together with the acknowledgement.
#[derive(Debug, Clone)]
pub struct StoredResult {
    /// Key and channel.
    pub key: String,
    /// Seconds to live; 0 for ever.
    pub ttl_seconds: u64,
    /// The record's bytes.
    pub record: Vec<u8>,
}

/// One step of a settlement.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A message goes to its queue.
    Send(Encoded),
    /// The delivery's message is kept as a dead letter.
    Bury {
        /// Why.
        letter: DeadLetter,
        /// Its bytes.
        message: Bytes,
        /// Dead letters kept; beyond it the oldest are dropped.
        kept: usize,
    },
    /// A result is stored and announced.
    Store(StoredResult),
    /// A chord begins.
    StartChord {
        /// The header's group.
        group_id: String,
        /// Number of parts.
        size: usize,
        /// Seconds that its records live; 0 for ever.
        ttl_seconds: u64,
    },
    /// The structure of a chord's header is kept.
    SaveGroup {
        /// The header's group.
        group_id: String,
        /// The record.
        record: String,
        /// Seconds that it lives; 0 for ever.
        ttl_seconds: u64,
    },
    /// A chord waits for one part more.
    ExtendChord {
        /// The header's group.
        group_id: String,
    },
    /// A part of a chord is done.
    ReturnPart(ChordPart),
    /// A complete chord's body is sent, or has failed: the next `belonging` operations do it, and
    /// are left out where the claim was lost.
    CloseChord {
        /// The header's group.
        group_id: String,
        /// The token of the claim.
        token: String,
        /// What becomes of its body.
        ending: ChordEnding,
        /// Number of operations that belong to it.
        belonging: usize,
    },
}

/// A part of a chord that is done.
#[derive(Debug, Clone)]
pub struct ChordPart {
    /// The header's group.
    pub group_id: String,
    /// Id of the part's task.
    pub task_id: String,
    /// Its place in the header; `None` comes last.
    pub place: Option<i64>,
    /// `[1, id, state, result]`.
    pub record: String,
    /// Seconds that the chord's records live; 0 for ever.
    pub ttl_seconds: u64,
    /// Names the claim that completing the chord gives; new for each delivery.
    pub token: String,
}

/// What becomes of a complete chord's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChordEnding {
    /// It is called.
    Called,
    /// It fails, because a part did.
    Failed,
}

/// The chords that a delivery's parts completed.
#[derive(Debug, Default)]
pub struct Completed {
    /// Those whose bodies are ours to send.
    pub ours: Vec<CompleteChord>,
    /// Those that another process is just closing; should it die, its claim runs out.
    pub others: Vec<String>,
}

/// A chord whose parts are all done.
#[derive(Debug)]
pub struct CompleteChord {
    /// The header's group.
    pub group_id: String,
    /// What was saved of the header's structure.
    pub structure: Option<Vec<u8>>,
    /// The parts in their places, each `[1, id, state, result]`.
    pub parts: Vec<Vec<u8>>,
}

impl Operation {
    /// The steps that start a canvas; the records of its chords live for `ttl_seconds`, 0 for
    /// ever.
    pub fn of_plan(plan: Plan, ttl_seconds: u64) -> impl Iterator<Item = Self> {
        plan.steps.into_iter().map(move |step| match step {
            Step::Send(message) => Self::Send(message),
            Step::StartChord { group_id, size } => Self::StartChord { group_id, size, ttl_seconds },
            Step::SaveGroup { group_id, record } => {
                Self::SaveGroup { group_id, record, ttl_seconds }
            }
        })
    }

    /// A result that is not to pass through a script.
    pub(super) fn large_result(&self) -> Option<&StoredResult> {
        match self {
            Self::Store(result) if result.record.len() >= LARGE => Some(result),
            _ => None,
        }
    }

    /// Storing a result whose record is under another key already.
    pub(super) fn add_uploaded(&self, call: &mut Cmd, upload: &str, announcing: Announcing) {
        let kind = match announcing {
            Announcing::ToSomebody => "stored",
            Announcing::ToNewcomers => "announced",
        };
        if let Self::Store(result) = self {
            call.arg(kind).arg(&result.key).arg(result.ttl_seconds).arg(upload);
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Send(message) => message.bytes.len(),
            Self::Bury { message, .. } => message.len(),
            Self::Store(result) => result.record.len(),
            Self::ReturnPart(part) => part.record.len(),
            Self::SaveGroup { record, .. } => record.len(),
            Self::StartChord { .. } | Self::ExtendChord { .. } | Self::CloseChord { .. } => 0,
        }
    }

    pub(super) fn add_to(&self, call: &mut Cmd, keys: &Keys) {
        match self {
            Self::Send(message) => {
                call.arg("send")
                    .arg(keys.list(&message.queue, message.priority))
                    .arg(message.bytes.as_slice());
            }
            Self::Bury { letter, message, kept } => {
                call.arg("bury").arg(letter.encode()).arg(message.as_ref()).arg(kept);
            }
            Self::Store(result) => {
                call.arg("store")
                    .arg(&result.key)
                    .arg(result.ttl_seconds)
                    .arg(result.record.as_slice());
            }
            Self::StartChord { group_id, size, ttl_seconds } => {
                call.arg("start").arg(keys::group_meta(group_id)).arg(size).arg(ttl_seconds);
            }
            Self::SaveGroup { group_id, record, ttl_seconds } => {
                call.arg("save").arg(keys::group_meta(group_id)).arg(ttl_seconds).arg(record);
            }
            Self::ExtendChord { group_id } => {
                call.arg("extend").arg(keys::group_meta(group_id));
            }
            Self::ReturnPart(part) => {
                let place = part.place.map_or_else(|| "+inf".to_owned(), |place| place.to_string());
                call.arg("part")
                    .arg(keys::group_meta(&part.group_id))
                    .arg(&part.task_id)
                    .arg(place)
                    .arg(&part.record)
                    .arg(part.ttl_seconds)
                    .arg(CLAIM_SECONDS)
                    .arg(&part.token);
            }
            Self::CloseChord { group_id, token, ending, belonging } => {
                let kind = match ending {
                    ChordEnding::Called => "close",
                    ChordEnding::Failed => "fail",
                };
                call.arg(kind).arg(keys::group_meta(group_id)).arg(token).arg(belonging);
            }
        }
    }
}

/// One delivery's entry in the script's reply.
#[derive(Debug)]
pub(super) enum Reply {
    Lost,
    Settled,
    Completes(Completed),
}

impl Reply {
    /// An entry of another form counts as settled: the script writes no other.
    pub(super) fn read(entry: Value) -> Self {
        match entry {
            Value::Int(0) => Self::Lost,
            Value::Array(chords) => {
                let mut completed = Completed::default();
                chords.into_iter().for_each(|chord| completed.read(chord));
                Self::Completes(completed)
            }
            _ => Self::Settled,
        }
    }
}

impl Completed {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.others.is_empty()
    }

    fn read(&mut self, chord: Value) {
        let Value::Array(fields) = chord else { return };
        let mut fields = fields.into_iter();
        let Some(Value::BulkString(key)) = fields.next() else { return };
        let key = String::from_utf8_lossy(&key);
        let group_id = keys::group_of_meta(&key).to_owned();
        match (fields.next(), fields.next()) {
            (Some(structure), Some(Value::Array(parts))) => self.ours.push(CompleteChord {
                group_id,
                structure: bytes(structure),
                parts: parts.into_iter().filter_map(bytes).collect(),
            }),
            _ => self.others.push(group_id),
        }
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
