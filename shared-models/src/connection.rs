//! One connection type over both databases.

// The derive writes public items without documentation.
#![allow(missing_docs)]

use diesel::connection::{AnsiTransactionManager, Connection as _, TransactionManager};
use diesel::result::Error;
use diesel::{MultiConnection, PgConnection, SqliteConnection};

/// A connection to PostgreSQL or to SQLite.
#[derive(MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL, through libpq.
    Postgres(PgConnection),
    /// SQLite, built in.
    Sqlite(SqliteConnection),
}

impl AnyConnection {
    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs `work` in one transaction that may write. On SQLite it takes the lock of the only
    /// writer at once: a transaction that reads first and writes then fails where another wrote
    /// in between.
    ///
    /// # Errors
    ///
    /// Those of `work`, which roll everything back, and of the database at the beginning and end.
    pub fn write_transaction<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        type Manager = <AnyConnection as diesel::Connection>::TransactionManager;
        match self {
            Self::Postgres(_) => return self.transaction(work),
            Self::Sqlite(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?;
            }
        }
        match work(self) {
            Ok(value) => {
                Manager::commit_transaction(self)?;
                Ok(value)
            }
            Err(error) => {
                // The error that matters is the one of `work`; a connection whose transaction
                // cannot be rolled back is thrown away by the pool.
                let _ = Manager::rollback_transaction(self);
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for AnyConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_postgres() { "Postgres" } else { "Sqlite" })
    }
}
