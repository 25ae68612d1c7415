//! What beats share: when each entry last ran, who leads, and who is alive.
//!
//! Nothing here has a TTL that a schedule could outlive: what is kept of an entry is one field in
//! each of a few hashes, and stays until the leader forgets the entry.

mod lease;
mod ledger;
mod operator;
mod sending;

use std::sync::LazyLock;

use redis::Script;
use tokio::sync::OnceCell;

use super::connection::{Connection, TransportError};
use super::keys::Keys;
use crate::wire::isoformat::InvalidInstant;

pub use lease::{Heartbeat, Lease, Role, Sighting};
pub use ledger::{Adoption, Ledger, StoredEntry};
pub use operator::Switch;
pub use sending::{Outcome, Outgoing, Sending, Sent, Slot, Tail};

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(include_str!(concat!("scripts/beat_", $file, ".lua"))))
    };
}

static TICK: LazyLock<Script> = script!("tick");
static SEND: LazyLock<Script> = script!("send");
static RESIGN: LazyLock<Script> = script!("resign");
static ADOPT: LazyLock<Script> = script!("adopt");
static SWITCH: LazyLock<Script> = script!("switch");

/// Why beat's state cannot be read or advanced.
#[derive(Debug, thiserror::Error)]
pub enum BeatStateError {
    /// Redis refused or could not be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Somebody wrote another value than beat does.
    #[error("the last run of {entry} (Redis hash {key}) is no instant")]
    LastRun {
        /// The hash.
        key: String,
        /// The field.
        entry: String,
        /// The value.
        source: InvalidInstant,
    },
    /// The server's clock shows no time that we can count with.
    #[error("the clock of Redis shows {seconds} s since 1970, which is no instant")]
    Clock {
        /// What it shows.
        seconds: i64,
    },
}

/// The state of the beats on one broker.
#[derive(Debug)]
pub struct BeatState {
    connection: Connection,
    keys: Keys,
    ticks: String,
    last_runs: String,
    run_counts: String,
    sent: String,
    entries: String,
    switches: String,
    changes: String,
    paused: String,
    leader: String,
    term: String,
    /// Never there.
    probe: String,
    may_send_all: OnceCell<bool>,
}

impl BeatState {
    /// The state that `connection` leads to, under the broker's `global_keyprefix`.
    pub fn new(connection: Connection, global_keyprefix: &str) -> Self {
        let key = |name: &str| format!("{global_keyprefix}_celery_redis.beat.{name}");
        Self {
            connection,
            keys: Keys::new(global_keyprefix),
            ticks: key("tick."),
            last_runs: key("last_runs"),
            run_counts: key("run_counts"),
            sent: key("sent"),
            entries: key("entries"),
            switches: key("switches"),
            changes: key("changes"),
            paused: key("paused"),
            leader: key("leader"),
            term: key("term"),
            probe: key("probe"),
            may_send_all: OnceCell::new(),
        }
    }

    /// The keys of the broker.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The connection to the broker.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}
