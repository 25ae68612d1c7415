//! Why a task could not do its work, and what its caller sees of that.

use std::error::Error;

use celery_task::Exception;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use shared_models::DatabaseError;

use crate::jwt::KeyError;

/// The work could not be done; nothing of it remains half done.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The database refused, or is not there.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A key pair cannot be used.
    #[error("the private key of key pair {kid} {source}")]
    KeyPair {
        /// Its `kid`.
        kid: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A new key pair was not good, so it was not stored.
    #[error("the private key of a new key pair {0}")]
    NewKeyPair(KeyError),
    /// Private keys are to be encrypted or decrypted, and there is no password for it.
    #[error("JWT_PRIVATE_KEY_PASSWORD is not set: it encrypts and decrypts private keys")]
    NoPassword,
}

impl From<QueryError> for JwtError {
    fn from(error: QueryError) -> Self {
        Self::Database(DatabaseError::Query(error))
    }
}

impl JwtError {
    /// Whether the same work may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database(DatabaseError::Connect { .. }) => true,
            Self::Database(
                DatabaseError::Query(error) | DatabaseError::Migration { source: error, .. },
            ) => is_passing(error),
            _ => false,
        }
    }

    /// What Python's `.get()` raises: the class that Django's own database layer would raise.
    pub fn exception(&self) -> Exception {
        let message = self.message();
        let class = match self {
            Self::Database(error) => match error {
                DatabaseError::Query(error) | DatabaseError::Migration { source: error, .. } => {
                    django_class(error)
                }
                DatabaseError::Schema(_) => "ProgrammingError",
                DatabaseError::Connect { .. } | DatabaseError::File { .. } => "OperationalError",
                DatabaseError::Address => "InterfaceError",
            },
            Self::KeyPair { .. } | Self::NewKeyPair(_) | Self::NoPassword => {
                return Exception::builtin("ValueError", message);
            }
        };
        Exception::new(class, "django.db.utils", vec![message.into()])
    }

    /// The whole story in one line.
    pub fn message(&self) -> String {
        let mut message = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        message
    }
}

/// Connection lost, lock not had in time, or the victim of a conflict.
fn is_passing(error: &QueryError) -> bool {
    match error {
        QueryError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::UnableToSendCommand,
            _,
        ) => true,
        // Neither library passes on the code of these, so their words have to do.
        QueryError::DatabaseError(_, information) => {
            let message = information.message();
            [
                "database is locked",
                "database table is locked",
                "lock timeout",
                "statement timeout",
                "deadlock detected",
                "terminating connection",
                "connection to server",
                "server closed the connection",
                "could not receive data",
                "could not send data",
                "no connection to the server",
                "the database system is",
                "too many clients",
                "too many connections",
            ]
            .iter()
            .any(|words| message.contains(words))
        }
        QueryError::BrokenTransactionManager
        | QueryError::RollbackErrorOnCommit { .. }
        | QueryError::RollbackTransaction => true,
        _ => false,
    }
}

fn django_class(error: &QueryError) -> &'static str {
    match error {
        QueryError::DatabaseError(
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation,
            _,
        ) => "IntegrityError",
        error if is_passing(error) => "OperationalError",
        QueryError::DatabaseError(_, information)
            if information.message().contains("does not exist")
                || information.message().contains("permission denied") =>
        {
            "ProgrammingError"
        }
        QueryError::DatabaseError(_, information)
            if [
                "no such table",
                "no such column",
                "readonly database",
                "disk",
                "unable to open",
            ]
            .iter()
            .any(|words| information.message().contains(words)) =>
        {
            "OperationalError"
        }
        QueryError::DeserializationError(_) | QueryError::SerializationError(_) => "DataError",
        _ => "DatabaseError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: DatabaseErrorKind, message: &str) -> JwtError {
        QueryError::DatabaseError(kind, Box::new(message.to_owned())).into()
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (kind, message) in [
            (DatabaseErrorKind::SerializationFailure, "could not serialize access"),
            (DatabaseErrorKind::ClosedConnection, "gone"),
            (DatabaseErrorKind::Unknown, "canceling statement due to lock timeout"),
            (DatabaseErrorKind::Unknown, "database is locked"),
            (DatabaseErrorKind::Unknown, "terminating connection due to administrator command"),
        ] {
            let error = query(kind, message);
            assert!(error.is_passing(), "{message}");
            assert_eq!(error.exception().exc_type, "OperationalError");
        }
        for (kind, message, class) in [
            (DatabaseErrorKind::UniqueViolation, "duplicate key", "IntegrityError"),
            (DatabaseErrorKind::Unknown, "relation \"x\" does not exist", "ProgrammingError"),
            (DatabaseErrorKind::Unknown, "no such table: x", "OperationalError"),
        ] {
            let error = query(kind, message);
            assert!(!error.is_passing(), "{message}");
            assert_eq!(error.exception().exc_type, class);
        }
    }

    #[test]
    fn the_message_tells_each_thing_once() {
        let error = JwtError::KeyPair { kid: "abc".into(), source: KeyError::Mismatch };
        let message = "the private key of key pair abc does not match its public key";
        assert_eq!(error.message(), message);
        assert_eq!(error.exception().traceback_line(), format!("ValueError: {message}"));
    }
}
