//! One supervised connection: any failure drops it, whoever comes next builds it anew.

use std::fmt;
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation,
    ServerErrorKind,
};
use tokio::sync::Mutex;

/// Where a Redis is and how to reach it, from a URL such as `redis://user:password@host:6379/0`.
#[derive(Clone)]
pub struct ConnectionSettings {
    client: redis::Client,
    display: String,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// A URL that names no Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "{url} names no Redis: {reason}; expected redis://[user:password@]host[:port][/database], \
         rediss://… for TLS, or unix:///path/to/socket"
)]
pub struct UrlError {
    url: String,
    reason: String,
}

impl ConnectionSettings {
    /// Reads a broker or result backend URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let error = |reason: String| UrlError { url: redacted(url), reason };
        let url = url.replacen("redis+socket://", "unix://", 1);
        let client = redis::Client::open(url.as_str()).map_err(|source| {
            error(source.detail().map_or_else(|| source.category().to_owned(), ToOwned::to_owned))
        })?;
        Ok(Self {
            client,
            display: redacted(&url),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(3),
        })
    }

    /// The longest time that establishing a connection, and a single reply, may take.
    pub fn timeouts(mut self, connect: Duration, response: Duration) -> Self {
        (self.connect_timeout, self.response_timeout) = (connect, response);
        self
    }

    /// Whether both lead to the same database of the same server.
    pub fn same_database(&self, other: &Self) -> bool {
        let (a, b) = (self.client.get_connection_info(), other.client.get_connection_info());
        a.addr() == b.addr() && a.redis_settings().db() == b.redis_settings().db()
    }

    /// Opens a connection of its own whose replies may take `response_timeout`.
    pub(super) async fn open(
        &self,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Opens a connection for subscriptions.
    pub(crate) async fn open_pubsub(&self) -> Result<redis::aio::PubSub, RedisError> {
        tokio::time::timeout(self.connect_timeout, self.client.get_async_pubsub())
            .await
            .unwrap_or_else(|_| {
                Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            })
    }
}

impl fmt::Display for ConnectionSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.display)
    }
}

impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ConnectionSettings").field(&self.display).finish()
    }
}

/// A URL without its password, for logs and errors.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "the URL (it has no scheme)".to_owned();
    };
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split_once(':').map_or("", |(user, _)| user);
            format!("{scheme}://{user}:**@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It cannot be reached, or cannot serve now; asking again later can help.
    #[error("{server} cannot serve: {source}")]
    Outage {
        /// Which Redis.
        server: String,
        /// What it or the network said.
        source: RedisError,
    },
    /// It refuses this command: asking again cannot help.
    #[error("{server} refused {action}: {source}")]
    Refused {
        /// Which Redis.
        server: String,
        /// What was asked.
        action: &'static str,
        /// What it said.
        source: RedisError,
    },
}

impl TransportError {
    /// Whether asking again later can help.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Outage { .. })
    }

    /// Whether the server does not accept who we are: at start that is a mistake in the settings.
    pub fn is_authentication(&self) -> bool {
        let Self::Outage { source, .. } = self else { return false };
        let code = source.code().unwrap_or_default();
        source.kind() == ErrorKind::AuthenticationFailed
            || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM")
    }
}

/// A connection that everybody of one role shares; commands are pipelined by themselves.
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    current: Mutex<Option<Live>>,
    health: StdMutex<Health>,
}

struct Live {
    connection: MultiplexedConnection,
    number: u64,
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {}", self.number)
    }
}

#[derive(Debug, Default)]
struct Health {
    connections: u64,
    connected_since: Option<Instant>,
    outage_since: Option<Instant>,
}

impl Connection {
    /// A connection that is made when it is first needed.
    pub fn new(settings: ConnectionSettings) -> Self {
        Self { settings, current: Mutex::new(None), health: StdMutex::default() }
    }

    /// Where it leads.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// How long Redis has served without an interruption that we saw; `None` during an outage.
    pub fn serving_for(&self) -> Option<Duration> {
        self.health().connected_since.map(|since| since.elapsed())
    }

