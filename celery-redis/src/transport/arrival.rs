//! Waiting for a message without taking it.
//!
//! `BLMOVE list list RIGHT RIGHT` blocks until the list has an element and puts it back where it
//! was: a peek. kombu's `BRPOP` pops, and what it popped exists nowhere until it is recorded.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use super::connection::{Backoff, ConnectionSettings};

/// How long one blocking command waits; also bounds how long a dead connection goes unnoticed.
const BLOCK: Duration = Duration::from_secs(2);
/// Time beyond it that the reply may take.
const GRACE: Duration = Duration::from_secs(1);

/// One waiter per list, each with a connection of its own: a blocked connection serves nobody else.
#[derive(Debug)]
pub(super) struct Arrivals {
    settings: ConnectionSettings,
    waiters: Vec<Waiter>,
    woken: Arc<Notify>,
}

#[derive(Debug)]
struct Waiter {
    list: String,
    armed: Notify,
}

impl Arrivals {
    pub(super) fn new(settings: ConnectionSettings, lists: impl Iterator<Item = String>) -> Self {
        let waiters = lists.map(|list| Waiter { list, armed: Notify::new() }).collect();
        Self { settings, waiters, woken: Arc::new(Notify::new()) }
    }

    /// Ends when one of the lists has, or had, a message since the last call.
    pub(super) async fn wait(&self) {
        for waiter in &self.waiters {
            waiter.armed.notify_one();
        }
        self.woken.notified().await;
    }

    /// Runs all waiters.
    pub(super) async fn watch(&self) {
        join_all(self.waiters.iter().map(|waiter| self.watch_one(waiter))).await;
    }

    async fn watch_one(&self, waiter: &Waiter) {
        let mut connection = None;
        let mut backoff = Backoff::default();
        loop {
            waiter.armed.notified().await;
            self.await_message(&waiter.list, &mut connection, &mut backoff).await;
            self.woken.notify_one();
        }
    }

    async fn await_message(
        &self,
        list: &str,
        connection: &mut Option<MultiplexedConnection>,
        backoff: &mut Backoff,
    ) {
        loop {
            match self.peek(list, connection).await {
                Ok(true) => {
                    backoff.reset();
                    return;
                }
                Ok(false) => backoff.reset(),
                Err(error) => {
                    *connection = None;
                    log::debug!("waiting on {list:?} at {} failed: {error}", self.settings);
                    if error.code() == Some("WRONGTYPE") {
                        log::error!(
                            "the key {list:?} at {} is no list, so nothing can be fetched from it",
                            self.settings
                        );
                        tokio::time::sleep(Duration::from_secs(30)).await;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn peek(
        &self,
        list: &str,
        connection: &mut Option<MultiplexedConnection>,
    ) -> redis::RedisResult<bool> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.settings.open(BLOCK + GRACE).await?),
        };
        let reply: redis::Value = redis::cmd("BLMOVE")
            .arg(list)
            .arg(list)
            .arg("RIGHT")
            .arg("RIGHT")
            .arg(BLOCK.as_secs())
            .query_async(connection)
            .await?;
        Ok(reply != redis::Value::Nil)
    }
}
