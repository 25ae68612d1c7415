//! Messages that wait for their task's limits, and the places of those that run.

use std::time::Duration;

use celery_redis::transport::delivery::{Delivery, Origin, Settled};
use celery_redis::transport::waiting_room::{
    CalledIn, FleetLimits, LocalToken, Passed, WaitingRoom,
};

use crate::broker::{TestProcess, TestRedis, eventually, id, ids, message};

const TASK: &str = "t.add";
const ONE_PLACE: FleetLimits = FleetLimits { interval: None, concurrency: Some(1) };

fn room() -> WaitingRoom {
    WaitingRoom { queue: "celery".to_owned(), task: TASK.to_owned() }
}

async fn pass(delivery: Delivery, limits: FleetLimits) -> Option<Delivery> {
    match delivery.pass(TASK, limits, LocalToken::Taken).await.unwrap() {
        Passed::In(delivery) => Some(delivery),
        Passed::Waits => None,
        Passed::LeaseLost => panic!("the delivery is another's"),
    }
}

async fn call_in(process: &TestProcess, limits: FleetLimits) -> Option<Delivery> {
    match process.broker.call_in(&room(), limits).await.unwrap() {
        CalledIn::Delivery(delivery) => Some(delivery),
        CalledIn::LeaseGone => panic!("the lease is gone"),
        CalledIn::NotBefore(_) | CalledIn::Full | CalledIn::Empty => None,
    }
}

/// Three messages, of which the first has passed.
async fn one_in_and_two_waiting(redis: &TestRedis, process: &TestProcess) -> Delivery {
    for id in ["a", "b", "c"] {
        redis.push("celery", &message(id));
    }
    let mut deliveries = process.claim(3).await.into_iter();
    let first = pass(deliveries.next().unwrap(), ONE_PLACE).await.expect("there is a place");
    for delivery in deliveries {
        assert!(pass(delivery, ONE_PLACE).await.is_none());
    }
    assert_eq!(redis.unacked(), 1);
    first
}

#[tokio::test]
async fn who_waits_is_called_in_in_order_when_a_place_is_free() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let other = redis.process().await;
    let first = one_in_and_two_waiting(&redis, &process).await;
    assert!(call_in(&other, ONE_PLACE).await.is_none());

    assert_eq!(first.ack().await.unwrap(), Settled::Done);

    let second = call_in(&other, ONE_PLACE).await.expect("the place is free");
    assert_eq!((id(second.message()), second.origin()), ("b".to_owned(), Origin::WaitingRoom));
    assert!(call_in(&process, ONE_PLACE).await.is_none());
    assert_eq!(second.ack().await.unwrap(), Settled::Done);
    let third = call_in(&process, ONE_PLACE).await.expect("the place is free");
    assert_eq!(id(third.message()), "c");
    assert_eq!(third.ack().await.unwrap(), Settled::Done);
    assert!(call_in(&process, ONE_PLACE).await.is_none());
    assert!(process.broker.waiting_rooms().await.unwrap().is_empty());
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn the_place_of_a_dead_process_is_free_when_its_message_is_back() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let other = redis.process().await;
    let lost = one_in_and_two_waiting(&redis, &dead).await;
    redis.end_lease(&dead.id);
    assert!(call_in(&other, ONE_PLACE).await.is_none());

    assert_eq!(other.broker.reclaim_dead().await.unwrap(), Some(1));

    assert_eq!(id(call_in(&other, ONE_PLACE).await.unwrap().message()), "b");
    assert_eq!(redis.ids("celery"), ["a"]);
    assert_eq!(lost.ack().await.unwrap(), Settled::LeaseLost);
}

