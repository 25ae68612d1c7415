//! What was sent and is not yet written where the site looks for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// Runs of entries since they were last taken: one record for each entry, or none at all where
/// nobody takes them.
#[derive(Debug, Default)]
pub struct Journal {
    runs: Mutex<Option<HashMap<String, Runs>>>,
}

/// The runs of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) last: DateTime<Utc>,
    pub(crate) count: u32,
}

impl Journal {
    /// A journal that somebody takes runs out of.
    pub(crate) fn kept() -> Self {
        Self { runs: Mutex::new(Some(HashMap::new())) }
    }

    /// Notes entries with the instants at which they were sent.
    pub(crate) fn note(&self, fired: &[(&str, DateTime<Utc>)]) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runs) = runs.as_mut() else { return };
        for (entry, at) in fired {
            add(runs, (*entry).to_owned(), Runs { last: *at, count: 1 });
        }
    }

    /// Puts back what could not be written.
    pub(crate) fn give_back(&self, taken: HashMap<String, Runs>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runs) = runs.as_mut() else { return };
        for (entry, more) in taken {
            add(runs, entry, more);
        }
    }

    /// Takes them out.
    pub(crate) fn take(&self) -> HashMap<String, Runs> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

fn add(runs: &mut HashMap<String, Runs>, entry: String, more: Runs) {
    let known = runs.entry(entry).or_insert(Runs { last: more.last, count: 0 });
    known.last = known.last.max(more.last);
    known.count = known.count.saturating_add(more.count);
}
