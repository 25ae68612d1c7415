//! What beat would send, for a person or for a program.

use std::fmt;

use celery_redis::transport::beat_state::{BeatState, BeatStateError, Ledger, Sighting};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::agenda::next_slot;
use crate::entry::{Definition, Entry};
use crate::reconcile::is_sent;

/// The entries with their last and next runs; its `Display` is a table.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// The process that sends them; `None` where no beat is running.
    pub leader: Option<String>,
    /// Grows each time that another one begins to send.
    pub term: Option<u64>,
    /// Who has paused sending.
    pub paused_by: Option<String>,
    /// The beats that were alive lately.
    pub beats: Vec<ListedBeat>,
    /// The entries, by name.
    pub entries: Vec<ListedEntry>,
}

/// A beat.
#[derive(Debug, Serialize)]
pub struct ListedBeat {
    /// Its name.
    pub node: String,
    /// Whether it sends.
    pub leads: bool,
    /// Its last tick.
    pub last_tick: DateTime<Utc>,
}

/// An entry.
#[derive(Debug, Serialize)]
pub struct ListedEntry {
    /// Its name.
    pub name: String,
    /// The task's name.
    pub task: String,
    /// Its schedule with its time zone.
    pub schedule: String,
    /// Where it is sent to.
    pub queue: String,
    /// Whether it is sent.
    pub enabled: bool,
    /// The slot that was sent last.
    pub last_run: Option<DateTime<Utc>>,
    /// How late that one was, in milliseconds.
    pub last_lag_ms: Option<i64>,
    /// How many were sent.
    pub run_count: u64,
    /// In the past where the slot has been missed: then it is sent as soon as a beat runs.
    pub next_run: Option<DateTime<Utc>>,
    /// Whether it has been missed.
    pub overdue: bool,
}

/// Lists `entries` as they are at `now`.
///
/// # Errors
///
/// Where Redis does not answer, or holds something else than beat writes.
pub async fn list(
    state: &BeatState,
    entries: &[Entry],
    now: DateTime<Utc>,
) -> Result<Listing, BeatStateError> {
    let ledger = state.ledger().await?;
    listing(state, entries, &ledger, now).await
}

/// Lists the entries that the leader has made known, as they are at `now`.
///
/// # Errors
///
/// As [`list`].
pub async fn list_known(state: &BeatState, now: DateTime<Utc>) -> Result<Listing, BeatStateError> {
    let ledger = state.ledger().await?;
    let mut listing = listing(state, &known_entries(&ledger), &ledger, now).await?;
    listing.entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

/// The entries that the leader has made known. Those of another release that this one cannot read
/// are not among them.
pub fn known_entries(ledger: &Ledger) -> Vec<Entry> {
    let entry = |(name, stored): (&String, &celery_redis::transport::beat_state::StoredEntry)| {
        let definition: Definition = serde_json::from_str(stored.definition.as_ref()?).ok()?;
        Entry::of_definition(name, definition).ok()
    };
    ledger.iter().filter_map(entry).collect()
}

async fn listing(
    state: &BeatState,
    entries: &[Entry],
    ledger: &Ledger,
    now: DateTime<Utc>,
) -> Result<Listing, BeatStateError> {
    let leader = state.leader().await?;
    let beats = state.sightings().await?;
    let term = beats.iter().find(|beat| beat.leads && Some(&beat.process) == leader.as_ref());
    Ok(Listing {
        term: term.map(|beat| beat.term),
        paused_by: state.paused_by().await?,
        entries: entries.iter().map(|entry| listed(entry, ledger, now)).collect(),
        beats: beats.into_iter().map(|beat| ListedBeat::of(beat, leader.as_deref())).collect(),
        leader,
    })
}

fn listed(entry: &Entry, ledger: &Ledger, now: DateTime<Utc>) -> ListedEntry {
    let stored = ledger.get(&entry.name);
    let enabled = is_sent(entry, stored);
    let cursor = stored.and_then(|stored| stored.cursor);
    let next_run = next_slot(entry, cursor.unwrap_or(now)).filter(|_| enabled);
    let count = stored.map_or(0, |stored| stored.count);
    let sent = stored.and_then(|stored| stored.sent.as_ref());
    ListedEntry {
        name: entry.name.clone(),
        task: entry.call.task.clone(),
        schedule: entry.schedule.to_string(),
        queue: entry.call.queue.clone(),
        enabled,
        // Releases before this one kept no more than up to where slots were dealt with.
        last_run: sent.map(|sent| sent.slot).or(cursor.filter(|_| count > 0)),
        last_lag_ms: sent.map(|sent| (sent.at - sent.due).num_milliseconds()),
        run_count: count,
        next_run,
        overdue: next_run.is_some_and(|next| entry.due_at(next) <= now),
    }
}

impl ListedBeat {
    fn of(sighting: Sighting, leader: Option<&str>) -> Self {
        let leads = leader == Some(sighting.process.as_str());
        Self { node: sighting.node, leads, last_tick: sighting.at }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["ENTRY", "SCHEDULE", "QUEUE", "LAST RUN", "LATE", "NEXT RUN", "TASK"];
        let mut rows = vec![heading.map(str::to_owned)];
        rows.extend(self.entries.iter().map(ListedEntry::row));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in &rows {
            let line: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(formatter, "{}", line.join("  ").trim_end())?;
        }
        writeln!(formatter)?;
        for beat in &self.beats {
            let does = if beat.leads { "leads" } else { "ready" };
            writeln!(formatter, "{} {does}, last tick {}", beat.node, shown(beat.last_tick))?;
        }
        if let Some(by) = &self.paused_by {
            writeln!(formatter, "paused by {by}: nothing is sent")?;
        }
        match (&self.leader, self.term) {
            (Some(leader), Some(term)) => write!(formatter, "sent by {leader}, term {term}"),
            (Some(leader), None) => write!(formatter, "sent by {leader}"),
            (None, _) => write!(formatter, "no beat is running: nothing is sent"),
        }
    }
}

impl ListedEntry {
    fn row(&self) -> [String; 7] {
        let next = match self.next_run {
            _ if !self.enabled => "off".to_owned(),
            None => "never".to_owned(),
            Some(next) if self.overdue => format!("{} (overdue)", shown(next)),
            Some(next) => shown(next),
        };
        [
            self.name.clone(),
            self.schedule.clone(),
            self.queue.clone(),
            self.last_run.map_or_else(|| "never".to_owned(), shown),
            self.last_lag_ms.map(|lag| format!("{lag} ms")).unwrap_or_default(),
            next,
            self.task.clone(),
        ]
    }
}

fn shown(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}
