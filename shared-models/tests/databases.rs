//! The same tests on both databases.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::iter;
use std::path::PathBuf;

use chrono::{DateTime, Duration, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use secrecy::SecretString;
use shared_models::{
    AnyConnection, AuditEvent, Counts, Database, DatabaseError, ForcedRotation, Found, IdKind,
    KeyPair, KeyState, Layout, NewAuditEvent, NewKeyPair, NewScope, NewToken, RowId, Scope, Survey,
    Sweep, SweepWalk, TaskSuccess, Token, UtcDateTime, Work,
};
use test_servers::Postgres;

/// An empty database, and the folder that it lives in.
struct Empty {
    database: Database,
    url: String,
    file: Option<PathBuf>,
    _folder: Option<tempfile::TempDir>,
}

impl Empty {
    fn postgres() -> Self {
        let url = Postgres::shared().create_database();
        Self { database: connect(&url), url, file: None, _folder: None }
    }

    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("var/jwt.sqlite3");
        let url = format!("sqlite://{}", file.display());
        Self { database: connect(&url), url, file: Some(file), _folder: Some(folder) }
    }
}

/// A database of the test's own with the tables, and its URL.
fn migrated_postgres() -> (String, Database) {
    let url = Postgres::shared().create_database();
    let database = connect(&url);
    database.migrate().unwrap();
    (url, database)
}

fn connect(url: &str) -> Database {
    Database::connect(&SecretString::from(url.to_owned()), 4).unwrap()
}

/// Runs each body on PostgreSQL and on SQLite.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[test] fn $name() { super::$name(&super::Empty::postgres()) })+
        }
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(&super::Empty::sqlite()) })+
        }
    };
}

on_both!(
    migrations_make_everything_once_and_take_it_back,
    tables_that_exist_stay_untouched,
    a_missing_column_is_named,
    rows_of_each_table_are_read_as_written,
    tables_with_uuid_keys_and_without_optional_columns_work,
    a_sweep_walks_in_batches,
    many_tokens_are_walked_over_where_they_lie,
    counts_are_strict,
    eight_programs_migrate_at_once,
);

fn at(text: &str) -> UtcDateTime {
    text.parse::<DateTime<Utc>>().unwrap().into()
}

fn now() -> UtcDateTime {
    at("2026-06-01T12:00:00.123456Z")
}

fn ago(hours: i64) -> UtcDateTime {
    (DateTime::<Utc>::from(now()) - Duration::hours(hours)).into()
}

fn token(name: &str, key_pair: RowId, expires_at: UtcDateTime) -> NewToken<'_> {
    NewToken {
        id: None,
        token_id: name,
        created_at: ago(48),
        issued_at: ago(48),
        expires_at,
        is_revoked: false,
        revoked_at: None,
        purpose: "session",
        key_pair_id: key_pair,
        user_id: RowId::Int4(7),
    }
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

fn values(connection: &mut AnyConnection, query: &str) -> Vec<String> {
    let rows: Vec<Value> = sql_query(query).load(connection).unwrap();
    rows.into_iter().map(|row| row.value).collect()
}

fn migrations_make_everything_once_and_take_it_back(empty: &Empty) {
    let database = &empty.database;
    let error = database.get().unwrap_err();
    assert!(matches!(error, DatabaseError::Schema(_)));
    assert!(
        error.to_string().contains("table jwt_auth_jwttoken is missing: migration 0003_jwttoken")
    );

    assert_eq!(database.pending_migrations().unwrap().len(), 5);
    let outcomes = database.migrate().unwrap();
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes.iter().all(|outcome| !outcome.found));
    assert_eq!(database.migrate().unwrap(), []);
    assert!(!database.check().unwrap().token_expiry_index);
    database.create_cleanup_indexes().unwrap();
    database.create_cleanup_indexes().unwrap();
    assert!(database.check().unwrap().token_expiry_index);

    database.revert_migrations().unwrap();
    assert!(database.check().is_err());
    assert_eq!(database.migrate().unwrap().len(), 5);
}

