//! Messages that nobody can execute.

use celery_redis::transport::dead_letters::{DeadLetter, Reason};
use celery_redis::transport::delivery::Settled;
use celery_redis::wire::signature::Encoded;

use crate::broker::{TestRedis, id, message};

fn letters(redis: &TestRedis) -> Vec<DeadLetter> {
    let names: Vec<String> = redis.query("ZRANGE", &[&redis.keys.dead(), "0", "-1"]);
    let records: usize = redis.query("HLEN", redis.keys.dead_records());
    let messages: usize = redis.query("HLEN", redis.keys.dead_messages());
    assert_eq!((records, messages), (names.len(), names.len()));
    names
        .iter()
        .map(|name| {
            let record: String = redis.query("HGET", &[&redis.keys.dead_records(), name]);
            serde_json::from_str(&record).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_message_whose_processes_all_die_is_poison() {
    let redis = TestRedis::start();
    redis.push("celery", &message("a"));
    let reaper = redis.process().await;
    for death in 1..=3 {
        assert!(letters(&redis).is_empty());
        let process = redis.process().await;
        let delivery = process.claim_one().await;
        assert_eq!(id(delivery.message()), "a");
        redis.end_lease(&process.id);
        assert_eq!(reaper.broker.reclaim_dead().await.unwrap(), Some(1), "death {death}");
    }

    assert!(redis.waiting("celery").is_empty());
    assert_eq!(redis.unacked(), 0);
    let letters = letters(&redis);
    assert_eq!(letters[0].reason, Reason::Poison);
    assert_eq!((letters[0].deliveries, letters[0].queue.as_str()), (3, "celery"));
    let dead: Vec<String> = redis.query("HVALS", redis.keys.dead_messages());
    assert_eq!(id(dead[0].as_bytes()), "a");
}

#[tokio::test]
async fn only_the_newest_dead_letters_are_kept_however_they_died() {
    let redis = TestRedis::start();
    let change = |options: &mut celery_redis::transport::broker::BrokerOptions| {
        options.dead_letters_kept = 3;
        options.max_deliveries = 1;
    };
    let process = redis.process_with(change).await;
    for number in 0..5 {
        redis.push("celery", &message(&number.to_string()));
        let delivery = process.claim_one().await;
        let buried = delivery.bury(Reason::Undecodable, "test".to_owned()).await.unwrap();
        assert_eq!(buried, Settled::Done);
    }
    assert_eq!(letters(&redis).len(), 3);

    let dying = redis.process().await;
    for number in 5..10 {
        redis.push("celery", &message(&number.to_string()));
    }
    let lent = dying.claim(5).await;
    redis.end_lease(&dying.id);
    assert_eq!(process.broker.reclaim_dead().await.unwrap(), Some(5));

    let letters = letters(&redis);
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.reason == Reason::Poison));
    drop(lent);
}

#[tokio::test]
async fn a_buried_message_keeps_its_bytes_whatever_they_are() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let odd = b"\xff\x00 not JSON".to_vec();
    let _: i64 = redis.query("LPUSH", &[b"celery".to_vec(), odd.clone()]);

    let delivery = process.claim_one().await;
    let buried = delivery.bury(Reason::Undecodable, "test".to_owned()).await.unwrap();

    assert_eq!(buried, Settled::Done);
    let dead: Vec<Vec<u8>> = redis.query("HVALS", redis.keys.dead_messages());
    assert_eq!(dead, [odd]);
    assert_eq!(letters(&redis)[0].detail, "test");
}

#[tokio::test]
async fn nothing_is_lost_where_a_queue_s_key_is_no_list() {
    let redis = TestRedis::start();
    let dead = redis.process().await;
    for id in ["a", "b", "c"] {
        redis.push("celery", &message(id));
    }
    let mut lent = dead.claim(3).await;
    for queue in ["celery", "mails"] {
        let _: () = redis.query("SET", &[queue, "no list"]);
    }
    let follow_up = Encoded {
        id: "d".into(),
        queue: "mails".into(),
        priority: 0,
        bytes: message("d").into_bytes(),
    };

    let settled = lent.remove(0).settle(vec![follow_up], None).await.unwrap();
    redis.end_lease(&dead.id);
    let returned = redis.process().await.broker.reclaim_dead().await.unwrap().unwrap();

    assert_eq!((settled, returned), (Settled::Done, 2));
    assert_eq!(redis.unacked(), 0);
    let mut buried: Vec<Vec<u8>> = redis.query("HVALS", redis.keys.dead_messages());
    buried.sort_by_key(|message| id(message));
    assert_eq!(buried.iter().map(|message| id(message)).collect::<Vec<_>>(), ["b", "c", "d"]);
    assert!(letters(&redis).iter().all(|letter| letter.reason == Reason::Unroutable));
}
