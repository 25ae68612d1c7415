//! What can go wrong between us and the database.

/// The database cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is none that we can connect to. It is not repeated: it may hold a password.
    #[error(
        "the database address is not one of postgres://, postgresql://, sqlite://path or a path of \
         a SQLite file"
    )]
    Address,
    /// The file or its folder cannot be made.
    #[error("the SQLite database {path} cannot be made")]
    File {
        /// The file that was to be made.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection could be had in time.
    #[error("cannot connect to the database: {reason}")]
    Connect {
        /// What the server or the system answered, without a password.
        reason: String,
    },
    /// The tables are not what is needed.
    #[error("{0}")]
    Schema(String),
    /// A migration failed; nothing of it remains.
    #[error("migration {version} failed")]
    Migration {
        /// The name of the migration's folder.
        version: &'static str,
        /// What the database answered.
        source: diesel::result::Error,
    },
    /// A query failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}
