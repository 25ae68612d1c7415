//! Signs of life, by which monitors know a worker (`celery.worker.heartbeat`).

use std::time::Duration;

use celery_redis::wire::event::{Frequency, Sign, Software, WorkerEvent};

use crate::events::Events;
use crate::state::WorkerState;

/// Time between two heartbeats, Celery's default.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);
/// What Celery says in the heartbeat that a command asks for.
const ASKED_FREQUENCY: u32 = 5;

/// What monitors show as the software; its version is this package's.
pub(crate) const SOFTWARE: Software = Software {
    sw_ident: "celery-redis",
    sw_ver: env!("CARGO_PKG_VERSION"),
    sw_sys: if cfg!(target_os = "macos") { "Darwin" } else { "Linux" },
};

/// Says that the worker is there, and then again and again. Never ends.
pub(crate) async fn beat(events: &Events, state: &WorkerState, interval: Duration) {
    events.worker(sign(Sign::Online, state, interval));
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        events.worker(sign(Sign::Heartbeat, state, interval));
    }
}

/// A sign of life with the worker's figures.
pub(crate) fn sign(sign: Sign, state: &WorkerState, interval: Duration) -> WorkerEvent {
    WorkerEvent {
        sign,
        freq: Frequency::Regular(interval.as_secs_f64()),
        active: Some(state.active()),
        processed: Some(state.processed()),
        loadavg: Some(load_average()),
        software: SOFTWARE,
    }
}

/// The heartbeat that a command asks for: without figures, as Celery's.
pub(crate) fn asked() -> WorkerEvent {
    WorkerEvent {
        sign: Sign::Heartbeat,
        freq: Frequency::Asked(ASKED_FREQUENCY),
        active: None,
        processed: None,
        loadavg: None,
        software: SOFTWARE,
    }
}

/// Zeroes where the system does not tell.
fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut figures = text.split_ascii_whitespace().map(|figure| figure.parse().unwrap_or(0.0));
    [(); 3].map(|()| figures.next().unwrap_or(0.0))
}
