//! Each slot is sent once, and as Celery sends it.

use std::collections::HashSet;
use std::time::Duration;

use beat::built_in;
use beat::entry::{Call, CatchUp, Entry, Misfire};
use beat::schedule::Schedule;
use celery_redis::transport::beat_state::{BeatState, Lease, Outcome, Role, Sending, Switch};
use celery_redis::transport::connection::{Connection, ConnectionSettings};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::broker::{TestBroker, eventually};
use crate::running::{beat, introduce, run_until, slot};

const MINUTE: Duration = Duration::from_secs(60);

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn entry(name: &str, schedule: &str) -> Entry {
    let call = Call { task: format!("t.{name}"), queue: "celery".to_owned(), ..Call::default() };
    Entry::new(name, call, Schedule::parse(schedule, Tz::UTC).unwrap())
}

async fn lease(state: &BeatState) -> Lease {
    match state.tick("beat@test", "process", MINUTE, MINUTE).await.unwrap().role {
        Role::Leading(lease) => lease,
        Role::Waiting { leader, .. } => panic!("{leader} leads"),
    }
}

/// What was sent of the slots of one call.
fn outcomes(sending: Sending) -> Vec<Outcome> {
    match sending {
        Sending::Leading { outcomes, .. } => outcomes,
        Sending::NotLeading => panic!("another beat leads"),
    }
}

#[tokio::test]
async fn missed_slots_are_caught_up_once_however_often_beat_starts() {
    let broker = TestBroker::start();
    let entries = built_in("celery").unwrap();
    introduce(&broker.state(), &entries, utc("2026-01-01T00:00:00Z")).await;

    for _ in 0..3 {
        let beat = beat(&broker, &entries, "beat@test");
        run_until(beat, "every entry was sent", || broker.messages("celery").len() >= 5).await;
    }

    assert_eq!(broker.ids("celery").len(), 5);
    let ledger = broker.state().ledger().await.unwrap();
    assert!(ledger.values().all(|known| known.count == 1), "{ledger:?}");
}

