//! The loop: tick, decide, send, sleep.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use celery_redis::transport::beat_state::{BeatState, BeatStateError, Lease, Role, Sending};
use celery_redis::transport::connection::Backoff;
use celery_redis::wire::signature::Producer;
use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use crate::chain::Chain;
use crate::entry::Entry;
use crate::scheduler::{DueRun, Plan, plan};

/// The longest time between two ticks: also how soon a change of the clock is noticed.
const TICK: Duration = Duration::from_secs(10);
/// Outlives two ticks that failed.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// Outlives an outage that beat itself gets over.
const TICK_TTL: Duration = Duration::from_secs(60);

/// One of the beats on a broker. One leads and sends; the others take over when it is gone.
#[derive(Debug)]
pub struct Beat {
    state: BeatState,
    entries: Vec<Entry>,
    node: String,
    process: String,
    producer: Producer,
}

/// What has been said, so that it is said once.
#[derive(Debug, Default)]
struct Announced {
    leading: Option<bool>,
    ahead: Vec<String>,
}

/// Why a tick ended early.
#[derive(Debug, thiserror::Error)]
enum TickError {
    #[error(transparent)]
    State(#[from] BeatStateError),
    #[error("the message of {entry} cannot be encoded")]
    Message { entry: String, source: celery_redis::wire::signature::SignatureError },
}

impl TickError {
    /// Outages are announced by the connection itself, once, with their length at the end.
    fn is_outage(&self) -> bool {
        matches!(self, Self::State(BeatStateError::Transport(error)) if error.is_outage())
    }
}

impl Beat {
    /// A beat named `node` that sends `entries`.
    pub fn new(state: BeatState, entries: Vec<Entry>, node: String) -> Self {
        let process = format!("{node}/{}", Uuid::new_v4());
        Self { state, entries, node, process, producer: Producer::current() }
    }

    /// Sends what is due, through every outage, until `shutdown`.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        log::info!("{}: {} entries", self.node, self.entries.len());
        // Ending at any await is safe: a slot is sent and recorded in one step, or not at all.
        tokio::select! {
            never = self.keep_time() => match never {},
            () = shutdown => log::info!("{}: stopping", self.node),
        }
        if let Err(error) = self.state.resign(&self.node, &self.process).await {
            log::warn!("{}: the lease ends by itself: {}", self.node, Chain(&error));
        }
    }

    async fn keep_time(&self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut announced = Announced::default();
        loop {
            match self.tick(&mut announced, Utc::now()).await {
                Ok(next) => {
                    backoff.reset();
                    tokio::time::sleep(until(next, Utc::now())).await;
                }
                Err(error) if error.is_outage() => backoff.wait().await,
                Err(error) => {
                    log::error!("{}: {}; trying again", self.node, Chain(&error));
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// Does what is to do at `now`. Returns when there is something to do again, where that is
    /// known.
    async fn tick(
        &self,
        announced: &mut Announced,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, TickError> {
        let role = self.state.tick(&self.node, &self.process, now, LEASE_TTL, TICK_TTL).await?;
        self.announce(announced, &role);
        let Role::Leading(lease) = role else { return Ok(None) };
        let names: Vec<_> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        self.state.introduce(&names, now).await?;
        let last_runs = self.state.last_runs().await?;
        let plan = plan(&self.entries, &last_runs, now);
        self.announce_ahead(announced, &plan);
        for run in &plan.due {
            if self.send(&lease, run, now).await? != Sending::Sent {
                return Ok(Some(now));
            }
        }
        Ok(plan.next)
    }

    async fn send(
        &self,
        lease: &Lease,
        run: &DueRun<'_>,
        now: DateTime<Utc>,
    ) -> Result<Sending, TickError> {
        let entry = run.entry;
        let message = entry
            .signature(run.slot)
            .encode(&self.producer, now)
            .map_err(|source| TickError::Message { entry: entry.name.clone(), source })?;
        let sending = self.state.send(lease, &entry.name, run.expected, run.slot, &message).await?;
        let slot = run.slot.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        match sending {
            Sending::Sent => log::info!(
                "sent {} ({}[{}]) to {}, slot {slot}",
                entry.name,
                entry.task,
                message.id,
                entry.queue
            ),
            Sending::Advanced => log::info!("{} of slot {slot} had been sent", entry.name),
            Sending::NotLeading => log::warn!("{}: another beat leads now", self.node),
        }
        Ok(sending)
    }

    fn announce(&self, announced: &mut Announced, role: &Role) {
        let leads = matches!(role, Role::Leading(_));
        if announced.leading.replace(leads) == Some(leads) {
            return;
        }
        match role {
            Role::Leading(lease) => log::info!("{}: leads, term {}", self.node, lease.term()),
            Role::Waiting { leader } => {
                log::info!("{}: waits while {leader} leads", self.node);
            }
        }
    }

    fn announce_ahead(&self, announced: &mut Announced, plan: &Plan<'_>) {
        let ahead: Vec<String> = plan.ahead.iter().map(|entry| entry.name.clone()).collect();
        if ahead != announced.ahead && !ahead.is_empty() {
            log::error!(
                "{}: the last run of {} is in the future, and nothing is sent until then: a clock \
                 is or was wrong (see beat --list)",
                self.node,
                ahead.join(", ")
            );
        }
        announced.ahead = ahead;
    }
}

fn until(next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let wait = next.map(|next| (next - now).to_std().unwrap_or(Duration::ZERO));
    wait.unwrap_or(TICK).min(TICK)
}
