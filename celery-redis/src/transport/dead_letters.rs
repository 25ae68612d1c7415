//! Messages that nobody can execute, kept for a person to look at.

use serde::{Deserialize, Serialize};

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It cannot be read, and names nobody to answer to.
    Undecodable,
    /// Every process that had it died.
    Poison,
    /// Its queue's key holds something else.
    Unroutable,
}

impl Reason {
    /// The word in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Poison => "poison",
            Self::Unroutable => "unroutable",
        }
    }
}

/// What is recorded beside a dead letter's bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why it is dead.
    pub reason: Reason,
    /// The same in a sentence.
    pub detail: String,
    /// The queue it came from.
    pub queue: String,
    /// The list that a retry puts it back into.
    pub list: String,
    /// Processes that died with it.
    pub deliveries: u32,
    /// Burial, epoch seconds.
    pub time: i64,
}

impl DeadLetter {
    /// The record's bytes.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A line that is worth an alert.
    pub fn log(&self) {
        log::error!(
            target: "celery_redis::dead_letters",
            "message from queue {:?} is a dead letter ({}): {}",
            self.queue, self.reason.as_str(), self.detail
        );
    }
}
