//! The lease of one process on the deliveries that it holds.
//!
//! A process is known by a fresh UUID, never by its node name: a new process under an old name
//! must not hide that the old one is dead. Model step: `renew`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::broker::Broker;
use super::connection::TransportError;
use super::keys::Keys;
use super::scheduled::Promotion;
use super::scripts;

/// One process's identity, and the names of its keys.
#[derive(Debug)]
pub struct Process {
    pub(super) id: String,
    pub(super) alive: String,
    pub(super) held: Arc<str>,
}

impl Process {
    pub(super) fn new(keys: &Keys) -> Self {
        Self::named(keys, &uuid::Uuid::new_v4().to_string())
    }

    pub(super) fn named(keys: &Keys, id: &str) -> Self {
        Self { id: id.to_owned(), alive: keys.alive(id), held: keys.held(id).into() }
    }
}

/// What a process says about itself, for people who look at the queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// Node name, `worker@host`.
    pub node: String,
    /// Operating system's process id.
    pub pid: u32,
    /// Queues that it consumes.
    pub queues: Vec<String>,
    /// Slots.
    pub concurrency: usize,
    /// Start, epoch seconds.
    pub started: i64,
}

/// Whether a process still holds what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing of it was taken.
    Renewed,
    /// It was silent for so long that others took its deliveries; it goes on under a new identity.
    Lost,
}

/// What a renewal has found beside the lease.
#[derive(Debug, Clone, Copy)]
pub struct News {
    /// As a look at the messages that wait in Redis would have told it.
    pub waiting: Promotion,
    /// Whether other processes are known, dead or alive.
    pub others: bool,
    /// Whether a process has just looked for dead ones.
    pub reaped: bool,
}

/// Tags, milliseconds until a message is due, waiting rooms, processes, whether there is a reaper.
type Renewed = (Vec<String>, i64, usize, usize, bool);

impl Broker {
    /// Makes this process known; until then nothing can be fetched. Model step: `register`.
    ///
    /// After a failure it has a new identity: were the request executed late, it would give the
    /// old one a lease again that others may have ended meanwhile.
    pub async fn register(&self) -> Result<(), TransportError> {
        let process = self.process();
        let mut script = scripts::REGISTER.prepare_invoke();
        script
            .key(self.keys().processes())
            .key(&process.alive)
            .arg(&process.id)
            .arg(millis(self.options().lease))
            .arg(self.description());
        let registered = self.beside().script("register the process", &script).await;
        if registered.is_err() {
            self.replace_process(&process, Arc::new(Process::new(self.keys())));
        }
        registered
    }

    /// Tells people of the queues and slots that this process has now.
    pub async fn describe(&self, concurrency: usize) -> Result<(), TransportError> {
        self.concurrency.store(concurrency, Ordering::Relaxed);
        let mut script = scripts::DESCRIBE.prepare_invoke();
        script.key(self.keys().processes()).arg(&self.process().id).arg(self.description());
        self.beside().script("describe the process", &script).await
    }

    fn description(&self) -> String {
        let description = Description {
            queues: self.queues(),
            concurrency: self.concurrency.load(Ordering::Relaxed),
            ..self.options().description.clone()
        };
        serde_json::to_string(&description).unwrap_or_default()
    }

    /// Renews the lease on all that this process holds.
    pub async fn renew(&self) -> Result<Renewal, TransportError> {
        let process = self.process();
        let mut script = scripts::RENEW.prepare_invoke();
        script
            .key(self.keys().processes())
            .key(&process.alive)
            .key(&*process.held)
            .key(self.keys().unacked_index())
            .key(self.keys().scheduled())
            .key(self.keys().waiting_rooms())
            .key(self.keys().reaper())
            .arg(&process.id)
            .arg(millis(self.options().lease));
        let concluded = self.claims_concluded();
        let renewed: Option<Renewed> = self.beside().script("renew the lease", &script).await?;
        if let Some((held, wait, waiting_rooms, processes, reaped)) = renewed {
            self.news.send_replace(Some(News {
                waiting: Promotion::new(wait, waiting_rooms),
                others: processes > 1,
                reaped,
            }));
            if held.iter().any(|tag| self.is_unknown(tag, concluded)) {
                let returned = self.return_unknown_claims().await?;
                if returned > 0 {
                    log::warn!("{returned} messages of a late fetch are back in their queues");
                }
            }
            return Ok(Renewal::Renewed);
        }
        self.replace_process(&process, Arc::new(Process::new(self.keys())));
        self.register().await?;
        log::error!(
            "this process was silent for longer than its lease ({:.1} s): others have taken its messages, \
             and what it still runs of them will not be stored",
            self.options().lease.as_secs_f64()
        );
        Ok(Renewal::Lost)
    }

    /// What renewals find beside the lease, each time that one does.
    pub fn news(&self) -> watch::Receiver<Option<News>> {
        self.news.subscribe()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
