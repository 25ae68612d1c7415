//! How large a batch is, and how long the rest after it.

use std::mem;
use std::time::{Duration, Instant};

const FIRST: u32 = 1_000;
/// Of many on SQLite: they are neighbours, and quickly changed.
const FIRST_OF_MANY: u32 = 32_000;
const SMALLEST: u32 = 50;
const LARGEST: u32 = 500_000;
/// What another connection may have to wait for, in the worst case.
const AIM: Duration = Duration::from_millis(60);
/// Batches that find room where the rows are take a third of the time of the one that makes it: what
/// they teach must not make that one, which comes next, much longer than it should be.
const GROWTH: f64 = 1.2;
/// On SQLite, where it pays to work for long between two rests.
const AIM_BETWEEN_RESTS: Duration = Duration::from_millis(115);
const GROWTH_BETWEEN_RESTS: f64 = 4.0;
/// If less is left of that, the next batch waits for the rest.
const TOO_LITTLE: Duration = Duration::from_millis(30);

/// How many tokens the batches change. On SQLite several follow each other without a rest, as long as all
/// of them together take no longer than one may: short ones teach how fast it can be.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of a batch that takes all the time there is between two rests.
    full: u32,
    writers: Writers,
    /// Since when others have had no rest to write in.
    since: Option<Instant>,
    held: Duration,
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
        Self { full: FIRST, writers, since: None, held: Duration::ZERO }
    }

    /// For many tokens where one can write.
    pub(super) fn of_many_rows() -> Self {
        Self { full: FIRST_OF_MANY, ..Self::new(Writers::One) }
    }

    /// Of the next batch.
    pub(super) fn size(&self) -> u32 {
        let part = self.left().as_secs_f64() / self.aim().as_secs_f64();
        ((f64::from(self.full) * part) as u32).max(SMALLEST)
    }

    /// Learns from a batch, and says how long to let others write where only one can.
    pub(super) fn rest_after(&mut self, began: Instant, ended: Instant, tokens: u64) -> Duration {
        let size = self.size();
        let took = ended - began;
        // How fast a batch with little in it was says nothing of a full one.
        if took > self.left() || 4 * tokens >= u64::from(size) {
            let growth = match self.writers {
                Writers::Many => GROWTH,
                Writers::One => GROWTH_BETWEEN_RESTS,
            };
            self.full = next_size(self.full, size, took, self.aim(), growth);
        }
        if self.writers == Writers::Many {
            return Duration::ZERO;
        }
        self.held = ended - *self.since.get_or_insert(began);
        if self.left() >= TOO_LITTLE {
            return Duration::ZERO;
        }
        self.since = None;
        rest_after(mem::take(&mut self.held))
    }

    fn aim(&self) -> Duration {
        match self.writers {
            Writers::Many => AIM,
            Writers::One => AIM_BETWEEN_RESTS,
        }
    }

    /// How long the next batch may take.
    fn left(&self) -> Duration {
        self.aim().saturating_sub(self.held)
    }
}

/// How many could be changed in `aim`, where `size` were in `took`: at most `growth` times as many as
/// were thought before, at least half of these.
fn next_size(before: u32, size: u32, took: Duration, aim: Duration, growth: f64) -> u32 {
    let could = f64::from(size) * aim.as_secs_f64() / took.as_secs_f64().max(0.001);
    let before = f64::from(before);
    (could.clamp(before / 2.0, before * growth) as u32).clamp(SMALLEST, LARGEST)
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
        let next = |size, millis| next_size(size, size, Duration::from_millis(millis), AIM, 2.0);
        assert_eq!(next(1_000, 60), 1_000);
        assert_eq!(next(1_000, 1), 2_000);
        assert_eq!(next(1_000, 9_000), 500);
        assert_eq!(next(LARGEST, 0), LARGEST);
        assert_eq!(next(SMALLEST, 9_000), SMALLEST);
    }

    #[test]
    fn batches_between_two_rests_take_no_longer_than_one_may() {
        // Nanoseconds for a token, and for each how many are looked for.
        for (each, found_of) in [(60, 1), (600, 1), (600, 3), (600, 100), (6_000, 2), (30_000, 1)] {
            let mut pace = Pace::of_many_rows();
            let mut now = Instant::now();
            let (mut since, mut rests) = (now, 0);
            while rests < 20 {
                let found = u64::from(pace.size()) / found_of;
                let ended = now + Duration::from_nanos(found * each);
                let rest = pace.rest_after(now, ended, found);
                now = ended + rest;
                if !rest.is_zero() {
                    // Sizes are rounded.
                    let most = AIM_BETWEEN_RESTS + Duration::from_millis(1);
                    let (learning, held) = (rests < 5, ended - since);
                    assert!(learning || held <= most, "{held:?}, {each}, {found_of}");
                    (since, rests) = (now, rests + 1);
                }
            }
        }
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
