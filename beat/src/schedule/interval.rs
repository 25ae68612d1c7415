//! Schedules of elapsed time.

use chrono::{DateTime, TimeDelta, Utc};

/// Every so often, whatever the clocks on the wall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    every: TimeDelta,
}

impl Interval {
    /// More often is a loop, not a schedule.
    pub const LEAST: TimeDelta = TimeDelta::milliseconds(10);

    /// An interval of `every`; `None` where that is no time at all.
    pub fn new(every: TimeDelta) -> Option<Self> {
        (every > TimeDelta::zero()).then_some(Self { every })
    }

    /// The time between two slots.
    pub fn every(self) -> TimeDelta {
        self.every
    }

    /// The slot after `last`.
    pub fn next_after(self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        last.checked_add_signed(self.every)
    }

    /// The latest slot after `last` and until `now`. Slots keep their distance from each other,
    /// however late one was sent.
    pub fn due(self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = self.next_after(last).filter(|first| *first <= now)?;
        let late = (now - first).num_microseconds()?;
        let every = self.every.num_microseconds()?.max(1);
        first.checked_add_signed(TimeDelta::microseconds(late - late % every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_their_distance_and_missed_ones_are_skipped() {
        let interval = Interval::new(TimeDelta::seconds(30)).unwrap();
        let start: DateTime<Utc> = "2026-11-23T03:00:00.25Z".parse().unwrap();
        let at = |seconds| start + TimeDelta::seconds(seconds);

        assert_eq!(interval.due(start, at(29)), None);
        assert_eq!(interval.due(start, at(30)), Some(at(30)));
        assert_eq!(interval.due(start, at(44)), Some(at(30)));
        assert_eq!(interval.due(start, at(3_000_000_029)), Some(at(3_000_000_000)));
    }

    #[test]
    fn no_time_is_no_interval() {
        assert!(Interval::new(TimeDelta::zero()).is_none());
        assert!(Interval::new(TimeDelta::seconds(-1)).is_none());
    }
}
