//! SQLite's write-ahead log, copied into the database beside the batches that fill it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use shared_models::{AnyConnection, Database};

use crate::JwtError;

/// How many pages the log may have before all of it is copied while nobody else writes, so that the next
/// batch begins at its start again: 128 MB with pages as most databases have them.
const LONGEST_LOG: i64 = 32_768;

/// A connection of its own that copies while the next batch is made: copying takes a third of the time
/// that the batches take, and nobody has to wait for it. Dropped, it ends on its own.
#[derive(Debug)]
pub(super) struct Checkpoints {
    ask: Sender<()>,
    /// How long the log was at each that was asked for.
    made: Receiver<Result<i64, JwtError>>,
    asked: usize,
}

impl Checkpoints {
    pub(super) fn begin(database: &Database) -> Result<Self, JwtError> {
        let mut connection = database.aside()?;
        let (ask, asked) = mpsc::channel();
        let (tell, made) = mpsc::channel();
        thread::spawn(move || {
            while asked.recv().is_ok() {
                let outcome = connection.checkpoint().map(|made| made.log);
                if tell.send(outcome.map_err(JwtError::from)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { ask, made, asked: 0 })
    }

    /// Has what is in the log now copied. Where that had grown long it waits, and copies with
    /// `connection` what others wrote meanwhile.
    pub(super) fn ask(&mut self, connection: &mut AnyConnection) -> Result<(), JwtError> {
        let mut longest = 0;
        while let Ok(made) = self.made.try_recv() {
            self.asked -= 1;
            longest = made?.max(longest);
        }
        if self.ask.send(()).is_ok() {
            self.asked += 1;
        }
        if longest > LONGEST_LOG {
            self.wait()?;
            connection.checkpoint()?;
        }
        Ok(())
    }

    /// Waits for all that were asked for.
    pub(super) fn wait(&mut self) -> Result<(), JwtError> {
        while self.asked > 0 {
            // If the thread has ended, SQLite copies at the next commit.
            let Ok(made) = self.made.recv() else { break };
            made?;
            self.asked -= 1;
        }
        self.asked = 0;
        Ok(())
    }
}
