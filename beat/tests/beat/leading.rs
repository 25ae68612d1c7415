//! One beat sends at a time, and whoever lost the lease cannot.

use std::time::Duration;

use beat::entry::built_in;
use celery_redis::transport::beat_state::{BeatState, Role, Sending};
use celery_redis::wire::signature::Producer;
use chrono::{DateTime, Utc};

use crate::broker::{TestBroker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

async fn tick(state: &BeatState, process: &str, lease_ttl: Duration) -> Role {
    state.tick(process, process, Utc::now(), lease_ttl, MINUTE).await.unwrap()
}

#[tokio::test]
async fn the_second_beat_waits_and_leads_as_soon_as_the_first_resigns() {
    let broker = TestBroker::start();
    let state = broker.state();

    let Role::Leading(first) = tick(&state, "a", MINUTE).await else { panic!("nobody else leads") };
    assert_eq!(tick(&state, "b", MINUTE).await, Role::Waiting { leader: "a".to_owned() });
    assert_eq!(state.leader().await.unwrap().as_deref(), Some("a"));
    // Neither who waits nor who is gone ends the other's lease.
    state.resign("b", "b").await.unwrap();
    assert_eq!(tick(&state, "a", MINUTE).await, Role::Leading(first.clone()));

    state.resign("a", "a").await.unwrap();

    let Role::Leading(second) = tick(&state, "b", MINUTE).await else { panic!("a resigned") };
    assert!(second.term() > first.term());
    assert_eq!(state.last_tick("a").await.unwrap(), None);
    assert!(state.last_tick("b").await.unwrap().is_some());
}

#[tokio::test]
async fn a_beat_whose_lease_ended_cannot_send() {
    let broker = TestBroker::start();
    let state = broker.state();
    let entry = &built_in("celery").unwrap()[0];
    let [seen, slot]: [DateTime<Utc>; 2] =
        ["2026-11-23T03:00:00Z", "2026-11-24T03:00:00Z"].map(|text| text.parse().unwrap());
    let message = entry.signature(slot).encode(&Producer::current(), Utc::now()).unwrap();
    state.introduce(&[&entry.name], seen).await.unwrap();

    let shortly = Duration::from_millis(20);
    let Role::Leading(stale) = tick(&state, "a", shortly).await else {
        panic!("nobody else leads")
    };
    eventually("the lease ended", || {
        !broker.query::<bool>(&["EXISTS", "_celery_redis.beat.leader"])
    })
    .await;
    let sending = state.send(&stale, &entry.name, seen, slot, &message).await.unwrap();
    assert_eq!(sending, Sending::NotLeading);

    let Role::Leading(lease) = tick(&state, "b", MINUTE).await else { panic!("a is gone") };
    let sending = state.send(&stale, &entry.name, seen, slot, &message).await.unwrap();
    assert_eq!(sending, Sending::NotLeading);
    assert!(broker.messages("celery").is_empty());

    let sending = state.send(&lease, &entry.name, seen, slot, &message).await.unwrap();
    assert_eq!(sending, Sending::Sent);
    assert_eq!(broker.messages("celery").len(), 1);
}