fn tables_that_exist_stay_untouched(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    let mut connection = database.get().unwrap();
    let layout = connection.layout;
    KeyPairRow::insert(&mut connection, &layout, "kept");
    connection
        .batch_execute(
            "DROP TABLE jwt_maintenance_migration; \
             ALTER TABLE jwt_auth_jwtkeypair ADD COLUMN of_the_site text",
        )
        .unwrap();

    let found = database.migrate().unwrap();

    assert!(found.iter().all(|outcome| outcome.found), "{found:?}");
    database.revert_migrations().unwrap();
    assert_eq!(KeyPair::all(&mut connection, &layout).unwrap()[0].name, "kept");
    assert!(database.check().is_ok());
}

fn a_missing_column_is_named(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    database
        .get()
        .unwrap()
        .batch_execute(
            "ALTER TABLE jwt_auth_jwtscope DROP COLUMN description; \
             ALTER TABLE jwt_maintenance_key_state DROP COLUMN retired_at",
        )
        .unwrap();

    let error = database.check().unwrap_err().to_string();

    assert!(error.contains("table jwt_auth_jwtscope has no column description"), "{error}");
    assert!(error.contains("manage.py makemigrations jwt_auth"), "{error}");
    assert!(error.contains("jwt_maintenance_key_state has no column retired_at"), "{error}");
    assert!(error.contains("migration 0005_maintenance"), "{error}");
}

struct KeyPairRow;

impl KeyPairRow {
    fn insert(connection: &mut AnyConnection, layout: &shared_models::Layout, kid: &str) -> RowId {
        NewKeyPair::active(layout, kid, "private", "public", now()).insert(connection).unwrap()
    }
}

fn rows_of_each_table_are_read_as_written(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    assert_eq!(layout.key_pair_ids, IdKind::Integer);

    let id = KeyPairRow::insert(connection, &layout, "kid");
    assert_eq!(id, RowId::Int8(1));
    let pending = NewKeyPair::active(&layout, "next", "p", "p", ago(-1)).inactive();
    pending.insert(connection).unwrap();
    let [next, first] = &KeyPair::all(connection, &layout).unwrap()[..] else { panic!() };
    assert_eq!((next.name.as_str(), next.is_active), ("next", false));
    assert_eq!((first.id, first.created_at, first.is_active), (id, now(), true));
    assert!(first.replace_private_key_pem(connection, "private", "other").unwrap());
    assert!(!first.replace_private_key_pem(connection, "private", "third").unwrap());
    assert!(KeyPair::set_active(id, false, connection).unwrap());
    assert!(!KeyPair::set_active(id, false, connection).unwrap());

    NewScope::active(&layout, "base", "Basic", now()).insert(connection).unwrap();
    let scopes = Scope::all(connection).unwrap();
    assert_eq!((scopes[0].name.as_str(), scopes[0].created_at), ("base", now()));

    token("jti", id, ago(-1)).insert(connection).unwrap();
    let stored = &Token::all(connection).unwrap()[0];
    assert_eq!((stored.token_id.as_str(), stored.key_pair_id), ("jti", id));
    assert_eq!((stored.expires_at, stored.revoked_at), (ago(-1), None));
    assert_eq!(Token::count_usable(connection, id, now()).unwrap(), 1);
    assert!(!Token::any_usable(connection, id, ago(-1)).unwrap());
    assert_eq!(KeyPair::delete_unused(connection, &[id, next.id]).unwrap(), [next.id]);

    let mut state = KeyState::new(id.to_string(), "kid".into());
    state.save(connection).unwrap();
    state.superseded_at = Some(now());
    state.save(connection).unwrap();
    assert_eq!(KeyState::all(connection).unwrap(), [state]);
    KeyState::delete(connection, "1").unwrap();
    assert_eq!(KeyState::all(connection).unwrap(), []);

    let event = NewAuditEvent {
        at: now(),
        action: "created",
        key_pair: "1",
        kid: "kid",
        reason: "rotation due",
        actor: "task 5",
    };
    event.insert(connection).unwrap();
    assert_eq!(AuditEvent::newest(connection, 5).unwrap()[0].actor, "task 5");

    let forced = ForcedRotation { task_id: "5".into(), rotated_at: now(), key_pair: "1".into() };
    forced.insert(connection).unwrap();
    assert!(forced.insert(connection).is_err());
    assert_eq!(ForcedRotation::find(connection, "5").unwrap(), Some(forced));
    ForcedRotation::delete_before(connection, ago(-1)).unwrap();
    assert_eq!(ForcedRotation::find(connection, "5").unwrap(), None);

    TaskSuccess::record(connection, "rotate", ago(1)).unwrap();
    TaskSuccess::record(connection, "rotate", now()).unwrap();
    let success = &TaskSuccess::all(connection).unwrap()[0];
    assert_eq!((success.first_at, success.last_at), (ago(1), now()));
}

