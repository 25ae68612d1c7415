//! Where the entries come from, and how beat hears that they have changed.

mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::built_in::built_in;
use crate::chain::Chain;
use crate::entry::Entry;
use crate::schedule::ScheduleError;

pub use file::{FileError, parse};

/// How often a source is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the entries come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The five of the JWT maintenance.
    BuiltIn {
        /// Where they are sent to.
        queue: String,
    },
    /// These and those of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Where those are sent to that name no queue.
        queue: String,
    },
}

/// Why there are no entries.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The built-in entries are wrong.
    #[error(transparent)]
    BuiltIn(#[from] ScheduleError),
}

/// What tells one state of a file from another.
type Fingerprint = (Option<SystemTime>, u64);

impl Source {
    /// The entries as they are now.
    ///
    /// # Errors
    ///
    /// [`SourceError`], with the place of the mistake.
    pub fn load(&self) -> Result<Arc<[Entry]>, SourceError> {
        Ok(match self {
            Self::BuiltIn { queue } => built_in(queue)?,
            Self::File { path, queue } => file::read(path, queue)?,
        }
        .into())
    }
}

/// Keeps entries as their source has them.
#[derive(Debug)]
pub struct Follower {
    source: Source,
    entries: watch::Sender<Option<Arc<[Entry]>>>,
    /// The state of the file that was read last.
    read: Option<Fingerprint>,
}

impl Follower {
    /// Loads the entries.
    ///
    /// # Errors
    ///
    /// Where they cannot be used: a beat does not start with a mistake.
    pub fn start(source: Source) -> Result<Self, SourceError> {
        let read = source.fingerprint();
        let entries = watch::Sender::new(Some(source.load()?));
        Ok(Self { source, entries, read })
    }

    /// The entries, and their changes.
    pub fn entries(&self) -> watch::Receiver<Option<Arc<[Entry]>>> {
        self.entries.subscribe()
    }

    /// Loads them again when they change, and at each `hangup`. Entries with a mistake in them are
    /// told of, and those of before stay.
    pub async fn follow(mut self, mut hangup: Signal) {
        let mut seen = self.read;
        loop {
            let asked_for = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = self.source.fingerprint();
            // A file that somebody is writing just now is not complete.
            let is_settled = std::mem::replace(&mut seen, now) == now;
            if asked_for || (is_settled && now != self.read) {
                self.read = now;
                self.load();
            }
        }
    }

    fn load(&self) {
        match self.source.load() {
            Ok(entries) => {
                let is_same = self.entries.borrow().as_ref() == Some(&entries);
                log::info!(
                    "{}: {} entries{}",
                    self.source,
                    entries.len(),
                    if is_same { ", none changed" } else { "" }
                );
                if !is_same {
                    self.entries.send_replace(Some(entries));
                }
            }
            Err(error) => log::error!("{}; the entries of before stay", Chain(&error)),
        }
    }
}

impl Source {
    fn fingerprint(&self) -> Option<Fingerprint> {
        let path: &Path = match self {
            Self::BuiltIn { .. } => return None,
            Self::File { path, .. } => path,
        };
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok(), metadata.len()))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn { .. } => formatter.write_str("built-in"),
            Self::File { path, .. } => write!(formatter, "{}", path.display()),
        }
    }
}
