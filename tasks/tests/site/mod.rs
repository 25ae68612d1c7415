//! A site with a database of its own, for one test.

#![allow(clippy::unwrap_used, reason = "the whole file is for tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod crash;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use shared_models::{
    AnyConnection, Connection, Database, KeyPair, Layout, NewKeyPair, NewToken, RowId, Token,
};
use tasks::jwt::{Algorithm, SigningKey, VerificationKey};
use tasks::rotate_jwt_keypairs::{Older, Request, RotationReport, Trigger, rotate};
use tasks::{Caller, JwtAuth, JwtSettings, Mode};
use test_servers::Postgres;

/// The database behind a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Postgres,
    Sqlite,
}

/// A site with empty tables.
pub struct Site {
    pub jwt: JwtAuth,
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

/// The time at which tests begin.
pub fn start() -> DateTime<Utc> {
    "2026-01-04T02:00:00.123456Z".parse().unwrap()
}

/// So many days after the beginning.
pub fn day(days: i64) -> DateTime<Utc> {
    start() + TimeDelta::days(days)
}

pub fn connect(url: &str) -> Database {
    Database::connect(&SecretString::from(url.to_owned()), 10).unwrap()
}

impl Site {
    pub fn new(backend: Backend) -> Self {
        let folder = (backend == Backend::Sqlite).then(|| tempfile::tempdir().unwrap());
        let url = match &folder {
            Some(folder) => format!("sqlite://{}", folder.path().join("jwt.sqlite3").display()),
            None => Postgres::shared().create_database(),
        };
        let database = connect(&url);
        database.migrate().unwrap();
        let settings = JwtSettings::default();
        Self { jwt: JwtAuth { database, settings }, url, _folder: folder }
    }

    /// A site whose primary keys are UUIDs, and whose tables lack what is optional.
    pub fn with_uuid_keys(backend: Backend) -> Self {
        use diesel::Connection as _;
        use diesel::connection::SimpleConnection;
        let (uuid, time) = match backend {
            Backend::Postgres => ("uuid", "timestamptz"),
            Backend::Sqlite => ("char(32)", "datetime"),
        };
        let tables = format!(
            "CREATE TABLE jwt_auth_jwtkeypair (id {uuid} NOT NULL PRIMARY KEY, \
             private_key_pem text NOT NULL, public_key_pem text NOT NULL, \
             is_active boolean NOT NULL, created_at {time} NOT NULL); \
             CREATE TABLE jwt_auth_jwtscope (id {uuid} NOT NULL PRIMARY KEY, \
             name varchar(100) NOT NULL UNIQUE, description text NOT NULL, \
             is_active boolean NOT NULL, created_at {time} NOT NULL); \
             CREATE TABLE jwt_auth_jwttoken (id {uuid} NOT NULL PRIMARY KEY, \
             token_id varchar(100) NOT NULL UNIQUE, expires_at {time} NOT NULL, \
             is_revoked boolean NOT NULL, \
             key_pair_id {uuid} NOT NULL REFERENCES jwt_auth_jwtkeypair (id)); \
             CREATE TABLE jwt_auth_jwttoken_scopes (jwttoken_id {uuid} NOT NULL, \
             jwtscope_id {uuid} NOT NULL)"
        );
        let folder = (backend == Backend::Sqlite).then(|| tempfile::tempdir().unwrap());
        let url = match &folder {
            Some(folder) => {
                let path = folder.path().join("jwt.sqlite3").display().to_string();
                let mut raw = diesel::SqliteConnection::establish(&path).unwrap();
                raw.batch_execute(&tables).unwrap();
                format!("sqlite://{path}")
            }
            None => {
                let url = Postgres::shared().create_database();
                let mut raw = diesel::PgConnection::establish(&url).unwrap();
                raw.batch_execute(&tables).unwrap();
                url
            }
        };
        let database = connect(&url);
        database.migrate().unwrap();
        let settings = JwtSettings::default();
        Self { jwt: JwtAuth { database, settings }, url, _folder: folder }
    }

