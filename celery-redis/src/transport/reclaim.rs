//! Taking back what a process held: the reaper's work, and a leaving process's own.

use std::collections::HashMap;

use chrono::Utc;

use super::broker::Broker;
use super::connection::{Connection, TransportError};
use super::dead_letters::{DeadLetter, Reason};
use super::delivery::epoch_seconds;
use super::keys::{Keys, PRIORITY_STEPS};
use super::lease::Process;
use super::{apart, scripts};
use crate::wire::envelope::{Redelivery, delivery_count, envelope_of_unacked, mark_redelivered};

/// Deliveries put back in one step: Redis serves others in between, and large messages fit into
/// the time of a command.
const BATCH: usize = 20;

/// One delivery that a process holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) tag: String,
    pub(super) list: String,
    pub(super) record: Vec<u8>,
}

/// Why deliveries go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The process's lease ran out.
    Died,
    /// The process gives back what it did not finish.
    Leaves,
}

impl Broker {
    /// Puts back what dead processes held; the number of deliveries, `None` where another process
    /// has just looked. Model step: `reap`.
    ///
    /// One worker of a fleet does it at a time. To be called only after Redis has served this
    /// process for one lease: after an outage every lease may have run out, and the living need a
    /// moment to say so.
    pub async fn reclaim_dead(&self) -> Result<Option<usize>, TransportError> {
        if !self.is_reaper().await? {
            return Ok(None);
        }
        let processes: HashMap<String, String> = self
            .connection()
            .query("list processes", redis::cmd("HGETALL").arg(self.keys().processes()))
            .await?;
        if processes.is_empty() {
            return Ok(Some(0));
        }
        let mut look = redis::pipe();
        for id in processes.keys() {
            look.exists(Process::named(self.keys(), id).alive);
        }
        let alive: Vec<bool> = self.connection().pipeline("look for processes", &look).await?;
        let mut returned = 0;
        for ((id, description), alive) in processes.into_iter().zip(alive) {
            if alive {
                continue;
            }
            let process = Process::named(self.keys(), &id);
            let count = self.put_back(&process, Cause::Died).await?;
            log::warn!("process {id} is gone ({description}): {count} messages put back");
            returned += count;
        }
        Ok(Some(returned))
    }

    /// Gives back what this process still holds and ends its lease. Model step: `leave`.
    pub async fn leave(&self) -> Result<usize, TransportError> {
        let process = self.process();
        self.put_back(&process, Cause::Leaves).await
    }

    async fn is_reaper(&self) -> Result<bool, TransportError> {
        let milliseconds =
            u64::try_from((self.options().lease / 6).as_millis()).unwrap_or(1000).max(1);
        let mut command = redis::cmd("SET");
        command
            .arg(self.keys().reaper())
            .arg(&self.process().id)
            .arg("NX")
            .arg("PX")
            .arg(milliseconds);
        self.connection()
            .query::<Option<String>>("become the reaper", &command)
            .await
            .map(|set| set.is_some())
    }

    async fn put_back(&self, process: &Process, cause: Cause) -> Result<usize, TransportError> {
        let tags = held(self.connection(), process).await?;
        let mut held = read(self.connection(), self.keys(), &tags).await?;
        // The last one pushed is served first: the oldest claim.
        held.sort_by_key(|delivery| std::cmp::Reverse(sequence(&delivery.tag)));
        let now = Utc::now();
        let mut returned = 0;
        let mut batches = held.chunks(BATCH).collect::<Vec<_>>();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            let keys = self.keys();
            let mut script = scripts::RECLAIM.prepare_invoke();
            script
                .key(keys.processes())
                .key(&process.alive)
                .key(&*process.held)
                .key(keys.unacked())
                .key(keys.unacked_index())
                .key(keys.dead())
                .key(keys.dead_records())
                .key(keys.dead_messages())
                .key(keys.apart(""))
                .arg(&process.id)
                .arg(if cause == Cause::Died { "dead" } else { "leaving" })
                .arg(epoch_seconds(now))
                .arg(self.options().dead_letters_kept);
            for delivery in batch {
                let (message, letter) = self.returned(delivery, cause, now.timestamp());
                script.arg(&delivery.tag).arg(&delivery.list).arg(message).arg(letter);
            }
            let (count, dropped): (i64, usize) =
                self.connection().script("put messages back", &script).await?;
            self.log_dropped(dropped);
            match usize::try_from(count) {
                Ok(count) => returned += count,
                // Alive after all.
                Err(_) => return Ok(returned),
            }
        }
        Ok(returned)
    }

    /// The message as it goes back, and the record of a dead letter if it goes there.
    fn returned(&self, delivery: &Held, cause: Cause, now: i64) -> (Vec<u8>, String) {
        let queue = self.queue_of(&delivery.list);
        let message = envelope_of_unacked(&delivery.record, &queue)
            .unwrap_or_else(|| delivery.record.clone());
        if cause == Cause::Leaves {
            return (mark_redelivered(&message, Redelivery::Restored), String::new());
        }
        let deliveries = delivery_count(&message).saturating_add(1);
        if deliveries < self.options().max_deliveries {
            return (
                mark_redelivered(&message, Redelivery::Reclaimed { deliveries }),
                String::new(),
            );
        }
        let letter = DeadLetter {
            reason: Reason::Poison,
            detail: format!("{deliveries} processes died while they had it"),
            queue: queue.to_string(),
            list: delivery.list.clone(),
            deliveries,
            time: now,
        };
        letter.log();
        (message, letter.encode())
    }
}

/// Tags of what a process holds, and the lists they came from.
pub(super) async fn held(
    connection: &Connection,
    process: &Process,
) -> Result<Vec<(String, String)>, TransportError> {
    connection.query("list held messages", redis::cmd("HGETALL").arg(&*process.held)).await
}

/// The records of held deliveries.
pub(super) async fn read(
    connection: &Connection,
    keys: &Keys,
    lists: &[(String, String)],
) -> Result<Vec<Held>, TransportError> {
    let mut held = Vec::with_capacity(lists.len());
    for batch in lists.chunks(BATCH) {
        let mut command = redis::cmd("HMGET");
        command.arg(keys.unacked());
        for (tag, _) in batch {
            command.arg(tag);
        }
        // First those that are kept apart: they go into their records, never back.
        let apart = apart::read(connection, keys, batch.iter().map(|(tag, _)| tag)).await?;
        let records: Vec<Option<Vec<u8>>> =
            connection.query("read held messages", &command).await?;
        for (((tag, list), record), apart) in batch.iter().zip(records).zip(apart) {
            // Without a record the message was settled, or restored by kombu: only the tag is left.
            held.push(Held {
                tag: tag.clone(),
                list: list.clone(),
                record: apart.or(record).unwrap_or_default(),
            });
        }
    }
    Ok(held)
}

/// The queue that a list belongs to, for a list that this worker does not consume itself.
pub(super) fn queue_of_list(keys: &Keys, list: &str) -> String {
    let without_step = PRIORITY_STEPS
        .iter()
        .find_map(|step| list.strip_suffix(&format!("\u{6}\u{16}{step}")))
        .unwrap_or(list);
    let prefix = keys.list("", 0);
    without_step.strip_prefix(&prefix).unwrap_or(without_step).to_owned()
}

/// Id of the process that a tag is of, `<number>.<process>`, which may be followed by `.apart`.
pub(super) fn process(tag: &str) -> &str {
    tag.split('.').nth(1).unwrap_or_default()
}

/// A tag's place in the order of its process's claims.
pub(super) fn sequence(tag: &str) -> u64 {
    tag.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
