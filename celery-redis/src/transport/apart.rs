//! Large messages, which are kept apart: no script touches their bytes.
//!
//! Redis copies and hashes every byte that a script reads, several times for a message that is
//! claimed: some milliseconds for a megabyte. A plain `LMOVE` instead moves it to a list of its
//! own, in one transaction with the script that records it as ours. What stands for it in
//! `unacked` until the message itself does is a record that kombu takes and restores to nowhere.
//!
//! A delivery that is held for longer than [`HELD_APART`] gets its record in kombu's form, so that
//! kombu restores it, too, should all of our processes be gone for good.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::{Broker, CLAIM_BYTES, Claim, Consumed};
use super::connection::{Backoff, Connection, TransportError};
use super::delivery::{Delivery, Origin};
use super::keys::Keys;
use super::lease::Process;
use super::scripts;
use super::transaction::Transaction;
use crate::wire::envelope::unacked_suffix;

/// Bytes from which on a value is large: passing it through a script costs more than the commands
/// that do without.
pub(super) const LARGE: usize = 32 << 10;
/// How long a large message has no record in kombu's form; far below any visibility timeout.
const HELD_APART: Duration = Duration::from_secs(1);
/// Most messages in one transaction.
const MOST: usize = 32;
/// What stands in `unacked` for a message that is kept apart: an envelope of nothing for an
/// exchange to which no queue is bound.
const PLACE: &str = r#"[{}, "_celery_redis.apart", ""]"#;

/// What one process knows of large messages.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The list that the latest claim found a large message in, and its size.
    list: Mutex<Option<(String, usize)>>,
    /// Redis does not let us.
    refused: AtomicBool,
    held: Mutex<HashMap<String, Held>>,
    added: Notify,
}

/// A message that has no record in kombu's form yet.
#[derive(Debug, Clone)]
struct Held {
    process: Arc<Process>,
    message: Bytes,
    queue: String,
    due: Instant,
}

/// Whether a tag is of a delivery that is kept apart.
pub(super) fn is_apart(tag: &str) -> bool {
    tag.ends_with(".apart")
}

impl Apart {
    /// Learns from a claim whether the next messages may be large.
    pub(super) fn look_at(&self, deliveries: &[Delivery]) {
        let largest = deliveries.iter().max_by_key(|delivery| delivery.message().len());
        // Where there was nothing, the next ones may still be like the last ones.
        if let Some(delivery) = largest {
            let size = delivery.message().len();
            *lock(&self.list) = (size >= LARGE).then(|| (delivery.list().to_owned(), size));
        }
    }

    /// The delivery is over.
    pub(super) fn forget(&self, tag: &str) {
        lock(&self.held).remove(tag);
    }

    fn add(&self, tag: &str, held: Held) {
        lock(&self.held).insert(tag.to_owned(), held);
        self.added.notify_one();
    }

    /// One that is held for long enough.
    fn due(&self) -> Option<(String, Held)> {
        let (held, now) = (lock(&self.held), Instant::now());
        let due = held.iter().find(|(_, held)| held.due <= now);
        due.map(|(tag, held)| (tag.clone(), held.clone()))
    }

    fn next_due(&self) -> Option<Instant> {
        lock(&self.held).values().map(|held| held.due).min()
    }
}

