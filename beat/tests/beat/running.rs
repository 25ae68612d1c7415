//! Beats that run within a test.

use std::sync::Arc;
use std::time::Duration;

use beat::Beat;
use beat::entry::Entry;
use celery_redis::transport::beat_state::{BeatState, Outgoing, Slot};
use celery_redis::wire::signature::Producer;
use chrono::{DateTime, Utc};
use tokio::sync::{oneshot, watch};

use crate::broker::{TestBroker, eventually};

/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(600);

/// Entries that stay as they are.
pub(crate) fn known(entries: Vec<Entry>) -> watch::Receiver<Option<Arc<[Entry]>>> {
    watch::channel(Some(entries.into())).1
}

pub(crate) fn beat(broker: &TestBroker, entries: &[Entry], node: &str) -> Beat {
    Beat::new(broker.state(), known(entries.to_vec()), Arc::default(), node.to_owned(), PATIENCE)
}

/// Says that all entries ran last at `at`.
pub(crate) async fn introduce(state: &BeatState, entries: &[Entry], at: DateTime<Utc>) {
    let entries: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), at)).collect();
    state.introduce(&entries).await.unwrap();
}

/// A slot with its message.
pub(crate) fn slot(entry: &Entry, expected: DateTime<Utc>, slot: DateTime<Utc>) -> Slot {
    let now = Utc::now();
    let message = entry.signature(slot, now).encode(&Producer::current(), now).unwrap();
    Slot {
        entry: entry.name.clone(),
        expected,
        slot,
        message: Some(Outgoing { message, due: slot, at: now }),
    }
}

/// Runs a beat until `condition`, then ends it in order.
pub(crate) async fn run_until(beat: Beat, what: &str, condition: impl FnMut() -> bool) {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        beat.run(async {
            stopped.await.ok();
        })
        .await
    });
    eventually(what, condition).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
