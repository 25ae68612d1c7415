//! Large messages and results: no script touches them, and every guarantee holds.

use std::sync::Arc;

use celery_redis::transport::broker::Claim;
use celery_redis::transport::delivery::{Delivery, Position, Settled, StoredResult};
use celery_redis::wire::envelope::delivery_count;

use crate::broker::{DEADLINE, TestProcess, TestRedis, eventually, id, ids, message};

/// A message that no script should read.
fn large(id: &str) -> String {
    let filling = "x".repeat(40 << 10);
    message(id).replacen('{', &format!("{{\"filling\": \"{filling}\", "), 1)
}

/// One more delivery, and then one that is kept apart, as after every large message.
async fn one_apart(redis: &TestRedis, process: &TestProcess, wanted: &str) -> Delivery {
    redis.push("celery", &large("before"));
    let before = process.claim_one().await;
    assert_eq!(before.ack().await.unwrap(), Settled::Done);
    redis.push("celery", &large(wanted));
    let delivery = process.claim_one().await;
    assert!(delivery.tag().ends_with(".apart"), "{}", delivery.tag());
    delivery
}

fn kept_apart(redis: &TestRedis) -> Vec<String> {
    redis.query("KEYS", "_celery_redis.apart.*")
}

fn records(redis: &TestRedis) -> Vec<Vec<u8>> {
    redis.query("HVALS", redis.keys.unacked())
}

#[tokio::test]
async fn large_messages_are_taken_in_their_order_and_leave_nothing_behind() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    expected.iter().for_each(|id| redis.push("celery", &large(id)));

    let mut claimed = process.claim(10).await;
    while claimed.len() < 60 {
        let more = process.claim(1000).await;
        assert!(!more.is_empty());
        assert!(more.len() <= 32, "{}", more.len());
        claimed.extend(more);
    }

    assert_eq!(ids(&claimed), expected);
    assert_eq!(claimed[59].message(), large("59").as_bytes());
    assert!(!kept_apart(&redis).is_empty());
    assert_eq!(redis.unacked(), 60);
    for delivery in claimed {
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    }
    let left: Vec<String> = redis.query("KEYS", "*");
    assert!(left.iter().all(|key| key.contains("process") || key.contains("alive")), "{left:?}");
}

#[tokio::test]
async fn small_ones_after_a_large_one_are_taken_as_ever() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let _ = one_apart(&redis, &process, "a").await.ack().await.unwrap();
    for id in ["b", "c", "d"] {
        redis.push("celery", &message(id));
    }

    let first = process.claim(10).await;
    redis.push("celery", &message("e"));
    let next = process.claim_one().await;

    assert_eq!(ids(&first), ["b", "c", "d"]);
    assert_eq!(id(next.message()), "e");
    assert!(!next.tag().ends_with(".apart"));
    for delivery in first {
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    }
    assert!(kept_apart(&redis).is_empty());
}

#[tokio::test]
async fn what_is_served_first_comes_before_large_messages() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let late = redis.keys.list("celery", 6);
    for id in ["a", "b", "c"] {
        redis.push(&late, &large(id));
    }
    assert_eq!(id(process.claim_one().await.message()), "a");
    redis.push("celery", &message("first"));

    assert_eq!(id(process.claim_one().await.message()), "first");

    assert_eq!(redis.ids(&late), ["b", "c"]);
    assert_eq!(ids(&process.claim(5).await), ["b", "c"]);
}

