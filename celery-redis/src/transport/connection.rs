//! One supervised connection: any failure drops it, whoever comes next builds it anew.

mod begun;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ScriptInvocation, ServerErrorKind, Value,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use super::audience::Audience;
use super::large_socket::{self, LargeSocket};
use super::outage::{self, Health};
use super::scripts::Call;
use super::transaction::Transaction;
use super::url::{Address, Route};
pub use super::url::{ConnectionOptions, UrlError};
pub(super) use begun::Begun;

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

    /// The longest time that a single reply may take.
    pub(super) fn command_timeout(&self) -> Duration {
        self.address.options.command_timeout
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
            .unwrap_or_else(|_| Err(timed_out()))
    }

    /// Opens a connection for one transaction after the other.
    async fn open_large(&self) -> Result<LargeSocket, RedisError> {
        let connected = async { LargeSocket::connect(&self.server().await?).await };
        tokio::time::timeout(self.address.options.connect_timeout, connected)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }

    /// Whether there are such connections to this Redis.
    fn has_large_sockets(&self) -> bool {
        match &self.address.route {
            Route::Server(client) => large_socket::can_reach(client.get_connection_info().addr()),
            // No URL asks for TLS by way of sentinels.
            Route::Sentinels(_) => true,
        }
    }

    /// What an error of this Redis means to who asked for `action`.
    pub(super) fn error(&self, action: &'static str, source: RedisError) -> TransportError {
        let server = self.to_string();
        if outage::is_outage(&source) {
            TransportError::Outage { server, source }
        } else {
            TransportError::Refused { server, action, source }
        }
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

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
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
        outage::refuses_us(source) || source.to_string().contains("invalid peer certificate")
    }
}

/// A connection that everybody of one role shares; commands are pipelined by themselves.
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    current: Mutex<Option<Live>>,
    connections: AtomicU64,
    health: Arc<Health>,
    pub(super) audience: Audience,
    /// Where its input and output are done; where it is first used, if none is said.
    driver: OnceLock<Handle>,
}

/// One connection, as long as nobody has found it broken.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    number: u64,
    broken: Arc<watch::Sender<bool>>,
    /// Connections beside it, which are given up with it.
    large: Arc<large_socket::Idle>,
}

impl Live {
    /// Waits for a reply for as long as the connection is not known to be broken: where one
    /// command has waited in vain, no other one waits any longer.
    async fn reply<T>(
        &self,
        reply: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        let mut broken = self.broken.subscribe();
        tokio::select! {
            biased;
            reply = reply => reply,
            _ = broken.wait_for(|broken| *broken) => {
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
            }
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {}", self.number)
    }
}

impl Connection {
    /// A connection that is made when it is first needed.
    pub fn new(settings: ConnectionSettings) -> Self {
        let health = Arc::new(Health::new(settings.to_string()));
        Self::with_health(settings, health, OnceLock::new())
    }

    /// Another connection to the same Redis, which the runtime of `driver` keeps going whoever uses
    /// it: for what has to go on while tasks hold up every other thread. What the log is told of
    /// outages is told once for both.
    pub fn beside(&self, driver: Handle) -> Self {
        Self::with_health(self.settings.clone(), Arc::clone(&self.health), driver.into())
    }

    fn with_health(
        settings: ConnectionSettings,
        health: Arc<Health>,
        driver: OnceLock<Handle>,
    ) -> Self {
        let (current, connections) = (Mutex::new(None), AtomicU64::new(0));
        let audience = Audience::default();
        Self { settings, current, connections, health, audience, driver }
    }

    /// Has the current runtime keep it going whoever uses it, unless another does already.
    pub fn drive_here(&self) {
        self.driver.get_or_init(Handle::current);
    }

    /// Where it leads.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// How long Redis has served without an interruption that we saw; `None` during an outage.
    pub fn serving_for(&self) -> Option<Duration> {
        self.health.serving_for()
    }

    /// Changes each time that this connection, or one beside it, is found broken.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.health.losses()
    }

    /// A connection beside this one has failed.
    pub(super) fn doubt(&self) {
        self.health.doubt();
    }

    /// Ends when one beside this connection has failed since the last call: the next command tells
    /// whether Redis serves.
    pub async fn doubted(&self) {
        self.health.doubted().await;
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(
        &self,
        action: &'static str,
        command: &Cmd,
    ) -> Result<T, TransportError> {
        let live = self.acquire(action).await?;
        let mut connection = live.connection.clone();
        let reply = live.reply(command.query_async(&mut connection)).await;
        self.conclude(action, &live, reply).await
    }

    /// Runs a pipeline.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        action: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, TransportError> {
        let live = self.acquire(action).await?;
        let mut connection = live.connection.clone();
        let reply = live.reply(pipeline.query_async(&mut connection)).await;
        self.conclude(action, &live, reply).await
    }