    /// Whether an earlier connection was lost.
    pub fn was_interrupted(&self) -> bool {
        self.health().connections > 1
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(
        &self,
        action: &'static str,
        command: &Cmd,
    ) -> Result<T, TransportError> {
        let (mut connection, number) = self.acquire(action).await?;
        let reply = command.query_async(&mut connection).await;
        self.conclude(action, number, reply).await
    }

    /// Runs a pipeline.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        action: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, TransportError> {
        let (mut connection, number) = self.acquire(action).await?;
        let reply = pipeline.query_async(&mut connection).await;
        self.conclude(action, number, reply).await
    }

    /// Runs a script, loading it where the server does not know it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        action: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, TransportError> {
        let (mut connection, number) = self.acquire(action).await?;
        let reply = script.invoke_async(&mut connection).await;
        self.conclude(action, number, reply).await
    }

    async fn acquire(
        &self,
        action: &'static str,
    ) -> Result<(MultiplexedConnection, u64), TransportError> {
        let mut current = self.current.lock().await;
        if let Some(live) = &*current {
            return Ok((live.connection.clone(), live.number));
        }
        match self.settings.open(self.settings.response_timeout).await {
            Ok(connection) => {
                let number = self.connected();
                *current = Some(Live { connection: connection.clone(), number });
                Ok((connection, number))
            }
            Err(error) => Err(self.failed(action, error)),
        }
    }

    async fn conclude<T>(
        &self,
        action: &'static str,
        number: u64,
        reply: Result<T, RedisError>,
    ) -> Result<T, TransportError> {
        let error = match reply {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if is_outage(&error) {
            let mut current = self.current.lock().await;
            // Only the connection that failed: another caller may have made the next one already.
            if current.as_ref().is_some_and(|live| live.number == number) {
                *current = None;
            }
        }
        Err(self.failed(action, error))
    }

    fn failed(&self, action: &'static str, source: RedisError) -> TransportError {
        let server = self.settings.to_string();
        if !is_outage(&source) {
            return TransportError::Refused { server, action, source };
        }
        let mut health = self.health();
        health.connected_since = None;
        if health.outage_since.is_none() {
            health.outage_since = Some(Instant::now());
            log::error!("{server} cannot serve ({source}); waiting for it");
        }
        TransportError::Outage { server, source }
    }

    fn connected(&self) -> u64 {
        let mut health = self.health();
        health.connections += 1;
        health.connected_since = Some(Instant::now());
        if let Some(since) = health.outage_since.take() {
            log::warn!(
                "{} serves again after {:.1} s",
                self.settings,
                since.elapsed().as_secs_f64()
            );
        }
        health.connections
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether the error is about the server's state or the way to it, not about the command.
fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => {
            matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            ) || says_outage(error)
        }
        _ => error.is_connection_dropped() || error.is_timeout() || says_outage(error),
    }
}

/// Errors without a kind of their own. A script reports what stopped it inside its own error.
fn says_outage(error: &RedisError) -> bool {
    const CODES: [&str; 10] = [
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "BUSY",
        "UNBLOCKED",
        "NOAUTH",
        "WRONGPASS",
        "READONLY",
        "LOADING",
        "MASTERDOWN",
    ];
    let text = error.to_string();
    error.code().is_some_and(|code| CODES.contains(&code))
        || CODES
            .iter()
            .any(|code| text.contains(&format!("-{code} ")) || text.contains(&format!("{code} ")))
}

/// Waits between attempts: doubling from 50 ms to one second, with jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Waits before the next attempt.
    pub async fn wait(&mut self) {
        let ceiling = Duration::from_millis(50 << self.attempts.min(4)).min(Duration::from_secs(1));
        self.attempts += 1;
        let jitter = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        tokio::time::sleep(ceiling.mul_f64(0.5 + jitter / 2.0)).await;
    }

    /// The next wait is the shortest again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://:hunter2@h:1/0",
            "rediss://bob:hunter2@h/0?password=hunter2",
            "redis://h:99999x/hunter2@y",
        ] {
            let shown = ConnectionSettings::parse(url).map_or_else(
                |error| error.to_string(),
                |settings| format!("{settings} {settings:?}"),
            );
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_url_of_another_kind_is_refused_with_the_right_form() {
        let error = ConnectionSettings::parse("amqp://h").unwrap_err().to_string();
        assert!(error.contains("expected redis://"), "{error}");
    }
}
