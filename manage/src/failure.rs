//! Everything that ends a command early: what failed, where, and what to do about it.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use celery_redis::ClientError;
use celery_redis::transport::beat_state::BeatStateError;
use celery_redis::transport::connection::{TransportError, UrlError};
use settings::ConfigError;
use shared_models::DatabaseError;
use tasks::JwtError;
use tasks::token::TokenError;

use crate::report::bad;

/// Statuses in the manner of sysexits.h, apart from those of `health`.
pub(crate) mod exit {
    /// Of `token verify`, as `health` says a warning.
    pub(crate) const REFUSED: u8 = 1;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const BROKER: u8 = 69;
    pub(crate) const WORK: u8 = 70;
    pub(crate) const SYSTEM: u8 = 71;
    pub(crate) const DATABASE: u8 = 74;
    pub(crate) const NO_RESULT: u8 = 75;
    pub(crate) const CONFIG: u8 = 78;
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{name} is not valid")]
    RedisUrl { name: &'static str, source: UrlError },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Broker(#[from] TransportError),
    #[error(transparent)]
    Key(JwtError),
    #[error("{task} [{id}] failed in the worker: {message}")]
    Task { task: &'static str, id: String, message: String },
    #[error("{action} failed: {message}")]
    Work { action: &'static str, message: String },
    #[error("no result of {task} [{id}] within {} s", timeout.as_secs_f64())]
    NoResult { task: &'static str, id: String, timeout: Duration },
    #[error("the result of {task} is not what this program knows")]
    UnknownResult { task: &'static str, source: serde_json::Error },
    #[error("there is no dead letter {name:?}; `jwt_manage queue dead list` names them")]
    NoDeadLetter { name: String },
    #[error("there is no beat entry {name:?}; `jwt_manage beat list` names them")]
    NoBeatEntry { name: String },
    #[error("the message cannot be sent")]
    Message(#[source] ClientError),
    #[error("{} cannot be written", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the token cannot be read from {}", path.display())]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error("no token was given: it is read from standard input, or from the file that is named")]
    NoToken,
    #[error(transparent)]
    Token(TokenError),
    #[error("the output cannot be written")]
    Output(#[source] std::io::Error),
    #[error("no threads can be started")]
    Runtime(#[source] std::io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Transport(error) => Self::Broker(error),
            ClientError::Url(source) => Self::RedisUrl { name: "CELERY_BROKER_URL", source },
            error => Self::Message(error),
        }
    }
}

impl From<BeatStateError> for Failure {
    fn from(error: BeatStateError) -> Self {
        match error {
            BeatStateError::Transport(error) => Self::Broker(error),
            error => Self::Work { action: "reading beat's state", message: error.to_string() },
        }
    }
}

impl From<JwtError> for Failure {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Database(error) => Self::Database(error),
            error => Self::Key(error),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Jwt(error) => error.into(),
            error => Self::Token(error),
        }
    }
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn complain(&self) {
        let mut output = anstream::stderr().lock();
        let hint = self.hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
        let line = format!("{} {}{hint}", bad("error:"), self.sentence());
        // Where this cannot be written either, only the exit status is left to tell.
        writeln!(output, "{line}").ok();
    }

    /// The status that the program ends with.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Config(_) | Self::RedisUrl { .. } | Self::Key(JwtError::NoPassword) => {
                exit::CONFIG
            }
            Self::Database(DatabaseError::Address) => exit::CONFIG,
            Self::Database(DatabaseError::Schema(_)) => exit::WORK,
            Self::Database(_) => exit::DATABASE,
            Self::Broker(_) => exit::BROKER,
            Self::Key(_)
            | Self::Task { .. }
            | Self::Work { .. }
            | Self::UnknownResult { .. }
            | Self::NoDeadLetter { .. }
            | Self::NoBeatEntry { .. }
            | Self::Token(_)
            | Self::Message(_) => exit::WORK,
            Self::NoResult { .. } => exit::NO_RESULT,
            Self::NoToken => exit::USAGE,
            Self::File { .. } | Self::TokenFile { .. } | Self::Output(_) | Self::Runtime(_) => {
                exit::SYSTEM
            }
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Database(DatabaseError::Schema(_) | DatabaseError::Address) => return None,
            Self::Database(_) => return Some(database_hint(&self.sentence())),
            Self::Broker(_) => {
                "look at CELERY_BROKER_URL and CELERY_RESULT_BACKEND, and whether that Redis serves"
            }
            Self::NoResult { .. } => {
                "the task stays in its queue: `jwt_manage queue status` shows whether a worker \
                 consumes it; without --queue, no worker is needed"
            }
            Self::Task { .. } => "the worker's log has the whole story, under the task's id",
            Self::UnknownResult { .. } => "are worker and jwt_manage of the same release?",
            _ => return None,
        })
    }

    /// The error with its causes, each once.
    pub(crate) fn sentence(&self) -> String {
        if let Self::Database(DatabaseError::Schema(missing)) = self {
            // One sentence for each table and column, of which there may be many.
            let lines: Vec<String> =
                missing.split("; ").map(|what| format!("\n  {what}")).collect();
            return format!("the tables are not what is needed:{}", lines.concat());
        }
        let mut sentence = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let text = error.to_string();
            let text = text.trim_end();
            if !sentence.contains(text) {
                sentence = format!("{sentence}: {text}");
            }
            source = error.source();
        }
        sentence.trim_end().to_owned()
    }
}

/// What to do about an error of a database, by the words in which it tells of it: neither library
/// passes on a code.
fn database_hint(sentence: &str) -> &'static str {
    const HINTS: [(&[&str], &str); 6] = [
        (
            &["readonly", "read-only"],
            "this database can only be read: a standby, or a file or folder that this user may \
             not write to",
        ),
        (
            &["disk is full", "disk I/O error", "No space left", "could not extend", "too large"],
            "is there space left on the database's disk? Nothing is half done: run this again \
             when there is",
        ),
        (
            &["authentication failed", "no password supplied", "pg_hba.conf"],
            "look at the user and the password in DATABASE_URL",
        ),
        (
            &["permission denied"],
            "this user lacks rights: SELECT, INSERT, UPDATE and DELETE on the tables jwt_auth_* \
             and jwt_maintenance_* are needed",
        ),
        (
            &["no such table", "no such column", "relation", "column"],
            "`jwt_manage check` compares the tables with what is needed",
        ),
        (
            &["locked", "lock timeout", "deadlock"],
            "another program holds a lock on these rows for long: find it, or run this again",
        ),
    ];
    HINTS.iter().find(|(words, _)| words.iter().any(|words| sentence.contains(words))).map_or(
        "look at DATABASE_URL, and whether that database serves this machine and user",
        |(_, hint)| hint,
    )
}