fn tables_with_uuid_keys_and_without_optional_columns_work(empty: &Empty) {
    let database = &empty.database;
    let (uuid, time) =
        if empty.file.is_some() { ("char(32)", "datetime") } else { ("uuid", "timestamptz") };
    let dialect = format!(
        "CREATE TABLE jwt_auth_jwtkeypair (id {uuid} NOT NULL PRIMARY KEY, \
         private_key_pem text NOT NULL, public_key_pem text NOT NULL, \
         is_active boolean NOT NULL, created_at {time} NOT NULL); \
         CREATE TABLE jwt_auth_jwtscope (id {uuid} NOT NULL PRIMARY KEY, \
         name varchar(100) NOT NULL UNIQUE, description text NOT NULL, \
         is_active boolean NOT NULL, created_at {time} NOT NULL); \
         CREATE TABLE jwt_auth_jwttoken (id {uuid} NOT NULL PRIMARY KEY, \
         token_id varchar(100) NOT NULL UNIQUE, issued_at {time} NOT NULL, \
         expires_at {time} NOT NULL, is_revoked boolean NOT NULL, \
         key_pair_id {uuid} NOT NULL REFERENCES jwt_auth_jwtkeypair (id)); \
         CREATE TABLE jwt_auth_jwttoken_scopes (jwttoken_id {uuid} NOT NULL \
         REFERENCES jwt_auth_jwttoken (id), jwtscope_id {uuid} NOT NULL);"
    );
    // Opening makes the file; the tables are not there yet.
    assert!(database.check().is_err());
    let mut raw = match &empty.file {
        Some(file) => AnyConnection::Sqlite(
            diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap(),
        ),
        None => AnyConnection::Postgres(diesel::PgConnection::establish(&empty.url).unwrap()),
    };
    raw.batch_execute(&dialect).unwrap();
    let found = database.migrate().unwrap();
    assert_eq!(found.iter().filter(|outcome| outcome.found).count(), 4);

    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    assert_eq!(layout.key_pair_ids, IdKind::Uuid);
    assert!(!layout.key_pair_name && !layout.token_revoked_at);
    assert_eq!(layout.token_created, Some("issued_at"));

    let id = KeyPairRow::insert(connection, &layout, "kid");
    let pair = &KeyPair::all(connection, &layout).unwrap()[0];
    assert_eq!((pair.id, pair.name.as_str()), (id, ""));
    assert_eq!(id.to_string().len(), 36);
    let scope = NewScope::active(&layout, "base", "Basic", now()).insert(connection).unwrap();
    let bare = if empty.file.is_some() { id.to_string().replace('-', "") } else { id.to_string() };
    let scope =
        if empty.file.is_some() { scope.to_string().replace('-', "") } else { scope.to_string() };
    for number in 0..25 {
        connection
            .batch_execute(&format!(
                "INSERT INTO jwt_auth_jwttoken VALUES \
                 ('000000000000000000000000000000{number:02}', 'jti{number}', \
                 '2025-01-01 00:00:00', '2025-01-02 00:00:00', false, '{bare}'); \
                 INSERT INTO jwt_auth_jwttoken_scopes VALUES \
                 ('000000000000000000000000000000{number:02}', '{scope}')"
            ))
            .unwrap();
    }
    assert_eq!(revoke(connection, &layout, now()), [10, 10, 5]);
    assert_eq!(Token::count_usable(connection, id, ago(24 * 900)).unwrap(), 0);
    assert_eq!(delete(connection, &layout, ago(1)), [10, 10, 5]);
    let counts = Counts::load(connection, &layout, now(), ago(24), ago(48), ago(1)).unwrap();
    assert_eq!(counts.total, 0);
    assert_eq!(KeyPair::delete_unused(connection, &[id]).unwrap(), []);
    KeyPair::set_active(id, false, connection).unwrap();
    assert_eq!(KeyPair::delete_unused(connection, &[id]).unwrap(), [id]);
}

