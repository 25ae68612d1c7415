//! Messages that nobody can execute, kept for a person to look at.

use serde::{Deserialize, Serialize};

use super::broker::Broker;
use super::connection::{Connection, TransportError};
use super::keys::Keys;
use super::scripts;

/// Where each burial is logged: worth an alert.
const LOG_TARGET: &str = "celery_redis::dead_letters";

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It cannot be read, and names nobody to answer to.
    Undecodable,
    /// Every process that had it died.
    Poison,
    /// Its queue's key holds something else.
    Unroutable,
    /// Its task refused it, or failed and is not to acknowledge that.
    Rejected,
}

impl Reason {
    /// The word in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Poison => "poison",
            Self::Unroutable => "unroutable",
            Self::Rejected => "rejected",
        }
    }
}

/// What is recorded beside a dead letter's bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why it is dead.
    pub reason: Reason,
    /// The same in a sentence.
    pub detail: String,
    /// The queue it came from.
    pub queue: String,
    /// The list that a retry puts it back into.
    pub list: String,
    /// Processes that died with it.
    pub deliveries: u32,
    /// Burial, epoch seconds.
    pub time: i64,
}

impl DeadLetter {
    /// The record's bytes.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A line that is worth an alert.
    pub fn log(&self) {
        log::error!(
            target: LOG_TARGET,
            "message from queue {:?} is a dead letter ({}): {}",
            self.queue, self.reason.as_str(), self.detail
        );
    }
}

/// The dead letters of one broker, for a person who looks after them.
#[derive(Debug)]
pub struct DeadLetters<'a> {
    connection: &'a Connection,
    keys: &'a Keys,
}

/// A dead letter and its name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedLetter {
    /// What `show`, `retry` and `drop` call it.
    pub name: String,
    /// Why it is dead.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

impl<'a> DeadLetters<'a> {
    /// The dead letters behind `connection`.
    pub fn new(connection: &'a Connection, keys: &'a Keys) -> Self {
        Self { connection, keys }
    }

    /// How many there are.
    pub async fn count(&self) -> Result<u64, TransportError> {
        self.connection.query("count dead letters", redis::cmd("ZCARD").arg(self.keys.dead())).await
    }

    /// The newest ones, the newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<NamedLetter>, TransportError> {
        let mut newest = redis::cmd("ZRANGE");
        newest.arg(self.keys.dead()).arg(0).arg(limit.saturating_sub(1)).arg("REV");
        let names: Vec<String> = self.connection.query("list dead letters", &newest).await?;
        let mut letters = Vec::with_capacity(names.len());
        for name in names {
            letters.extend(self.letter(name).await?);
        }
        Ok(letters)
    }

    /// One letter, if there is one of that name.
    pub async fn find(&self, name: &str) -> Result<Option<NamedLetter>, TransportError> {
        self.letter(name.to_owned()).await
    }

    /// A letter's original bytes.
    pub async fn message(&self, name: &str) -> Result<Option<Vec<u8>>, TransportError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.dead_messages()).arg(name);
        self.connection.query("read a dead letter", &command).await
    }

    /// Puts a letter's exact bytes back into the list that they came from, behind all others.
    /// Whether there was a letter of that name.
    pub async fn retry(&self, letter: &NamedLetter) -> Result<bool, TransportError> {
        self.take_out(&letter.name, &letter.letter.list, "retry").await
    }

    /// Deletes a letter for good. Whether there was one of that name.
    pub async fn drop(&self, letter: &NamedLetter) -> Result<bool, TransportError> {
        self.take_out(&letter.name, &letter.letter.list, "drop").await
    }

    async fn take_out(&self, name: &str, list: &str, what: &str) -> Result<bool, TransportError> {
        let mut script = scripts::EXHUME.prepare_invoke();
        script
            .key(self.keys.dead())
            .key(self.keys.dead_records())
            .key(self.keys.dead_messages())
            .key(list)
            .arg(name)
            .arg(what);
        self.connection.script("take a dead letter out", &script).await
    }

    async fn letter(&self, name: String) -> Result<Option<NamedLetter>, TransportError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.dead_records()).arg(&name);
        let record: Option<Vec<u8>> = self.connection.query("read a dead letter", &command).await?;
        Ok(record
            .and_then(|record| serde_json::from_slice(&record).ok())
            .map(|letter| NamedLetter { name, letter }))
    }
}

impl Broker {
    pub(super) fn log_dropped(&self, dropped: usize) {
        if dropped > 0 {
            log::error!(
                target: LOG_TARGET,
                "dead letters are full at {}: the {dropped} oldest were dropped",
                self.options().dead_letters_kept
            );
        }
    }
}
