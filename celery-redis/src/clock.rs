//! The logical clock that events and replies are stamped with (Lamport's, `kombu.clocks`).

use std::sync::atomic::{AtomicU64, Ordering};

/// One process's clock; it never goes back.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// The next value, for something that happens here.
    pub fn forward(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Moves beyond a value that another process told.
    pub fn adjust(&self, other: u64) {
        // Far beyond what any fleet counts to: a mistake, or a wish to do harm.
        const HIGHEST: u64 = 1 << 53;
        if other < HIGHEST {
            self.0.fetch_max(other, Ordering::Relaxed);
        }
        self.forward();
    }

    /// The value now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_beyond_all_that_was_told() {
        let clock = Clock::default();
        clock.forward();
        clock.adjust(41);
        assert_eq!(clock.now(), 42);
        clock.adjust(7);
        assert_eq!(clock.now(), 43);
        clock.adjust(u64::MAX);
        assert_eq!(clock.forward(), 45);
    }
}
