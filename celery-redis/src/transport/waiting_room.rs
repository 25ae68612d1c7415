//! Messages whose task may not begin yet, because it has begun often enough or runs often enough.
//!
//! They wait in Redis, in a list for each queue and task, first come first served, and take no
//! slot of any worker meanwhile. Places in a fleet's concurrency are held by deliveries, so that
//! nobody has to give one back: when a delivery is settled, or reclaimed from a dead process, its
//! place is free.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::broker::Broker;
use super::connection::{Backoff, Connection, TransportError};
use super::delivery::{Delivery, Origin};
use super::keys::Keys;
use super::scripts;
use crate::wire::envelope::unacked_suffix;

/// How often a task may begin and run on all workers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetLimits {
    /// Time between two beginnings.
    pub interval: Option<Duration>,
    /// Runs at the same time.
    pub concurrency: Option<u32>,
}

/// Whether this process's own rate limit lets a run begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalToken {
    /// It does.
    Taken,
    /// Not yet.
    Missing,
}

/// What became of a delivery at the door.
#[derive(Debug)]
pub enum Passed {
    /// Its task may begin.
    In(Delivery),
    /// Its message waits in Redis.
    Waits,
    /// It is another's: nothing was done.
    LeaseLost,
}

/// Where messages of one task from one queue wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitingRoom {
    /// The queue that they came from.
    pub queue: String,
    /// The task.
    pub task: String,
}

/// What a look into a waiting room found.
#[derive(Debug)]
pub enum CalledIn {
    /// The message that has waited longest; its task may begin.
    Delivery(Delivery),
    /// There are some; the next token comes so long from now.
    NotBefore(Duration),
    /// There are some; no place is free.
    Full,
    /// There is none.
    Empty,
    /// The lease is gone; renew before the next look.
    LeaseGone,
}

impl Delivery {
    /// Has the delivery's task begin if its limits allow that now and nobody waits for them
    /// already; else puts the message into its waiting room.
    ///
    /// Goes on through any outage. For the model a message that waits is one that was put away,
    /// as by `defer`.
    pub async fn pass(
        self,
        task: &str,
        limits: FleetLimits,
        token: LocalToken,
    ) -> Result<Passed, TransportError> {
        let keys = self.broker().keys().clone();
        let room = WaitingRoom { queue: self.queue().to_string(), task: task.to_owned() };
        let mut script = scripts::PASS.prepare_invoke();
        self.name_keys(&mut script);
        script
            .key(keys.waiting_room(&room.name()))
            .key(keys.waiting_rooms())
            .key(keys.fleet_rate(task))
            .key(keys.fleet_places(task))
            .arg(self.tag())
            .arg(self.put_away())
            .arg(room.name())
            .arg(u8::from(token == LocalToken::Taken))
            .arg(micros(limits.interval))
            .arg(limits.concurrency.unwrap_or(0));
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.broker().connection().script("ask for a run", &script).await {
                Ok(1) => return Ok(Passed::In(self)),
                Ok(0) => return Ok(Passed::Waits),
                // After a lost reply a tag that is gone waits.
                Ok(_) if attempts > 1 => return Ok(Passed::Waits),
                Ok(_) => return Ok(Passed::LeaseLost),
                Err(error) if error.is_outage() => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Broker {
    /// The waiting rooms in which somebody may wait.
    pub async fn waiting_rooms(&self) -> Result<Vec<WaitingRoom>, TransportError> {
        rooms(self.connection(), self.keys()).await
    }

    /// Takes the message that has waited longest in `room`, if the limits allow one more run.
    ///
    /// For the model this is `promote` and `claim` in one.
    pub async fn call_in(
        self: &Arc<Self>,
        room: &WaitingRoom,
        limits: FleetLimits,
    ) -> Result<CalledIn, TransportError> {
        let claiming = self.begin_claim(1).await;
        let process = self.process();
        let tag = claiming.tag(&process, 0);
        let keys = self.keys();
        let mut script = scripts::CALL_IN.prepare_invoke();
        script
            .key(&process.alive)
            .key(keys.unacked())
            .key(keys.unacked_index())
            .key(&*process.held)
            .key(keys.waiting_room(&room.name()))
            .key(keys.waiting_rooms())
            .key(keys.fleet_rate(&room.task))
            .key(keys.fleet_places(&room.task))
            .arg(&tag)
            .arg(room.name())
            .arg(unacked_suffix(&room.queue))
            .arg(micros(limits.interval))
            .arg(limits.concurrency.unwrap_or(0));
        let reply = self.connection().script("call in a message", &script).await?;
        let Value::Array(reply) = reply else { return Ok(CalledIn::LeaseGone) };
        let mut fields = reply.into_iter();
        Ok(match (fields.next(), fields.next(), fields.next()) {
            (_, Some(Value::BulkString(list)), Some(Value::BulkString(message))) => {
                let list = String::from_utf8_lossy(&list).into_owned();
                let delivery = self.lend(
                    &process,
                    tag.into(),
                    list.into(),
                    room.queue.as_str().into(),
                    message.into(),
                    Origin::WaitingRoom,
                );
                CalledIn::Delivery(delivery)
            }
            (_, Some(Value::Int(wait)), _) => {
                CalledIn::NotBefore(Duration::from_micros(u64::try_from(wait).unwrap_or(0)))
            }
            (Some(Value::BulkString(word)), ..) if word == b"full" => CalledIn::Full,
            _ => CalledIn::Empty,
        })
    }
}

/// The waiting rooms behind `connection` in which somebody may wait.
pub(super) async fn rooms(
    connection: &Connection,
    keys: &Keys,
) -> Result<Vec<WaitingRoom>, TransportError> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(keys.waiting_rooms());
    let names: Vec<String> = connection.query("look who waits", &command).await?;
    Ok(names.iter().filter_map(|name| WaitingRoom::named(name)).collect())
}

impl WaitingRoom {
    /// The queue's name may hold anything, so its length comes first.
    pub(super) fn name(&self) -> String {
        format!("{}:{}{}", self.queue.len(), self.queue, self.task)
    }

    fn named(name: &str) -> Option<Self> {
        let (length, rest) = name.split_once(':')?;
        let (queue, task) = rest.split_at_checked(length.parse().ok()?)?;
        Some(Self { queue: queue.to_owned(), task: task.to_owned() })
    }
}

/// Whole microseconds, 0 for none.
fn micros(interval: Option<Duration>) -> u64 {
    interval.map_or(0, |interval| u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_room_is_known_by_its_name() {
        for (queue, task) in [("celery", "t.add"), ("a:b", "7:x"), ("", "é")] {
            let room = WaitingRoom { queue: queue.to_owned(), task: task.to_owned() };
            assert_eq!(WaitingRoom::named(&room.name()), Some(room));
        }
        for name in ["", "celery", "9:celery", "x:y"] {
            assert_eq!(WaitingRoom::named(name), None);
        }
    }
}
