//! What beats share: when each entry last ran, who leads, and who is alive.
//!
//! Nothing here has a TTL that a schedule could outlive: the last runs are one field for each
//! entry in one hash, and stay until the entry is forgotten.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::Script;

use super::connection::{Connection, TransportError};
use super::keys::Keys;
use crate::wire::isoformat::{self, InvalidInstant};
use crate::wire::signature::Encoded;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(include_str!(concat!("scripts/beat_", $file, ".lua"))))
    };
}

static TICK: LazyLock<Script> = script!("tick");
static SEND: LazyLock<Script> = script!("send");
static RESIGN: LazyLock<Script> = script!("resign");

/// Why beat's state cannot be read or advanced.
#[derive(Debug, thiserror::Error)]
pub enum BeatStateError {
    /// Redis refused or could not be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Somebody wrote another value than beat does.
    #[error("the last run of {entry} (Redis hash {key}) is no instant")]
    LastRun {
        /// The hash.
        key: String,
        /// The field.
        entry: String,
        /// The value.
        source: InvalidInstant,
    },
}

/// The right to send, for one term. Gone at the next term, whoever begins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    term: u64,
    process: String,
}

impl Lease {
    /// Grows each time that the lease is taken.
    pub fn term(&self) -> u64 {
        self.term
    }

    fn token(&self) -> String {
        format!("{}:{}", self.term, self.process)
    }
}

/// What a beat is there for, at one of its ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It sends.
    Leading(Lease),
    /// It takes over when the other one is gone.
    Waiting {
        /// The process that leads.
        leader: String,
    },
}

/// The last run of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// The slot that was sent last; before the first one, when the entry was first seen.
    pub slot: DateTime<Utc>,
    /// How many slots were sent.
    pub count: u64,
}

/// What became of the attempt to send a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// The message is in its queue, and the last run is advanced.
    Sent,
    /// Nothing was sent: the lease is gone.
    NotLeading,
    /// Nothing was sent: the last run is not the expected one, so this slot has been sent.
    Advanced,
}

/// The state of the beats on one broker.
#[derive(Debug)]
pub struct BeatState {
    connection: Connection,
    keys: Keys,
    ticks: String,
    last_runs: String,
    run_counts: String,
    leader: String,
    term: String,
}

impl BeatState {
    /// The state that `connection` leads to, under the broker's `global_keyprefix`.
    pub fn new(connection: Connection, global_keyprefix: &str) -> Self {
        let key = |name: &str| format!("{global_keyprefix}_celery_redis.beat.{name}");
        Self {
            connection,
            keys: Keys::new(global_keyprefix),
            ticks: key("tick."),
            last_runs: key("last_runs"),
            run_counts: key("run_counts"),
            leader: key("leader"),
            term: key("term"),
        }
    }

    fn tick_key(&self, node: &str) -> String {
        format!("{}{node}", self.ticks)
    }

    /// Says that `node` is alive at `now`, and lets `process` lead for `lease_ttl` where nobody
    /// else does.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn tick(
        &self,
        node: &str,
        process: &str,
        now: DateTime<Utc>,
        lease_ttl: Duration,
        tick_ttl: Duration,
    ) -> Result<Role, BeatStateError> {
        let mut call = TICK.prepare_invoke();
        call.key(&self.leader)
            .key(&self.term)
            .key(self.tick_key(node))
            .arg(process)
            .arg(milliseconds(lease_ttl))
            .arg(isoformat::format(now))
            .arg(milliseconds(tick_ttl));
        let (term, leader): (u64, String) =
            self.connection.script("taking beat's lease", &call).await?;
        if leader == process {
            return Ok(Role::Leading(Lease { term, process: leader }));
        }
        Ok(Role::Waiting { leader })
    }

    /// When `node` was last alive; `None` where that is longer ago than its ticks live.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn last_tick(&self, node: &str) -> Result<Option<String>, BeatStateError> {
        let command = redis::cmd("GET").arg(self.tick_key(node)).take();
        Ok(self.connection.query("reading beat's last tick", &command).await?)
    }

    /// The process that leads, if any.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn leader(&self) -> Result<Option<String>, BeatStateError> {
        let command = redis::cmd("GET").arg(&self.leader).take();
        let lease: Option<String> = self.connection.query("reading beat's lease", &command).await?;
        Ok(lease.and_then(|lease| lease.split_once(':').map(|(_, process)| process.to_owned())))
    }

    /// Makes each entry known that is not: as if it had run at `now`, so that its first slot is
    /// one to come.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn introduce(
        &self,
        entries: &[&str],
        now: DateTime<Utc>,
    ) -> Result<(), BeatStateError> {
        let mut pipeline = redis::pipe();
        for entry in entries {
            pipeline.hset_nx(&self.last_runs, *entry, isoformat::format(now)).ignore();
        }
        Ok(self.connection.pipeline("introducing beat's entries", &pipeline).await?)
    }

    /// The last run of each entry that is known.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer, or holds something else.
    pub async fn last_runs(&self) -> Result<HashMap<String, LastRun>, BeatStateError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().hgetall(&self.last_runs).hgetall(&self.run_counts);
        let (slots, counts): (HashMap<String, String>, HashMap<String, u64>) =
            self.connection.pipeline("reading beat's last runs", &pipeline).await?;
        slots
            .into_iter()
            .map(|(entry, slot)| match isoformat::parse(&slot) {
                Ok(slot) => {
                    let count = counts.get(&entry).copied().unwrap_or(0);
                    Ok((entry, LastRun { slot, count }))
                }
                Err(source) => {
                    Err(BeatStateError::LastRun { key: self.last_runs.clone(), entry, source })
                }
            })
            .collect()
    }

    /// Puts the message of `slot` into its queue and advances the last run of `entry` from
    /// `expected` to `slot`, both or neither. Trying again after a lost answer sends nothing twice.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer: then it is not known whether it was sent.
    pub async fn send(
        &self,
        lease: &Lease,
        entry: &str,
        expected: DateTime<Utc>,
        slot: DateTime<Utc>,
        message: &Encoded,
    ) -> Result<Sending, BeatStateError> {
        let mut call = SEND.prepare_invoke();
        call.key(&self.leader)
            .key(&self.last_runs)
            .key(&self.run_counts)
            .key(self.keys.list(&message.queue, message.priority))
            .arg(lease.token())
            .arg(entry)
            .arg(isoformat::format(expected))
            .arg(isoformat::format(slot))
            .arg(message.bytes.as_slice());
        let answer: String = self.connection.script("sending beat's message", &call).await?;
        Ok(match answer.as_str() {
            "sent" => Sending::Sent,
            "advanced" => Sending::Advanced,
            _ => Sending::NotLeading,
        })
    }

    /// Gives up the lease that `process` may hold, and says that `node` is no longer alive.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer: then both end with their TTL.
    pub async fn resign(&self, node: &str, process: &str) -> Result<(), BeatStateError> {
        let mut call = RESIGN.prepare_invoke();
        call.key(&self.leader).key(self.tick_key(node)).arg(process);
        Ok(self.connection.script("giving up beat's lease", &call).await?)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
