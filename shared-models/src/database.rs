//! The pool of connections.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::r2d2::{ManageConnection as _, Pool, PooledConnection};
use secrecy::{ExposeSecret, SecretString};

use crate::manager::Manager;
use crate::{AnyConnection, DatabaseError, Layout, MigrationOutcome, layout, migrations};

/// Longest wait for a free connection, or for a new one.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The site's database. Clones share one pool.
#[derive(Debug, Clone)]
pub struct Database {
    manager: Manager,
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
            .build_unchecked(manager.clone());
        Ok(Self { manager, pool, layout: Arc::default() })
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

    /// A connection beside those of the pool, which may all be taken.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Connect`].
    pub fn aside(&self) -> Result<AnyConnection, DatabaseError> {
        self.manager.connect().map_err(|error| DatabaseError::Connect { reason: error.to_string() })
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

    /// A connection to tables of which nothing is known.
    pub(crate) fn unchecked(&self) -> Result<PooledConnection<Manager>, DatabaseError> {
        if let Some(connection) = self.pool.try_get() {
            return Ok(connection);
        }
        // The pool tries again and again, which helps against an outage only.
        if let Some(error) = self.manager.refusal() {
            return Err(DatabaseError::Connect { reason: error.to_string() });
        }
        self.pool.get().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.strip_prefix("timed out waiting for connection: ");
            let reason = reason.unwrap_or("no connection was free in time").to_owned();
            DatabaseError::Connect { reason }
        })
    }

    fn forget_layout(&self) {
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
