//! Taking messages: order, record, lease.

use celery_redis::transport::broker::Claim;
use celery_redis::transport::delivery::{Position, Settled};

use crate::broker::{DEADLINE, TestRedis, id, ids, message};

#[tokio::test]
async fn priorities_come_before_queues_and_queues_before_arrival() {
    let redis = TestRedis::start();
    let queues = ["first", "second"];
    let mut expected = Vec::new();
    for priority in [0, 3, 6, 9] {
        for queue in queues {
            for arrival in 0..2 {
                let id = format!("{priority} {queue} {arrival}");
                redis.push(&redis.keys.list(queue, priority), &message(&id));
                expected.push(id);
            }
        }
    }
    let process =
        redis.process_with(|options| options.queues = queues.map(str::to_owned).into()).await;

    let mut claimed = process.claim(5).await;
    claimed.extend(process.claim(100).await);

    assert_eq!(ids(&claimed), expected);
    assert!(process.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_claimed_message_is_recorded_byte_for_byte_under_a_tag_of_its_own() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    // Bytes that a JSON decoder would refuse, or write differently.
    let odd = [&b"{\"n\": 1.0, \"e\": [], \"i\": 12345678901234567890}"[..], b"\xff\x00 not JSON"];
    for message in odd {
        let _: i64 = redis.query("LPUSH", &[&b"celery"[..], message]);
    }

    let claimed = process.claim(2).await;

    assert_eq!(claimed.iter().map(|delivery| &**delivery.message()).collect::<Vec<_>>(), odd);
    let mut records: Vec<Vec<u8>> = redis.query("HVALS", redis.keys.unacked());
    records.sort();
    let mut expected = odd.map(|message| [b"[", message, br#", "", "celery"]"#].concat());
    expected.sort();
    assert_eq!(records, expected);
    let held: Vec<String> = redis.query("HVALS", redis.keys.held(&process.id));
    assert_eq!(held, ["celery", "celery"]);
    assert_eq!(redis.unacked(), 2);
}

#[tokio::test]
async fn many_are_taken_in_their_order_and_settled_together() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let expected: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    expected.iter().for_each(|id| redis.push("celery", &message(id)));

    let claimed = process.claim(1000).await;

    assert_eq!(ids(&claimed), expected);
    // The records are of the messages, and nothing but them.
    let mut tags: Vec<String> = claimed.iter().map(|one| one.tag().to_owned()).collect();
    tags.sort();
    for names in [
        redis.query::<Vec<String>>("HKEYS", redis.keys.unacked()),
        redis.query("HKEYS", redis.keys.held(&process.id)),
        redis.query("ZRANGE", &[redis.keys.unacked_index(), "0".to_owned(), "-1".to_owned()]),
    ] {
        let mut names = names;
        names.sort();
        assert_eq!(names, tags);
    }
    let lost = claimed[300].tag().to_owned();
    let _: i64 = redis.query("HDEL", &[redis.keys.unacked(), lost.clone()]);
    let _: i64 = redis.query("ZREM", &[redis.keys.unacked_index(), lost.clone()]);

    let broker = std::sync::Arc::clone(&process.broker);
    let sending = tokio::spawn(async move { broker.send_settlements().await });
    let settled = futures_util::future::join_all(claimed.into_iter().map(|one| async {
        let tag = one.tag().to_owned();
        (tag, one.ack().await.unwrap())
    }));
    let settled = settled.await;
    sending.abort();

    let not_ours: Vec<_> =
        settled.iter().filter(|(_, settled)| *settled == Settled::LeaseLost).collect();
    assert_eq!(not_ours, [&(lost, Settled::LeaseLost)]);
    assert_eq!(redis.unacked(), 0);
    assert_eq!(redis.query::<i64>("ZCARD", redis.keys.unacked_index()), 0);
}

#[tokio::test]
async fn no_more_bytes_are_taken_than_a_reply_may_have() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let long = "x".repeat(300 << 10);
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for id in &expected {
        // Small ones first, so that many are tried at once.
        let small = message(id);
        let large = small.replacen('{', &format!("{{\"x\": \"{long}\", "), 1);
        redis.push("celery", if id.len() == 1 { &small } else { &large });
    }

    let mut claimed = process.claim(1000).await;
    let first = claimed.len();
    while claimed.len() < 60 {
        let more = process.claim(1000).await;
        assert!(!more.is_empty());
        claimed.extend(more);
    }

    // Ten small ones, and 4 MiB of those of 300 KiB.
    assert_eq!(first, 10 + 14);
    assert_eq!(ids(&claimed), expected);
}

#[tokio::test]
async fn a_process_without_a_lease_takes_nothing() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    redis.push("celery", &message("a"));
    redis.end_lease(&process.id);

    assert!(matches!(process.broker.claim(1).await, Ok(Claim::LeaseGone)));

    assert_eq!(redis.ids("celery"), ["a"]);
    // Nobody has reclaimed: it is still the same process, and alive again.
    let _ = process.broker.renew().await.unwrap();
    assert_eq!(id(process.claim_one().await.message()), "a");
}

#[tokio::test]
async fn waiting_ends_with_a_message_and_leaves_it_where_it_is() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let broker = std::sync::Arc::clone(&process.broker);
    let watching = tokio::spawn(async move { broker.watch_lists().await });
    let broker = std::sync::Arc::clone(&process.broker);
    let waiting = tokio::spawn(async move { broker.message_waiting().await });

    redis.push(&redis.keys.list("celery", 6), &message("a"));

    tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(redis.ids(&redis.keys.list("celery", 6)), ["a"]);
    watching.abort();
}

#[tokio::test]
async fn a_requeued_message_goes_to_the_head_or_the_tail_of_its_own_list() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let list = redis.keys.list("celery", 3);
    for id in ["a", "b", "c"] {
        redis.push(&list, &message(id));
    }

    let first = process.claim_one().await;
    assert_eq!(first.requeue(Position::Head).await.unwrap(), Settled::Done);
    assert_eq!(redis.ids(&list), ["a", "b", "c"]);
    let first = process.claim_one().await;
    assert_eq!(first.requeue(Position::Tail).await.unwrap(), Settled::Done);

    assert_eq!(redis.ids(&list), ["b", "c", "a"]);
    assert!(redis.waiting(&list)[2].contains(r#""redelivered": true"#));
    assert_eq!(redis.unacked(), 0);
}

#[tokio::test]
async fn a_message_that_cannot_go_back_stays_with_its_process() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let _: () = redis.query("SET", &["celery", "no list"]);

    assert!(delivery.requeue(Position::Head).await.is_err());

    assert_eq!(redis.unacked(), 1);
}
