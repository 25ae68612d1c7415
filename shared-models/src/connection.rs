//! One connection type over both databases.

// The derive writes public items without documentation.
#![allow(missing_docs)]

use diesel::connection::{
    AnsiTransactionManager, Connection as _, SimpleConnection, TransactionManager,
};
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel::{
    MultiConnection, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query,
};

/// Any number that other programs are unlikely to lock; given back at the end of a transaction.
const KEY_PAIR_LOCK: &str = "SELECT pg_advisory_xact_lock(7305809153227281154)";

/// How long a statement waits for another transaction's locks, as PostgreSQL reads it.
pub(crate) const LOCK_TIMEOUT: &str = "30s";

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

    /// As [`AnyConnection::write_transaction`], one at a time among all that call this: whoever
    /// changes key pairs sees what the one before has changed.
    ///
    /// # Errors
    ///
    /// As [`AnyConnection::write_transaction`].
    pub fn exclusive_transaction<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_transaction(|connection| {
            if connection.is_postgres() {
                connection.batch_execute(KEY_PAIR_LOCK)?;
            }
            work(connection)
        })
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

impl AnyConnection {
    /// Runs `work` in the transaction that is open so that its failure undoes nothing else, and so
    /// that on PostgreSQL it waits for nobody's lock for long. On SQLite the transaction has the
    /// only lock there is.
    ///
    /// # Errors
    ///
    /// Those of `work`; the transaction goes on all the same.
    pub fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transaction(|connection| {
            if connection.is_postgres() {
                connection.batch_execute("SET LOCAL lock_timeout = '1s'")?;
            }
            let value = work(connection)?;
            if connection.is_postgres() {
                connection.batch_execute(&format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))?;
            }
            Ok(value)
        })
    }
}

impl AnyConnection {
    /// Runs `work`, whose transactions nobody relies on before another one follows them: on SQLite with
    /// a write-ahead log they need not be on the disk one by one, and whoever works has
    /// [`AnyConnection::checkpoint`] called between them.
    ///
    /// # Errors
    ///
    /// Those of `work`, and of the database.
    pub fn sweeping<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // Without that log the database itself could be damaged by a crash.
        let Some(before) = self.write_ahead()? else { return work(self) };
        self.batch_execute("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")?;
        let outcome = work(self);
        let restored = self.batch_execute(&format!(
            "PRAGMA synchronous = {}; PRAGMA wal_autocheckpoint = {AUTOMATIC_CHECKPOINT}",
            before.synchronous
        ));
        let value = outcome?;
        restored?;
        Ok(value)
    }

    /// Whether this is SQLite with a write-ahead log, where whoever reads hinders nobody that writes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn writes_ahead(&mut self) -> Result<bool, Error> {
        Ok(self.write_ahead()?.is_some())
    }

    fn write_ahead(&mut self) -> Result<Option<WriteAhead>, Error> {
        if self.is_postgres() {
            return Ok(None);
        }
        let found: WriteAhead = sql_query(WRITE_AHEAD).get_result(self)?;
        Ok((found.journal_mode == "wal").then_some(found))
    }

    /// Runs `work` in a transaction that sees the tables of SQLite as they are when it begins, which is
    /// when `begun` is called.
    ///
    /// # Errors
    ///
    /// Those of `work`, and of the database.
    pub fn as_of_now<T, E: From<Error>>(
        &mut self,
        begun: impl FnOnce(),
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transaction(|connection| {
            // A transaction begins with what it reads first.
            sql_query("SELECT count(*) FROM sqlite_schema").execute(connection)?;
            begun();
            work(connection)
        })
    }

    /// Copies what is in SQLite's write-ahead log into the database as far as nobody reads the old
    /// pages, and says how long that was. Others write meanwhile. On PostgreSQL the server does so on its
    /// own.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, Error> {
        if self.is_postgres() {
            return Ok(Checkpoint { log: -1 });
        }
        sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(self)
    }
}

/// How long a write-ahead log was when it was copied; -1 where there is none.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct Checkpoint {
    /// In pages.
    #[diesel(sql_type = BigInt)]
    pub log: i64,
}

#[derive(QueryableByName)]
struct WriteAhead {
    #[diesel(sql_type = Text)]
    journal_mode: String,
    #[diesel(sql_type = BigInt)]
    synchronous: i64,
}

const WRITE_AHEAD: &str =
    "SELECT journal_mode, synchronous FROM pragma_journal_mode, pragma_synchronous";

/// SQLite's default, which cannot be asked for in a query: after so many pages whoever commits copies
/// the log.
const AUTOMATIC_CHECKPOINT: i64 = 1000;

impl std::fmt::Debug for AnyConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_postgres() { "Postgres" } else { "Sqlite" })
    }
}
