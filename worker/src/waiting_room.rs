//! Holding back messages whose task has begun often enough, and calling them in when it may begin
//! again. They wait in Redis and take no slot meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use celery_redis::transport::connection::{Backoff, TransportError};
use celery_redis::transport::delivery::{Delivery, Origin};
use celery_redis::transport::waiting_room::{
    CalledIn, FleetLimits, LocalToken, Passed, WaitingRoom,
};
use celery_task::{Rate, TaskOptions};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::consumer::Consumer;
use crate::limits::Token;
use crate::request::Request;

/// Longest time between two looks while somebody waits: another process may have died, or have ended
/// a run whose place is free now.
const LONGEST: Duration = Duration::from_secs(1);

/// What wakes those who call in.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// This process has put a message into a waiting room.
    somebody_waits: Notify,
    /// A run has ended here whose place another may want.
    place_free: Notify,
    /// Nobody waits, as far as this process knows.
    empty: AtomicBool,
}

impl Doors {
    /// Tells in how many waiting rooms somebody may wait: another process may have put a message
    /// there, and died.
    pub(crate) fn tell(&self, rooms: usize) {
        if rooms > 0 && self.empty.swap(false, Ordering::Relaxed) {
            self.somebody_waits.notify_one();
        }
    }
}

/// A message whose task may begin, with the slot for it.
pub(crate) type CalledInto = (Delivery, OwnedSemaphorePermit);

impl Consumer {
    /// Lets the task of `request` begin, or has its message wait for that.
    pub(crate) async fn pass(
        &self,
        delivery: Delivery,
        request: &Request,
    ) -> Result<Passed, TransportError> {
        let task = &request.message.task;
        let fleet = fleet_limits(&request.task.options);
        let is_limited = fleet != FleetLimits::default() || self.limits.holds_back(task);
        if !is_limited || delivery.origin() == Origin::WaitingRoom {
            return Ok(Passed::In(delivery));
        }
        let token = self.limits.take_token(task, Instant::now());
        let has_token = match token {
            Token::Taken => LocalToken::Taken,
            Token::In(_) => LocalToken::Missing,
        };
        let passed = Box::pin(delivery.pass(task, fleet, has_token)).await;
        if !matches!(passed, Ok(Passed::In(_))) {
            if token == Token::Taken {
                self.limits.return_token(task);
            }
            self.doors.somebody_waits.notify_one();
        }
        passed
    }

    /// Tells that a run of `request` has ended, whose place another may want.
    pub(crate) fn leave_place(&self, request: &Request) {
        if request.task.options.fleet_concurrency.is_some() {
            self.doors.place_free.notify_one();
        }
    }

    /// Calls in one message of each waiting room where a run may begin; how long nothing can, `None`
    /// where nobody waits.
    async fn call_in_one_of_each(
        &self,
        not_before: &mut HashMap<WaitingRoom, Instant>,
        line: &mpsc::Sender<CalledInto>,
    ) -> Result<Option<Duration>, TransportError> {
        let mut wait = LONGEST;
        let rooms = self.broker.waiting_rooms().await?;
        let nobody_waits = rooms.is_empty();
        self.doors.empty.store(nobody_waits, Ordering::Relaxed);
        not_before.retain(|room, _| rooms.contains(room));
        for room in rooms {
            let now = Instant::now();
            let due = not_before.get(&room).map_or(now, |due| *due);
            let next = if due > now { due - now } else { self.call_in(&room, line).await? };
            // A limit may be changed at any time.
            let next = next.min(LONGEST);
            if next > Duration::ZERO {
                not_before.insert(room, now + next);
            }
            wait = wait.min(next);
        }
        Ok(Some(wait).filter(|_| !nobody_waits))
    }

    /// Calls in the message that has waited longest in `room`, if one of its task may begin here
    /// now; how long not.
    async fn call_in(
        &self,
        room: &WaitingRoom,
        line: &mpsc::Sender<CalledInto>,
    ) -> Result<Duration, TransportError> {
        let Some(task) = self.registry.get(&room.task) else { return Ok(LONGEST) };
        if !self.broker.queues().contains(&room.queue) {
            return Ok(LONGEST);
        }
        if let Token::In(wait) = self.limits.take_token(&room.task, Instant::now()) {
            return Ok(wait);
        }
        let wait = match self.slots.free().await.into_iter().next() {
            None => LONGEST,
            Some(slot) => {
                let Ok(place) = line.reserve().await else { return Ok(LONGEST) };
                match self.broker.call_in(room, fleet_limits(&task.options)).await {
                    Ok(CalledIn::Delivery(delivery)) => {
                        place.send((delivery, slot));
                        return Ok(Duration::ZERO);
                    }
                    Ok(CalledIn::NotBefore(wait)) => wait,
                    Ok(CalledIn::Full | CalledIn::Empty | CalledIn::LeaseGone) => LONGEST,
                    Err(error) => {
                        self.limits.return_token(&room.task);
                        return Err(error);
                    }
                }
            }
        };
        self.limits.return_token(&room.task);
        Ok(wait)
    }
}

/// Calls in what waits, for as long as the line takes it.
pub(crate) async fn call_in(consumer: &Consumer, line: &mpsc::Sender<CalledInto>) {
    let mut backoff = Backoff::default();
    let mut not_before = HashMap::new();
    loop {
        match consumer.call_in_one_of_each(&mut not_before, line).await {
            Ok(wait) => {
                backoff.reset();
                tokio::select! {
                    () = pass_time(wait) => {}
                    () = consumer.doors.somebody_waits.notified() => {}
                    () = consumer.doors.place_free.notified() => not_before.clear(),
                    () = line.closed() => return,
                }
            }
            Err(error) => {
                log::debug!("waiting messages could not be called in: {error}");
                backoff.wait().await;
            }
        }
    }
}

/// Never ends where there is nothing to wait for but news.
async fn pass_time(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn fleet_limits(options: &TaskOptions) -> FleetLimits {
    FleetLimits {
        interval: options.fleet_rate_limit.map(Rate::interval),
        concurrency: options.fleet_concurrency,
    }
}