#[tokio::test]
async fn without_a_lease_no_large_message_is_taken() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let _ = one_apart(&redis, &process, "a").await.ack().await.unwrap();
    for id in ["b", "c"] {
        redis.push("celery", &large(id));
    }
    redis.end_lease(&process.id);

    assert!(matches!(process.broker.claim(2).await, Ok(Claim::LeaseGone)));

    assert_eq!(redis.ids("celery"), ["b", "c"]);
    assert!(kept_apart(&redis).is_empty());
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_dead_process_s_large_messages_return_to_the_head_in_their_order() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let sent: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    sent.iter().for_each(|id| redis.push("celery", &large(id)));
    let mut lent = dead.claim(2).await;
    while lent.len() < 30 {
        lent.extend(dead.claim(30).await);
    }
    redis.push("celery", &message("later"));
    redis.end_lease(&dead.id);

    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(30));

    assert_eq!(redis.ids("celery")[..30], sent);
    assert_eq!(redis.ids("celery")[30], "later");
    for back in &redis.waiting("celery")[..30] {
        assert_eq!(delivery_count(back.as_bytes()), 1);
        assert!(back.contains(r#""redelivered": true"#));
    }
    assert!(kept_apart(&redis).is_empty());
    assert_eq!(redis.unacked(), 0);
    // And whoever lost them settles nothing, and tells nobody.
    let client = redis::Client::open(redis.server.url()).unwrap();
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("result").unwrap();
    let last = lent.pop().unwrap();
    let result =
        StoredResult { key: "result".into(), ttl_seconds: 60, record: vec![b'x'; 64 << 10] };
    assert_eq!(last.settle(Vec::new(), Some(result)).await.unwrap(), Settled::LeaseLost);
    assert!(!redis.query::<bool>("EXISTS", "result"));
    let _: i64 = redis.query("PUBLISH", &["result", "next"]);
    assert_eq!(channel.get_message().unwrap().get_payload::<String>().unwrap(), "next");
    assert_eq!(redis.ids("celery").len(), 31);
}

#[tokio::test]
async fn connections_of_large_messages_that_redis_has_closed_are_no_outage() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let result = |record: &[u8]| StoredResult {
        key: "result".into(),
        ttl_seconds: 60,
        record: record.repeat(64 << 10),
    };
    let delivery = one_apart(&redis, &process, "a").await;
    assert_eq!(delivery.settle(Vec::new(), Some(result(b"a"))).await.unwrap(), Settled::Done);
    let serving = process.broker.connection().serving_for().unwrap();

    let clients: String = redis.query("CLIENT", "LIST");
    let idle: Vec<&str> = clients
        .lines()
        .filter(|client| client.contains(" cmd=exec "))
        .filter_map(|client| client.strip_prefix("id=")?.split(' ').next())
        .collect();
    assert!(!idle.is_empty(), "{clients}");
    for id in idle {
        assert_eq!(redis.query::<i64>("CLIENT", ["KILL", "ID", id].as_slice()), 1);
    }

    let delivery = one_apart(&redis, &process, "b").await;
    assert_eq!(delivery.settle(Vec::new(), Some(result(b"b"))).await.unwrap(), Settled::Done);
    assert_eq!(redis.query::<Vec<u8>>("GET", "result"), b"b".repeat(64 << 10));
    assert!(process.broker.connection().serving_for().unwrap() >= serving);
}

#[tokio::test]
async fn large_messages_that_no_claim_has_heard_of_come_back() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let delivery = one_apart(&redis, &process, "a").await;
    // As after a claim whose reply was lost.
    drop(delivery);

    assert_eq!(process.broker.return_unknown_claims().await.unwrap(), 1);

    assert_eq!(redis.ids("celery"), ["a"]);
    assert!(kept_apart(&redis).is_empty());
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_large_message_goes_back_to_its_queue_or_to_the_dead_letters() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let delivery = one_apart(&redis, &process, "a").await;
    assert_eq!(delivery.requeue(Position::Head).await.unwrap(), Settled::Done);
    assert_eq!(redis.ids("celery"), ["a"]);
    assert!(kept_apart(&redis).is_empty());

    let delivery = process.claim_one().await;
    let reason = celery_redis::transport::dead_letters::Reason::Poison;
    assert_eq!(delivery.bury(reason, "tested".to_owned()).await.unwrap(), Settled::Done);
    let dead: Vec<String> = redis.query("HVALS", redis.keys.dead_messages());
    assert_eq!(id(dead[0].as_bytes()), "a");

    let delivery = one_apart(&redis, &process, "b").await;
    let due = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    assert_eq!(delivery.defer(due).await.unwrap(), Settled::Done);
    let deferred: Vec<Vec<u8>> = redis.query("HVALS", redis.keys.scheduled_messages());
    assert_eq!(deferred, [format!("6:celery{}", large("b")).into_bytes()]);
    assert!(kept_apart(&redis).is_empty());
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_large_message_that_is_held_for_a_while_is_recorded_as_kombu_does() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let delivery = one_apart(&redis, &process, "a").await;
    // What kombu restores of this goes nowhere.
    assert_eq!(records(&redis), [br#"[{}, "_celery_redis.apart", ""]"#]);
    let broker = Arc::clone(&process.broker);
    let recording = tokio::spawn(async move { broker.record_large_messages().await });

    eventually("it is recorded", || kept_apart(&redis).is_empty()).await;

    let expected = format!("[{}, \"\", \"celery\"]", large("a"));
    assert_eq!(records(&redis), [expected.as_bytes()]);
    assert_eq!(redis.unacked(), 1);
    assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    assert_eq!(redis.unacked(), 0);
    recording.abort();
}

#[tokio::test]
async fn a_recorded_large_message_of_a_dead_process_comes_back_once() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let lent = one_apart(&redis, &dead, "a").await;
    let broker = Arc::clone(&dead.broker);
    let recording = tokio::spawn(async move { broker.record_large_messages().await });
    eventually("it is recorded", || kept_apart(&redis).is_empty()).await;
    recording.abort();
    redis.end_lease(&dead.id);

    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(1));

    assert_eq!(redis.ids("celery"), ["a"]);
    assert_eq!(redis.unacked(), 0);
    drop(lent);
}

