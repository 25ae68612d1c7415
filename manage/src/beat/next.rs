//! `beat next`: the runs that come next, of all entries together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use beat::agenda::next_slot;
use beat::{is_sent, known_entries};
use celery_redis::transport::beat_state::BeatState;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use crate::failure::Failure;
use crate::report::{self, Report, table, warning};

#[derive(serde::Serialize)]
struct Run {
    /// When it is sent: the slot, and the entry's jitter.
    at: DateTime<Utc>,
    slot: DateTime<Utc>,
    entry: String,
    task: String,
    queue: String,
}

pub(super) async fn run(state: &BeatState, number: usize) -> Result<Report, Failure> {
    let ledger = state.ledger().await?;
    let entries = known_entries(&ledger);
    let now = state.now().await?;
    let mut slots = BinaryHeap::new();
    for (index, entry) in entries.iter().enumerate() {
        let stored = ledger.get(&entry.name);
        let cursor = stored.and_then(|stored| stored.cursor).unwrap_or(now);
        if let Some(slot) = next_slot(entry, cursor).filter(|_| is_sent(entry, stored)) {
            slots.push(Reverse((entry.due_at(slot), slot, index)));
        }
    }
    let mut runs = Vec::new();
    while let Some(Reverse((at, slot, index))) = slots.pop().filter(|_| runs.len() < number) {
        let entry = &entries[index];
        runs.push(Run {
            at,
            slot,
            entry: entry.name.clone(),
            task: entry.call.task.clone(),
            queue: entry.call.queue.clone(),
        });
        // What is overdue is caught up once; then comes what comes after now.
        let next = next_slot(entry, slot.max(now)).filter(|_| !entry.one_off);
        slots.extend(next.map(|slot| Reverse((entry.due_at(slot), slot, index))));
    }
    Ok(Report::new(json!({ "runs": report::json(&runs)? }), lines(&runs, now)))
}

fn lines(runs: &[Run], now: DateTime<Utc>) -> Vec<String> {
    if runs.is_empty() {
        return vec![warning("Nothing will be sent: no entry is known that is on.")];
    }
    let mut rows = vec![["AT", "ENTRY", "QUEUE", "TASK"].map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|run| {
        let at = run.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let at = if run.at <= now { format!("{at} (overdue)") } else { at };
        vec![at, run.entry.clone(), run.queue.clone(), run.task.clone()]
    }));
    table(&rows)
}
