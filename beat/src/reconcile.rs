//! What a leader makes of its entries and of what Redis knows of them.

use std::collections::{HashMap, HashSet};

use celery_redis::transport::beat_state::{Adoption, Ledger, StoredEntry, Switch};
use chrono::{DateTime, Utc};

use crate::entry::{Definition, Entry};

/// What is to be made known, and from where each entry goes on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reconciled {
    /// In the order of the entries; `None` for one that is not to be sent.
    pub(crate) cursors: Vec<Option<DateTime<Utc>>>,
    pub(crate) adoptions: Vec<Adoption>,
    pub(crate) forgotten: Vec<String>,
    /// Entries that nobody has seen before.
    pub(crate) new: Vec<String>,
    /// Entries of another schedule than before.
    pub(crate) rescheduled: Vec<String>,
    /// New entries that come too late to be sent ever.
    pub(crate) past: Vec<String>,
    /// Entries whose last run is gone from Redis.
    pub(crate) lost: Vec<String>,
    /// Entries whose last run in Redis is earlier than what this process has sent.
    pub(crate) restored: Vec<String>,
}

/// Compares `entries` with what Redis knows, and with those that this process `remembers` from
/// before, with the slot that it has sent last.
///
/// - An entry that is not known starts as if it had just run.
/// - One whose schedule has changed, or that was switched on, counts its slots from now on: what
///   the new schedule would have sent before is not made up.
/// - Any other goes on from where it was.
/// - What is no longer among the entries is forgotten, and new when it comes again.
pub(crate) fn reconcile(
    entries: &[Entry],
    ledger: &Ledger,
    remembered: &HashMap<String, Option<DateTime<Utc>>>,
    now: DateTime<Utc>,
) -> Reconciled {
    let mut result = Reconciled::default();
    for entry in entries {
        let stored = ledger.get(&entry.name);
        let cursor = stored.and_then(|stored| stored.cursor);
        match (remembered.get(&entry.name), cursor) {
            (Some(_), None) => result.lost.push(entry.name.clone()),
            (Some(Some(sent)), Some(cursor)) if cursor < *sent => {
                result.restored.push(entry.name.clone());
            }
            _ => {}
        }
        let start = start(entry, stored, now);
        match start {
            Start::New(from) => {
                result.new.push(entry.name.clone());
                if entry.schedule.next_after(from).is_none() {
                    result.past.push(entry.name.clone());
                }
            }
            Start::Changed(_) => result.rescheduled.push(entry.name.clone()),
            Start::SwitchedOn(_) | Start::GoesOn(_) => {}
        }
        result.cursors.push(Some(start.cursor()).filter(|_| is_sent(entry, stored)));
        let definition = serde_json::to_string(&entry.to_definition()).unwrap_or_default();
        let is_known = stored.and_then(|stored| stored.definition.as_ref()) == Some(&definition);
        if !is_known || start.is_moved() {
            let from = Some(start.cursor()).filter(|_| start.is_moved());
            result.adoptions.push(Adoption { name: entry.name.clone(), definition, from });
        }
    }
    let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    // Those without a definition wait for a leader that adopts them.
    let gone = ledger
        .iter()
        .filter(|(name, stored)| stored.definition.is_some() && !names.contains(name.as_str()));
    result.forgotten.extend(gone.map(|(name, _)| name.clone()));
    result.forgotten.sort();
    result
}

/// From where an entry goes on, and why.
#[derive(Clone, Copy)]
enum Start {
    New(DateTime<Utc>),
    Changed(DateTime<Utc>),
    SwitchedOn(DateTime<Utc>),
    GoesOn(DateTime<Utc>),
}

impl Start {
    fn cursor(self) -> DateTime<Utc> {
        match self {
            Self::New(at) | Self::Changed(at) | Self::SwitchedOn(at) | Self::GoesOn(at) => at,
        }
    }

    fn is_moved(self) -> bool {
        !matches!(self, Self::GoesOn(_))
    }
}

