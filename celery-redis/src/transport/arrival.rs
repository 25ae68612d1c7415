//! Waiting for a message without taking it.
//!
//! `BLMOVE list list RIGHT RIGHT` blocks until the list has an element and puts it back where it
//! was: a peek. kombu's `BRPOP` pops, and what it popped exists nowhere until it is recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};

use super::connection::{Backoff, Connection};

/// How long one blocking command waits; also bounds how long a connection that died alone goes
/// unnoticed. Where others are found broken, it is given up at once.
const BLOCK: Duration = Duration::from_secs(10);
/// Time beyond it that the reply may take.
const GRACE: Duration = Duration::from_secs(1);

/// One waiter per list, each with a connection of its own: a blocked connection serves nobody else.
#[derive(Debug)]
pub(super) struct Arrivals {
    connection: Arc<Connection>,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    changed: Notify,
    woken: Notify,
}

#[derive(Debug)]
struct Waiter {
    list: String,
    armed: Notify,
    retired: Notify,
}

/// What a waiter blocks on.
struct Blocked {
    connection: Option<MultiplexedConnection>,
    /// Where another connection was found broken, this one may be so, too, and say nothing.
    losses: watch::Receiver<u64>,
}

impl Waiter {
    fn new(list: &str) -> Arc<Self> {
        Arc::new(Self { list: list.to_owned(), armed: Notify::new(), retired: Notify::new() })
    }
}

impl Arrivals {
    /// Waiters beside `connection`, whose end is theirs, too.
    pub(super) fn new(connection: Arc<Connection>, lists: &[String]) -> Self {
        let waiters = lists.iter().map(|list| Waiter::new(list)).collect();
        Self {
            connection,
            waiters: Mutex::new(waiters),
            changed: Notify::new(),
            woken: Notify::new(),
        }
    }

    /// Watches these lists from now on, and wakes whoever waits for the others.
    pub(super) fn watch_only(&self, lists: &[String]) {
        let mut waiters = self.waiters();
        let (kept, gone): (Vec<_>, Vec<_>) =
            waiters.drain(..).partition(|waiter| lists.contains(&waiter.list));
        *waiters = kept;
        for list in lists {
            if !waiters.iter().any(|waiter| waiter.list == *list) {
                waiters.push(Waiter::new(list));
            }
        }
        for waiter in gone {
            waiter.retired.notify_one();
        }
        drop(waiters);
        self.changed.notify_one();
        self.woken.notify_one();
    }

    /// Ends when one of the lists has, or had, a message since the last call.
    pub(super) async fn wait(&self) {
        for waiter in self.waiters().iter() {
            waiter.armed.notify_one();
        }
        self.woken.notified().await;
    }

    /// Runs all waiters.
    pub(super) async fn watch(&self) {
        let mut watched = Vec::new();
        let mut running = FuturesUnordered::new();
        loop {
            let now = self.waiters().clone();
            for waiter in &now {
                if !watched.iter().any(|known| Arc::ptr_eq(known, waiter)) {
                    running.push(self.watch_until_retired(Arc::clone(waiter)));
                }
            }
            watched = now;
            // A retired waiter ends; there is nothing to do about it.
            let ended = async {
                while running.next().await.is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = ended => {}
            }
        }
    }

    async fn watch_until_retired(&self, waiter: Arc<Waiter>) {
        tokio::select! {
            () = waiter.retired.notified() => {}
            () = self.watch_one(&waiter) => {}
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch_one(&self, waiter: &Waiter) {
        let mut blocked = Blocked { connection: None, losses: self.connection.losses() };
        let mut backoff = Backoff::default();
        loop {
            waiter.armed.notified().await;
            self.await_message(&waiter.list, &mut blocked, &mut backoff).await;
            self.woken.notify_one();
        }
    }

    async fn await_message(&self, list: &str, blocked: &mut Blocked, backoff: &mut Backoff) {
        loop {
            match self.peek(list, blocked).await {
                Ok(true) => {
                    backoff.reset();
                    return;
                }
                Ok(false) => backoff.reset(),
                Err(error) => {
                    blocked.connection = None;
                    let server = self.connection.settings();
                    log::debug!("waiting on {list:?} at {server} failed: {error}");
                    self.connection.doubt();
                    if error.code() == Some("WRONGTYPE") {
                        log::error!(
                            "the key {list:?} at {server} is no list, so nothing can be fetched from it"
                        );
                        tokio::time::sleep(Duration::from_secs(30)).await;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn peek(&self, list: &str, blocked: &mut Blocked) -> redis::RedisResult<bool> {
        let connection = match &mut blocked.connection {
            Some(connection) => connection,
            None => {
                blocked.losses.mark_unchanged();
                let opened = self.connection.settings().open(BLOCK + GRACE).await?;
                blocked.connection.insert(opened)
            }
        };
        let mut command = redis::cmd("BLMOVE");
        command.arg(list).arg(list).arg("RIGHT").arg("RIGHT").arg(BLOCK.as_secs());
        tokio::select! {
            biased;
            reply = command.query_async::<redis::Value>(connection) => {
                Ok(reply? != redis::Value::Nil)
            }
            _ = blocked.losses.changed() => {
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
            }
        }
    }
}
