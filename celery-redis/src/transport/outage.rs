//! What an error says about the server, and what the log is told of its outages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{Notify, watch};

/// While an outage lasts, the log says so this often.
const REMINDER: Duration = Duration::from_secs(30);
/// Where only changes are refused, reads go on succeeding: other replies are a sign of the end only
/// when nothing was refused for so long.
const QUIET: Duration = Duration::from_secs(3);

/// Whether a server serves, as its replies say. A connection alone says nothing: a server that
/// loads its data or has become a replica accepts connections too.
#[derive(Debug)]
pub(super) struct Health {
    server: String,
    /// Whether a reply is news: nothing was served yet, or there is an outage.
    awaiting: AtomicBool,
    seen: Mutex<Seen>,
    /// Number of connections that were found broken.
    lost: watch::Sender<u64>,
    doubted: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    serving_since: Option<Instant>,
    outage: Option<Outage>,
}

/// What the log has been told of an outage.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last_failure: Instant,
    last_told: Instant,
    /// What the log gives as the reason: the network's (none), or the server's own.
    reason: Option<ErrorKind>,
    /// The server answers, but refuses what changes something.
    changes_refused: bool,
    action: &'static str,
}

impl Health {
    /// Nothing is known yet of `server`, whose name is what is logged.
    pub(super) fn new(server: String) -> Self {
        let lost = watch::Sender::new(0);
        Self {
            server,
            awaiting: AtomicBool::new(true),
            seen: Mutex::default(),
            lost,
            doubted: Notify::new(),
        }
    }

    /// How long it has served without an interruption; `None` during an outage.
    pub(super) fn serving_for(&self) -> Option<Duration> {
        self.seen().serving_since.map(|since| since.elapsed())
    }

    /// `action` failed for a reason that [`is_outage`].
    pub(super) fn failed(&self, action: &'static str, error: &RedisError) {
        if !is_outage(error) {
            return;
        }
        let (now, server) = (Instant::now(), &self.server);
        let mut seen = self.seen();
        self.awaiting.store(true, Ordering::Release);
        seen.serving_since = None;
        let changes_refused = refuses_changes(error);
        let reason = Some(error.kind()).filter(|kind| matches!(kind, ErrorKind::Server(_)));
        let Some(outage) = &mut seen.outage else {
            if changes_refused {
                log::error!("{server} accepts no changes ({error}); waiting until it does");
            } else {
                log::error!("{server} cannot serve ({error}); waiting for it");
            }
            seen.outage = Some(Outage {
                since: now,
                last_failure: now,
                last_told: now,
                reason,
                changes_refused,
                action,
            });
            return;
        };
        outage.last_failure = now;
        outage.changes_refused |= changes_refused;
        if now - outage.last_told > REMINDER || (reason.is_some() && reason != outage.reason) {
            (outage.last_told, outage.reason) = (now, reason);
            let seconds = (now - outage.since).as_secs_f64();
            log::error!("{server} still cannot serve after {seconds:.1} s ({error})");
        }
    }

    /// A connection was found broken: whoever waits for a reply on another one may wait in vain.
    pub(super) fn connection_lost(&self) {
        self.lost.send_modify(|count| *count += 1);
    }

    /// A connection that nobody else uses has failed: somebody should look whether the server serves.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Ends when there is reason to look whether the server serves.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Changes each time that a connection is found broken.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// `action` succeeded: if there was an outage, it may be over.
    pub(super) fn served(&self, action: &'static str) {
        if !self.awaiting.load(Ordering::Acquire) {
            return;
        }
        let mut seen = self.seen();
        if let Some(outage) = &seen.outage {
            let same = action == outage.action;
            if outage.changes_refused && !same && outage.last_failure.elapsed() < QUIET {
                return;
            }
            let seconds = outage.since.elapsed().as_secs_f64();
            log::warn!("{} serves again after {seconds:.1} s", self.server);
        }
        seen.outage = None;
        seen.serving_since = Some(Instant::now());
        self.awaiting.store(false, Ordering::Release);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server does not accept user and password, or wants some.
pub(super) fn refuses_us(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// Whether the server answers, and refuses what changes something. A script reports what stopped
/// it inside its own error.
fn refuses_changes(error: &RedisError) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || ["OOM ", "MISCONF ", "NOREPLICAS ", "READONLY "].iter().any(|code| text.contains(code))
        || matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY"))
}

/// Whether the error is about the server's state or the way to it, not about the command.
pub(super) fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ExecAbort) => aborted_by_outage(error),
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

/// Whether what Redis refused of a transaction's commands, it refused because of its state.
fn aborted_by_outage(error: &RedisError) -> bool {
    let refusals = error.clone().into_server_errors();
    refusals.is_some_and(|refusals| {
        refusals.iter().any(|(_, refusal)| match refusal.kind() {
            Some(ServerErrorKind::ExecAbort) => false,
            _ => is_outage(&RedisError::from(refusal.clone())),
        })
    })
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