/// How many tokens each batch revoked.
fn revoke(connection: &mut AnyConnection, layout: &Layout, now: UtcDateTime) -> Vec<u64> {
    let [revoke, _] = survey(connection, layout, now, ago(24 * 900));
    walk(connection, layout, revoke)
}

/// How many tokens each batch deleted.
fn delete(connection: &mut AnyConnection, layout: &Layout, before: UtcDateTime) -> Vec<u64> {
    let [_, delete] = survey(connection, layout, ago(24 * 900), before);
    walk(connection, layout, delete)
}

fn survey(
    connection: &mut AnyConnection,
    layout: &Layout,
    now: UtcDateTime,
    before: UtcDateTime,
) -> Found {
    Survey { now, before, layout: *layout }.all(connection).unwrap()
}

fn walk(connection: &mut AnyConnection, layout: &Layout, work: (Sweep, Work)) -> Vec<u64> {
    walk_by(10, connection, layout, work)
}

fn walk_by(
    size: u32,
    connection: &mut AnyConnection,
    layout: &Layout,
    (sweep, work): (Sweep, Work),
) -> Vec<u64> {
    let mut walk = SweepWalk::new(sweep, work, connection, layout);
    iter::from_fn(|| walk.batch(connection, size).unwrap()).filter(|tokens| *tokens > 0).collect()
}

/// The work as it would be if there were many of these few.
fn as_many((sweep, work): (Sweep, Work)) -> (Sweep, Work) {
    let Work::Few(places) = &work else { panic!("{work:?}") };
    let [last, .., first] = places[..] else { panic!("{work:?}") };
    (sweep, Work::Many { total: work.total(), first, last })
}

fn a_sweep_walks_in_batches(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    for indexed in [false, true] {
        if indexed {
            database.create_cleanup_indexes().unwrap();
        }
        let connection = &mut database.get().unwrap();
        let layout = connection.layout;
        assert_eq!(layout.token_expiry_index, indexed);
        let id = KeyPairRow::insert(connection, &layout, &format!("kid {indexed}"));
        for number in 0..25 {
            // Several with the same time, so that the key has to tell them apart.
            let name = format!("{indexed} {number}");
            token(&name, id, ago(24 * 100 + number / 10)).insert(connection).unwrap();
        }
        token(&format!("{indexed} alive"), id, ago(-1)).insert(connection).unwrap();
        let [(_, found), _] = survey(connection, &layout, now(), ago(24 * 900));
        assert_eq!(found.total(), 25);
        assert_eq!(revoke(connection, &layout, now()), [10, 10, 5]);
        assert_eq!(revoke(connection, &layout, now()), [0; 0]);
        let revoked = Token::all(connection).unwrap();
        assert_eq!(revoked.iter().filter(|token| token.revoked_at == Some(now())).count(), 25);

        assert_eq!(delete(connection, &layout, ago(0)), [0; 0]);
        assert_eq!(delete(connection, &layout, ago(-1)), [10, 10, 5]);
    }
    assert_eq!(Token::all(&mut database.get().unwrap()).unwrap().len(), 2);
}

