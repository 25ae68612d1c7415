//! How connections are opened.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{Connection as _, SimpleConnection};
use diesel::r2d2::{ManageConnection, R2D2Connection};
use diesel::result::ConnectionError;
use diesel::{PgConnection, SqliteConnection};
use secrecy::{ExposeSecret, SecretString};

use crate::connection::LOCK_TIMEOUT;
use crate::{AnyConnection, DatabaseError};

/// No statement waits longer than this for another transaction's locks; that it may be tried
/// again later is for the caller to say. And whoever waited for a lock must see what was done
/// meanwhile, whatever a site has made the default.
const POSTGRES_SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
     SET application_name = 'jwt-maintenance'";
/// As SQLite's `busy_timeout` below.
const BUSY: Duration = Duration::from_secs(30);
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 30000; PRAGMA foreign_keys = ON";

/// Opens connections to one address.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    address: Address,
}

#[derive(Clone)]
enum Address {
    Postgres(SecretString),
    Sqlite(PathBuf),
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres(_) => f.write_str("Postgres"),
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
        }
    }
}

impl Manager {
    /// Understands an address; nothing is opened.
    pub(crate) fn new(url: &str) -> Result<Self, DatabaseError> {
        let address = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Address::Postgres(SecretString::from(url.to_owned()))
        } else {
            let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
            let path = path.unwrap_or(url);
            if path.is_empty() || path.contains("://") {
                return Err(DatabaseError::Address);
            }
            Address::Sqlite(PathBuf::from(path))
        };
        Ok(Self { address })
    }
}

impl Manager {
    /// Why no connection can be had however often it is tried; none where one can, or where that
    /// may be so in a moment.
    pub(crate) fn refusal(&self) -> Option<OpenError> {
        let error = self.connect().err()?;
        match &self.address {
            Address::Postgres(_) => error.is_final().then_some(error),
            // A file is there, or it is not.
            Address::Sqlite(_) => Some(error),
        }
    }
}

impl ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = OpenError;

    fn connect(&self) -> Result<AnyConnection, OpenError> {
        match &self.address {
            Address::Postgres(url) => {
                let url = url.expose_secret();
                let mut connection = PgConnection::establish(&with_connect_timeout(url))
                    .map_err(|error| OpenError(redact(&error, url)))?;
                connection.batch_execute(&format!("SET lock_timeout = '{LOCK_TIMEOUT}'"))?;
                connection.batch_execute(POSTGRES_SETTINGS)?;
                Ok(AnyConnection::Postgres(connection))
            }
            Address::Sqlite(path) => {
                let made = make_file(path)
                    .map_err(|source| DatabaseError::File { path: path.clone(), source })?;
                let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
                connection.batch_execute(SQLITE_SETTINGS)?;
                if made {
                    // Kept in the file. Of files that others made we leave it as it is.
                    write_ahead(&mut connection)?;
                }
                Ok(AnyConnection::Sqlite(connection))
            }
        }
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), OpenError> {
        Ok(connection.ping()?)
    }

    fn has_broken(&self, connection: &mut AnyConnection) -> bool {
        std::thread::panicking() || R2D2Connection::is_broken(connection)
    }
}

/// Has SQLite write ahead. It does not wait here for others who write already, whatever its
/// `busy_timeout` is: their transactions are short.
fn write_ahead(connection: &mut SqliteConnection) -> diesel::QueryResult<()> {
    let begun = Instant::now();
    loop {
        match connection.batch_execute("PRAGMA journal_mode = WAL") {
            Err(error) if begun.elapsed() < BUSY && error.to_string().contains("locked") => {
                thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// Why no connection could be opened, in words that hold no password.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OpenError(String);

impl OpenError {
    /// Whether the server has answered, and means it.
    fn is_final(&self) -> bool {
        ["authentication failed", "no password supplied", "pg_hba.conf", "does not exist"]
            .iter()
            .any(|words| self.0.contains(words))
    }
}

impl From<ConnectionError> for OpenError {
    fn from(error: ConnectionError) -> Self {
        Self(error.to_string())
    }
}

impl From<diesel::result::Error> for OpenError {
    fn from(error: diesel::result::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<DatabaseError> for OpenError {
    fn from(error: DatabaseError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Self(format!("{error}{}", source.unwrap_or_default()))
    }
}

/// Makes an empty file for a new database, readable by its owner and group: private keys will be
/// in it. Says whether it did.
fn make_file(path: &Path) -> std::io::Result<bool> {
    if fs::metadata(path).is_ok() {
        return Ok(false);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o660).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Without one, libpq waits as long as the system does, which is minutes.
fn with_connect_timeout(url: &str) -> String {
    if url.contains("connect_timeout=") {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}connect_timeout=10")
}

/// libpq repeats parts of an address that it cannot read.
fn redact(error: &ConnectionError, url: &str) -> String {
    let message = error.to_string();
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let password = authority
        .rsplit_once('@')
        .and_then(|(user, _)| user.split_once(':'))
        .map(|(_, password)| password)
        .filter(|password| !password.is_empty());
    match password {
        Some(password) => message.replace(password, "***"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> Option<PathBuf> {
        match Manager::new(url).unwrap().address {
            Address::Postgres(_) => None,
            Address::Sqlite(path) => Some(path),
        }
    }

    #[test]
    fn addresses_of_both_databases_are_told_apart() {
        assert_eq!(path("sqlite://var/jwt.sqlite3"), Some("var/jwt.sqlite3".into()));
        assert_eq!(path("sqlite:///srv/jwt.sqlite3"), Some("/srv/jwt.sqlite3".into()));
        assert_eq!(path("db.sqlite3"), Some("db.sqlite3".into()));
        assert_eq!(path("postgres://u:p@host/db"), None);
        assert_eq!(path("postgresql://host/db"), None);
        for url in ["", "sqlite://", "mysql://host/db", "redis://host"] {
            assert!(matches!(Manager::new(url), Err(DatabaseError::Address)), "{url}");
        }
    }

    #[test]
    fn a_password_stays_out_of_errors_and_debug() {
        let url = "postgres://user:geheim@127.0.0.1:port/db";
        let error = Manager::new(url).unwrap().connect().err().unwrap();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
        assert!(!format!("{:?}", Manager::new(url).unwrap()).contains("geheim"));
    }
}
