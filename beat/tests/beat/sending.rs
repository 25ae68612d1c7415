//! Each slot is sent once, and as Celery sends it.

use std::collections::HashSet;
use std::time::Duration;

use beat::Beat;
use beat::entry::{Entry, built_in};
use beat::schedule::{Interval, Schedule};
use celery_redis::transport::beat_state::{BeatState, Lease, Role, Sending};
use celery_redis::transport::connection::Connection;
use celery_redis::wire::signature::{Encoded, Producer};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::broker::{TestBroker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

/// Runs a beat until `condition`, then ends it in order.
async fn run_until(beat: Beat, what: &str, condition: impl FnMut() -> bool) {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        beat.run(async {
            stopped.await.ok();
        })
        .await;
    });
    eventually(what, condition).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

async fn lease(state: &BeatState) -> Lease {
    match state.tick("beat@test", "process", Utc::now(), MINUTE, MINUTE).await.unwrap() {
        Role::Leading(lease) => lease,
        Role::Waiting { leader } => panic!("{leader} leads"),
    }
}

fn encoded(entry: &Entry, slot: DateTime<Utc>) -> Encoded {
    entry.signature(slot).encode(&Producer::current(), Utc::now()).unwrap()
}

#[tokio::test]
async fn missed_slots_are_caught_up_once_however_often_beat_starts() {
    let broker = TestBroker::start();
    let entries = built_in("celery").unwrap();
    broker.state().introduce(&names(&entries), utc("2026-01-01T00:00:00Z")).await.unwrap();

    for _ in 0..3 {
        let beat = Beat::new(broker.state(), entries.clone(), "beat@test".into());
        run_until(beat, "every entry was sent", || broker.messages("celery").len() >= 5).await;
    }

    assert_eq!(broker.ids("celery").len(), 5);
    let last_runs = broker.state().last_runs().await.unwrap();
    assert!(last_runs.values().all(|last| last.count == 1), "{last_runs:?}");
}

#[tokio::test]
async fn many_beats_at_once_send_each_slot_once() {
    let broker = TestBroker::start();
    let entries = built_in("celery").unwrap();
    broker.state().introduce(&names(&entries), utc("2026-01-01T00:00:00Z")).await.unwrap();

    let beats = (0..8).map(|number| {
        let beat = Beat::new(broker.state(), entries.clone(), format!("beat@{number}"));
        let tick = format!("_celery_redis.beat.tick.beat@{number}");
        let broker = &broker;
        run_until(beat, "it ticked and all was sent", move || {
            broker.query::<bool>(&["EXISTS", &tick]) && broker.messages("celery").len() >= 5
        })
    });
    futures_util::future::join_all(beats).await;

    assert_eq!(broker.ids("celery").len(), 5);
}

#[tokio::test]
async fn a_new_entry_starts_as_if_it_had_just_run() {
    let broker = TestBroker::start();
    let entries = built_in("celery").unwrap();
    let before = Utc::now();

    let beat = Beat::new(broker.state(), entries.clone(), "beat@test".into());
    let known = || broker.query::<u64>(&["HLEN", "_celery_redis.beat.last_runs"]) == 5;
    run_until(beat, "the entries are known", known).await;

    assert!(broker.messages("celery").is_empty());
    let last_runs = broker.state().last_runs().await.unwrap();
    assert!(last_runs.values().all(|last| last.slot > before - TimeDelta::seconds(1)));
    assert!(last_runs.values().all(|last| last.count == 0));
}