#[tokio::test]
async fn many_beats_at_once_send_each_slot_once() {
    let broker = TestBroker::start();
    let entries = built_in("celery").unwrap();
    introduce(&broker.state(), &entries, utc("2026-01-01T00:00:00Z")).await;

    let beats = (0..8).map(|number| {
        let beat = beat(&broker, &entries, &format!("beat@{number}"));
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

    let beat = beat(&broker, &entries, "beat@test");
    let known = || broker.query::<u64>(&["HLEN", "_celery_redis.beat.last_runs"]) == 5;
    run_until(beat, "the entries are known", known).await;

    assert!(broker.messages("celery").is_empty());
    let ledger = broker.state().ledger().await.unwrap();
    let just_now = before - TimeDelta::seconds(1);
    assert!(ledger.values().all(|known| known.cursor.is_some_and(|cursor| cursor > just_now)));
    assert!(ledger.values().all(|known| known.count == 0 && known.sent.is_none()));
}

#[tokio::test]
async fn messages_are_those_of_celerys_beat() {
    let capture: Value = serde_json::from_str(include_str!("celery-beat-interval.json")).unwrap();
    let golden = capture["messages"][2]["envelope"].clone();
    assert_eq!(golden["headers"]["task"], "other.task", "the entry that Celery does not know");
    let broker = TestBroker::start();
    let state = broker.state();
    let mut entry = built_in("night").unwrap().remove(0);
    // As in the capture.
    entry.call.expires = Some(60.0);
    entry.call.headers.insert("x".to_owned(), golden["headers"]["x"].clone());
    let (seen, next) = (utc("2026-11-23T12:00:00Z"), utc("2026-11-24T03:00:00Z"));
    introduce(&state, std::slice::from_ref(&entry), seen).await;

    let sending = state.send(&lease(&state).await, &[slot(&entry, seen, next)]).await.unwrap();

    assert_eq!(outcomes(sending), [Outcome::Sent]);
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
    introduce(&state, std::slice::from_ref(entry), seen).await;
    let sending = state.send(&lease, &[slot(entry, seen, first)]).await.unwrap();
    assert_eq!(outcomes(sending), [Outcome::Sent]);

    let patience = Duration::from_millis(300);
    let impatient = broker.settings().timeouts(patience, patience);
    let impatient = BeatState::new(Connection::new(impatient), "");
    // What it may do is known by then.
    let before = impatient.send(&lease, &[slot(entry, seen, first)]).await.unwrap();
    assert_eq!(outcomes(before), [Outcome::Before]);
    let slots = [slot(entry, first, second)];
    broker.server.pause();
    let unanswered = impatient.send(&lease, &slots).await;
    assert!(unanswered.is_err(), "{unanswered:?}");
    broker.server.resume();
    eventually("Redis did what it was asked", || broker.messages("celery").len() == 2).await;

    let again = state.send(&lease, &slots).await.unwrap();

    assert_eq!(outcomes(again), [Outcome::Before]);
    assert_eq!(broker.messages("celery").len(), 2);
}

#[tokio::test]
async fn each_missed_slot_of_all_is_sent_in_order_and_those_of_skip_are_passed_over() {
    let broker = TestBroker::start();
    let (mut all, mut skip) = (entry("all", "0 3 * * *"), entry("skip", "0 3 * * *"));
    all.catch_up.misfire = Misfire::All { limit: 3 };
    skip.catch_up = CatchUp { misfire: Misfire::Skip, deadline: None };
    let entries = [all.clone(), skip.clone()];
    let state = broker.state();
    introduce(&state, &entries, utc("2026-01-01T00:00:00Z")).await;

    let running = beat(&broker, &entries, "beat@test");
    run_until(running, "all is done", || broker.messages("celery").len() >= 3).await;

    let latest = all.schedule.due(utc("2026-01-01T00:00:00Z"), Utc::now()).unwrap();
    let days = [2, 1, 0].map(|days| latest - TimeDelta::days(days));
    assert_eq!(broker.ids("celery"), days.map(|slot| all.task_id(slot).to_string()));
    let ledger = state.ledger().await.unwrap();
    assert_eq!((ledger["all"].count, ledger["skip"].count), (3, 0));
    assert_eq!(ledger["skip"].cursor, Some(latest), "it is remembered as passed over");
}

#[tokio::test]
async fn a_batch_is_sent_but_for_what_somebody_sent_before() {
    let broker = TestBroker::start();
    let state = broker.state();
    let lease = lease(&state).await;
    let (one, other) = (entry("one", "0 3 * * *"), entry("other", "0 3 * * *"));
    let [seen, first] = ["23", "24"].map(|day| utc(&format!("2026-11-{day}T03:00:00Z")));
    introduce(&state, &[one.clone(), other.clone()], seen).await;
    state.send(&lease, &[slot(&one, seen, first)]).await.unwrap();

    let slots = [slot(&one, seen, first), slot(&other, seen, first)];
    let sending = state.send(&lease, &slots).await.unwrap();

    assert_eq!(outcomes(sending), [Outcome::Before, Outcome::Sent]);
    let ids = [&one, &other].map(|entry| entry.task_id(first).to_string());
    assert_eq!(broker.ids("celery"), ids);
}

#[tokio::test]
async fn a_queue_that_is_no_list_keeps_nothing_else_from_being_sent() {
    let broker = TestBroker::start();
    let (mut bad, good) = (entry("bad", "0 3 * * *"), entry("good", "0 3 * * *"));
    bad.call.queue = "no-list".to_owned();
    broker.query::<()>(&["SET", "no-list", "x"]);
    let entries = [bad, good];
    introduce(&broker.state(), &entries, utc("2026-01-01T00:00:00Z")).await;

    let sent = || !broker.messages("celery").is_empty();
    run_until(beat(&broker, &entries, "beat@test"), "the good one is sent", sent).await;
    let ledger = broker.state().ledger().await.unwrap();
    assert_eq!(ledger["bad"].cursor, Some(utc("2026-01-01T00:00:00Z")), "it is still due");

    broker.query::<()>(&["DEL", "no-list"]);
    let sent = || !broker.messages("no-list").is_empty();
    run_until(beat(&broker, &entries, "beat@test"), "the other one too", sent).await;
    assert_eq!(broker.messages("celery").len(), 1);
}

#[tokio::test]
async fn arguments_priority_and_options_reach_the_message() {
    let broker = TestBroker::start();
    let state = broker.state();
    let mut full = entry("full", "0 3 * * *");
    full.call.args = vec![json!(1), json!({"deep": [true]})];
    full.call.kwargs.insert("full".to_owned(), json!("x"));
    full.call.priority = 6;
    let (seen, next) = (utc("2026-11-23T12:00:00Z"), utc("2026-11-24T03:00:00Z"));
    introduce(&state, std::slice::from_ref(&full), seen).await;

    state.send(&lease(&state).await, &[slot(&full, seen, next)]).await.unwrap();

    let message = broker.messages("celery\u{6}\u{16}6").remove(0);
    assert_eq!(message["properties"]["priority"], 6);
    assert_eq!(message["headers"]["argsrepr"], "(1, {'deep': [True]})");
    assert_eq!(message["headers"]["kwargsrepr"], "{'full': 'x'}");
}

#[tokio::test]
async fn an_outage_is_outlived_and_no_slot_is_sent_twice() {
    let broker = TestBroker::start_durable();
    let often = entry("often", "every 50ms");

    let mut outages = 0;
    let mut sent = 0;
    run_until(beat(&broker, &[often], "beat@test"), "it has sent after three outages", || {
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

#[tokio::test]
async fn who_is_switched_off_is_not_sent_and_misses_nothing_meanwhile() {
    let broker = TestBroker::start();
    let state = broker.state();
    let entries = [entry("off", "0 3 * * *"), entry("on", "0 3 * * *")];
    introduce(&state, &entries, utc("2026-01-01T00:00:00Z")).await;
    assert!(state.switch("off", Some(Switch::Off), None).await.unwrap());
    assert!(!state.switch("unknown", Some(Switch::Off), None).await.unwrap());

    let sent = || !broker.messages("celery").is_empty();
    run_until(beat(&broker, &entries, "beat@test"), "one of them is sent", sent).await;
    state.switch("off", None, Some(Utc::now())).await.unwrap();
    let ticked = || broker.query(&["EXISTS", "_celery_redis.beat.tick.beat@again"]);
    run_until(beat(&broker, &entries, "beat@again"), "both are known", ticked).await;

    assert_eq!(broker.messages("celery").len(), 1);
    assert_eq!(broker.messages("celery")[0]["headers"]["task"], "t.on");
}

#[tokio::test]
async fn what_beat_sends_is_recorded_with_its_lag() {
    let broker = TestBroker::start();
    let often = entry("often", "every 100ms");

    let sent = || broker.messages("celery").len() >= 3;
    run_until(beat(&broker, std::slice::from_ref(&often), "beat@test"), "it sends", sent).await;

    let known = broker.state().ledger().await.unwrap().remove("often").unwrap();
    let sent = known.sent.unwrap();
    assert_eq!(Some(sent.slot), known.cursor);
    assert_eq!(sent.id, often.task_id(sent.slot).to_string());
    assert!(sent.at >= sent.slot && sent.at < sent.slot + TimeDelta::seconds(10), "{sent:?}");
    assert_eq!(broker.ids("celery").last(), Some(&sent.id));
}

#[tokio::test]
async fn slots_of_one_step_follow_each_other_however_many_they_are() {
    let broker = TestBroker::start();
    let state = broker.state();
    let entries = [entry("often", "every 1s"), entry("seldom", "every 1s")];
    let start = utc("2026-01-01T00:00:00Z");
    introduce(&state, &entries, start).await;
    let at = |seconds| start + TimeDelta::seconds(seconds);
    // More than Lua's stack holds at once, two entries in turn, and one slot twice.
    let mut slots: Vec<_> = (0..2500)
        .flat_map(|second| entries.iter().map(move |entry| (entry, second)))
        .map(|(entry, second)| slot(entry, at(second), at(second + 1)))
        .collect();
    slots.push(slot(&entries[0], at(0), at(1)));

    let sent = outcomes(state.send(&lease(&state).await, &slots).await.unwrap());

    assert_eq!(sent.iter().filter(|outcome| **outcome == Outcome::Sent).count(), 5000);
    assert_eq!(sent[5000], Outcome::Before);
    assert_eq!(broker.messages("celery").len(), 5000);
    assert_eq!(broker.ids("celery").len(), 5000);
    let ledger = state.ledger().await.unwrap();
    for entry in &entries {
        let known = &ledger[&entry.name];
        assert_eq!((known.count, known.cursor), (2500, Some(at(2500))));
        assert_eq!(known.sent.as_ref().map(|sent| sent.slot), Some(at(2500)));
    }
}

#[tokio::test]
async fn what_is_refused_leaves_every_queue_as_it_was() {
    let broker = TestBroker::start();
    let state = broker.state();
    let stale = lease(&state).await;
    state.resign("beat@test", "process").await.unwrap();
    let lease = lease(&state).await;
    let (one, mut other) = (entry("one", "0 3 * * *"), entry("other", "0 3 * * *"));
    other.call.queue = "empty".to_owned();
    let [seen, first] = ["23", "24"].map(|day| utc(&format!("2026-11-{day}T03:00:00Z")));
    introduce(&state, &[one.clone(), other.clone()], seen).await;
    broker.query::<()>(&["LPUSH", "celery", r#"{"headers": {"id": "a"}}"#]);
    broker.query::<()>(&["LPUSH", "celery", r#"{"headers": {"id": "b"}}"#]);
    let url = broker.server.url();
    let consumer = std::thread::spawn(move || {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let command = redis::cmd("BLPOP").arg("empty").arg("end").arg(0).take();
        command.query::<(String, String)>(&mut connection).unwrap()
    });
    let blocked = || broker.query::<String>(&["INFO", "clients"]).contains("blocked_clients:1");
    eventually("somebody waits for the queue", blocked).await;

    let slots = [slot(&one, seen, first), slot(&other, seen, first)];
    assert_eq!(state.send(&stale, &slots).await.unwrap(), Sending::NotLeading);
    let early = [slot(&one, first, first), slot(&other, first, first)];
    let sending = state.send(&lease, &early).await.unwrap();
    assert_eq!(outcomes(sending), [Outcome::Before, Outcome::Before]);

    assert_eq!(broker.ids("celery"), ["a", "b"]);
    broker.query::<()>(&["LPUSH", "end", "nothing came"]);
    assert_eq!(consumer.join().unwrap().1, "nothing came");
    let ledger = state.ledger().await.unwrap();
    assert!(ledger.values().all(|known| known.cursor == Some(seen) && known.count == 0));
    let script_calls = || broker.query::<String>(&["INFO", "commandstats"]);
    assert!(script_calls().contains("cmdstat_evalsha"), "slot by slot, after it was refused");

    broker.query::<()>(&["CONFIG", "RESETSTAT"]);
    let sending = state.send(&lease, &slots).await.unwrap();

    assert_eq!(outcomes(sending), [Outcome::Sent, Outcome::Sent]);
    assert_eq!(broker.ids("celery")[2..], [one.task_id(first).to_string()]);
    assert_eq!(broker.ids("empty"), [other.task_id(first).to_string()]);
    assert!(!script_calls().contains("cmdstat_evalsha"), "all of it in one transaction");
}

#[tokio::test]
async fn a_beat_that_may_not_take_messages_out_again_decides_slot_by_slot() {
    for denied in ["-ltrim", "-multi", "-exec"] {
        let broker = TestBroker::start();
        let rules = ["ACL", "SETUSER", "beat", "on", ">secret", "~*", "&*", "+@all", denied];
        broker.query::<()>(&rules);
        let url = broker.server.url().replace("redis://", "redis://beat:secret@");
        let settings = ConnectionSettings::parse(&url).unwrap();
        let state = BeatState::new(Connection::new(settings), "");
        let lease = lease(&state).await;
        let one = entry("one", "0 3 * * *");
        let [seen, first] = ["23", "24"].map(|day| utc(&format!("2026-11-{day}T03:00:00Z")));
        introduce(&state, std::slice::from_ref(&one), seen).await;

        let sent = outcomes(state.send(&lease, &[slot(&one, seen, first)]).await.unwrap());
        let again = outcomes(state.send(&lease, &[slot(&one, seen, first)]).await.unwrap());

        assert_eq!((sent, again), (vec![Outcome::Sent], vec![Outcome::Before]), "{denied}");
        assert_eq!(broker.ids("celery"), [one.task_id(first).to_string()], "{denied}");
    }
}