    pub fn with(backend: Backend, change: impl FnOnce(&mut JwtSettings)) -> Self {
        let mut site = Self::new(backend);
        change(&mut site.jwt.settings);
        site
    }

    pub fn connection(&self) -> Connection {
        self.jwt.database.get().unwrap()
    }

    pub fn layout(&self) -> Layout {
        self.connection().layout
    }

    /// Rotates as the weekly task does.
    pub fn rotate(&self, now: DateTime<Utc>) -> RotationReport {
        self.call(now, Trigger::IfDue, Older::Keep, Caller::Task("weekly"))
    }

    pub fn force(&self, now: DateTime<Utc>) -> RotationReport {
        self.call(now, Trigger::Forced, Older::Keep, Caller::Operator("ada"))
    }

    pub fn call(
        &self,
        now: DateTime<Utc>,
        trigger: Trigger,
        older: Older,
        caller: Caller<'_>,
    ) -> RotationReport {
        rotate(&self.jwt, now, Request { trigger, older, caller }, Mode::Apply).unwrap()
    }

    /// A key pair as Django would have made it.
    pub fn key_pair(&self, created_at: DateTime<Utc>, active: bool) -> RowId {
        self.key_pair_of(Algorithm::Es256, created_at, active)
    }

    pub fn key_pair_of(
        &self,
        algorithm: Algorithm,
        created_at: DateTime<Utc>,
        active: bool,
    ) -> RowId {
        let key = SigningKey::generate(algorithm).unwrap();
        let public = key.public_pem().unwrap();
        let kid = VerificationKey::from_pem(&public).unwrap().kid().unwrap();
        let private = key.to_pem(None).unwrap();
        self.insert_key_pair(&kid, &private, &public, created_at, active)
    }

    pub fn insert_key_pair(
        &self,
        kid: &str,
        private: &str,
        public: &str,
        created_at: DateTime<Utc>,
        active: bool,
    ) -> RowId {
        let connection = &mut self.connection();
        let layout = connection.layout;
        let pair = NewKeyPair::active(&layout, kid, private, public, created_at.into());
        let pair = if active { pair } else { pair.inactive() };
        pair.insert(connection).unwrap()
    }

    /// A token of `key_pair` that expires then.
    pub fn token(&self, name: &str, key_pair: RowId, expires_at: DateTime<Utc>) -> RowId {
        self.insert(&new_token(name, key_pair, expires_at))
    }

    pub fn insert(&self, token: &NewToken<'_>) -> RowId {
        token.insert(&mut self.connection()).unwrap()
    }

    pub fn tokens(&self) -> Vec<Token> {
        Token::all(&mut self.connection()).unwrap()
    }

    /// All key pairs, the newest first.
    pub fn key_pairs(&self) -> Vec<KeyPair> {
        let layout = self.layout();
        KeyPair::all(&mut self.connection(), &layout).unwrap()
    }

    pub fn active_ids(&self) -> Vec<RowId> {
        self.key_pairs().into_iter().filter(|pair| pair.is_active).map(|pair| pair.id).collect()
    }

    pub fn execute(&self, sql: &str) {
        use diesel::connection::SimpleConnection;
        let connection: &mut AnyConnection = &mut self.connection();
        connection.batch_execute(sql).unwrap();
    }
}

/// A token as a site would store it.
pub fn new_token(name: &str, key_pair: RowId, expires_at: DateTime<Utc>) -> NewToken<'_> {
    let issued_at = (expires_at - TimeDelta::hours(1)).into();
    NewToken {
        id: None,
        token_id: name,
        created_at: issued_at,
        issued_at,
        expires_at: expires_at.into(),
        is_revoked: false,
        revoked_at: None,
        purpose: "session",
        key_pair_id: key_pair,
        user_id: RowId::Int4(1),
    }
}

/// Runs each body on PostgreSQL and on SQLite.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[test] fn $name() { super::$name(super::site::Backend::Postgres) })+
        }
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(super::site::Backend::Sqlite) })+
        }
    };
}
