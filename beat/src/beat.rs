//! The loop: tick, send what is due, sleep.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celery_redis::SentEvents;
use celery_redis::transport::beat_state::{BeatState, BeatStateError, Heartbeat, Role};
use celery_redis::transport::connection::Backoff;
use celery_redis::wire::signature::Producer;
use chrono::Utc;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::entry::Entry;
use crate::leading::{Leading, Memory, Progress, Voice};
use crate::source::Journal;
use crate::watchdog::Progressing;

/// The time between two ticks of a beat.
const TICK: Duration = Duration::from_secs(1);
/// How long a leader may be silent before another beat takes over. Outlives a tick that Redis did
/// not answer, with the default timeouts.
const LEASE_TTL: Duration = Duration::from_secs(6);
/// Outlives an outage that beat itself gets over.
const TICK_TTL: Duration = Duration::from_secs(60);

/// One of the beats on a broker. One leads and sends; the others take over when it is gone.
#[derive(Debug)]
pub struct Beat {
    state: BeatState,
    entries: watch::Receiver<Option<Arc<[Entry]>>>,
    journal: Arc<Journal>,
    node: String,
    process: String,
    voice: Voice,
    max_silence: Duration,
    progress: Progressing,
}

/// A beat that could not tick for so long that it is better started anew.
#[derive(Debug, thiserror::Error)]
#[error("no tick for {} s", silence.as_secs())]
pub struct Silent {
    silence: Duration,
    /// Why, as far as it is known.
    source: Option<BeatStateError>,
}

impl Silent {
    /// Whether Redis or the network is to blame.
    pub fn is_outage(&self) -> bool {
        self.source.as_ref().is_none_or(is_outage)
    }
}

/// Outages are announced by the connection itself, once, with their length at the end.
fn is_outage(error: &BeatStateError) -> bool {
    matches!(error, BeatStateError::Transport(error) if error.is_outage())
}

/// What a beat knows from its last tick.
#[derive(Debug)]
struct Known {
    heartbeat: Heartbeat,
    clock: Clock,
    ticked: Instant,
}

impl Known {
    /// A beat that waits looks at once when the leader's lease has run out.
    fn until_next_tick(&self) -> Duration {
        let between = match &self.heartbeat.role {
            Role::Leading(_) => TICK,
            Role::Waiting { for_at_most, .. } => TICK.min(*for_at_most + Duration::from_millis(1)),
        };
        between.saturating_sub(self.ticked.elapsed())
    }
}

/// What has been said, so that it is said once.
#[derive(Debug, Default)]
struct Announced {
    leading: Option<bool>,
    paused: bool,
    clock_differs: bool,
}

impl Beat {
    /// A beat named `node` that sends `entries`, from when there are any, and notes in `journal`
    /// what it sent. It ends when it could not tick for `max_silence`.
    pub fn new(
        state: BeatState,
        entries: watch::Receiver<Option<Arc<[Entry]>>>,
        journal: Arc<Journal>,
        node: String,
        max_silence: Duration,
    ) -> Self {
        let process = format!("{node}/{}", Uuid::new_v4());
        let voice = Voice { producer: Producer::current(), events: None };
        let progress = Progressing::default();
        Self { state, entries, journal, node, process, voice, max_silence, progress }
    }

    /// Telling monitors of each message that it sends.
    pub fn telling_what_it_sends(mut self) -> Self {
        let keys = self.state.keys().clone();
        self.voice.events = Some(SentEvents::new(&self.voice.producer, Arc::default(), keys));
        self
    }

    /// What a watchdog looks at.
    pub fn progress(&self) -> Progressing {
        self.progress.clone()
    }

