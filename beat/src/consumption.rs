//! Whether anybody takes what beat sends.

use std::collections::HashMap;

use celery_redis::transport::beat_state::Tail;
use chrono::{DateTime, TimeDelta, Utc};

/// After this many slots, and this long, a list from which nobody has taken anything is told of.
const SLOTS: u32 = 3;
const PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// What was seen of the lists that beat sends to.
#[derive(Debug, Default)]
pub(crate) struct Consumption {
    lists: HashMap<String, Standstill>,
}

#[derive(Debug)]
struct Standstill {
    /// The message that is to be taken next.
    digest: String,
    since: DateTime<Utc>,
    slots: u32,
    is_told: bool,
}

/// Something to tell an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// Nobody has taken anything from this list since then.
    NothingConsumed { list: String, since: DateTime<Utc>, slots: u32 },
    /// Somebody takes from it again.
    ConsumedAgain { list: String },
}

impl Consumption {
    /// Notes what stood at the other end of a list when beat sent to it at `now`.
    pub(crate) fn note(&mut self, tail: Tail, now: DateTime<Utc>) -> Option<Observation> {
        let Tail { list, digest } = tail;
        let fresh = Standstill { digest, since: now, slots: 0, is_told: false };
        let Some(seen) = self.lists.get_mut(&list) else {
            self.lists.insert(list, fresh);
            return None;
        };
        if seen.digest != fresh.digest {
            let was_told = seen.is_told;
            *seen = fresh;
            return was_told.then_some(Observation::ConsumedAgain { list });
        }
        seen.slots += 1;
        if seen.is_told || seen.slots < SLOTS || now - seen.since < PATIENCE {
            return None;
        }
        seen.is_told = true;
        Some(Observation::NothingConsumed { list, since: seen.since, slots: seen.slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_stands_still_is_told_of_once_and_its_recovery_too() {
        let mut consumption = Consumption::default();
        let start: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut note = |digest: &str, seconds| {
            let tail = Tail { list: "q".to_owned(), digest: digest.to_owned() };
            consumption.note(tail, start + TimeDelta::seconds(seconds))
        };

        assert_eq!(note("a", 0), None);
        for second in [10, 20, 25] {
            assert_eq!(note("a", second), None, "{second}");
        }
        let told = note("a", 30);
        let list = "q".to_owned();
        assert_eq!(
            told,
            Some(Observation::NothingConsumed { list: list.clone(), since: start, slots: 4 })
        );
        assert_eq!(note("a", 40), None);
        assert_eq!(note("b", 50), Some(Observation::ConsumedAgain { list }));
        assert_eq!(note("c", 60), None, "somebody takes");
        // Rare slots are as telling as frequent ones.
        for day in 1..3 {
            assert_eq!(note("c", day * 86_400), None);
        }
        assert!(note("c", 3 * 86_400).is_some());
    }
}
