//! How much there is to do, counted while it is being done.

use std::panic;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use shared_models::{Database, Found, Survey};

use crate::JwtError;

/// A count on a connection of its own, on SQLite: a pass over all tokens takes a good part of the time
/// that it takes to change them. Dropped, it ends on its own.
#[derive(Debug)]
pub(super) struct Counting(JoinHandle<Result<Found, JwtError>>);

impl Counting {
    /// Begins to count what there is now: what is changed after this returns counts, too.
    pub(super) fn begin(database: &Database, survey: Survey) -> Result<Self, JwtError> {
        let mut connection = database.aside()?;
        let (begun, has_begun) = mpsc::channel();
        let counting = thread::spawn(move || {
            let begun = move || {
                let _ = begun.send(());
            };
            connection.as_of_now(begun, |connection| Ok(survey.many(connection)?))
        });
        // Where it failed before, so does whoever waits for the result.
        let _ = has_begun.recv();
        Ok(Self(counting))
    }

    /// Whether nobody has to wait.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for what is found.
    pub(super) fn found(self) -> Result<Found, JwtError> {
        self.0.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}
