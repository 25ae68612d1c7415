//! The time that beat goes by.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::Instant;

/// A difference between two machines' clocks that somebody should hear of.
const DIFFERENCE: TimeDelta = TimeDelta::seconds(5);

/// The clock of Redis, as it was last read and as it has gone on since. However the clock of this
/// machine is put, and whoever leads, slots come at the same instants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    read: DateTime<Utc>,
    at: Instant,
}

impl Clock {
    /// The clock that showed `read` not later than now: so no slot is sent before its instant.
    pub(crate) fn read(read: DateTime<Utc>) -> Self {
        Self { read, at: Instant::now() }
    }

    /// In microseconds, as Redis keeps instants: what is compared later is the same then.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.at.elapsed()).unwrap_or(TimeDelta::MAX);
        self.read.checked_add_signed(passed).unwrap_or(self.read).trunc_subsecs(6)
    }

    /// How long it is until `instant`.
    pub(crate) fn until(&self, instant: DateTime<Utc>) -> Duration {
        (instant - self.now()).to_std().unwrap_or(Duration::ZERO)
    }

    /// By how much the clock of this machine is ahead, where that is worth a word.
    pub(crate) fn difference(&self, local: DateTime<Utc>) -> Option<TimeDelta> {
        Some(local - self.now()).filter(|ahead| ahead.abs() > DIFFERENCE)
    }
}