    /// Sends what is due, through every outage that is no longer than the longest silence, until
    /// `shutdown`.
    ///
    /// # Errors
    ///
    /// [`Silent`] where it cannot do its work.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Silent> {
        // Ending at any await is safe: a slot is sent and recorded in one step, or not at all.
        let outcome = tokio::select! {
            silent = self.keep_time() => Err(silent),
            () = shutdown => {
                log::info!("{}: stopping", self.node);
                Ok(())
            }
        };
        if let Err(error) = self.state.resign(&self.node, &self.process).await {
            log::warn!("{}: the lease ends by itself: {}", self.node, Chain(&error));
        }
        outcome
    }

    async fn keep_time(&mut self) -> Silent {
        let mut backoff = Backoff::default();
        let mut announced = Announced::default();
        let mut memory = Memory::default();
        let mut leading = None;
        let mut known = None;
        let mut last_tick = Instant::now();
        loop {
            let error = match self.step(&mut known, &mut leading, &mut memory).await {
                Ok(()) => {
                    if let Some(known) = &known {
                        last_tick = known.ticked;
                        self.announce(&mut announced, known);
                    }
                    backoff.reset();
                    self.sleep(known.as_ref(), leading.as_ref()).await;
                    None
                }
                Err(error) => {
                    // What was sent is known to Redis alone now.
                    (known, leading) = (None, None);
                    if is_outage(&error) {
                        backoff.wait().await;
                    } else {
                        log::error!("{}: {}; trying again", self.node, Chain(&error));
                        tokio::time::sleep(TICK).await;
                    }
                    Some(error)
                }
            };
            if last_tick.elapsed() > self.max_silence {
                return Silent { silence: last_tick.elapsed(), source: error };
            }
            self.progress.note();
        }
    }

    /// Ticks where that is due, and sends where this beat leads.
    async fn step(
        &mut self,
        known: &mut Option<Known>,
        leading: &mut Option<Leading>,
        memory: &mut Memory,
    ) -> Result<(), BeatStateError> {
        // A beat that knows of no entries yet leaves the lead to another one.
        let Some(entries) = self.entries.borrow_and_update().clone() else { return Ok(()) };
        let ticked = match known.take().filter(|known| !known.until_next_tick().is_zero()) {
            Some(known) => known,
            None => {
                let before = Instant::now();
                let heartbeat =
                    self.state.tick(&self.node, &self.process, LEASE_TTL, TICK_TTL).await?;
                let clock = Clock::read(heartbeat.now);
                Known { heartbeat, clock, ticked: before }
            }
        };
        let Known { heartbeat, clock, .. } = known.insert(ticked);
        let Role::Leading(lease) = &heartbeat.role else {
            *leading = None;
            return Ok(());
        };
        let now = clock.now();
        let changes = &heartbeat.changes;
        if !leading.as_ref().is_some_and(|leading| leading.is_of(lease, &entries, changes)) {
            *leading = Leading::begin(&self.state, lease, &entries, changes, memory, now).await?;
        }
        let Some(term) = leading.as_mut().filter(|_| !heartbeat.paused) else { return Ok(()) };
        let progress = term.send(&self.state, &self.voice, &self.journal, memory, clock).await?;
        if progress == Progress::Outdated {
            (*known, *leading) = (None, None);
        }
        Ok(())
    }

    /// Waits until there is something to do: a tick, a slot, other entries.
    async fn sleep(&mut self, known: Option<&Known>, leading: Option<&Leading>) {
        let Some(known) = known else {
            if self.entries.borrow().is_none() {
                // The end of the source is the end of this beat, too: who stops it has both.
                tokio::time::timeout(TICK, self.entries.changed()).await.ok();
            }
            return;
        };
        let mut wait = known.until_next_tick();
        let next = leading.filter(|_| !known.heartbeat.paused).and_then(Leading::next);
        if let Some(next) = next {
            wait = wait.min(known.clock.until(next));
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn announce(&self, announced: &mut Announced, known: &Known) {
        let Known { heartbeat, clock, .. } = known;
        let leads = matches!(heartbeat.role, Role::Leading(_));
        if announced.leading.replace(leads) != Some(leads) {
            match &heartbeat.role {
                Role::Leading(lease) => log::info!("{}: leads, term {}", self.node, lease.term()),
                Role::Waiting { leader, .. } => {
                    log::info!("{}: ready, waits while {leader} leads", self.node);
                }
            }
        }
        if std::mem::replace(&mut announced.paused, heartbeat.paused) != heartbeat.paused {
            if heartbeat.paused {
                log::warn!("{}: paused by an operator: nothing is sent", self.node);
            } else {
                log::info!("{}: no longer paused", self.node);
            }
        }
        let difference = clock.difference(Utc::now());
        let was_told = std::mem::replace(&mut announced.clock_differs, difference.is_some());
        if let Some(ahead) = difference.filter(|_| !was_told) {
            log::warn!(
                "{}: the clock of this machine differs by {} s from that of Redis, which beat goes \
                 by",
                self.node,
                ahead.num_seconds()
            );
        }
    }
}
