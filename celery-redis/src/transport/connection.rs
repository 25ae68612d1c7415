//! One supervised connection: any failure drops it, whoever comes next builds it anew.

use std::fmt;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ScriptInvocation, ServerErrorKind,
};
use tokio::sync::Mutex;

use super::url::{Address, Route};
pub use super::url::{ConnectionOptions, UrlError};

/// Where a Redis is and how to reach it.
#[derive(Clone)]
pub struct ConnectionSettings {
    address: Address,
}

impl ConnectionSettings {
    /// Reads a broker or result backend URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        Self::parse_with(url, &ConnectionOptions::default())
    }

    /// Reads a broker or result backend URL; what it does not say is as `options` say.
    pub fn parse_with(url: &str, options: &ConnectionOptions) -> Result<Self, UrlError> {
        Ok(Self { address: Address::parse(url, options)? })
    }

    /// The longest time that establishing a connection, and a single reply, may take.
    pub fn timeouts(mut self, connect: Duration, response: Duration) -> Self {
        let options = &mut self.address.options;
        (options.connect_timeout, options.command_timeout) = (connect, response);
        self
    }

    /// Whether both lead to the same database of the same server.
    pub fn same_database(&self, other: &Self) -> bool {
        let same_server = match (&self.address.route, &other.address.route) {
            (Route::Server(a), Route::Server(b)) => {
                a.get_connection_info().addr() == b.get_connection_info().addr()
            }
            (Route::Sentinels(a), Route::Sentinels(b)) => a.same(b),
            _ => false,
        };
        same_server && self.address.database() == other.address.database()
    }

    /// Number of the database, which is part of the names of channels.
    pub fn database(&self) -> i64 {
        self.address.database()
    }

    /// One sentence each about what the URL's author may not have meant.
    pub fn warnings(&self) -> &[String] {
        &self.address.warnings
    }

    /// Opens a connection of its own whose replies may take `response_timeout`.
    pub(super) async fn open(
        &self,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.address.options.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        self.server().await?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Opens a connection for subscriptions.
    pub(crate) async fn open_pubsub(&self) -> Result<redis::aio::PubSub, RedisError> {
        let server = self.server().await?;
        tokio::time::timeout(self.address.options.connect_timeout, server.get_async_pubsub())
            .await
            .unwrap_or_else(|_| {
                Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            })
    }

    /// The server to connect to now.
    async fn server(&self) -> Result<Client, RedisError> {
        match &self.address.route {
            Route::Server(client) => Ok(client.clone()),
            Route::Sentinels(sentinels) => {
                sentinels.primary(self.address.options.connect_timeout).await
            }
        }
    }
}

impl fmt::Display for ConnectionSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address.display)
    }
}

impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ConnectionSettings").field(&self.address.display).finish()
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

    /// Whether the server does not accept who we are, or we do not accept who it is: at start that
    /// is a mistake in the settings.
    pub fn is_authentication(&self) -> bool {
        let Self::Outage { source, .. } = self else { return false };
        refuses_us(source) || source.to_string().contains("invalid peer certificate")
    }
}

/// A connection that everybody of one role shares; commands are pipelined by themselves.
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    current: Mutex<Option<Live>>,
    /// Whether a reply is news: nothing was served yet, or an outage was seen.
    awaiting: AtomicBool,
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
    interrupted: bool,
    serving_since: Option<Instant>,
    outage: Option<Outage>,
}

/// What the log has been told of an outage.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last_failure: Instant,
    last_told: Instant,
    /// The server answers, but refuses what changes something.
    writes_refused: bool,
    action: &'static str,
}

/// While an outage lasts, the log says so this often.
const REMINDER: Duration = Duration::from_secs(30);
/// Where only writes are refused, reads go on succeeding: other replies are a sign of the end only
/// when no write was refused for so long.
const QUIET: Duration = Duration::from_secs(3);

impl Connection {
    /// A connection that is made when it is first needed.
    pub fn new(settings: ConnectionSettings) -> Self {
        Self {
            settings,
            current: Mutex::new(None),
            awaiting: AtomicBool::new(true),
            health: StdMutex::default(),
        }
    }

    /// Where it leads.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// How long Redis has served without an interruption that we saw; `None` during an outage.
    pub fn serving_for(&self) -> Option<Duration> {
        self.health().serving_since.map(|since| since.elapsed())
    }

    /// Whether there was an outage that we saw.
    pub fn was_interrupted(&self) -> bool {
        self.health().interrupted
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
        match self.settings.open(self.settings.address.options.command_timeout).await {
            Ok(connection) => {
                let number = self.next_number();
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
            Ok(value) => {
                self.served(action);
                return Ok(value);
            }
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
        let now = Instant::now();
        let mut health = self.health();
        self.awaiting.store(true, Ordering::Release);
        health.interrupted = true;
        health.serving_since = None;
        match &mut health.outage {
            None => {
                let writes_refused = refuses_writes(&source);
                if writes_refused {
                    log::error!("{server} accepts no changes ({source}); waiting until it does");
                } else {
                    log::error!("{server} cannot serve ({source}); waiting for it");
                }
                health.outage = Some(Outage {
                    since: now,
                    last_failure: now,
                    last_told: now,
                    writes_refused,
                    action,
                });
            }
            Some(outage) => {
                outage.last_failure = now;
                outage.writes_refused |= refuses_writes(&source);
                if now - outage.last_told > REMINDER {
                    outage.last_told = now;
                    let seconds = (now - outage.since).as_secs();
                    log::error!("{server} still cannot serve after {seconds} s ({source})");
                }
            }
        }
        TransportError::Outage { server, source }
    }

    /// A reply came: if there was an outage, it may be over.
    fn served(&self, action: &'static str) {
        if !self.awaiting.load(Ordering::Acquire) {
            return;
        }
        let mut health = self.health();
        if let Some(outage) = &health.outage {
            let same = action == outage.action;
            if outage.writes_refused && !same && outage.last_failure.elapsed() < QUIET {
                return;
            }
            let seconds = outage.since.elapsed().as_secs_f64();
            log::warn!("{} serves again after {seconds:.1} s", self.settings);
        }
        health.outage = None;
        health.serving_since = Some(Instant::now());
        self.awaiting.store(false, Ordering::Release);
    }

    fn next_number(&self) -> u64 {
        let mut health = self.health();
        health.connections += 1;
        health.connections
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether the server does not accept user and password, or wants some.
pub(super) fn refuses_us(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// Whether the server answers, and refuses what changes something. A script reports what stopped
/// it inside its own error.
fn refuses_writes(error: &RedisError) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || ["OOM ", "MISCONF ", "NOREPLICAS ", "READONLY "].iter().any(|code| text.contains(code))
        || matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY"))
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
