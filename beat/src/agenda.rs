//! The decision: which slots to send at an instant, and when to decide again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::entry::{Entry, Misfire};

/// What to do for one entry at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// Index of the entry.
    pub entry: usize,
    /// Up to where its slots were dealt with when this was decided.
    pub from: DateTime<Utc>,
    /// The slots to send, oldest first.
    pub slots: Vec<DateTime<Utc>>,
    /// Up to where its slots are dealt with then.
    pub to: DateTime<Utc>,
    /// The first slot that is given up, where any is.
    pub missed: Option<DateTime<Utc>>,
}

/// When each entry has something to do next. Asking costs nothing for those that have not.
#[derive(Debug)]
pub struct Agenda {
    entries: Arc<[Entry]>,
    /// Up to where each entry's slots are dealt with; `None` for one that is switched off.
    cursors: Vec<Option<DateTime<Utc>>>,
    wakes: BinaryHeap<Reverse<(DateTime<Utc>, usize)>>,
}

impl Agenda {
    /// The agenda of entries with the instant up to which their slots are dealt with; `None` for
    /// those that are switched off.
    pub fn new(entries: Arc<[Entry]>, cursors: Vec<Option<DateTime<Utc>>>) -> Self {
        let mut agenda = Self { wakes: BinaryHeap::with_capacity(entries.len()), entries, cursors };
        for index in 0..agenda.entries.len() {
            agenda.sleep(index);
        }
        agenda
    }

    /// The entries, in the order of their indexes.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first instant at which there is something to do.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.wakes.peek().map(|Reverse((wake, _))| *wake)
    }

    /// Takes up to `most` entries that have something to do at `now`, the longest due first. Each
    /// is to be [settled](Agenda::settle) or [put off](Agenda::put_off), or it is never due again.
    pub fn due(&mut self, now: DateTime<Utc>, most: usize) -> Vec<DueRun> {
        let mut runs = Vec::new();
        while runs.len() < most {
            let Some(Reverse((_, index))) =
                self.wakes.peek().copied().filter(|Reverse((wake, _))| *wake <= now)
            else {
                break;
            };
            self.wakes.pop();
            let Some(from) = self.cursors[index] else { continue };
            match decide(&self.entries[index], from, now) {
                Some(decision) => runs.push(DueRun { entry: index, ..decision }),
                None => self.sleep(index),
            }
        }
        runs
    }

    /// Says that what was due of an entry is dealt with.
    pub fn settle(&mut self, run: &DueRun) {
        let is_over = self.entries[run.entry].one_off && !run.slots.is_empty();
        self.cursors[run.entry] = Some(run.to).filter(|_| !is_over);
        self.sleep(run.entry);
    }

    /// Says that what was due of an entry is to be decided again at `at`.
    pub fn put_off(&mut self, run: &DueRun, at: DateTime<Utc>) {
        self.wakes.push(Reverse((at, run.entry)));
    }

    fn sleep(&mut self, index: usize) {
        let Some(cursor) = self.cursors[index] else { return };
        let entry = &self.entries[index];
        if let Some(slot) = next_slot(entry, cursor) {
            self.wakes.push(Reverse((entry.due_at(slot), index)));
        }
    }
}

/// The first slot of `entry` after `cursor` that will be sent.
pub fn next_slot(entry: &Entry, cursor: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let slot = entry.schedule.next_after(from(entry, cursor))?;
    Some(slot).filter(|slot| entry.not_after.is_none_or(|end| *slot < end))
}

/// Slots before its beginning are none.
fn from(entry: &Entry, cursor: DateTime<Utc>) -> DateTime<Utc> {
    let until = |start: DateTime<Utc>| start - TimeDelta::microseconds(1);
    let early = entry.not_before.and_then(|start| entry.schedule.due(cursor, until(start)));
    early.unwrap_or(cursor)
}

