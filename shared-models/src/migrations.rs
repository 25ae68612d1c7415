//! Our migrations, and the table that remembers them.

use chrono::Utc;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};

use crate::{AnyConnection, DatabaseError, UtcDateTime, UtcDateTimeSql};

/// A step, and the tables it makes. Where they exist already, the step is remembered as found and
/// never taken back. Where they are gone again, it is due again.
struct Migration {
    version: &'static str,
    tables: &'static [&'static str],
    postgres: [&'static str; 2],
    sqlite: [&'static str; 2],
}

macro_rules! migration {
    ($version:literal, $($table:literal),+) => {
        Migration {
            version: $version,
            tables: &[$($table),+],
            postgres: [
                include_str!(concat!("../migrations/postgres/", $version, "/up.sql")),
                include_str!(concat!("../migrations/postgres/", $version, "/down.sql")),
            ],
            sqlite: [
                include_str!(concat!("../migrations/sqlite/", $version, "/up.sql")),
                include_str!(concat!("../migrations/sqlite/", $version, "/down.sql")),
            ],
        }
    };
}

const MIGRATIONS: [Migration; 5] = [
    migration!("0001_jwtkeypair", "jwt_auth_jwtkeypair"),
    migration!("0002_jwtscope", "jwt_auth_jwtscope"),
    migration!("0003_jwttoken", "jwt_auth_jwttoken"),
    migration!("0004_jwttoken_scopes", "jwt_auth_jwttoken_scopes"),
    migration!(
        "0005_maintenance",
        "jwt_maintenance_key_state",
        "jwt_maintenance_audit_event",
        "jwt_maintenance_forced_rotation",
        "jwt_maintenance_task_success"
    ),
];

/// Offered, never run with the others.
const CLEANUP_INDEXES: Migration = migration!("0006_cleanup_indexes", "jwt_auth_jwttoken");

const BOOKKEEPING: &str = "CREATE TABLE IF NOT EXISTS jwt_maintenance_migration (
    version varchar(100) NOT NULL PRIMARY KEY,
    was_found boolean NOT NULL,
    applied_at ";

/// Any number that other programs are unlikely to lock.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7305809153227281153)";

/// What became of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationOutcome {
    /// Its name.
    pub version: &'static str,
    /// The table it is about.
    pub table: &'static str,
    /// Whether the table existed already, and was left untouched.
    pub found: bool,
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Bool)]
    was_found: bool,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    does: bool,
}

/// The migration that makes `table`.
pub(crate) fn that_makes(table: &str) -> &'static str {
    MIGRATIONS
        .iter()
        .find(|migration| migration.tables.contains(&table))
        .map_or("", |migration| migration.version)
}

/// Runs what has not been run, in one transaction, one process at a time.
pub(crate) fn migrate(
    connection: &mut AnyConnection,
) -> Result<Vec<MigrationOutcome>, DatabaseError> {
    connection.write_transaction(|connection| {
        let pending = locked_pending(connection)?;
        for outcome in &pending {
            let migration = migration(outcome.version);
            if !outcome.found {
                let [up, _] = migration.sql(connection);
                connection.batch_execute(up).map_err(migration.failed())?;
            }
            remember(connection, outcome)?;
        }
        Ok(pending)
    })
}

/// What [`migrate`] would do now.
pub(crate) fn pending(
    connection: &mut AnyConnection,
) -> Result<Vec<MigrationOutcome>, DatabaseError> {
    let applied = match exists(connection, "jwt_maintenance_migration")? {
        true => applied(connection)?,
        false => Vec::new(),
    };
    let mut pending = Vec::new();
    for migration in &MIGRATIONS {
        let missing = migration.first_missing(connection)?;
        let is_applied = applied.iter().any(|applied| applied.version == migration.version);
        if missing.is_some() || !is_applied {
            pending.push(MigrationOutcome {
                version: migration.version,
                table: missing.unwrap_or(migration.tables[0]),
                found: missing.is_none(),
            });
        }
    }
    Ok(pending)
}

/// Takes back what was made, newest first.
pub(crate) fn revert(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    drop_cleanup_indexes(connection)?;
    connection.write_transaction(|connection| {
        locked_pending(connection)?;
        let applied = applied(connection)?;
        for migration in MIGRATIONS.iter().rev() {
            let made = applied
                .iter()
                .any(|applied| applied.version == migration.version && !applied.was_found);
            if made {
                let [_, down] = migration.sql(connection);
                connection.batch_execute(down).map_err(migration.failed())?;
            }
        }
        connection.batch_execute("DROP TABLE jwt_maintenance_migration")?;
        Ok(())
    })
}

