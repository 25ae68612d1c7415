//! Messages that wait in Redis for their instant.

use std::time::Duration;

use celery_redis::transport::delivery::Settled;
use chrono::{TimeDelta, Utc};

use crate::broker::{DEADLINE, TestRedis, message};

#[tokio::test]
async fn what_is_due_goes_to_the_head_of_its_own_list_the_earliest_first() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let lists = [redis.keys.list("celery", 0), redis.keys.list("celery", 6)];
    let now = Utc::now();
    for list in &lists {
        for id in ["1", "2", "3", "hour"] {
            redis.push(list, &message(id));
        }
    }
    // Deferred in another order than they are due.
    for (delivery, due) in process.claim(8).await.into_iter().zip([-10, -30, -20, 3600].repeat(2)) {
        let due = now + TimeDelta::seconds(due);
        assert_eq!(delivery.defer(due).await.unwrap(), Settled::Done);
    }
    for list in &lists {
        redis.push(list, &message("waited"));
    }
    assert_eq!(redis.unacked(), 0);

    let next = process.broker.promote().await.unwrap().next_due.unwrap();

    for list in &lists {
        assert_eq!(redis.ids(list), ["2", "3", "1", "waited"]);
        // It comes back as it was.
        assert_eq!(redis.waiting(list)[0], message("2"));
    }
    assert_eq!(redis.query::<usize>("ZCARD", redis.keys.scheduled()), 2);
    assert_eq!(redis.query::<usize>("HLEN", redis.keys.scheduled_messages()), 2);
    assert!(next <= Duration::from_secs(3600) && next > Duration::from_secs(3500), "{next:?}");
}

#[tokio::test]
async fn a_message_is_promoted_at_its_instant_and_not_a_millisecond_earlier() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    redis.push("celery", &message("a"));
    let due = Utc::now() + TimeDelta::milliseconds(200);
    assert_eq!(process.claim_one().await.defer(due).await.unwrap(), Settled::Done);

    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let wait = process.broker.promote().await.unwrap().next_due;
        let now = Utc::now();
        if let Some(wait) = wait {
            assert!(tokio::time::Instant::now() < deadline);
            assert!(redis.waiting("celery").is_empty());
            // Exactly as long as it is told to wait, as the worker's promoter does.
            tokio::time::sleep(wait).await;
        } else {
            assert!(now >= due, "{now} is before {due}");
            assert!(now - due < TimeDelta::milliseconds(100), "{now} is long after {due}");
            break;
        }
    }
    assert_eq!(redis.ids("celery"), ["a"]);
}

#[tokio::test]
async fn a_due_message_whose_queue_is_no_list_becomes_a_dead_letter() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    for id in ["a", "b"] {
        redis.push("celery", &message(id));
    }
    for delivery in process.claim(2).await {
        let _ = delivery.defer(Utc::now() - TimeDelta::seconds(1)).await.unwrap();
    }
    let _: () = redis.query("SET", &["celery", "no list"]);

    assert_eq!(process.broker.promote().await.unwrap().next_due, None);

    let mut dead: Vec<String> = redis.query("HVALS", redis.keys.dead_messages());
    dead.sort();
    assert_eq!(dead, [message("a"), message("b")]);
}