impl Broker {
    /// Takes messages from the list that had large ones, if there is such a list and no other one
    /// comes before it; `None` where an ordinary claim has to look. Model step: `claim`.
    pub(super) async fn claim_apart(
        self: &Arc<Self>,
        consumed: &Consumed,
        limit: usize,
    ) -> Result<Option<Claim>, TransportError> {
        let Some((list, size)) = lock(&self.apart.list).clone() else { return Ok(None) };
        let place = consumed.lists.iter().position(|known| *known.key == *list);
        let Some(place) = place.filter(|_| !self.apart.refused.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let count = (CLAIM_BYTES / size).clamp(1, MOST).min(limit);
        let claiming = self.begin_claim(count as u64).await;
        let process = self.process();
        let tags: Vec<String> =
            (0..count as u64).map(|index| claiming.tag_apart(&process, index)).collect();
        let messages: Vec<String> = tags.iter().map(|tag| self.keys().apart(tag)).collect();
        let (unacked, unacked_index) = (self.keys().unacked(), self.keys().unacked_index());
        let keys: Vec<&str> = [&*process.alive, &unacked, &unacked_index, &process.held, &list]
            .into_iter()
            .chain(messages.iter().map(String::as_str))
            .chain(consumed.lists[..place].iter().map(|list| &*list.key))
            .collect();
        let mut script = scripts::whole(scripts::CLAIM_APART, &keys);
        script.arg(PLACE).arg(&tags);
        let mut transaction = Transaction::default();
        for message in &messages {
            let (from, to) = (list.as_bytes(), message.as_bytes());
            transaction.command([b"LMOVE", from, to, b"RIGHT", b"LEFT"]);
        }
        transaction.add(&script);

        let replies = self.connection().transaction("fetch messages", &transaction).await;
        drop(claiming);
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                *lock(&self.apart.list) = None;
                if error.is_outage() {
                    return Err(error);
                }
                // Nothing was done: Redis lets us have no such transaction, or this is no list.
                log::warn!("large messages are fetched in the slow way: {error}");
                self.apart.refused.store(true, Ordering::Relaxed);
                return Ok(None);
            }
        };
        let Some(Value::Int(recorded)) = replies.pop().filter(|reply| *reply != Value::Nil) else {
            return Ok(Some(Claim::LeaseGone));
        };
        let recorded = usize::try_from(recorded).unwrap_or(0);
        let queue = &consumed.lists[place].queue;
        let mut deliveries = Vec::with_capacity(recorded);
        for (tag, reply) in tags.into_iter().zip(replies).take(recorded) {
            let Value::BulkString(message) = reply else { break };
            let message = Bytes::from(message);
            let due = Instant::now() + HELD_APART;
            let held = Held {
                process: Arc::clone(&process),
                message: message.clone(),
                queue: queue.to_string(),
                due,
            };
            self.apart.add(&tag, held);
            deliveries.push(self.lend(
                &process,
                tag.into(),
                Arc::clone(&consumed.lists[place].key),
                Arc::clone(queue),
                message,
                Origin::Queue,
            ));
        }
        if deliveries.is_empty() {
            return Ok(None);
        }
        self.apart.look_at(&deliveries);
        Ok(Some(Claim::Deliveries(deliveries)))
    }

    /// Gives each large message that is held for longer than a moment its record in kombu's form;
    /// never ends.
    pub async fn record_large_messages(&self) {
        let mut backoff = Backoff::default();
        loop {
            while let Some((tag, held)) = self.apart.due() {
                match self.record(&tag, &held).await {
                    Ok(()) => backoff.reset(),
                    Err(error) if error.is_outage() => {
                        backoff.wait().await;
                        continue;
                    }
                    Err(error) => {
                        log::error!("{tag} stays where only our own workers find it: {error}");
                    }
                }
                self.apart.forget(&tag);
            }
            let due = async {
                match self.apart.next_due() {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.apart.added.notified() => {}
            }
        }
    }

    async fn record(&self, tag: &str, held: &Held) -> Result<(), TransportError> {
        let keys = self.keys();
        let suffix = unacked_suffix(&held.queue);
        let record = [b"[", &*held.message, suffix.as_bytes()].concat();
        let (unacked, unacked_index) = (keys.unacked(), keys.unacked_index());
        let names = [&*unacked, &unacked_index, &held.process.held, &keys.apart(tag)];
        let mut script = scripts::whole(scripts::RECORD_APART, &names);
        script.arg(tag);
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("HSET").arg(&unacked).arg(tag).arg(record).add_command(script);
        self.connection().pipeline("record a large message", &transaction).await
    }
}

/// The messages of those deliveries that are kept apart.
pub(super) async fn read(
    connection: &Connection,
    keys: &Keys,
    tags: impl Iterator<Item = &String>,
) -> Result<Vec<Option<Vec<u8>>>, TransportError> {
    let tags: Vec<&String> = tags.collect();
    let mut pipeline = redis::pipe();
    for tag in tags.iter().filter(|tag| is_apart(tag)) {
        pipeline.lindex(keys.apart(tag), 0);
    }
    if pipeline.is_empty() {
        return Ok(vec![None; tags.len()]);
    }
    let found: Vec<Option<Vec<u8>>> = connection.pipeline("read large messages", &pipeline).await?;
    let mut found = found.into_iter();
    Ok(tags.iter().map(|tag| is_apart(tag).then(|| found.next()).flatten().flatten()).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