/// So few would be gone to one by one; the work is made to look like that of many.
fn many_tokens_are_walked_over_where_they_lie(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    let id = KeyPairRow::insert(connection, &layout, "kid");
    for number in 0..2_000 {
        let expires_at = if number % 3 == 0 { ago(-1) } else { ago(24 * 100) };
        token(&number.to_string(), id, expires_at).insert(connection).unwrap();
    }
    let mut walked = |now, before, part: usize| {
        let works = survey(connection, &layout, now, before);
        let batches = walk(connection, &layout, as_many(works.into_iter().nth(part).unwrap()));
        assert!(batches.iter().all(|tokens| *tokens <= 10), "{batches:?}");
        batches.iter().sum::<u64>()
    };
    let never = ago(24 * 900);
    assert_eq!(walked(now(), never, 0), 1_333);
    assert_eq!(walked(never, ago(-1), 1), 1_333);
    let left = Token::all(&mut database.get().unwrap()).unwrap();
    assert_eq!(left.len(), 667);
    assert!(left.iter().all(|token| !token.is_revoked));
}

fn counts_are_strict(empty: &Empty) {
    let database = &empty.database;
    database.migrate().unwrap();
    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    let id = KeyPairRow::insert(connection, &layout, "kid");
    let other = NewKeyPair::active(&layout, "old", "p", "p", now()).inactive();
    let other = other.insert(connection).unwrap();
    token("now", id, now()).insert(connection).unwrap();
    token("past", id, ago(1)).insert(connection).unwrap();
    token("long past", id, ago(49)).insert(connection).unwrap();
    token("future", id, ago(-1)).insert(connection).unwrap();
    NewToken { created_at: ago(24), ..token("future of old", other, ago(-1)) }
        .insert(connection)
        .unwrap();
    NewToken { is_revoked: true, revoked_at: Some(ago(1)), ..token("revoked", id, ago(-5)) }
        .insert(connection)
        .unwrap();
    NewToken { is_revoked: true, ..token("forgotten", id, ago(24 * 91)) }
        .insert(connection)
        .unwrap();

    let counts = Counts::load(connection, &layout, now(), ago(24), ago(48), ago(24 * 90)).unwrap();

    let expected = Counts {
        total: 7,
        active: 2,
        expired: 3,
        revoked: 2,
        recent: 1,
        overdue: 1,
        undeleted: 1,
        active_on_inactive_key_pairs: 1,
    };
    assert_eq!(counts, expected);
}

fn eight_programs_migrate_at_once(empty: &Empty) {
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| empty.database.migrate().unwrap().len())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made, 5);
}

#[test]
fn sqlite_holds_the_text_that_django_writes_and_a_new_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let empty = Empty::sqlite();
    empty.database.migrate().unwrap();
    let connection = &mut empty.database.get().unwrap();
    let layout = connection.layout;
    NewScope::active(&layout, "a", "", now()).insert(connection).unwrap();
    NewScope::active(&layout, "b", "", at("2026-01-01T00:00:00Z")).insert(connection).unwrap();
    let texts =
        values(connection, "SELECT created_at AS value FROM jwt_auth_jwtscope ORDER BY name");
    assert_eq!(texts, ["2026-06-01 12:00:00.123456", "2026-01-01 00:00:00"]);
    let mode = std::fs::metadata(empty.file.unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    assert_eq!(
        values(connection, "SELECT journal_mode AS value FROM pragma_journal_mode"),
        ["wal"]
    );
    let of_this_connection = "SELECT CAST(foreign_keys AS text) AS value FROM pragma_foreign_keys \
         UNION ALL SELECT CAST(timeout AS text) FROM pragma_busy_timeout";
    assert_eq!(values(connection, of_this_connection), ["1", "30000"]);
}

#[test]
fn postgres_passes_over_tokens_that_another_transaction_holds() {
    let (_, database) = migrated_postgres();
    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    let id = KeyPairRow::insert(connection, &layout, "kid");
    for name in ["held", "free"] {
        token(name, id, ago(1)).insert(connection).unwrap();
    }
    database
        .get()
        .unwrap()
        .transaction::<_, diesel::result::Error, _>(|other| {
            sql_query("SELECT id FROM jwt_auth_jwttoken WHERE token_id = 'held' FOR UPDATE")
                .execute(other)?;
            assert_eq!(revoke(connection, &layout, now()), [1]);
            Ok(())
        })
        .unwrap();
    assert_eq!(revoke(connection, &layout, now()), [1]);
}

