//! The trail of what was done to key pairs: a table, and the log target `jwt_auth.security`.

use chrono::{DateTime, Utc};
use shared_models::{AnyConnection, NewAuditEvent};

const TARGET: &str = "jwt_auth.security";

/// Who asked, as the trail names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A task of this id.
    Task(&'a str),
    /// A person at the command line, by name.
    Operator(&'a str),
}

impl Caller<'_> {
    /// The id of the task, where it is one.
    pub fn task_id(&self) -> Option<&str> {
        match self {
            Self::Task(id) => Some(id),
            Self::Operator(_) => None,
        }
    }
}

impl std::fmt::Display for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task(id) => write!(f, "task {id}"),
            Self::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

/// What happened to a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Created,
    Published,
    Activated,
    Deactivated,
    Withdrawn,
    Deleted,
    ForcedRotation,
    Encrypted,
    Decrypted,
    Wiped,
    TokenIssued,
    TokenRevoked,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Published => "published ahead",
            Self::Activated => "activated",
            Self::Deactivated => "deactivated",
            Self::Withdrawn => "withdrawn",
            Self::Deleted => "deleted",
            Self::ForcedRotation => "forced rotation",
            Self::Encrypted => "private key encrypted",
            Self::Decrypted => "private key decrypted",
            Self::Wiped => "private key wiped",
            Self::TokenIssued => "token issued",
            Self::TokenRevoked => "token revoked",
        }
    }
}

/// The events of one transaction: stored with it, logged when it is done.
#[derive(Debug)]
pub(crate) struct Trail<'a> {
    caller: Caller<'a>,
    at: DateTime<Utc>,
    lines: Vec<String>,
}

impl<'a> Trail<'a> {
    pub(crate) fn new(caller: Caller<'a>, at: DateTime<Utc>) -> Self {
        Self { caller, at, lines: Vec::new() }
    }

    /// Stores an event in the transaction that `connection` is in. Where the table takes none, the
    /// work goes on: the log has the event.
    pub(crate) fn add(
        &mut self,
        connection: &mut AnyConnection,
        action: Action,
        key_pair: &str,
        kid: &str,
        reason: &str,
    ) {
        let actor: String = self.caller.to_string().chars().take(255).collect();
        let event = NewAuditEvent {
            at: self.at.into(),
            action: action.name(),
            key_pair,
            kid,
            reason,
            actor: &actor,
        };
        // The trail is worth less than the work that it tells of.
        if let Err(error) = connection.attempt(|connection| event.insert(connection)) {
            log::error!(target: TARGET, "the audit table takes no event: {error}");
        }
        let action = action.name();
        self.lines.push(format!("key pair {kid} (id {key_pair}): {action}: {reason}; by {actor}"));
    }

    /// Logs the events, now that their transaction is committed.
    pub(crate) fn log(self) {
        for line in self.lines {
            log::warn!(target: TARGET, "{line}");
        }
    }
}
