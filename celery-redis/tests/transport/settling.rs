//! The one step that ends a delivery.

use std::sync::Arc;
use std::time::Duration;

use celery_redis::transport::connection::{Connection, ConnectionSettings};
use celery_redis::transport::delivery::{Settled, StoredResult};
use celery_redis::transport::result_backend::{ResultBackend, ResultOptions};
use celery_redis::wire::compression::Compression;
use celery_redis::wire::result::{Outcome, State, TaskMeta};
use celery_redis::wire::signature::Encoded;
use chrono::Utc;
use serde_json::value::RawValue;

use crate::broker::{TestRedis, message};

const SUCCESS: &str = r#"{"status": "SUCCESS", "result": 5}"#;
const FAILURE: &str = r#"{"status": "FAILURE", "result": null}"#;

fn result(record: &str) -> StoredResult {
    StoredResult {
        key: "celery-task-meta-a".into(),
        ttl_seconds: 60,
        record: record.to_owned().into(),
    }
}

fn follow_up(id: &str, queue: &str, priority: i64) -> Encoded {
    Encoded { id: id.into(), queue: queue.into(), priority, bytes: message(id).into_bytes() }
}

#[tokio::test]
async fn result_follow_ups_and_acknowledgement_are_one_step() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    redis.push("celery", &message("a"));
    let delivery = process.claim_one().await;
    let client = redis::Client::open(redis.server.url()).unwrap();
    let mut subscriber = client.get_connection().unwrap();
    subscriber.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("celery-task-meta-a").unwrap();

    let follow_ups = vec![follow_up("b", "mails", 3), follow_up("c", "celery", 0)];
    let settled = delivery.settle(follow_ups, Some(result(SUCCESS))).await.unwrap();

    assert_eq!(settled, Settled::Done);
    assert_eq!(redis.unacked(), 0);
    assert!(!redis.query::<bool>("EXISTS", redis.keys.held(&process.id)));
    assert_eq!(redis.ids(&redis.keys.list("mails", 3)), ["b"]);
    assert_eq!(redis.ids("celery"), ["c"]);
    assert_eq!(redis.query::<String>("GET", "celery-task-meta-a"), SUCCESS);
    assert!((1..=60).contains(&redis.query::<i64>("TTL", "celery-task-meta-a")));
    assert_eq!(channel.get_message().unwrap().get_payload::<String>().unwrap(), SUCCESS);
}

#[tokio::test]
async fn a_success_is_never_overwritten() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let settings = ConnectionSettings::parse(&redis.server.url()).unwrap();
    let connection = Arc::new(Connection::new(settings));
    let backend = ResultBackend::new(connection, true, ResultOptions::default());
    for (first, second, expected) in
        [(FAILURE, SUCCESS, SUCCESS), (SUCCESS, FAILURE, SUCCESS), (FAILURE, FAILURE, FAILURE)]
    {
        let _: i64 = redis.query("DEL", "celery-task-meta-a");
        for record in [first, second] {
            redis.push("celery", &message("a"));
            let delivery = process.claim_one().await;
            assert_eq!(
                delivery.settle(Vec::new(), Some(result(record))).await.unwrap(),
                Settled::Done
            );
        }
        assert_eq!(redis.query::<String>("GET", "celery-task-meta-a"), expected);
        backend.store(&result(FAILURE)).await.unwrap();
        assert_eq!(redis.query::<String>("GET", "celery-task-meta-a"), expected);
    }
}

#[tokio::test]
async fn a_compressed_success_is_never_overwritten_and_any_other_state_is() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    let settings = ConnectionSettings::parse(&redis.server.url()).unwrap();
    let connection = Arc::new(Connection::new(settings));
    for compression in Compression::ALL {
        let options = ResultOptions { compression: Some(compression), ..ResultOptions::default() };
        let backend = ResultBackend::new(Arc::clone(&connection), true, options);
        let record = |state: State| {
            let result = RawValue::from_string(format!("{:?}", state.as_str())).unwrap();
            let outcome = Outcome { state, result, traceback: None };
            backend.encode(&TaskMeta::new("a", &outcome, RawValue::NULL, Utc::now()))
        };
        for (first, second, expected) in [
            (State::Retry, State::Success, State::Success),
            (State::Success, State::Failure, State::Success),
            (State::Started, State::Failure, State::Failure),
        ] {
            let _: i64 = redis.query("DEL", "celery-task-meta-a");
            redis.push("celery", &message("a"));
            let delivery = process.claim_one().await;
            backend.store(&record(first.clone())).await.unwrap();

            let settled = delivery.settle(vec![], Some(record(second))).await.unwrap();
            backend.store(&record(State::Failure)).await.unwrap();

            assert_eq!(settled, Settled::Done);
            let kept = backend.meta("a").await.unwrap().unwrap();
            assert_eq!(kept.status, expected, "{first:?} {compression:?}");
        }
    }
}

#[tokio::test]
async fn many_are_settled_at_once_each_with_its_own() {
    let redis = TestRedis::start();
    let process = redis.process().await;
    for number in 0..200 {
        redis.push("celery", &message(&number.to_string()));
    }
    let deliveries = process.claim(200).await;

    let settled = futures_util::future::join_all(deliveries.into_iter().enumerate().map(
        |(number, delivery)| {
            let record = StoredResult {
                key: format!("result-{number}"),
                ttl_seconds: 0,
                record: number.to_string().into(),
            };
            delivery.settle(vec![follow_up(&number.to_string(), "next", 0)], Some(record))
        },
    ))
    .await;

    assert!(settled.into_iter().all(|settled| settled.unwrap() == Settled::Done));
    assert_eq!(redis.unacked(), 0);
    for number in 0..200 {
        let record: String = redis.query("GET", format!("result-{number}"));
        assert_eq!(record, number.to_string());
    }
    let mut next = redis.ids("next");
    next.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(next, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}