#[tokio::test]
async fn nobody_overtakes_who_waits() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let first = one_in_and_two_waiting(&redis, &process).await;
    assert_eq!(first.ack().await.unwrap(), Settled::Done);
    redis.push("celery", &message("d"));

    // There is a place, but it belongs to those who came before.
    assert!(pass(process.claim_one().await, ONE_PLACE).await.is_none());

    let mut order = Vec::new();
    while let Some(delivery) = call_in(&process, ONE_PLACE).await {
        order.extend(ids(std::slice::from_ref(&delivery)));
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    }
    assert_eq!(order, ["b", "c", "d"]);
}

#[tokio::test]
async fn bytes_list_and_priority_are_kept_while_a_message_waits() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let list = redis.keys.list("celery", 9);
    let odd = b"{\"n\": 1.0, \"e\": [], \"i\": 12345678901234567890}\xff\x00";
    let _: i64 = redis.query("LPUSH", &[list.as_bytes(), odd]);
    let limits = FleetLimits::default();
    let delivery = process.claim_one().await;

    let passed = delivery.pass(TASK, limits, LocalToken::Missing).await.unwrap();

    assert!(matches!(passed, Passed::Waits));
    let back = call_in(&process, limits).await.expect("there is no limit any more");
    assert_eq!(&back.message()[..], odd);
    let held: Vec<String> = redis.query("HVALS", redis.keys.held(&process.id));
    assert_eq!(held, [list]);
}

#[tokio::test]
async fn the_rate_of_the_fleet_is_one_for_all_processes() {
    let redis = TestRedis::start();
    let (one, other) = (redis.process().await, redis.process().await);
    let hourly = FleetLimits { interval: Some(Duration::from_secs(3600)), concurrency: None };
    for id in ["a", "b"] {
        redis.push("celery", &message(id));
    }
    let first = pass(one.claim_one().await, hourly).await.expect("there is a token");
    assert!(pass(other.claim_one().await, hourly).await.is_none());

    let called = other.broker.call_in(&room(), hourly).await.unwrap();

    let CalledIn::NotBefore(wait) = called else { panic!("{called:?}") };
    assert!(wait > Duration::from_secs(3590) && wait <= Duration::from_secs(3600), "{wait:?}");
    assert_eq!(first.ack().await.unwrap(), Settled::Done);
}

#[tokio::test]
async fn a_delivery_that_another_has_neither_begins_nor_waits() {
    let redis = TestRedis::start();
    let slow = redis.process().await;
    redis.push("celery", &message("a"));
    let delivery = slow.claim_one().await;
    redis.end_lease(&slow.id);
    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(1));

    let passed = delivery.pass(TASK, ONE_PLACE, LocalToken::Taken).await.unwrap();

    assert!(matches!(passed, Passed::LeaseLost));
    assert_eq!(redis.ids("celery"), ["a"]);
    assert!(slow.broker.waiting_rooms().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_was_called_in_by_a_process_that_never_heard_of_it_goes_back() {
    let redis = TestRedis::start();
    let process = redis.impatient_process().await;
    let first = one_in_and_two_waiting(&redis, &process).await;
    // From now on the server knows the script.
    assert!(call_in(&process, ONE_PLACE).await.is_none());
    assert_eq!(first.ack().await.unwrap(), Settled::Done);
    redis.server.pause();
    assert!(process.broker.call_in(&room(), ONE_PLACE).await.unwrap_err().is_outage());
    redis.server.resume();
    eventually("it is called in", || redis.unacked() == 1).await;

    assert_eq!(process.broker.return_unknown_claims().await.unwrap(), 1);

    assert_eq!(redis.ids("celery"), ["b"]);
    assert_eq!(id(call_in(&process, ONE_PLACE).await.unwrap().message()), "c");
}

#[tokio::test]
async fn who_has_no_lease_calls_nobody_in() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let _first = one_in_and_two_waiting(&redis, &process).await;
    redis.end_lease(&process.id);

    let called = process.broker.call_in(&room(), FleetLimits::default()).await.unwrap();

    assert!(matches!(called, CalledIn::LeaseGone));
}