#[tokio::test]
async fn messages_are_those_of_celerys_beat() {
    let capture: Value = serde_json::from_str(include_str!("celery-beat-interval.json")).unwrap();
    let mut golden = capture["messages"][2]["envelope"].clone();
    assert_eq!(golden["headers"]["task"], "other.task", "the entry that Celery does not know");
    // This one had an expiry and a header of its own.
    golden["headers"].as_object_mut().unwrap().shift_remove("x");
    golden["properties"].as_object_mut().unwrap().shift_remove("expiration");
    let broker = TestBroker::start();
    let state = broker.state();
    let entry = &built_in("night").unwrap()[0];
    let (seen, slot) = (utc("2026-11-23T12:00:00Z"), utc("2026-11-24T03:00:00Z"));
    state.introduce(&[&entry.name], seen).await.unwrap();

    let (lease, message) = (lease(&state).await, encoded(entry, slot));

    let sending = state.send(&lease, &entry.name, seen, slot, &message).await.unwrap();

    assert_eq!(sending, Sending::Sent);
    let message = broker.messages("night").remove(0);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&message), keys(&golden));
    assert_eq!(keys(&message["headers"]), keys(&golden["headers"]));
    assert_eq!(keys(&message["properties"]), keys(&golden["properties"]));
    let same_headers = [
        "lang",
        "shadow",
        "eta",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "parent_id",
        "argsrepr",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "celery_beat_task",
    ];
    for header in same_headers {
        assert_eq!(message["headers"][header], golden["headers"][header], "{header}");
    }
    assert_eq!(message["headers"]["task"], "jwt_auth.tasks.cleanup_expired_tokens");
    assert_eq!(message["headers"]["kwargsrepr"], "{}");
    assert_eq!(message["headers"]["id"], message["headers"]["root_id"]);
    assert_eq!(message["headers"]["id"], message["properties"]["correlation_id"]);
    assert_eq!(message["properties"]["delivery_info"]["routing_key"], "night");
    assert_eq!(message["properties"]["priority"], 0);
}

#[tokio::test]
async fn a_send_whose_answer_was_lost_is_not_repeated() {
    let broker = TestBroker::start();
    let state = broker.state();
    let lease = lease(&state).await;
    let entry = &built_in("celery").unwrap()[0];
    let days = ["23", "24", "25"].map(|day| utc(&format!("2026-11-{day}T03:00:00Z")));
    let [seen, first, second] = days;
    state.introduce(&[&entry.name], seen).await.unwrap();
    let message = encoded(entry, first);
    let sending = state.send(&lease, &entry.name, seen, first, &message).await.unwrap();
    assert_eq!(sending, Sending::Sent);

    let patience = Duration::from_millis(300);
    let impatient = broker.settings().timeouts(patience, patience);
    let impatient = BeatState::new(Connection::new(impatient), "");
    impatient.last_runs().await.unwrap();
    let message = encoded(entry, second);
    broker.server.pause();
    let unanswered = impatient.send(&lease, &entry.name, first, second, &message).await;
    assert!(unanswered.is_err(), "{unanswered:?}");
    broker.server.resume();
    eventually("Redis did what it was asked", || broker.messages("celery").len() == 2).await;

    let again = state.send(&lease, &entry.name, first, second, &message).await.unwrap();

    assert_eq!(again, Sending::Advanced);
    assert_eq!(broker.messages("celery").len(), 2);
}

#[tokio::test]
async fn an_outage_is_outlived_and_no_slot_is_sent_twice() {
    let broker = TestBroker::start_durable();
    let every = TimeDelta::milliseconds(50);
    let entry = Entry {
        name: "often".to_owned(),
        task: "t.often".to_owned(),
        schedule: Schedule::Interval(Interval::new(every).unwrap()),
        queue: "celery".to_owned(),
    };
    let beat = Beat::new(broker.state(), vec![entry], "beat@test".into());

    let mut outages = 0;
    let mut sent = 0;
    run_until(beat, "it has sent after three outages", || {
        if broker.messages("celery").len() < sent + 3 {
            return false;
        }
        if outages == 3 {
            return true;
        }
        outages += 1;
        broker.server.stop();
        broker.server.restart();
        sent = broker.messages("celery").len();
        false
    })
    .await;

    let ids = broker.ids("celery");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a slot was sent twice");
}
