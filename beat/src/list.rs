//! What beat would send, for a person or for a program.

use std::fmt;

use celery_redis::transport::beat_state::{BeatState, BeatStateError};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::entry::Entry;

/// The entries with their last and next runs; its `Display` is a table.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// The process that sends them; `None` where no beat is running.
    leader: Option<String>,
    entries: Vec<ListedEntry>,
}

#[derive(Debug, Serialize)]
struct ListedEntry {
    name: String,
    task: String,
    schedule: String,
    queue: String,
    /// The slot that was sent last.
    last_run: Option<DateTime<Utc>>,
    run_count: u64,
    /// In the past where the slot has been missed: then it is sent as soon as a beat runs.
    next_run: Option<DateTime<Utc>>,
    overdue: bool,
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
    let last_runs = state.last_runs().await?;
    let leader = state.leader().await?;
    let listed = |entry: &Entry| {
        let last = last_runs.get(&entry.name);
        let next_run = entry.schedule.next_after(last.map_or(now, |last| last.slot));
        ListedEntry {
            name: entry.name.clone(),
            task: entry.task.clone(),
            schedule: entry.schedule.to_string(),
            queue: entry.queue.clone(),
            // Before the first run, what is kept is when the entry was first seen.
            last_run: last.filter(|last| last.count > 0).map(|last| last.slot),
            run_count: last.map_or(0, |last| last.count),
            next_run,
            overdue: next_run.is_some_and(|next| next <= now),
        }
    };
    Ok(Listing { leader, entries: entries.iter().map(listed).collect() })
}

impl fmt::Display for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows =
            vec![["ENTRY", "SCHEDULE", "QUEUE", "LAST RUN", "NEXT RUN", "TASK"].map(str::to_owned)];
        rows.extend(self.entries.iter().map(ListedEntry::row));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in &rows {
            let line: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(formatter, "{}", line.join("  ").trim_end())?;
        }
        match &self.leader {
            Some(leader) => write!(formatter, "\nsent by {leader}"),
            None => write!(formatter, "\nno beat is running: nothing is sent"),
        }
    }
}

impl ListedEntry {
    fn row(&self) -> [String; 6] {
        let next = match self.next_run {
            None => "never".to_owned(),
            Some(next) if self.overdue => format!("{} (overdue)", shown(next)),
            Some(next) => shown(next),
        };
        [
            self.name.clone(),
            self.schedule.clone(),
            self.queue.clone(),
            self.last_run.map_or_else(|| "never".to_owned(), shown),
            next,
            self.task.clone(),
        ]
    }
}

fn shown(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}
