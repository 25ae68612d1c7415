//! Replies that do not come, and requests that come too late.

use std::time::Duration;

use celery_redis::transport::delivery::{Settled, StoredResult};
use celery_redis::transport::lease::Renewal;
use celery_redis::wire::signature::Encoded;

use crate::broker::{TestRedis, eventually, id, message};

#[tokio::test]
async fn what_a_claim_took_whose_reply_was_lost_goes_back_to_the_head() {
    let redis = TestRedis::start();
    let process = redis.impatient_process().await;
    for id in ["a", "b", "c"] {
        redis.push("celery", &message(id));
    }
    let known = process.claim_one().await;
    redis.server.pause();
    assert!(process.broker.claim(1).await.unwrap_err().is_outage());
    redis.server.resume();
    eventually("the claim is executed", || redis.unacked() == 2).await;

    assert_eq!(process.broker.return_unknown_claims().await.unwrap(), 1);

    assert_eq!(redis.ids("celery"), ["b", "c"]);
    assert_eq!(known.ack().await.unwrap(), Settled::Done);
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn what_a_claim_takes_after_it_was_given_up_goes_back_with_the_next_renewal() {
    let redis = TestRedis::start();
    let process = redis.impatient_process().await;
    redis.server.pause();
    assert!(process.broker.claim(1).await.unwrap_err().is_outage());
    redis.server.resume();
    assert_eq!(process.broker.return_unknown_claims().await.unwrap(), 0);
    // What that claim does if the network lets it through only now.
    let tag = format!("{}.0", process.id);
    let record = format!(r#"[{}, "", "celery"]"#, message("a"));
    let _: i64 = redis.query("HSET", &[&redis.keys.unacked(), &tag, &record]);
    let _: i64 = redis.query("ZADD", &[&redis.keys.unacked_index(), "1000000000", &tag]);
    let _: i64 = redis.query("HSET", &[&redis.keys.held(&process.id), &tag, "celery"]);
    redis.push("celery", &message("b"));
    let known = process.claim_one().await;
    assert_eq!(id(known.message()), "b");

    assert_eq!(process.broker.renew().await.unwrap(), Renewal::Renewed);

    assert_eq!(redis.ids("celery"), ["a"]);
    assert_eq!(known.ack().await.unwrap(), Settled::Done);
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_settlement_whose_reply_was_lost_is_not_done_twice() {
    let redis = TestRedis::start();
    let process = redis.impatient_process().await;
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let follow_up = Encoded {
        id: "b".into(),
        queue: "celery".into(),
        priority: 0,
        bytes: message("b").into_bytes(),
    };
    let result = StoredResult { key: "result".into(), ttl_seconds: 0, record: "{}".into() };
    redis.server.pause();
    let settling = tokio::spawn(delivery.settle(vec![follow_up], Some(result)));
    // The first attempt lies in the server's socket when the connection is given up.
    let connection = process.broker.connection();
    eventually("the reply is missed", || connection.serving_for().is_none()).await;
    redis.server.resume();

    let settled = tokio::time::timeout(Duration::from_secs(30), settling).await.unwrap();

    assert_eq!(settled.unwrap().unwrap(), Settled::Done);
    assert_eq!(redis.ids("celery"), ["b"]);
    assert_eq!(redis.query::<String>("GET", "result"), "{}");
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_registration_without_an_answer_is_repeated_under_another_identity() {
    let redis = TestRedis::start();
    let process = redis.impatient_process().await;
    redis.server.pause();
    assert!(process.broker.register().await.unwrap_err().is_outage());
    redis.server.resume();

    process.broker.register().await.unwrap();

    let processes: Vec<String> = redis.query("HKEYS", redis.keys.processes());
    assert_eq!(processes.len(), 2);
    assert!(processes.contains(&process.id));
}