#[tokio::test]
async fn what_kombu_takes_for_a_large_message_is_not_the_message() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    let lent = one_apart(&redis, &dead, "a").await;
    // kombu's restore: the record goes, and its envelope to no queue.
    let _: i64 = redis.query("HDEL", &[redis.keys.unacked(), lent.tag().to_owned()]);
    let _: i64 = redis.query("ZREM", &[redis.keys.unacked_index(), lent.tag().to_owned()]);
    redis.end_lease(&dead.id);

    assert_eq!(redis.process().await.broker.reclaim_dead().await.unwrap(), Some(1));

    assert_eq!(redis.ids("celery"), ["a"]);
    drop(lent);
}

#[tokio::test]
async fn a_record_that_comes_late_is_none() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let delivery = one_apart(&redis, &process, "a").await;
    let tag = delivery.tag().to_owned();
    assert_eq!(delivery.ack().await.unwrap(), Settled::Done);

    // The transaction that records it, executed after that.
    let names = [
        redis.keys.unacked(),
        redis.keys.unacked_index(),
        redis.keys.held(&process.id),
        redis.keys.apart(&tag),
    ];
    let _: i64 = redis.query("HSET", &[&names[0], &tag, "[]"]);
    let script = include_str!("../../src/transport/scripts/record_apart.lua");
    let recorded: i64 = redis.query(
        "EVAL",
        [&[script, "4"], &names.each_ref().map(String::as_str)[..], &[&tag]].concat(),
    );

    assert_eq!(recorded, 0);
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_large_result_is_stored_and_published_in_the_step_that_settles() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let record = format!(r#"{{"status": "SUCCESS", "result": "{}"}}"#, "y".repeat(64 << 10));
    let client = redis::Client::open(redis.server.url()).unwrap();
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("large").unwrap();
    for ttl_seconds in [60, 0] {
        let _: i64 = redis.query("DEL", "large");
        redis.push("celery", &message("a"));
        let delivery = process.claim_one().await;
        let stored =
            StoredResult { key: "large".into(), ttl_seconds, record: record.clone().into() };

        assert_eq!(delivery.settle(Vec::new(), Some(stored)).await.unwrap(), Settled::Done);

        assert_eq!(redis.query::<String>("GET", "large"), record);
        let ttl: i64 = redis.query("TTL", "large");
        assert!(if ttl_seconds == 0 { ttl == -1 } else { (1..=60).contains(&ttl) }, "{ttl}");
        assert_eq!(channel.get_message().unwrap().get_payload::<String>().unwrap(), record);
        assert_eq!(redis.unacked(), 0);
        assert!(redis.query::<Vec<String>>("KEYS", "_celery_redis.upload.*").is_empty());
    }
}

