//! What is known of each entry.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use redis::FromRedisValue;

use super::{ADOPT, BeatState, BeatStateError, Lease, Switch};
use crate::transport::beat_state::Sent;
use crate::wire::isoformat;

/// Entries of one call of the script: Lua's stack is finite, and so is everybody's patience.
const CHUNK: usize = 1000;

/// What Redis knows of an entry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredEntry {
    /// Its slots until this instant are dealt with. `None` where it was never adopted.
    pub cursor: Option<DateTime<Utc>>,
    /// How many slots were sent.
    pub count: u64,
    /// The latest one that was sent.
    pub sent: Option<Sent>,
    /// As the leader that adopted it described it.
    pub definition: Option<String>,
    /// How an operator has switched it.
    pub switch: Option<Switch>,
}

/// What Redis knows of all entries, by name.
pub type Ledger = HashMap<String, StoredEntry>;

/// An entry that a leader makes known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its name.
    pub name: String,
    /// What others may read about it.
    pub definition: String,
    /// From when its slots count; `None` to go on from where it is.
    pub from: Option<DateTime<Utc>>,
}

impl BeatState {
    /// Everything that is known of the entries.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer, or holds something else than beat writes.
    pub async fn ledger(&self) -> Result<Ledger, BeatStateError> {
        // One after the other: a leader with many entries has no memory for all at once. What it
        // needs of them does not change meanwhile, because nobody else writes it.
        let cursors: HashMap<String, String> = self.hash(&self.last_runs).await?;
        let mut ledger = Ledger::with_capacity(cursors.len());
        for (name, cursor) in cursors {
            let cursor = isoformat::parse(&cursor).map_err(|source| BeatStateError::LastRun {
                key: self.last_runs.clone(),
                entry: name.clone(),
                source,
            })?;
            ledger.entry(name).or_default().cursor = Some(cursor);
        }
        for (name, count) in self.hash::<u64>(&self.run_counts).await? {
            ledger.entry(name).or_default().count = count;
        }
        for (name, record) in self.hash::<String>(&self.sent).await? {
            // A record of another release is no reason to stop sending.
            ledger.entry(name).or_default().sent = serde_json::from_str(&record).ok();
        }
        for (name, definition) in self.hash(&self.entries).await? {
            ledger.entry(name).or_default().definition = Some(definition);
        }
        for (name, switch) in self.hash::<String>(&self.switches).await? {
            ledger.entry(name).or_default().switch = Switch::read(&switch);
        }
        Ok(ledger)
    }

    async fn hash<T: FromRedisValue>(
        &self,
        key: &str,
    ) -> Result<HashMap<String, T>, BeatStateError> {
        let command = redis::cmd("HGETALL").arg(key).take();
        Ok(self.connection.query("reading beat's entries", &command).await?)
    }

    /// Makes entries known, and forgets those named in `forgotten`, where `lease` still leads.
    /// Returns whether it did.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn adopt(
        &self,
        lease: &Lease,
        entries: &[Adoption],
        forgotten: &[String],
    ) -> Result<bool, BeatStateError> {
        let parts = entries
            .chunks(CHUNK)
            .map(|entries| (entries, [].as_slice()))
            .chain(forgotten.chunks(CHUNK).map(|names| ([].as_slice(), names)));
        for (entries, forgotten) in parts {
            let mut call = ADOPT.prepare_invoke();
            for key in [
                &self.leader,
                &self.last_runs,
                &self.run_counts,
                &self.sent,
                &self.entries,
                &self.switches,
            ] {
                call.key(key);
            }
            call.arg(lease.token()).arg(entries.len());
            for entry in entries {
                call.arg(&entry.name)
                    .arg(&entry.definition)
                    .arg(entry.from.map(isoformat::format).unwrap_or_default());
            }
            for name in forgotten {
                call.arg(name);
            }
            if !self.connection.script("making beat's entries known", &call).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
