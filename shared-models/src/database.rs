//! The pool of connections.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::{Connection as _, SimpleConnection};
use diesel::r2d2::{ManageConnection, Pool, PooledConnection, R2D2Connection};
use diesel::result::ConnectionError;
use diesel::{PgConnection, SqliteConnection};
use secrecy::{ExposeSecret, SecretString};

use crate::{AnyConnection, DatabaseError, Layout, MigrationOutcome, layout, migrations};

/// Longest wait for a free connection, or for a new one.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// No statement waits longer than this for another transaction's locks; that it may be tried
/// again later is for the caller to say. And whoever waited for a lock must see what was done
/// meanwhile, whatever a site has made the default.
const POSTGRES_SETTINGS: &str = "SET lock_timeout = '30s'; \
     SET default_transaction_isolation = 'read committed'; \
     SET application_name = 'jwt-maintenance'";
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 30000; PRAGMA foreign_keys = ON";

/// The site's database. Clones share one pool.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool<Manager>,
    layout: Arc<Mutex<Option<Layout>>>,
}

/// A connection out of the pool, together with what is known of the tables behind it.
#[derive(Debug)]
pub struct Connection {
    /// How the site's tables look.
    pub layout: Layout,
    pooled: PooledConnection<Manager>,
}

impl Deref for Connection {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.pooled
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.pooled
    }
}

impl Database {
    /// Prepares a pool of up to `pool_size` connections. Nothing is connected before the first
    /// use, so a program starts while its database does not.
    ///
    /// `postgres://…`, `postgresql://…`, `sqlite://path`, `sqlite:///absolute/path` and the bare
    /// path of a SQLite file are understood.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Address`] for any other address.
    pub fn connect(url: &SecretString, pool_size: u32) -> Result<Self, DatabaseError> {
        let manager = Manager::new(url.expose_secret())?;
        let pool = Pool::builder()
            .max_size(pool_size.max(1))
            .min_idle(Some(0))
            .connection_timeout(CONNECT_LIMIT)
            .build_unchecked(manager);
        Ok(Self { pool, layout: Arc::default() })
    }

    /// A connection to tables that are known to be what is needed.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Connect`], and as [`Database::check`] as long as the tables are not
    /// right.
    pub fn get(&self) -> Result<Connection, DatabaseError> {
        let mut pooled = self.unchecked()?;
        let mut known = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = match *known {
            Some(layout) => layout,
            None => *known.insert(layout::detect(&mut pooled)?),
        };
        drop(known);
        Ok(Connection { layout, pooled })
    }

    /// Compares the tables with what is needed, and says how they look.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Schema`] names everything that is missing, and where it comes from.
    pub fn check(&self) -> Result<Layout, DatabaseError> {
        let layout = layout::detect(&mut *self.unchecked()?)?;
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Some(layout);
        Ok(layout)
    }

    /// Makes the tables that are missing. Tables that exist, Django's or ours, stay untouched.
    /// Several processes may call this at once.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Migration`].
    pub fn migrate(&self) -> Result<Vec<MigrationOutcome>, DatabaseError> {
        let outcome = migrations::migrate(&mut *self.unchecked()?);
        self.forget_layout();
        outcome
    }

    /// What [`Database::migrate`] would do.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn pending_migrations(&self) -> Result<Vec<MigrationOutcome>, DatabaseError> {
        migrations::pending(&mut *self.unchecked()?)
    }

    /// Takes back what [`Database::migrate`] made, and nothing else: tables that it found there
    /// stay.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Migration`], for example where other tables refer to ours.
    pub fn revert_migrations(&self) -> Result<(), DatabaseError> {
        let outcome = migrations::revert(&mut *self.unchecked()?);
        self.forget_layout();
        outcome
    }

    /// Adds the indexes that make the cleanup of many tokens cheap, without blocking writers on
    /// PostgreSQL. Never done on its own: building them takes space and minutes on a large table.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Migration`].
    pub fn create_cleanup_indexes(&self) -> Result<(), DatabaseError> {
        let outcome = migrations::create_cleanup_indexes(&mut *self.unchecked()?);
        self.forget_layout();
        outcome
    }

    fn unchecked(&self) -> Result<PooledConnection<Manager>, DatabaseError> {
        self.pool.get().map_err(|error| DatabaseError::Connect { reason: error.to_string() })
    }

    fn forget_layout(&self) {
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Opens connections to one address.
#[derive(Debug)]
pub(crate) struct Manager {
    address: Address,
}

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
    fn new(url: &str) -> Result<Self, DatabaseError> {
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

impl ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = OpenError;

    fn connect(&self) -> Result<AnyConnection, OpenError> {
        match &self.address {
            Address::Postgres(url) => {
                let url = url.expose_secret();
                let mut connection = PgConnection::establish(&with_connect_timeout(url))
                    .map_err(|error| OpenError(redact(&error, url)))?;
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
                    connection.batch_execute("PRAGMA journal_mode = WAL")?;
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

/// Why no connection could be opened, in words that hold no password.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OpenError(String);

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
