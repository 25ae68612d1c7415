//! One beat sends at a time, and whoever lost the lease cannot.

use std::sync::Arc;
use std::time::Duration;

use beat::built_in;
use celery_redis::transport::beat_state::{BeatState, Lease, Outcome, Role, Sending};
use chrono::{DateTime, Utc};

use crate::broker::{TestBroker, eventually};
use crate::running::{introduce, known, slot};

const MINUTE: Duration = Duration::from_secs(60);

async fn role(state: &BeatState, process: &str, lease_ttl: Duration) -> Role {
    state.tick(process, process, lease_ttl, MINUTE).await.unwrap().role
}

async fn lease(state: &BeatState, process: &str, lease_ttl: Duration) -> Lease {
    match role(state, process, lease_ttl).await {
        Role::Leading(lease) => lease,
        Role::Waiting { leader, .. } => panic!("{leader} leads"),
    }
}

#[tokio::test]
async fn the_second_beat_waits_and_leads_as_soon_as_the_first_resigns() {
    let broker = TestBroker::start();
    let state = broker.state();

    let first = lease(&state, "a", MINUTE).await;
    let Role::Waiting { leader, for_at_most } = role(&state, "b", MINUTE).await else {
        panic!("a leads")
    };
    assert_eq!(leader, "a");
    assert!(for_at_most <= MINUTE && for_at_most > MINUTE / 2, "{for_at_most:?}");
    assert_eq!(state.leader().await.unwrap().as_deref(), Some("a"));
    // Neither who waits nor who is gone ends the other's lease.
    state.resign("b", "b").await.unwrap();
    assert_eq!(role(&state, "a", MINUTE).await, Role::Leading(first.clone()));

    state.resign("a", "a").await.unwrap();

    let second = lease(&state, "b", MINUTE).await;
    assert!(second.term() > first.term());
    assert_eq!(state.sighting("a").await.unwrap(), None);
    let seen = state.sighting("b").await.unwrap().unwrap();
    assert!(seen.leads && seen.term == second.term() && seen.process == "b", "{seen:?}");
    assert_eq!(state.sightings().await.unwrap(), [seen]);
}

#[tokio::test]
async fn a_beat_whose_lease_ended_can_neither_send_nor_forget() {
    let broker = TestBroker::start();
    let state = broker.state();
    let entry = &built_in("celery").unwrap()[0];
    let [seen, next]: [DateTime<Utc>; 2] =
        ["2026-11-23T03:00:00Z", "2026-11-24T03:00:00Z"].map(|text| text.parse().unwrap());
    introduce(&state, std::slice::from_ref(entry), seen).await;
    let slots = [slot(entry, seen, next)];

    let shortly = Duration::from_millis(20);
    let stale = lease(&state, "a", shortly).await;
    eventually("the lease ended", || {
        !broker.query::<bool>(&["EXISTS", "_celery_redis.beat.leader"])
    })
    .await;
    assert_eq!(state.send(&stale, &slots).await.unwrap(), Sending::NotLeading);

    let lease = lease(&state, "b", MINUTE).await;
    assert_eq!(state.send(&stale, &slots).await.unwrap(), Sending::NotLeading);
    assert!(!state.adopt(&stale, &[], std::slice::from_ref(&entry.name)).await.unwrap());
    assert!(broker.messages("celery").is_empty());
    assert!(state.ledger().await.unwrap().contains_key(&entry.name));

    let Sending::Leading { outcomes, tails } = state.send(&lease, &slots).await.unwrap() else {
        panic!("b leads")
    };
    assert_eq!((outcomes, tails.len()), (vec![Outcome::Sent], 1));
    assert_eq!(broker.messages("celery").len(), 1);
}

#[tokio::test]
async fn a_beat_without_entries_leaves_the_lead_to_another() {
    let broker = TestBroker::start();
    let (waiting, entries) = tokio::sync::watch::channel(None);
    let empty =
        beat::Beat::new(broker.state(), entries, Arc::default(), "beat@empty".into(), MINUTE);
    let full = beat::Beat::new(
        broker.state(),
        known(built_in("celery").unwrap()),
        Arc::default(),
        "beat@full".into(),
        MINUTE,
    );

    let ended = async {
        eventually("the one with entries leads", || {
            let leader: Option<String> = broker.query(&["GET", "_celery_redis.beat.leader"]);
            leader.is_some_and(|leader| leader.contains("beat@full"))
        })
        .await;
        assert!(!broker.query::<bool>(&["EXISTS", "_celery_redis.beat.tick.beat@empty"]));
        let entries: Arc<[_]> = built_in("celery").unwrap().into();
        waiting.send_replace(Some(entries));
        eventually("the other is ready", || {
            broker.query(&["EXISTS", "_celery_redis.beat.tick.beat@empty"])
        })
        .await;
    };
    tokio::select! {
        outcome = empty.run(std::future::pending()) => panic!("{outcome:?}"),
        outcome = full.run(std::future::pending()) => panic!("{outcome:?}"),
        () = ended => {}
    }
}

#[tokio::test]
async fn a_beat_that_cannot_tick_for_too_long_ends_and_says_why() {
    let broker = TestBroker::start();
    broker.server.stop();
    let entries = known(built_in("celery").unwrap());
    let patience = Duration::from_millis(300);
    let beat =
        beat::Beat::new(broker.state(), entries, Arc::default(), "beat@test".into(), patience);

    let silent = beat.run(std::future::pending()).await.unwrap_err();

    assert!(silent.is_outage());
    let said = beat::Chain(&silent).to_string();
    assert!(said.starts_with("no tick for 0 s: ") && said.contains("cannot serve"), "{said}");
}
