//! When an entry runs: pure questions, with time as an argument.

mod crontab;
mod field;
mod interval;
mod local_time;

use std::fmt;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

pub use crontab::{Crontab, CrontabError};
pub use interval::Interval;

/// When an entry runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At minutes that match, on the clocks of a time zone.
    Crontab {
        /// The minutes.
        crontab: Crontab,
        /// Whose clocks.
        zone: Tz,
    },
    /// Every so often.
    Interval(Interval),
}

impl Schedule {
    /// The first slot after `last`; `None` where the calendar ends before it.
    pub fn next_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab { crontab, zone } => crontab.next_after(last, *zone),
            Self::Interval(interval) => interval.next_after(last),
        }
    }

    /// The slot to run at `now` where the last one was `last`: the latest of those that have come
    /// since, so that any number of missed slots is caught up once.
    pub fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab { crontab, zone } => crontab.due(last, now, *zone),
            Self::Interval(interval) => interval.due(last, now),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crontab { crontab, zone } => write!(formatter, "{crontab} {zone}"),
            Self::Interval(interval) => {
                write!(formatter, "every {} s", interval.every().as_seconds_f64())
            }
        }
    }
}
