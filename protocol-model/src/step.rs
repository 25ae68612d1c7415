//! What can happen, by name.

use std::fmt;

/// One step. Numbers are those of processes, reapers and deliveries in the state before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its name, as in the documentation of `celery-redis/src/transport`.
    pub name: &'static str,
    /// Which process or reaper takes it.
    pub who: usize,
    /// What becomes of its request.
    pub fate: Fate,
}

/// What becomes of a request, as its sender sees it and as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is executed, and the reply arrives.
    Answered,
    /// It is executed; the reply never arrives.
    ReplyLost,
    /// Its sender gives it up; it may be executed at any time after that, or never.
    Late,
    /// Something that happens to a process instead of being done by it.
    Fault,
}

impl Step {
    /// Every name of a step that Redis executes for a process, a reaper or the promoter.
    pub const NAMES: [&str; 11] = [
        "register", "claim", "return", "renew", "settle", "defer", "bury", "requeue", "leave",
        "reap", "promote",
    ];

    /// Whether a message may rely on it to come to its end: no fault, and nothing that only
    /// happens where somebody wants it to.
    pub fn is_progress(&self) -> bool {
        self.fate == Fate::Answered
            && !matches!(
                self.name,
                "begin to leave" | "arrive late" | "look for stale" | "restore" | "give up reaping"
            )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.who)?;
        match self.fate {
            Fate::Answered => Ok(()),
            Fate::ReplyLost => formatter.write_str(", its reply is lost"),
            Fate::Late => formatter.write_str(", given up, still under way"),
            Fate::Fault => formatter.write_str(", a fault"),
        }
    }
}