/// One statement would write a new copy of each row, and an entry for it into each index.
#[test]
fn most_of_many_tokens_are_revoked_where_they_are() {
    let (_, database) = migrated_postgres();
    let connection = &mut database.get().unwrap();
    let layout = connection.layout;
    let id = KeyPairRow::insert(connection, &layout, "kid");
    sql_query(format!(
        "INSERT INTO jwt_auth_jwttoken (token_id, created_at, issued_at, expires_at, is_revoked, \
         purpose, key_pair_id, user_id) \
         SELECT 'jti' || n, now(), now(), '2025-01-01', false, '', {id}, 1 \
         FROM generate_series(1, 20000) AS series(n)"
    ))
    .execute(&mut **connection)
    .unwrap();
    let blocks = "SELECT (pg_relation_size('jwt_auth_jwttoken') / 8192)::text AS value";
    let size =
        |connection: &mut AnyConnection| -> u32 { values(connection, blocks)[0].parse().unwrap() };
    let before = size(connection);

    let [revoke, _] = survey(connection, &layout, now(), ago(24 * 900));
    let batches = walk_by(1_000, connection, &layout, as_many(revoke));

    assert_eq!(batches.iter().sum::<u64>(), 20_000);
    let after = size(connection);
    assert!(after < before + before / 2, "{before} blocks became {after}");
}

#[test]
fn a_database_that_cannot_be_reached_is_an_error_and_not_a_new_file() {
    let error = connect("postgres://user:geheim@127.0.0.1:1/db").check().unwrap_err();
    assert!(matches!(error, DatabaseError::Connect { .. }));
    assert!(!error.to_string().contains("geheim"), "{error}");
    assert!(!std::path::Path::new("postgres:").exists());
}

#[test]
fn an_index_that_was_never_finished_is_built_anew() {
    let (_, database) = migrated_postgres();
    database.create_cleanup_indexes().unwrap();
    // As a broken off CREATE INDEX CONCURRENTLY leaves it.
    sql_query(
        "UPDATE pg_index SET indisvalid = false \
         WHERE indexrelid = 'jwt_maintenance_token_expires'::regclass",
    )
    .execute(&mut *database.get().unwrap())
    .unwrap();
    assert!(!database.check().unwrap().token_expiry_index);

    database.create_cleanup_indexes().unwrap();

    assert!(database.check().unwrap().token_expiry_index);
}

#[test]
fn an_index_counts_by_its_columns_and_by_its_condition() {
    let (_, database) = migrated_postgres();
    for (index, counts) in [
        ("(purpose)", false),
        ("(purpose) WHERE NOT is_revoked", true),
        ("(user_id, revoked_at)", true),
    ] {
        let create = format!("CREATE INDEX of_the_site ON jwt_auth_jwttoken {index}");
        sql_query(create).execute(&mut *database.get().unwrap()).unwrap();
        assert_eq!(database.check().unwrap().token_revocation_index, counts, "{index}");
        sql_query("DROP INDEX of_the_site").execute(&mut *database.get().unwrap()).unwrap();
    }
}

/// A worker looks when it starts, and must start whatever another session does meanwhile.
#[test]
fn looking_at_the_tables_waits_for_nobody_who_has_locked_them() {
    let (url, database) = migrated_postgres();
    database
        .get()
        .unwrap()
        .transaction::<_, diesel::result::Error, _>(|locker| {
            sql_query("LOCK TABLE jwt_auth_jwttoken IN ACCESS EXCLUSIVE MODE").execute(locker)?;
            let looking = connect(&url);
            assert!(!looking.check().unwrap().token_revocation_index);
            Ok(())
        })
        .unwrap();
}