/// What to do for `entry` at `now`, its slots until `cursor` being dealt with.
fn decide(entry: &Entry, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DueRun> {
    let first = next_slot(entry, cursor)?;
    let latest = latest_due(entry, cursor, now)?;
    let in_time = |slot: DateTime<Utc>| {
        entry.catch_up.longest_delay().is_none_or(|most| now - entry.due_at(slot) <= most)
    };
    let limit = match entry.catch_up.misfire {
        _ if entry.one_off => 1,
        Misfire::Once | Misfire::Skip => 1,
        Misfire::All { limit } => limit as usize,
    };
    let mut slots = Vec::new();
    let mut slot = Some(latest);
    while let Some(found) = slot.filter(|found| slots.len() < limit && in_time(*found)) {
        slots.push(found);
        slot = before(entry, cursor, found);
    }
    slots.reverse();
    let missed = Some(first).filter(|first| slots.first() != Some(first));
    Some(DueRun { entry: 0, from: cursor, slots, to: latest, missed })
}

/// The latest slot after `cursor` whose time to be sent has come at `now`.
fn latest_due(entry: &Entry, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end = entry.not_after.map_or(now, |end| now.min(end - TimeDelta::microseconds(1)));
    let mut slot = entry.schedule.due(from(entry, cursor), end);
    while let Some(early) = slot.filter(|slot| entry.due_at(*slot) > now) {
        slot = before(entry, cursor, early);
    }
    slot
}

fn before(entry: &Entry, cursor: DateTime<Utc>, slot: DateTime<Utc>) -> Option<DateTime<Utc>> {
    entry.schedule.due(from(entry, cursor), slot - TimeDelta::microseconds(1))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::built_in::built_in;
    use crate::entry::{Call, CatchUp};
    use crate::schedule::Schedule;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn entry(schedule: &str) -> Entry {
        Entry::new("e", Call::default(), Schedule::parse(schedule, Tz::UTC).unwrap())
    }

    fn agenda(entries: Vec<Entry>, cursor: &str) -> Agenda {
        let cursors = vec![Some(utc(cursor)); entries.len()];
        Agenda::new(entries.into(), cursors)
    }

    /// The minutes of the slots that are sent at `now`, and whether the next decision is later.
    fn sent(entry: Entry, cursor: &str, now: &str) -> Vec<String> {
        let mut agenda = agenda(vec![entry], cursor);
        let runs = agenda.due(utc(now), 9);
        for run in &runs {
            agenda.settle(run);
        }
        assert!(agenda.next().is_none_or(|next| next > utc(now)), "it would be due again");
        let slots = runs.iter().flat_map(|run| &run.slots);
        slots.map(|slot| slot.format("%d %H:%M").to_string()).collect()
    }

    #[test]
    fn nothing_is_due_before_its_slot_and_beat_wakes_for_the_first_one() {
        let mut agenda = agenda(built_in("celery").unwrap(), "2026-11-23T12:00:00Z");

        assert!(agenda.due(utc("2026-11-24T02:59:59.999Z"), 9).is_empty());
        assert_eq!(agenda.next(), Some(utc("2026-11-24T03:00:00Z")));
    }

    #[test]
    fn a_week_of_missed_slots_is_caught_up_once_for_each_entry() {
        let mut agenda = agenda(built_in("celery").unwrap(), "2026-11-23T12:00:00Z");
        let now = utc("2026-12-01T12:00:00Z");

        let mut runs = agenda.due(now, 9);
        runs.sort_by_key(|run| run.to);

        let named: Vec<_> = runs
            .iter()
            .map(|run| {
                assert_eq!(run.slots, [run.to]);
                format!("{} {}", run.to.format("%d %H:%M"), agenda.entries()[run.entry].name)
            })
            .collect();
        assert_eq!(
            named,
            [
                "29 01:30 initialize-scopes",
                "29 02:00 rotate-keypairs",
                "01 03:00 cleanup-expired-tokens",
                "01 04:00 cleanup-inactive-keypairs",
                "01 06:00 health-report",
            ]
        );
        for run in &runs {
            agenda.settle(run);
        }
        assert!(agenda.due(now, 9).is_empty(), "what was sent is not due again");
        assert_eq!(agenda.next(), Some(utc("2026-12-02T03:00:00Z")));
    }

    #[test]
    fn once_sends_the_latest_of_what_was_missed() {
        let hourly = entry("0 * * * *");
        assert_eq!(sent(hourly, "2026-11-20T00:00:00Z", "2026-11-23T05:59:00Z"), ["23 05:00"]);
    }

    #[test]
    fn all_sends_each_in_order_and_no_more_than_its_limit() {
        let mut hourly = entry("0 * * * *");
        hourly.catch_up.misfire = Misfire::All { limit: 3 };

        let few = sent(hourly.clone(), "2026-11-23T04:00:00Z", "2026-11-23T06:10:00Z");
        assert_eq!(few, ["23 05:00", "23 06:00"]);
        let many = sent(hourly.clone(), "1999-11-20T00:00:00Z", "2026-11-23T06:10:00Z");
        assert_eq!(many, ["23 04:00", "23 05:00", "23 06:00"]);

        hourly.catch_up.deadline = Some(TimeDelta::minutes(75));
        let late = sent(hourly, "2026-11-20T00:00:00Z", "2026-11-23T06:10:00Z");
        assert_eq!(late, ["23 05:00", "23 06:00"]);
    }

    #[test]
    fn skip_sends_nothing_that_is_late_by_more_than_a_take_over() {
        let mut hourly = entry("0 * * * *");
        hourly.catch_up.misfire = Misfire::Skip;

        let late = sent(hourly.clone(), "2026-11-20T00:00:00Z", "2026-11-23T06:10:00Z");
        assert_eq!(late, [""; 0]);
        let just = sent(hourly.clone(), "2026-11-20T00:00:00Z", "2026-11-23T06:00:30Z");
        assert_eq!(just, ["23 06:00"]);
        // What was given up is remembered as such.
        let mut agenda = agenda(vec![hourly], "2026-11-23T04:00:00Z");
        let run = agenda.due(utc("2026-11-23T06:10:00Z"), 9).remove(0);
        assert_eq!(run.missed, Some(utc("2026-11-23T05:00:00Z")));
        assert_eq!(run.to, utc("2026-11-23T06:00:00Z"));
    }

    #[test]
    fn a_deadline_ends_what_once_would_catch_up() {
        let mut daily = entry("0 3 * * *");
        daily.catch_up = CatchUp { misfire: Misfire::Once, deadline: Some(TimeDelta::hours(2)) };

        let late = sent(daily.clone(), "2026-11-20T03:00:00Z", "2026-11-23T05:00:01Z");
        assert_eq!(late, [""; 0]);
        assert_eq!(sent(daily, "2026-11-20T03:00:00Z", "2026-11-23T05:00:00Z"), ["23 03:00"]);
    }

    #[test]
    fn a_one_off_is_sent_once_and_never_again() {
        let at = entry("at 2026-12-01T03:00:00Z");

        assert_eq!(sent(at.clone(), "2026-11-20T00:00:00Z", "2026-12-01T02:59:59Z"), [""; 0]);
        let late = sent(at.clone(), "2026-11-20T00:00:00Z", "2027-01-01T00:00:00Z");
        assert_eq!(late, ["01 03:00"]);
        assert_eq!(sent(at, "2026-12-01T03:00:00Z", "2027-01-01T00:00:00Z"), [""; 0]);
    }

    #[test]
    fn slots_outside_of_an_entrys_time_are_none() {
        let mut daily = entry("0 3 * * *");
        daily.not_before = Some(utc("2026-11-22T03:00:00Z"));
        daily.not_after = Some(utc("2026-11-23T03:00:00Z"));

        assert_eq!(next_slot(&daily, utc("2026-01-01T00:00:00Z")), daily.not_before);
        assert_eq!(next_slot(&daily, utc("2026-11-22T03:00:00Z")), None);
        let late = sent(daily.clone(), "2026-01-01T00:00:00Z", "2026-12-24T00:00:00Z");
        assert_eq!(late, ["22 03:00"]);
        assert_eq!(sent(daily, "2026-01-01T00:00:00Z", "2026-11-22T02:59:59Z"), [""; 0]);
    }

    #[test]
    fn an_interval_keeps_its_instants_when_it_begins_later() {
        let mut minutely = entry("every 1m");
        minutely.not_before = Some(utc("2026-11-23T03:00:30Z"));

        let next = next_slot(&minutely, utc("2026-11-01T00:00:10Z"));

        assert_eq!(next, Some(utc("2026-11-23T03:01:10Z")));
    }

    #[test]
    fn with_jitter_each_slot_is_sent_once_at_its_own_instant() {
        let mut minutely = entry("* * * * *");
        minutely.jitter = TimeDelta::seconds(50);
        let start = utc("2026-11-23T00:00:00Z");
        let mut agenda = agenda(vec![minutely.clone()], "2026-11-23T00:00:00Z");
        let mut slots = Vec::new();

        for second in 0..3600 {
            let now = start + TimeDelta::seconds(second);
            for run in &agenda.due(now, 9) {
                let slot = run.slots[0];
                assert!(minutely.due_at(slot) <= now);
                assert!(now - minutely.due_at(slot) <= TimeDelta::seconds(1));
                slots.push(slot);
                agenda.settle(run);
            }
        }

        let expected: Vec<_> = (1..60).map(|minute| start + TimeDelta::minutes(minute)).collect();
        // The last one may be sent after the hour.
        assert_eq!(slots, expected[..slots.len()]);
        assert!(slots.len() >= 58);
    }

    #[test]
    fn a_clock_that_is_put_back_sends_nothing_again_and_one_that_leaps_sends_once() {
        let mut agenda = agenda(vec![entry("*/5 * * * *")], "2026-11-23T00:00:00Z");
        let mut sent = Vec::new();
        for now in [
            "2026-11-23T00:05:00Z",
            // Back by an hour, forward again, suspended for a day.
            "2026-11-22T23:05:00Z",
            "2026-11-23T00:04:59Z",
            "2026-11-23T00:09:59Z",
            "2026-11-23T00:10:01Z",
            "2026-11-24T00:11:00Z",
            "2026-11-24T00:11:01Z",
        ] {
            for run in &agenda.due(utc(now), 9) {
                sent.extend(run.slots.iter().map(|slot| slot.format("%d %H:%M").to_string()));
                agenda.settle(run);
            }
        }

        assert_eq!(sent, ["23 00:05", "23 00:10", "24 00:10"]);
    }

    #[test]
    fn who_is_switched_off_is_never_due() {
        let mut agenda = Agenda::new([entry("* * * * *")].into(), vec![None]);

        assert_eq!(agenda.next(), None);
        assert!(agenda.due(utc("2026-11-23T00:05:00Z"), 9).is_empty());
    }
}
