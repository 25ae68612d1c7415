//! What kind of Redis this is: checked once, before a worker relies on it.

use std::collections::HashMap;

use super::connection::{Connection, TransportError};

/// Oldest Redis whose commands we use (`LMOVE`, `ZADD GT`, `RPOP` with a count).
const OLDEST: (u32, u32) = (6, 2);

/// A Redis that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It answered with an error, or not at all.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A cluster spreads keys that our scripts need together.
    #[error(
        "{server} is a Redis Cluster, which Celery's queues cannot use (kombu cannot either): point the URL \
         at a single Redis or Valkey, or at a primary with replicas"
    )]
    Cluster {
        /// Which Redis.
        server: String,
    },
    /// Older than 6.2.
    #[error(
        "{server} is Redis {version}, which lacks commands that are needed here: 6.2 or later is required"
    )]
    TooOld {
        /// Which Redis.
        server: String,
        /// Its version.
        version: String,
    },
}

/// What an operator should know about a usable Redis.
#[derive(Debug, Default)]
pub struct ServerReport {
    /// Version that it names itself.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// One sentence each: settings under which messages can be lost or read by others.
    pub warnings: Vec<String>,
}

/// Asks the server what it is.
pub async fn inspect(connection: &Connection) -> Result<ServerReport, ServerError> {
    // A server that loads its data answers INFO, and serves nothing yet.
    connection.query::<String>("ping", &redis::cmd("PING")).await?;
    let info: String = connection.query("INFO", &redis::cmd("INFO")).await?;
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    let server = || connection.settings().to_string();
    if field("cluster_enabled") == "1" || field("redis_mode") == "cluster" {
        return Err(ServerError::Cluster { server: server() });
    }
    let version = field("redis_version");
    if parse_version(version).is_some_and(|version| version < OLDEST) {
        return Err(ServerError::TooOld { server: server(), version: version.to_owned() });
    }
    let mut warnings = warnings(&field);
    warnings.extend_from_slice(connection.settings().warnings());
    Ok(ServerReport {
        version: version.to_owned(),
        uptime_seconds: field("uptime_in_seconds").parse().unwrap_or(0),
        warnings,
    })
}

fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

fn warnings<'a>(field: &impl Fn(&str) -> &'a str) -> Vec<String> {
    let mut warnings = Vec::new();
    let policy = field("maxmemory_policy");
    if !matches!(policy, "" | "noeviction") && field("maxmemory") != "0" {
        let lost = match policy.starts_with("volatile") {
            true => "results and the signs of life of working processes",
            false => "waiting messages and results",
        };
        warnings.push(format!(
            "maxmemory-policy is {policy}: at maxmemory Redis would delete {lost}; set it to \
             noeviction"
        ));
    }
    if field("aof_enabled") == "0" {
        warnings.push(
            "appendonly is no: a crash of Redis loses every message since its last snapshot, if it makes \
             any; set appendonly to yes"
                .to_owned(),
        );
    }
    warnings
}
