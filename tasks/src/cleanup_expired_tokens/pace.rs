//! How large a batch is, and how long the rest after it.

use std::time::Duration;

const FIRST: u32 = 1_000;
/// Of many on SQLite: they are neighbours, and a rest after a short batch is long for that.
const FIRST_OF_MANY: u32 = 16_000;
const SMALLEST: u32 = 50;
const LARGEST: u32 = 500_000;
/// What another connection may have to wait for, in the worst case.
const AIM: Duration = Duration::from_millis(60);
/// Batches that find room where the rows are take a third of the time of the one that makes it: what
/// they teach must not make that one, which comes next, much longer than it should be.
const GROWTH: f64 = 1.2;
/// On SQLite, where it pays to work for long between two rests.
const AIM_BETWEEN_RESTS: Duration = Duration::from_millis(100);
const GROWTH_BETWEEN_RESTS: f64 = 2.0;

/// Batches that take about as long each.
#[derive(Debug)]
pub(super) struct Pace {
    size: u32,
    writers: Writers,
}

/// Who can write at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    /// Others, too, while a batch does.
    Many,
    /// One.
    One,
}

impl Pace {
    pub(super) fn new(writers: Writers) -> Self {
        Self { size: FIRST, writers }
    }

    /// For many tokens where one can write.
    pub(super) fn of_many_rows() -> Self {
        Self { size: FIRST_OF_MANY, writers: Writers::One }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Learns from a batch, and says how long to let others write where only one can.
    pub(super) fn rest_after(&mut self, took: Duration, tokens: u64) -> Duration {
        let (aim, growth) = match self.writers {
            Writers::Many => (AIM, GROWTH),
            Writers::One => (AIM_BETWEEN_RESTS, GROWTH_BETWEEN_RESTS),
        };
        // How fast a batch with little in it was says nothing of a full one.
        if took > aim || 4 * tokens >= u64::from(self.size) {
            self.size = next_size(self.size, took, aim, growth);
        }
        match self.writers {
            Writers::Many => Duration::ZERO,
            Writers::One => rest_after(took),
        }
    }
}

/// At most `growth` times as large, at least half as large as the one before.
fn next_size(size: u32, took: Duration, aim: Duration, growth: f64) -> u32 {
    let factor = aim.as_secs_f64() / took.as_secs_f64().max(0.001);
    let wanted = f64::from(size) * factor.clamp(0.5, growth);
    (wanted as u32).clamp(SMALLEST, LARGEST)
}

/// Who waits for SQLite's lock is not woken when it is free, but asks again: after 1, 2, 5, 10, 15, 20,
/// three times 25 and twice 50 milliseconds, then each 100 (`sqliteDefaultBusyCallback`). The rest is
/// as long as it may take from one question to the next, so that whoever came during the batch asks
/// while it lasts.
fn rest_after(took: Duration) -> Duration {
    const SLACK: u64 = 3;
    let gap = match took.as_millis() {
        0 => 1,
        1..=2 => 2,
        3..=7 => 5,
        8..=17 => 10,
        18..=32 => 15,
        33..=52 => 20,
        53..=127 => 25,
        128..=227 => 50,
        _ => 100,
    };
    Duration::from_millis(gap + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_time() {
        let next = |size, millis| next_size(size, Duration::from_millis(millis), AIM, 2.0);
        assert_eq!(next(1_000, 60), 1_000);
        assert_eq!(next(1_000, 1), 2_000);
        assert_eq!(next(1_000, 9_000), 500);
        assert_eq!(next(LARGEST, 0), LARGEST);
        assert_eq!(next(SMALLEST, 9_000), SMALLEST);
    }

    #[test]
    fn whoever_waits_for_sqlite_asks_again_during_the_rest() {
        let gaps = [0, 1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100, 100, 100, 100];
        let asked = |since: u64| {
            gaps.iter().scan(since, |at, gap| {
                *at += gap;
                Some(*at)
            })
        };
        for took in 0..400 {
            let rest = rest_after(Duration::from_millis(took)).as_millis() as u64;
            for came in 0..took {
                let mut asked = asked(came);
                assert!(asked.any(|at| (took..took + rest).contains(&at)), "{took} ms, {came}");
            }
        }
    }
}