/// One statement at a time: PostgreSQL builds an index beside writers only outside of a
/// transaction, and several statements at once are one.
pub(crate) fn create_cleanup_indexes(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let failed = CLEANUP_INDEXES.failed();
    // One that another process builds just now looks unfinished, and is left to it.
    let alone = lock_index_building(connection).map_err(&failed)?;
    if alone {
        drop_unfinished(connection).map_err(&failed)?;
    }
    let [up, _] = CLEANUP_INDEXES.sql(connection);
    each_statement(connection, up)?;
    if alone {
        connection.batch_execute(UNLOCK_INDEX_BUILDING).map_err(&failed)?;
    }
    Ok(())
}

/// Held by the session: indexes are built outside of transactions. Nobody waits for it, because
/// whoever builds an index waits for everybody who waits.
const LOCK_INDEX_BUILDING: &str = "SELECT pg_try_advisory_lock(7305809153227281155) AS does";
const UNLOCK_INDEX_BUILDING: &str = "SELECT pg_advisory_unlock(7305809153227281155)";

fn lock_index_building(connection: &mut AnyConnection) -> QueryResult<bool> {
    if !connection.is_postgres() {
        return Ok(false);
    }
    sql_query(LOCK_INDEX_BUILDING).get_result(connection).map(|alone: Exists| alone.does)
}

/// An index whose building was broken off stays, is used by nobody, and counts as existing.
fn drop_unfinished(connection: &mut AnyConnection) -> QueryResult<()> {
    let unfinished: Vec<Name> = sql_query(
        "SELECT c.relname::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = to_regclass('jwt_auth_jwttoken') AND NOT i.indisvalid \
         AND c.relname IN ('jwt_maintenance_token_expires', 'jwt_maintenance_token_revoked')",
    )
    .load(connection)?;
    for Name { name } in unfinished {
        log::info!("index {name} was never finished: it is built anew");
        connection.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}"))?;
    }
    Ok(())
}

fn drop_cleanup_indexes(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let [_, down] = CLEANUP_INDEXES.sql(connection);
    each_statement(connection, down)
}

fn each_statement(connection: &mut AnyConnection, sql: &str) -> Result<(), DatabaseError> {
    for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        connection.batch_execute(statement).map_err(CLEANUP_INDEXES.failed())?;
    }
    Ok(())
}

impl Migration {
    fn first_missing(&self, connection: &mut AnyConnection) -> QueryResult<Option<&'static str>> {
        for table in self.tables {
            if !exists(connection, table)? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn sql(&self, connection: &AnyConnection) -> [&'static str; 2] {
        if connection.is_postgres() { self.postgres } else { self.sqlite }
    }

    fn failed(&self) -> impl Fn(diesel::result::Error) -> DatabaseError + use<> {
        let version = self.version;
        move |source| DatabaseError::Migration { version, source }
    }
}

fn migration(version: &str) -> &'static Migration {
    MIGRATIONS
        .iter()
        .find(|migration| migration.version == version)
        .expect("outcomes name migrations of this list")
}

fn locked_pending(connection: &mut AnyConnection) -> Result<Vec<MigrationOutcome>, DatabaseError> {
    let time = if connection.is_postgres() { "timestamp with time zone" } else { "datetime" };
    if connection.is_postgres() {
        connection.batch_execute(LOCK)?;
    }
    connection.batch_execute(&format!("{BOOKKEEPING}{time} NOT NULL)"))?;
    pending(connection)
}

fn applied(connection: &mut AnyConnection) -> QueryResult<Vec<Applied>> {
    sql_query("SELECT version, was_found FROM jwt_maintenance_migration").load(connection)
}

fn remember(connection: &mut AnyConnection, outcome: &MigrationOutcome) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO jwt_maintenance_migration (version, was_found, applied_at) \
         VALUES ($1, $2, $3) \
         ON CONFLICT (version) DO UPDATE SET was_found = excluded.was_found, \
         applied_at = excluded.applied_at",
    )
    .bind::<Text, _>(outcome.version)
    .bind::<Bool, _>(outcome.found)
    .bind::<UtcDateTimeSql, _>(UtcDateTime::from(Utc::now()))
    .execute(connection)
}

fn exists(connection: &mut AnyConnection, table: &str) -> QueryResult<bool> {
    let query = if connection.is_postgres() {
        "SELECT to_regclass($1) IS NOT NULL AS does"
    } else {
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1) AS does"
    };
    let found: Exists = sql_query(query).bind::<Text, _>(table).get_result(connection)?;
    Ok(found.does)
}