fn start(entry: &Entry, stored: Option<&StoredEntry>, now: DateTime<Utc>) -> Start {
    let Some((stored, cursor)) = stored.and_then(|stored| Some((stored, stored.cursor?))) else {
        return Start::New(entry.first_from.unwrap_or(now));
    };
    let before: Option<Definition> =
        stored.definition.as_ref().and_then(|definition| serde_json::from_str(definition).ok());
    // Another release may have kept no definition: then nothing is known to have changed.
    let Some(before) = before else { return Start::GoesOn(cursor) };
    let after = entry.to_definition();
    let times = |definition: &Definition| {
        let Definition { schedule, timezone, not_before, .. } = definition;
        (schedule.clone(), *timezone, *not_before)
    };
    // Never back: what was sent stays sent.
    let from_now = cursor.max(now);
    if times(&before) != times(&after) {
        Start::Changed(from_now)
    } else if after.enabled && !before.enabled && stored.switch != Some(Switch::On) {
        Start::SwitchedOn(from_now)
    } else {
        Start::GoesOn(cursor)
    }
}

/// Whether `entry` is to be sent: what an operator has switched comes first.
pub fn is_sent(entry: &Entry, stored: Option<&StoredEntry>) -> bool {
    let is_over = entry.one_off && stored.is_some_and(|stored| stored.count > 0);
    let switch = stored.and_then(|stored| stored.switch);
    !is_over && switch.map_or(entry.enabled, |switch| switch == Switch::On)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use chrono_tz::Tz;

    use super::*;
    use crate::entry::Call;
    use crate::schedule::Schedule;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn entry(schedule: &str) -> Entry {
        Entry::new("e", Call::default(), Schedule::parse(schedule, Tz::UTC).unwrap())
    }

    fn now() -> DateTime<Utc> {
        utc("2026-11-23T12:00:00Z")
    }

    /// What Redis knows of `entry` after a leader has adopted it and sent its slots until `cursor`.
    fn known(entry: &Entry, cursor: &str) -> Ledger {
        let definition = serde_json::to_string(&entry.to_definition()).unwrap();
        let stored = StoredEntry {
            cursor: Some(utc(cursor)),
            count: 3,
            definition: Some(definition),
            ..StoredEntry::default()
        };
        Ledger::from([(entry.name.clone(), stored)])
    }

    fn reconciled(entry: &Entry, ledger: &Ledger) -> Reconciled {
        reconcile(std::slice::from_ref(entry), ledger, &HashMap::new(), now())
    }

    #[test]
    fn a_new_entry_starts_now_and_a_known_one_goes_on() {
        let entry = entry("0 3 * * *");

        let first = reconciled(&entry, &Ledger::new());
        assert_eq!(first.cursors, [Some(now())]);
        assert_eq!(first.adoptions[0].from, Some(now()));
        assert_eq!(first.new, ["e"]);

        let later = reconciled(&entry, &known(&entry, "2026-11-22T03:00:00Z"));
        assert_eq!(later.cursors, [Some(utc("2026-11-22T03:00:00Z"))]);
        assert_eq!((later.adoptions, later.new), (vec![], vec![]));
    }

    #[test]
    fn a_changed_schedule_or_zone_counts_from_the_change() {
        let before = entry("0 3 * * *");
        let mut zone = before.clone();
        zone.schedule = Schedule::parse("0 3 * * *", Tz::Asia__Tokyo).unwrap();

        for after in [entry("0 6 * * *"), entry("every 1h"), zone] {
            let result = reconciled(&after, &known(&before, "2026-11-23T03:00:00Z"));

            assert_eq!(result.rescheduled, ["e"]);
            assert_eq!(result.cursors, [Some(now())], "no slot of the past is due");
            assert_eq!(result.adoptions[0].from, Some(now()));
        }
        // A last run that is ahead of the clock stays there.
        let ahead = reconciled(&entry("0 6 * * *"), &known(&before, "2027-01-01T00:00:00Z"));
        assert_eq!(ahead.cursors, [Some(utc("2027-01-01T00:00:00Z"))]);
    }

    #[test]
    fn another_change_is_told_and_moves_nothing() {
        let before = entry("0 3 * * *");
        let mut after = before.clone();
        after.call.queue = "night".to_owned();

        let result = reconciled(&after, &known(&before, "2026-11-20T03:00:00Z"));

        assert_eq!(result.cursors, [Some(utc("2026-11-20T03:00:00Z"))]);
        assert_eq!(result.adoptions[0].from, None);
        assert_eq!(result.rescheduled, [""; 0]);
    }

    #[test]
    fn what_was_off_was_not_missed() {
        let mut off = entry("0 3 * * *");
        off.enabled = false;
        let ledger = known(&off, "2026-11-01T03:00:00Z");
        assert_eq!(reconciled(&off, &ledger).cursors, [None]);

        let on = entry("0 3 * * *");
        assert_eq!(reconciled(&on, &ledger).cursors, [Some(now())]);
    }

    #[test]
    fn an_operators_switch_comes_first() {
        let on = entry("0 3 * * *");
        let mut ledger = known(&on, "2026-11-22T03:00:00Z");
        ledger.get_mut("e").unwrap().switch = Some(Switch::Off);
        assert_eq!(reconciled(&on, &ledger).cursors, [None]);

        let mut off = on;
        off.enabled = false;
        let mut ledger = known(&off, "2026-11-22T03:00:00Z");
        ledger.get_mut("e").unwrap().switch = Some(Switch::On);
        let cursor = utc("2026-11-22T03:00:00Z");
        assert_eq!(reconciled(&off, &ledger).cursors, [Some(cursor)]);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_older_releases_kept_goes_on() {
        let gone = known(&entry("0 3 * * *"), "2026-11-22T03:00:00Z");
        let result = reconcile(&[], &gone, &HashMap::new(), now());
        assert_eq!(result.forgotten, ["e"]);

        let mut old = gone;
        old.get_mut("e").unwrap().definition = None;
        let result = reconciled(&entry("0 3 * * *"), &old);
        assert_eq!(result.cursors, [Some(utc("2026-11-22T03:00:00Z"))]);
        assert_eq!(result.adoptions.len(), 1);
    }

    #[test]
    fn an_emptied_and_a_restored_redis_are_noticed() {
        let entry = entry("0 3 * * *");
        let sent = HashMap::from([("e".to_owned(), Some(utc("2026-11-23T03:00:00Z")))]);

        let emptied = reconcile(std::slice::from_ref(&entry), &Ledger::new(), &sent, now());
        assert_eq!(emptied.lost, ["e"]);
        let older = known(&entry, "2026-11-22T03:00:00Z");
        let restored = reconcile(std::slice::from_ref(&entry), &older, &sent, now());
        assert_eq!(restored.restored, ["e"]);
        let same = known(&entry, "2026-11-23T03:00:00Z");
        let same = reconcile(std::slice::from_ref(&entry), &same, &sent, now());
        assert_eq!((same.lost, same.restored), (vec![], vec![]));
        // Whose last run an operator has put back, without this process having sent it.
        let known = HashMap::from([("e".to_owned(), None)]);
        let reset = reconcile(std::slice::from_ref(&entry), &older, &known, now());
        assert_eq!(reset.restored, [""; 0]);
    }

    #[test]
    fn a_one_off_that_was_sent_or_comes_too_late_is_never_sent() {
        let past = entry("at 2026-11-01T00:00:00Z");
        assert_eq!(reconciled(&past, &Ledger::new()).past, ["e"]);

        let mut once = entry("every 1h");
        once.one_off = true;
        let ledger = known(&once, "2026-11-22T03:00:00Z");
        assert_eq!(reconciled(&once, &ledger).cursors, [None]);
        let mut fresh = ledger;
        fresh.get_mut("e").unwrap().count = 0;
        assert_eq!(reconciled(&once, &fresh).cursors, [Some(utc("2026-11-22T03:00:00Z"))]);
        // From when somebody else has sent it last.
        once.first_from = Some(now() - TimeDelta::hours(7));
        assert_eq!(reconciled(&once, &Ledger::new()).cursors, [once.first_from]);
    }
}
