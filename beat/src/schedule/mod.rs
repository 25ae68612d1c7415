//! When an entry runs: pure questions, with time as an argument.

mod crontab;
pub(crate) mod duration;
mod field;
mod interval;
mod local_time;
mod text;

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;

pub use crontab::{Crontab, CrontabError};
pub use interval::Interval;
pub use text::ScheduleError;

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
    /// Once, at this instant.
    At(DateTime<Utc>),
}

impl Schedule {
    /// The first slot after `last`; `None` where there is none any more.
    pub fn next_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab { crontab, zone } => crontab.next_after(last, *zone),
            Self::Interval(interval) => interval.next_after(last),
            Self::At(at) => Some(*at).filter(|at| *at > last),
        }
    }

    /// The slot to run at `now` where the last one was `last`: the latest of those that have come
    /// since, so that any number of missed slots is caught up once.
    pub fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab { crontab, zone } => crontab.due(last, now, *zone),
            Self::Interval(interval) => interval.due(last, now),
            Self::At(at) => Some(*at).filter(|at| *at > last && *at <= now),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crontab { crontab, zone } => write!(formatter, "{crontab} {zone}"),
            Self::Interval(_) | Self::At(_) => formatter.write_str(&self.text()),
        }
    }
}

fn shown(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
