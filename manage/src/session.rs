//! What the commands of one run share: settings, the database, the broker.

use std::os::unix::fs::MetadataExt;

use celery_redis::Client;
use celery_redis::transport::connection::{ConnectionOptions, ConnectionSettings};
use settings::{Broker, Env, ExposeSecret, SecretString};
use shared_models::{Database, DatabaseError};
use tasks::{JwtAuth, JwtSettings};

use crate::failure::Failure;

/// Opened as far as a command needs it, so that one that needs no Redis works without.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) env: Env,
}

impl Session {
    pub(crate) fn new(env: Env) -> Self {
        Self { env }
    }

    /// The database. Nothing is connected yet.
    pub(crate) fn database(&self) -> Result<Database, Failure> {
        let url = settings::database_url(&self.env)?;
        Database::connect(&url, 1).map_err(|error| match error {
            DatabaseError::Address => self
                .env
                .invalid_secret(
                    "DATABASE_URL",
                    "postgres://…, postgresql://…, sqlite://PATH or the path of a SQLite file",
                )
                .into(),
            error => Failure::Database(error),
        })
    }

    /// What the work on key pairs, tokens and scopes needs.
    pub(crate) fn jwt(&self) -> Result<JwtAuth, Failure> {
        let settings = JwtSettings::from_env(&self.env)?;
        Ok(JwtAuth { database: self.database()?, settings })
    }

    /// Who works here, for the audit trail: the person behind `sudo`, else the user.
    pub(crate) fn operator(&self) -> Result<String, Failure> {
        for name in ["SUDO_USER", "USER", "LOGNAME"] {
            if let Some(user) = self.env.text(name)? {
                return Ok(user);
            }
        }
        let process = std::fs::metadata("/proc/self");
        Ok(process.map_or_else(|_| "unknown".to_owned(), |this| format!("uid {}", this.uid())))
    }

    /// The settings of the broker, and how to connect to it.
    pub(crate) fn broker(&self) -> Result<(Broker, ConnectionSettings), Failure> {
        let broker = Broker::from_env(&self.env)?;
        let connection = redis_settings("CELERY_BROKER_URL", &broker.url, &broker)?;
        Ok((broker, connection))
    }

    /// A producer that is connected.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let (broker, connection) = self.broker()?;
        let backend = match &broker.result_backend {
            Some(url) => Some(redis_settings("CELERY_RESULT_BACKEND", url, &broker)?),
            None => None,
        };
        Ok(Client::connect_with(connection, backend, &broker.global_keyprefix).await?)
    }
}

fn redis_settings(
    name: &'static str,
    url: &SecretString,
    broker: &Broker,
) -> Result<ConnectionSettings, Failure> {
    let options = ConnectionOptions {
        connect_timeout: broker.connect_timeout,
        command_timeout: broker.command_timeout,
        sentinel_master: broker.sentinel_master.clone(),
    };
    ConnectionSettings::parse_with(url.expose_secret(), &options)
        .map_err(|source| Failure::RedisUrl { name, source })
}

/// Runs what has to wait for Redis.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(work)
}
