//! How large a batch is, and how long the rest after it.

use std::thread;
use std::time::Duration;

const FIRST: u32 = 1_000;
const SMALLEST: u32 = 50;
const LARGEST: u32 = 100_000;
/// What another connection may have to wait for, in the worst case.
const AIM: Duration = Duration::from_millis(75);

/// Batches that take about as long each.
#[derive(Debug)]
pub(super) struct Pace {
    size: u32,
    /// Whether others can write while a batch does.
    shared: bool,
}

impl Pace {
    pub(super) fn new(shared: bool) -> Self {
        Self { size: FIRST, shared }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Learns from a batch. On SQLite, where only one can write, it then leaves as much time to
    /// others as it has taken: with less they starve.
    pub(super) fn rest(&mut self, took: Duration, tokens: u64) {
        if tokens >= u64::from(self.size) {
            self.size = next_size(self.size, took);
        }
        if !self.shared {
            thread::sleep(took);
        }
    }
}

/// At most twice as large or half as large as the one before.
fn next_size(size: u32, took: Duration) -> u32 {
    let factor = AIM.as_secs_f64() / took.as_secs_f64().max(0.001);
    let wanted = f64::from(size) * factor.clamp(0.5, 2.0);
    (wanted as u32).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_time() {
        assert_eq!(next_size(1_000, Duration::from_millis(75)), 1_000);
        assert_eq!(next_size(1_000, Duration::from_millis(1)), 2_000);
        assert_eq!(next_size(1_000, Duration::from_secs(9)), 500);
        assert_eq!(next_size(LARGEST, Duration::ZERO), LARGEST);
        assert_eq!(next_size(SMALLEST, Duration::from_secs(9)), SMALLEST);
    }
}