#[tokio::test]
async fn a_large_result_overwrites_no_success_and_tells_nobody() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let client = redis::Client::open(redis.server.url()).unwrap();
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("large").unwrap();
    let first = r#"{"status": "SUCCESS", "result": 1}"#;
    let _: () = redis.query("SET", &["large", first]);
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let record = format!(r#"{{"status": "FAILURE", "result": "{}"}}"#, "y".repeat(64 << 10));
    let stored = StoredResult { key: "large".into(), ttl_seconds: 60, record: record.into() };

    assert_eq!(delivery.settle(Vec::new(), Some(stored)).await.unwrap(), Settled::Done);
    let _: i64 = redis.query("PUBLISH", &["large", "nothing came before"]);

    assert_eq!(redis.query::<String>("GET", "large"), first);
    let heard: String = channel.get_message().unwrap().get_payload().unwrap();
    assert_eq!(heard, "nothing came before");
    assert!(redis.query::<Vec<String>>("KEYS", "_celery_redis.upload.*").is_empty());
}

#[tokio::test]
async fn where_redis_allows_no_such_transaction_large_ones_go_the_slow_way() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    for id in ["a", "b", "c"] {
        redis.push("celery", &large(id));
    }
    let _: () = redis.query("ACL", &["SETUSER", "default", "-lmove", "-rename"]);

    let mut claimed = process.claim(1).await;
    claimed.extend(process.claim(5).await);

    assert_eq!(ids(&claimed), ["a", "b", "c"]);
    let record = "z".repeat(64 << 10);
    for (number, delivery) in claimed.into_iter().enumerate() {
        let key = format!("slow-{number}");
        let stored =
            StoredResult { key: key.clone(), ttl_seconds: 0, record: record.clone().into() };
        let settling = delivery.settle(Vec::new(), Some(stored));
        let settled = tokio::time::timeout(DEADLINE, settling).await.unwrap();
        assert_eq!(settled.unwrap(), Settled::Done);
        assert_eq!(redis.query::<String>("GET", key), record);
    }
    assert_eq!(redis.unacked(), 0);
}

/// A figure of Redis's own statistics of a command.
fn counted(redis: &TestRedis, command: &str, figure: &str) -> u64 {
    let stats: String = redis.query("INFO", "commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let found = line
        .and_then(|line| line.split(',').find_map(|part| part.strip_prefix(&format!("{figure}="))));
    found.map_or(0, |number| number.parse().unwrap())
}

async fn settle_with_a_large_result(redis: &TestRedis, process: &TestProcess) {
    let record = "z".repeat(64 << 10);
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let stored =
        StoredResult { key: "large".into(), ttl_seconds: 0, record: record.clone().into() };
    assert_eq!(delivery.settle(Vec::new(), Some(stored)).await.unwrap(), Settled::Done);
    assert_eq!(redis.query::<String>("GET", "large"), record);
}

#[tokio::test]
async fn a_large_result_is_not_sent_twice_where_nobody_listens() {
    let redis = TestRedis::start();
    let process = redis.process().await;

    settle_with_a_large_result(&redis, &process).await;

    assert_eq!(counted(&redis, "publish", "calls"), 0);
}

#[tokio::test]
async fn a_large_result_is_published_where_a_replica_may_have_listeners() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let replica = test_servers::RedisServer::start();
    replica.command(&format!("REPLICAOF 127.0.0.1 {}", redis.server.port()));
    let client = redis::Client::open(replica.url()).unwrap();
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("large").unwrap();
    let replication = || redis.query::<String>("INFO", "replication");
    eventually("it is a replica", || replication().contains("state=online")).await;

    settle_with_a_large_result(&redis, &process).await;

    let heard: String = channel.get_message().unwrap().get_payload().unwrap();
    assert_eq!(heard, "z".repeat(64 << 10));

    // One that comes back is told what was published meanwhile.
    replica.kill();
    eventually("it is cut off", || replication().contains("connected_slaves:0")).await;
    settle_with_a_large_result(&redis, &process).await;
    assert_eq!(counted(&redis, "publish", "calls"), 2);
}

#[tokio::test]
async fn a_large_result_is_published_where_redis_does_not_tell_who_listens() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let _: () = redis.query("ACL", &["SETUSER", "default", "-pubsub"]);

    for published in [1, 2] {
        settle_with_a_large_result(&redis, &process).await;
        assert_eq!(counted(&redis, "publish", "calls"), published);
    }

    assert_eq!(counted(&redis, "pubsub|numpat", "rejected_calls"), 1, "it is asked once");
}
