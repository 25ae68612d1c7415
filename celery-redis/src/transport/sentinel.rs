//! Which server is the primary now, as Redis Sentinel says.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError,
    Value,
};

use super::outage::refuses_us;
use super::url::connection_info;

/// The sentinels of one primary.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) clients: Vec<Client>,
    /// The name that they know the primary by.
    pub(super) master: String,
    /// Database, user and password there.
    pub(super) primary: RedisConnectionInfo,
}

impl Sentinels {
    /// A client of the server that a sentinel names and that says itself that it is the primary:
    /// a sentinel may not have heard yet that it was replaced.
    ///
    /// All sentinels are asked at once and the first good answer counts, so one that does not
    /// answer delays nothing. The error says what each of them led to.
    pub(super) async fn primary(&self, timeout: Duration) -> Result<Client, RedisError> {
        let mut answers: FuturesUnordered<_> = self
            .clients
            .iter()
            .map(|sentinel| async move { (sentinel, self.ask_in_time(sentinel, timeout).await) })
            .collect();
        let mut reasons = Vec::new();
        let mut all_refuse_us = true;
        while let Some((sentinel, answer)) = answers.next().await {
            match answer {
                Ok(client) => return Ok(client),
                Err(error) => {
                    all_refuse_us &= refuses_us(&error);
                    reasons.push(format!("{}: {error}", sentinel.get_connection_info().addr()));
                }
            }
        }
        let kind = if all_refuse_us { ErrorKind::AuthenticationFailed } else { ErrorKind::Io };
        Err(said(kind, reasons.join("; ")))
    }

    /// Whether both are the same sentinels of the same primary.
    pub(super) fn same(&self, other: &Self) -> bool {
        let places = |sentinels: &Self| -> Vec<ConnectionAddr> {
            let addr = |client: &Client| client.get_connection_info().addr().clone();
            sentinels.clients.iter().map(addr).collect()
        };
        self.master == other.master && places(self) == places(other)
    }

    async fn ask_in_time(
        &self,
        sentinel: &Client,
        timeout: Duration,
    ) -> Result<Client, RedisError> {
        tokio::time::timeout(timeout, self.ask(sentinel, timeout))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn ask(&self, sentinel: &Client, timeout: Duration) -> Result<Client, RedisError> {
        let mut connection = connect(sentinel, timeout).await?;
        let place: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(&self.master)
            .query_async(&mut connection)
            .await?;
        let Some((host, port)) = place else {
            let text = format!("it knows no primary named {}", self.master);
            return Err(said(ErrorKind::MasterNameNotFoundBySentinel, text));
        };
        let info = connection_info(ConnectionAddr::Tcp(host, port), self.primary.clone())
            .map_err(|error| said(ErrorKind::InvalidClientConfig, error))?;
        let client = Client::open(info)?;
        let mut connection = connect(&client, timeout).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(client),
            _ => {
                let place = client.get_connection_info().addr();
                Err(said(ErrorKind::Io, format!("it names {place}, which is no primary")))
            }
        }
    }
}

async fn connect(client: &Client, timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn said(kind: ErrorKind, text: String) -> RedisError {
    RedisError::from((kind, "no primary was found", text))
}
