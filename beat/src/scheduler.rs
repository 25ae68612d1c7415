//! The decision: which slots to send at an instant, and when to decide again.

use std::collections::HashMap;

use celery_redis::transport::beat_state::LastRun;
use chrono::{DateTime, TimeDelta, Utc};

use crate::entry::Entry;

/// A slot that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DueRun<'a> {
    pub(crate) entry: &'a Entry,
    /// The last run that this was decided from.
    pub(crate) expected: DateTime<Utc>,
    pub(crate) slot: DateTime<Utc>,
}

/// What to do at an instant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// Earliest slot first.
    pub(crate) due: Vec<DueRun<'a>>,
    /// The first slot that has not come yet.
    pub(crate) next: Option<DateTime<Utc>>,
    /// Entries whose last run is in the future: somebody's clock was or is wrong, and they wait
    /// for that time to come.
    pub(crate) ahead: Vec<&'a Entry>,
}

/// Clocks of two machines may differ by this much.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Plans what to send at `now`. Of the slots that an entry has missed, the latest is due; an entry
/// that nobody has seen before is not.
pub(crate) fn plan<'a>(
    entries: &'a [Entry],
    last_runs: &HashMap<String, LastRun>,
    now: DateTime<Utc>,
) -> Plan<'a> {
    let mut due = Vec::new();
    let mut next = None;
    let mut ahead = Vec::new();
    for entry in entries {
        let Some(last) = last_runs.get(&entry.name) else { continue };
        let slot = entry.schedule.due(last.slot, now);
        if let Some(slot) = slot {
            due.push(DueRun { entry, expected: last.slot, slot });
        }
        let following = entry.schedule.next_after(slot.unwrap_or(last.slot));
        next = [next, following].into_iter().flatten().min();
        if last.slot > now + TOLERANCE {
            ahead.push(entry);
        }
    }
    due.sort_by_key(|run| run.slot);
    Plan { due, next, ahead }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::built_in;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn all_at(entries: &[Entry], slot: &str) -> HashMap<String, LastRun> {
        let last = LastRun { slot: utc(slot), count: 0 };
        entries.iter().map(|entry| (entry.name.clone(), last)).collect()
    }

    fn names(plan: &Plan<'_>) -> Vec<String> {
        plan.due
            .iter()
            .map(|run| format!("{} {}", run.slot.format("%d %H:%M"), run.entry.name))
            .collect()
    }

    #[test]
    fn nothing_is_due_before_its_slot_and_beat_wakes_for_the_first_one() {
        let entries = built_in("celery").unwrap();
        let last_runs = all_at(&entries, "2026-11-23T12:00:00Z");

        let plan = plan(&entries, &last_runs, utc("2026-11-24T02:59:59.999Z"));

        assert_eq!(names(&plan), [""; 0]);
        assert_eq!(plan.next, Some(utc("2026-11-24T03:00:00Z")));
    }

    #[test]
    fn a_week_of_missed_slots_is_caught_up_once_for_each_entry_in_their_order() {
        let entries = built_in("celery").unwrap();
        let last_runs = all_at(&entries, "2026-11-23T12:00:00Z");

        let plan = plan(&entries, &last_runs, utc("2026-12-01T12:00:00Z"));

        assert_eq!(
            names(&plan),
            [
                "29 01:30 initialize-scopes",
                "29 02:00 rotate-keypairs",
                "01 03:00 cleanup-expired-tokens",
                "01 04:00 cleanup-inactive-keypairs",
                "01 06:00 health-report",
            ]
        );
        assert_eq!(plan.next, Some(utc("2026-12-02T03:00:00Z")));
    }

    #[test]
    fn a_sent_slot_is_not_due_again() {
        let entries = built_in("celery").unwrap();
        let last_runs = all_at(&entries, "2026-11-24T03:00:00Z");

        let plan = plan(&entries, &last_runs, utc("2026-11-24T03:00:00.5Z"));

        assert_eq!(names(&plan), [""; 0]);
    }

    #[test]
    fn a_last_run_in_the_future_is_told_of() {
        let entries = built_in("celery").unwrap();
        let last_runs = all_at(&entries, "2031-01-01T00:00:00Z");

        assert_eq!(plan(&entries, &last_runs, utc("2026-11-24T03:00:00Z")).ahead.len(), 5);
        assert!(plan(&entries, &last_runs, utc("2030-12-31T23:59:00Z")).ahead.is_empty());
    }

    #[test]
    fn an_entry_that_nobody_introduced_is_left_alone() {
        let entries = built_in("celery").unwrap();

        let plan = plan(&entries, &HashMap::new(), utc("2026-11-24T03:00:00Z"));

        assert!(plan.due.is_empty());
        assert_eq!(plan.next, None);
    }
}
