//! What happens to the deliveries of a process that dies, is silent for too long, or leaves.

use std::time::Duration;

use celery_redis::transport::delivery::{Settled, StoredResult};
use celery_redis::transport::lease::Renewal;
use celery_redis::transport::scheduled::Promotion;
use celery_redis::wire::envelope::delivery_count;
use celery_redis::wire::signature::Encoded;
use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::broker::{TestRedis, id, message};

#[tokio::test]
async fn a_dead_process_s_messages_return_to_the_head_in_their_order() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let lists = [redis.keys.list("celery", 0), redis.keys.list("celery", 9)];
    for list in &lists {
        for id in ["a", "b", "c"] {
            redis.push(list, &message(id));
        }
    }
    let lent = dead.claim(6).await;
    for list in &lists {
        redis.push(list, &message("later"));
    }
    redis.end_lease(&dead.id);

    let returned = redis.process().await.broker.reclaim_dead().await.unwrap().unwrap();

    assert_eq!(returned, 6);
    for list in &lists {
        assert_eq!(redis.ids(list), ["a", "b", "c", "later"]);
        let back: Value = serde_json::from_str(&redis.waiting(list)[0]).unwrap();
        assert_eq!(back["headers"]["redelivered"], true);
        assert_eq!(back["properties"]["delivery_info"]["redelivered"], true);
        assert_eq!(back["headers"]["x-delivery-count"], 1);
        assert!(!redis.waiting(list)[3].contains("redelivered"));
    }
    assert_eq!(redis.unacked(), 0);
    assert!(!redis.query::<bool>("HEXISTS", &[redis.keys.processes(), dead.id.clone()]));
    drop(lent);
}

#[tokio::test]
async fn more_messages_than_one_step_carries_return_in_their_order() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let sent: Vec<String> = (0..250).map(|number| format!("{number:03}")).collect();
    for id in &sent {
        redis.push("celery", &message(id));
    }
    let lent = dead.claim(250).await;
    redis.end_lease(&dead.id);

    let returned = redis.process().await.broker.reclaim_dead().await.unwrap().unwrap();

    assert_eq!(returned, 250);
    assert_eq!(redis.ids("celery"), sent);
    drop(lent);
}

#[tokio::test]
async fn nothing_is_taken_from_the_living() {
    let redis = TestRedis::start();
    let living = redis.process().await;
    redis.push("celery", &message("a"));
    let lent = living.claim_one().await;

    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(0));

    assert_eq!(lent.ack().await.unwrap(), Settled::Done);
}

#[tokio::test]
async fn a_process_that_renewed_after_a_reaper_looked_keeps_what_it_holds() {
    let redis = TestRedis::start();
    let living = redis.process().await;
    redis.push("celery", &message("a"));
    let lent = living.claim_one().await;
    let tags: Vec<String> = redis.query("HKEYS", redis.keys.unacked());

    // The reaper's step, begun when the lease had run out.
    let client = redis::Client::open(redis.server.url()).unwrap();
    let script = include_str!("../../src/transport/scripts/reclaim.lua");
    let reply: (i64, i64) = redis::Script::new(script)
        .key(redis.keys.processes())
        .key(redis.keys.alive(&living.id))
        .key(redis.keys.held(&living.id))
        .key(redis.keys.unacked())
        .key(redis.keys.unacked_index())
        .key(redis.keys.dead())
        .key(redis.keys.dead_records())
        .key(redis.keys.dead_messages())
        .key(redis.keys.apart(""))
        .arg(&living.id)
        .arg("dead")
        .arg("1800000000.000000")
        .arg(100)
        .arg(&tags[0])
        .arg("celery")
        .arg(message("a"))
        .arg("")
        .invoke(&mut client.get_connection().unwrap())
        .unwrap();

    assert_eq!(reply, (-1, 0));
    assert_eq!(living.broker.renew().await.unwrap(), Renewal::Renewed);
    assert_eq!(lent.ack().await.unwrap(), Settled::Done);
}

#[tokio::test]
async fn whoever_lost_its_lease_settles_nothing_of_another_s() {
    let redis = TestRedis::start();
    let paused = redis.process().await;
    redis.push("celery", &message("a"));
    let taken = paused.claim_one().await;
    redis.end_lease(&paused.id);
    let other = redis.process().await;
    assert_eq!(other.broker.reclaim_dead().await.unwrap(), Some(1));
    let again = other.claim_one().await;
    assert_eq!(id(again.message()), "a");

    let result = StoredResult { key: "result".into(), ttl_seconds: 60, record: "{}".into() };
    let follow_up = Encoded {
        id: "next".into(),
        queue: "celery".into(),
        priority: 0,
        bytes: message("next").into_bytes(),
    };
    let settled = taken.settle(vec![follow_up], Some(result)).await.unwrap();

    assert_eq!(settled, Settled::LeaseLost);
    assert!(!redis.query::<bool>("EXISTS", "result"));
    assert!(redis.waiting("celery").is_empty());
    assert_eq!(redis.unacked(), 1);
    assert_eq!(again.ack().await.unwrap(), Settled::Done);
}

