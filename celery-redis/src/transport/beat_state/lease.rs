//! Who leads, and who is alive.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{BeatState, BeatStateError, RESIGN, TICK};
use crate::transport::keys::glob_escape;

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

    pub(super) fn token(&self) -> String {
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
        /// The other one is gone if it is silent for this long.
        for_at_most: Duration,
    },
}

/// What a beat learns at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// What it is there for.
    pub role: Role,
    /// The time on the clock of Redis, which all beats go by.
    pub now: DateTime<Utc>,
    /// Another number than before means that an operator has changed something.
    pub changes: String,
    /// Whether an operator has paused sending.
    pub paused: bool,
}

/// A beat as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its name.
    pub node: String,
    /// When it was last alive, on the clock of Redis.
    pub at: DateTime<Utc>,
    /// Whether it was leading then.
    pub leads: bool,
    /// The term that it was told.
    pub term: u64,
    /// Its process.
    pub process: String,
}

impl BeatState {
    fn tick_key(&self, node: &str) -> String {
        format!("{}{node}", self.ticks)
    }

    /// Says that `node` is alive, and lets `process` lead for `lease_ttl` where nobody else does.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn tick(
        &self,
        node: &str,
        process: &str,
        lease_ttl: Duration,
        tick_ttl: Duration,
    ) -> Result<Heartbeat, BeatStateError> {
        let mut call = TICK.prepare_invoke();
        call.key(&self.leader)
            .key(&self.term)
            .key(self.tick_key(node))
            .key(&self.changes)
            .key(&self.paused)
            .arg(process)
            .arg(milliseconds(lease_ttl))
            .arg(milliseconds(tick_ttl));
        let (term, leader, left, seconds, microseconds, changes, paused): (
            u64,
            String,
            i64,
            i64,
            u32,
            String,
            bool,
        ) = self.connection.script("taking beat's lease", &call).await?;
        let now = instant(seconds, microseconds).ok_or(BeatStateError::Clock { seconds })?;
        let role = if leader == process {
            Role::Leading(Lease { term, process: leader })
        } else {
            // Of a lease that never ends, which is none of ours, there is an end to be hoped for.
            let for_at_most = Duration::from_millis(u64::try_from(left).unwrap_or(60_000));
            Role::Waiting { leader, for_at_most }
        };
        Ok(Heartbeat { role, now, changes, paused })
    }

    /// How `node` was last seen; `None` where that is longer ago than its ticks live.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn sighting(&self, node: &str) -> Result<Option<Sighting>, BeatStateError> {
        let command = redis::cmd("GET").arg(self.tick_key(node)).take();
        let tick: Option<String> =
            self.connection.query("reading beat's last tick", &command).await?;
        Ok(tick.and_then(|tick| read_sighting(node, &tick)))
    }

    /// Every beat that was alive lately, by name.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn sightings(&self) -> Result<Vec<Sighting>, BeatStateError> {
        let pattern = format!("{}*", glob_escape(&self.ticks));
        let mut cursor = 0_u64;
        let mut nodes = Vec::new();
        loop {
            let command = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(1000)
                .take();
            let (next, found): (u64, Vec<String>) =
                self.connection.query("listing beats", &command).await?;
            nodes.extend(
                found.iter().filter_map(|key| key.strip_prefix(&self.ticks)).map(ToOwned::to_owned),
            );
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        nodes.sort();
        nodes.dedup();
        let mut sightings = Vec::with_capacity(nodes.len());
        for node in nodes {
            sightings.extend(self.sighting(&node).await?);
        }
        Ok(sightings)
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

    /// The time on the clock of Redis.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, BeatStateError> {
        let (seconds, microseconds): (i64, u32) =
            self.connection.query("reading the clock of Redis", &redis::cmd("TIME")).await?;
        instant(seconds, microseconds).ok_or(BeatStateError::Clock { seconds })
    }
}

fn read_sighting(node: &str, tick: &str) -> Option<Sighting> {
    let mut words = tick.splitn(4, ' ');
    let (seconds, microseconds) = words.next()?.split_once('.')?;
    Some(Sighting {
        node: node.to_owned(),
        at: instant(seconds.parse().ok()?, microseconds.parse().ok()?)?,
        leads: words.next()? == "leading",
        term: words.next()?.parse().ok()?,
        process: words.next()?.to_owned(),
    })
}

fn instant(seconds: i64, microseconds: u32) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, microseconds.checked_mul(1000)?)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
