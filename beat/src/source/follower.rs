//! Keeps entries as their source has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::Utc;
use shared_models::{DatabaseError, UtcDateTime};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use super::journal::Runs;
use super::{Journal, Loaded, Source, SourceError};
use crate::chain::Chain;
use crate::entry::Entry;

/// How often a source is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a database is read again that says it has not changed: not everybody who changes
/// rows says so.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// How often the last runs are written where the site's admin shows them.
const WRITE: Duration = Duration::from_secs(5);

/// Keeps entries as their source has them.
#[derive(Debug)]
pub struct Follower {
    source: Source,
    entries: watch::Sender<Option<Arc<[Entry]>>>,
    journal: Arc<Journal>,
    /// The state that was read last.
    read: Option<State>,
    read_at: Instant,
    written_at: Instant,
    /// What has been said last of what is wrong, so that it is said once.
    complaint: String,
}

/// What tells one state of a source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to look at.
    Fixed,
    Missing,
    File(Option<SystemTime>, u64),
    Database(Option<UtcDateTime>),
}

/// Why a source could not be looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the source could not be read")]
    Task(#[from] JoinError),
}

impl Follower {
    /// Loads the entries. Of a database that does not serve yet there are none until it does.
    ///
    /// # Errors
    ///
    /// Where they cannot be used: a beat does not start with a mistake.
    pub async fn start(source: Source) -> Result<Self, SourceError> {
        let journal = match source {
            Source::Database { .. } => Journal::kept(),
            Source::BuiltIn { .. } | Source::File { .. } => Journal::default(),
        };
        let mut follower = Self {
            source,
            entries: watch::Sender::new(None),
            journal: Arc::new(journal),
            read: None,
            read_at: Instant::now(),
            written_at: Instant::now(),
            complaint: String::new(),
        };
        let seen = follower.look().await.ok();
        match follower.load(seen).await {
            Ok(()) => {}
            Err(LookError::Source(error)) if !error.is_outage() => return Err(error),
            Err(error) => follower.complain(&Chain(&error).to_string()),
        }
        Ok(follower)
    }

    /// The entries, and their changes.
    pub fn entries(&self) -> watch::Receiver<Option<Arc<[Entry]>>> {
        self.entries.subscribe()
    }

    /// Where what was sent is to be noted.
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Loads them again when they change, and at each `hangup`. Entries with a mistake in them are
    /// told of, and those of before stay.
    pub async fn follow(mut self, mut hangup: Signal) {
        let mut seen = self.read;
        loop {
            let is_asked_for = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            match self.step(&mut seen, is_asked_for).await {
                Ok(()) => self.recover(),
                Err(error) => self.complain(&Chain(&error).to_string()),
            }
        }
    }

    async fn step(
        &mut self,
        seen: &mut Option<State>,
        is_asked_for: bool,
    ) -> Result<(), LookError> {
        let now = Some(self.look().await?);
        // A file that somebody is writing just now is not complete.
        let is_settled = std::mem::replace(seen, now) == now;
        let is_old =
            matches!(self.source, Source::Database { .. }) && self.read_at.elapsed() >= READ_AGAIN;
        if is_asked_for || is_old || (is_settled && now != self.read) {
            self.load(now).await?;
        }
        if self.written_at.elapsed() >= WRITE {
            self.written_at = Instant::now();
            self.write().await?;
        }
        Ok(())
    }

    /// Looks at the source without reading it.
    async fn look(&self) -> Result<State, LookError> {
        let source = self.source.clone();
        let look = move || match source {
            Source::BuiltIn { .. } => Ok(State::Fixed),
            Source::File { path, .. } => Ok(std::fs::metadata(path)
                .map_or(State::Missing, |metadata| {
                    State::File(metadata.modified().ok(), metadata.len())
                })),
            Source::Database { database, .. } => {
                database.periodic_tasks_changed().map(State::Database)
            }
        };
        Ok(spawn_blocking(look).await?.map_err(SourceError::from)?)
    }

    async fn load(&mut self, state: Option<State>) -> Result<(), LookError> {
        let source = self.source.clone();
        let loaded = spawn_blocking(move || source.load()).await?;
        // The same mistake is not looked for again until something has changed.
        if !loaded.as_ref().is_err_and(SourceError::is_outage) {
            (self.read, self.read_at) = (state, Instant::now());
        }
        let Loaded { entries, unusable } = loaded?;
        let is_same = self.entries.borrow().as_ref() == Some(&entries);
        log::info!(
            "{}: {} entries{}",
            self.source,
            entries.len(),
            if is_same { ", none changed" } else { "" }
        );
        for sentence in unusable {
            log::error!("{sentence}");
        }
        if !is_same {
            self.entries.send_replace(Some(entries));
        }
        Ok(())
    }

    /// Writes what was sent where the site's admin shows it.
    async fn write(&self) -> Result<(), LookError> {
        let Source::Database { database, .. } = &self.source else { return Ok(()) };
        let runs = self.journal.take();
        if runs.is_empty() {
            return Ok(());
        }
        let (database, written) = (database.clone(), runs.clone());
        let write = move || -> Result<(), DatabaseError> {
            let row = |(name, runs): (&String, &Runs)| {
                let count = i32::try_from(runs.count).unwrap_or(i32::MAX);
                (name.clone(), runs.last.into(), count)
            };
            let rows: Vec<_> = written.iter().map(row).collect();
            database.note_periodic_runs(&rows, Utc::now().into())
        };
        let outcome = spawn_blocking(write).await?.map_err(SourceError::from);
        if outcome.is_err() {
            self.journal.give_back(runs);
        }
        Ok(outcome?)
    }

    fn complain(&mut self, complaint: &str) {
        if self.complaint != complaint {
            let rest = if self.entries.borrow().is_some() {
                "the entries of before stay"
            } else {
                "there are no entries until it does, and this beat does not lead"
            };
            log::error!("{complaint}; {rest}");
            self.complaint = complaint.to_owned();
        }
    }

    fn recover(&mut self) {
        if !self.complaint.is_empty() && matches!(self.source, Source::Database { .. }) {
            log::info!("{} can be read and written again", self.source);
        }
        self.complaint.clear();
    }
}
