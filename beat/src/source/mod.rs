//! Where the entries come from, and how beat hears that they have changed.

mod database;
mod file;
mod follower;
mod journal;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use shared_models::{Database, DatabaseError};

use crate::built_in::built_in;
use crate::entry::Entry;
use crate::schedule::ScheduleError;

pub use file::{FileError, parse};
pub use follower::Follower;
pub use journal::Journal;

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
    /// The tables of django-celery-beat.
    Database {
        /// The site's database.
        database: Database,
        /// Where those are sent to that name no queue.
        queue: String,
    },
}

/// Entries as they are in their source.
#[derive(Debug)]
pub struct Loaded {
    /// Those that can be sent.
    pub entries: Arc<[Entry]>,
    /// One sentence about each that cannot.
    pub unusable: Vec<String>,
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
    /// The database does not serve, or has not the tables of django-celery-beat.
    #[error("periodic tasks cannot be read from DATABASE_URL")]
    Database(#[from] DatabaseError),
}

impl SourceError {
    /// Whether it can be mended by waiting.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

impl Source {
    /// The entries as they are now. Waits for the file system or the database.
    ///
    /// # Errors
    ///
    /// [`SourceError`], with the place of the mistake.
    pub fn load(&self) -> Result<Loaded, SourceError> {
        let of = |entries: Vec<Entry>| Loaded { entries: entries.into(), unusable: Vec::new() };
        Ok(match self {
            Self::BuiltIn { queue } => of(built_in(queue)?),
            Self::File { path, queue } => of(file::read(path, queue)?),
            Self::Database { database, queue } => {
                database::entries(database.periodic_tasks()?, queue)?
            }
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn { .. } => formatter.write_str("built-in"),
            Self::File { path, .. } => write!(formatter, "{}", path.display()),
            Self::Database { .. } => formatter.write_str("django-celery-beat's tables"),
        }
    }
}
