//! Entries that change while a beat leads, and a Redis that forgets.

use std::sync::Arc;
use std::time::Duration;

use beat::entry::{Call, Entry};
use beat::schedule::Schedule;
use beat::{Beat, known_entries};
use chrono::{TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use tokio::sync::watch;

use crate::broker::{TestBroker, eventually};
use crate::running::{beat, introduce, run_until};

fn entry(name: &str, schedule: &str) -> Entry {
    let call = Call { task: format!("t.{name}"), queue: "celery".to_owned(), ..Call::default() };
    Entry::new(name, call, Schedule::parse(schedule, Tz::UTC).unwrap())
}

fn sent_of(broker: &TestBroker, task: &str) -> usize {
    let messages = broker.messages("celery");
    messages.iter().filter(|message| message["headers"]["task"] == task).count()
}

#[tokio::test]
async fn entries_come_change_and_go_while_a_beat_leads() {
    let broker = TestBroker::start();
    let (sender, entries) = watch::channel(None);
    let set = |entries: Vec<Entry>| {
        let entries: Arc<[Entry]> = entries.into();
        sender.send_replace(Some(entries));
    };
    set(vec![entry("a", "every 50ms"), entry("b", "0 3 * * *")]);
    let beat = Beat::new(
        broker.state(),
        entries,
        Arc::default(),
        "beat@test".into(),
        Duration::from_secs(600),
    );

    let changes = async {
        eventually("a is sent", || sent_of(&broker, "t.a") >= 2).await;
        // b becomes frequent, c is new, a is gone.
        set(vec![entry("b", "every 50ms"), entry("c", "every 50ms")]);
        eventually("b and c are sent", || {
            sent_of(&broker, "t.b") >= 2 && sent_of(&broker, "t.c") >= 2
        })
        .await;
    };
    tokio::select! {
        outcome = beat.run(std::future::pending()) => panic!("{outcome:?}"),
        () = changes => {}
    }

    let ledger = broker.state().ledger().await.unwrap();
    let mut names: Vec<_> = known_entries(&ledger).into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    assert!(!ledger.contains_key("a"), "what is gone is forgotten");
}

#[tokio::test]
async fn another_schedule_or_zone_sends_nothing_of_the_past() {
    let broker = TestBroker::start();
    let leap_day = entry("rare", "0 0 29 2 *");
    let known = || broker.query::<bool>(&["HEXISTS", "_celery_redis.beat.entries", "rare"]);
    run_until(beat(&broker, &[leap_day], "beat@test"), "it is known", known).await;
    let before = celery_redis::wire::isoformat::format(Utc::now() - TimeDelta::days(2));
    broker.query::<()>(&["HSET", "_celery_redis.beat.last_runs", "rare", &before]);

    // Hourly, but for the hours around now: what is due would be of yesterday.
    let hour = Utc::now().hour();
    let hours = format!("0 {}-{} * * *", (hour + 2) % 24, (hour + 21) % 24);
    let moved = || {
        let cursor: String = broker.query(&["HGET", "_celery_redis.beat.last_runs", "rare"]);
        cursor != before
    };
    run_until(beat(&broker, &[entry("rare", &hours)], "beat@test"), "it is adopted", moved).await;

    assert!(broker.messages("celery").is_empty());
}

#[tokio::test]
async fn an_emptied_redis_makes_entries_new_and_beat_goes_on() {
    let broker = TestBroker::start();
    let entries = [entry("often", "every 50ms"), entry("rare", "0 3 * * *")];

    let mut emptied = false;
    run_until(beat(&broker, &entries, "beat@test"), "it sends again", || {
        if broker.messages("celery").len() < 2 {
            return false;
        }
        if !std::mem::replace(&mut emptied, true) {
            broker.query::<()>(&["FLUSHALL"]);
            return false;
        }
        true
    })
    .await;

    let ledger = broker.state().ledger().await.unwrap();
    assert!(ledger["rare"].cursor.is_some_and(|cursor| cursor > Utc::now() - TimeDelta::hours(1)));
    assert_eq!(ledger["rare"].count, 0);
}

#[tokio::test]
async fn a_restored_state_gives_a_slot_no_second_id() {
    let broker = TestBroker::start();
    let daily = entry("daily", "0 3 * * *");
    let last_run = "2026-01-01T00:00:00+00:00";
    introduce(&broker.state(), std::slice::from_ref(&daily), last_run.parse().unwrap()).await;

    for sent in 1..=2 {
        let enough = || broker.messages("celery").len() >= sent;
        run_until(beat(&broker, std::slice::from_ref(&daily), "beat@test"), "sent", enough).await;
        // As a snapshot from before would have it.
        broker.query::<()>(&["HSET", "_celery_redis.beat.last_runs", "daily", last_run]);
    }

    let ids = broker.ids("celery");
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "it is the same task");
}