    /// Runs a transaction whose arguments or replies may be large, over a connection that nobody
    /// else uses meanwhile.
    pub(super) async fn transaction(
        &self,
        action: &'static str,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<Value>, TransportError> {
        let live = self.acquire(action).await?;
        let reply = live.reply(self.exchange(&live, transaction)).await;
        self.conclude(action, &live, reply).await
    }

    async fn exchange(
        &self,
        live: &Live,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<Value>, RedisError> {
        if !self.settings.has_large_sockets() {
            let mut connection = live.connection.clone();
            return transaction.as_pipeline().query_async(&mut connection).await;
        }
        let mut socket = self.large_socket(live).await?;
        let replies = self.in_time(socket.exchange(transaction)).await?;
        live.large.keep(socket);
        Transaction::outcome(replies)
    }

    async fn large_socket(&self, live: &Live) -> Result<LargeSocket, RedisError> {
        match live.large.take().await {
            Some(socket) => Ok(socket),
            None => self.open_large().await,
        }
    }

    async fn in_time<T>(
        &self,
        reply: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        tokio::time::timeout(self.settings.command_timeout(), reply)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }

    /// Runs a script, loading it where the server does not know it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        action: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, TransportError> {
        let live = self.acquire(action).await?;
        let mut connection = live.connection.clone();
        let reply = live.reply(script.invoke_async(&mut connection)).await;
        self.conclude(action, &live, reply).await
    }

    /// Makes a call of a script, loading it where the server does not know it.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        action: &'static str,
        call: &Call,
    ) -> Result<T, TransportError> {
        let live = self.acquire(action).await?;
        let mut connection = live.connection.clone();
        let made = async {
            match call.command.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    call.script.load_async(&mut connection).await?;
                    call.command.query_async(&mut connection).await
                }
                reply => reply,
            }
        };
        let reply = live.reply(made).await;
        self.conclude(action, &live, reply).await
    }

    async fn acquire(&self, action: &'static str) -> Result<Live, TransportError> {
        let mut current = self.current.lock().await;
        if let Some(live) = &*current {
            return Ok(live.clone());
        }
        match self.open().await {
            Ok(connection) => {
                let number = self.connections.fetch_add(1, Ordering::Relaxed);
                let broken = Arc::new(watch::Sender::new(false));
                let live = Live { connection, number, broken, large: Arc::default() };
                Ok(current.insert(live).clone())
            }
            Err(source) => {
                self.health.failed(action, &source);
                Err(self.error(action, source))
            }
        }
    }

    async fn open(&self) -> Result<MultiplexedConnection, RedisError> {
        let (settings, timeout) = (self.settings.clone(), self.settings.command_timeout());
        self.driven(async move { settings.open(timeout).await }).await
    }

    async fn open_large(&self) -> Result<LargeSocket, RedisError> {
        let settings = self.settings.clone();
        self.driven(async move { settings.open_large().await }).await
    }

    /// Opens a connection where its input and output are to be done.
    async fn driven<T: Send + 'static>(
        &self,
        opening: impl Future<Output = Result<T, RedisError>> + Send + 'static,
    ) -> Result<T, RedisError> {
        let Some(driver) = self.driver.get() else { return opening.await };
        driver.spawn(opening).await.unwrap_or_else(|_| {
            // The driver ends with the worker.
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
        })
    }

    async fn conclude<T>(
        &self,
        action: &'static str,
        live: &Live,
        reply: Result<T, RedisError>,
    ) -> Result<T, TransportError> {
        let source = match reply {
            Ok(value) => {
                self.health.served(action);
                return Ok(value);
            }
            Err(source) => source,
        };
        if outage::is_outage(&source) {
            let mut current = self.current.lock().await;
            // Another caller may have made the next connection already: then this is old news.
            let newer = current.as_ref().is_some_and(|now| now.number != live.number);
            if !newer {
                *current = None;
                self.health.failed(action, &source);
            }
            if source.is_io_error() || source.is_timeout() {
                live.broken.send_replace(true);
                self.health.connection_lost();
            }
        }
        Err(self.error(action, source))
    }

    pub(super) fn error(&self, action: &'static str, source: RedisError) -> TransportError {
        self.settings.error(action, source)
    }
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
