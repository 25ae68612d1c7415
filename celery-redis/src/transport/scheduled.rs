//! Messages that wait in Redis for their instant.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::broker::Broker;
use super::connection::TransportError;
use super::{reclaim, scripts};

/// Messages promoted in one step, so that Redis serves others in between.
const BATCH: usize = 100;

/// A message that waits for its instant.
#[derive(Debug, Clone)]
pub struct ScheduledMessage {
    /// The queue that it goes back to.
    pub queue: String,
    /// Its bytes.
    pub envelope: Bytes,
}

/// What a look at the messages that wait in Redis has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promotion {
    /// Time until the next message is due; `None` where there is none.
    pub next_due: Option<Duration>,
    /// Waiting rooms in which somebody may wait for the limits of a task.
    pub waiting_rooms: usize,
}

impl Promotion {
    /// As the scripts tell it: milliseconds, or -1 where nothing waits.
    pub(super) fn new(wait: i64, waiting_rooms: usize) -> Self {
        Self { next_due: u64::try_from(wait).ok().map(Duration::from_millis), waiting_rooms }
    }
}

impl Broker {
    /// Puts what is due into its list. Model step: `promote`.
    pub async fn promote(&self) -> Result<Promotion, TransportError> {
        let mut script = scripts::PROMOTE.prepare_invoke();
        let keys = self.keys();
        script
            .key(keys.scheduled())
            .key(keys.scheduled_messages())
            .key(keys.dead())
            .key(keys.dead_records())
            .key(keys.dead_messages())
            .key(keys.waiting_rooms())
            .arg(BATCH);
        let (_, wait, now, waiting_rooms): (usize, i64, f64, usize) =
            self.connection().script("promote due messages", &script).await?;
        self.set_clock(now);
        Ok(Promotion::new(wait, waiting_rooms))
    }

    /// Those of the next `limit` messages to come due that this process put away, or that no living
    /// process did: what this worker has to tell of.
    pub async fn scheduled(&self, limit: usize) -> Result<Vec<ScheduledMessage>, TransportError> {
        let keys = self.keys();
        let mut next = redis::pipe();
        next.cmd("ZRANGE").arg(keys.scheduled()).arg(0).arg(limit.saturating_sub(1));
        next.cmd("HKEYS").arg(keys.processes());
        let (mut tags, processes): (Vec<String>, Vec<String>) =
            self.beside().pipeline("look for scheduled messages", &next).await?;
        let ours = self.process();
        tags.retain(|tag| {
            let process = reclaim::process(tag);
            process == ours.id || !processes.iter().any(|living| living == process)
        });
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::cmd("HMGET");
        read.arg(keys.scheduled_messages()).arg(tags);
        let records: Vec<Option<Vec<u8>>> =
            self.beside().query("read scheduled messages", &read).await?;
        Ok(records.iter().flatten().filter_map(|record| self.scheduled_message(record)).collect())
    }

    /// Reads `<length of list>:<list><message>`.
    fn scheduled_message(&self, record: &[u8]) -> Option<ScheduledMessage> {
        let colon = record.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&record[..colon]).ok()?.parse().ok()?;
        let (list, envelope) = record[colon + 1..].split_at_checked(length)?;
        let queue = self.queue_of(std::str::from_utf8(list).ok()?);
        Some(ScheduledMessage {
            queue: queue.to_string(),
            envelope: Bytes::copy_from_slice(envelope),
        })
    }

    /// The time on Redis's clock, as far as the last promotion told it.
    ///
    /// Whether a message is due is decided on this clock alone: one that Redis promotes and a slower
    /// clock here defers again would go to and fro without rest.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.clock_ahead.load(Ordering::Relaxed))
    }

    fn set_clock(&self, redis: f64) {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let ahead = (redis * 1e6 - Utc::now().timestamp_micros() as f64) as i64;
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }

    /// Ends when this process has put a message away that may be due before all others.
    pub async fn message_deferred(&self) {
        self.deferred.notified().await;
    }
}