#[tokio::test]
async fn whoever_lost_its_lease_learns_it_and_goes_on_under_a_new_identity() {
    let redis = TestRedis::start();
    let paused = redis.process().await;
    redis.push("celery", &message("a"));
    let taken = paused.claim_one().await;
    redis.end_lease(&paused.id);
    let other = redis.process().await;
    assert_eq!(other.broker.reclaim_dead().await.unwrap(), Some(1));

    assert_eq!(paused.broker.renew().await.unwrap(), Renewal::Lost);

    let processes: Vec<String> = redis.query("HKEYS", redis.keys.processes());
    assert_eq!(processes.len(), 2);
    assert!(!processes.contains(&paused.id));
    assert_eq!(id(paused.claim_one().await.message()), "a");
    assert_eq!(taken.ack().await.unwrap(), Settled::LeaseLost);
}

#[tokio::test]
async fn a_renewal_makes_the_scores_new_so_that_kombu_restores_nothing() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let tags: Vec<String> = redis.query("HKEYS", redis.keys.unacked());
    let _: i64 = redis.query("ZADD", &[&redis.keys.unacked_index(), "1000000000", &tags[0]]);

    assert_eq!(process.broker.renew().await.unwrap(), Renewal::Renewed);

    let score: f64 = redis.query("ZSCORE", &[&redis.keys.unacked_index(), &tags[0]]);
    let (seconds, _): (f64, u64) = redis.query("TIME", &[] as &[&str]);
    assert!((seconds - score).abs() < 60.0, "{score}");
    drop(delivery);
}

#[tokio::test]
async fn a_leaving_process_gives_back_without_a_death_being_counted() {
    let redis = TestRedis::start();
    let leaving = redis.process().await;
    for id in ["a", "b"] {
        redis.push("celery", &message(id));
    }
    let lent = leaving.claim(2).await;

    assert_eq!(leaving.broker.leave().await.unwrap(), 2);

    assert_eq!(redis.ids("celery"), ["a", "b"]);
    assert_eq!(delivery_count(redis.waiting("celery")[0].as_bytes()), 0);
    assert!(!redis.query::<bool>("EXISTS", redis.keys.alive(&leaving.id)));
    assert_eq!(redis.query::<usize>("HLEN", redis.keys.processes()), 0);
    drop(lent);
}

#[tokio::test]
async fn a_message_that_kombu_restored_is_not_put_back_a_second_time() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    redis.push("celery", &message("a"));
    let lent = dead.claim_one().await;
    // What kombu's restore does, in one transaction.
    let tags: Vec<String> = redis.query("HKEYS", redis.keys.unacked());
    let _: i64 = redis.query("HDEL", &[&redis.keys.unacked(), &tags[0]]);
    let _: i64 = redis.query("ZREM", &[&redis.keys.unacked_index(), &tags[0]]);
    redis.push("celery", &message("a"));
    redis.end_lease(&dead.id);

    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(0));

    assert_eq!(redis.ids("celery"), ["a"]);
    assert!(!redis.query::<bool>("EXISTS", redis.keys.held(&dead.id)));
    assert_eq!(lent.ack().await.unwrap(), Settled::LeaseLost);
}

#[tokio::test]
async fn a_renewal_tells_what_nobody_asks_for_by_itself() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let told = process.broker.news();
    assert_eq!(process.broker.renew().await.unwrap(), Renewal::Renewed);
    let alone = told.borrow().unwrap();
    assert_eq!(alone.waiting, Promotion { next_due: None, waiting_rooms: 0 });
    assert!(!alone.others && !alone.reaped);

    let other = redis.process().await;
    redis.push("celery", &message("a"));
    let due = Utc::now() + TimeDelta::seconds(60);
    assert_eq!(other.claim_one().await.defer(due).await.unwrap(), Settled::Done);
    redis.query::<usize>("SADD", &[redis.keys.waiting_rooms(), "room".to_owned()]);
    redis.end_lease(&other.id);

    // One that has died is still known: somebody has to look.
    assert_eq!(process.broker.renew().await.unwrap(), Renewal::Renewed);
    let news = told.borrow().unwrap();
    let wait = news.waiting.next_due.unwrap();
    assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(20), "{wait:?}");
    assert_eq!(news.waiting.waiting_rooms, 1);
    assert!(news.others && !news.reaped);

    // A reaper's key lives for a sixth of the lease: whoever looks later finds it gone.
    assert_eq!(process.broker.reclaim_dead().await.unwrap(), Some(0));
    assert_eq!(process.broker.renew().await.unwrap(), Renewal::Renewed);
    let news = told.borrow().unwrap();
    assert!(!news.others && news.reaped);
}
