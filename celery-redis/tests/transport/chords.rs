//! The records of a chord: each part counts once, one process calls the body, and what comes late
//! changes nothing.

use std::sync::Arc;

use celery_redis::transport::connection::{Connection, ConnectionSettings};
use celery_redis::transport::keys::Keys;
use celery_redis::transport::operation::{ChordEnding, ChordPart, Completed, Operation};
use celery_redis::transport::publisher::Publisher;
use celery_redis::wire::signature::Encoded;

use crate::broker::{TestRedis, message};

struct Chord {
    redis: TestRedis,
    publisher: Publisher,
}

impl Chord {
    /// A chord of so many parts.
    async fn of(size: usize) -> Self {
        let redis = TestRedis::start();
        let settings = ConnectionSettings::parse(&redis.server.url()).unwrap();
        let publisher = Publisher::new(Arc::new(Connection::new(settings)), Keys::new(""));
        let group_id = "g".to_owned();
        let chord = Self { redis, publisher };
        chord.perform(vec![Operation::StartChord { group_id, size, ttl_seconds: 60 }]).await;
        chord
    }

    async fn perform(&self, operations: Vec<Operation>) -> Completed {
        self.publisher.perform(operations).await.unwrap()
    }

    async fn part(&self, task_id: &str, place: i64, result: &str, token: &str) -> Completed {
        let part = ChordPart {
            group_id: "g".to_owned(),
            task_id: task_id.to_owned(),
            place: Some(place),
            record: format!(r#"[1, "{task_id}", "SUCCESS", {result}]"#),
            ttl_seconds: 60,
            token: token.to_owned(),
        };
        self.perform(vec![Operation::ReturnPart(part)]).await
    }

    async fn close(&self, token: &str, ending: ChordEnding) {
        let body = Encoded {
            id: "body".into(),
            queue: "celery".into(),
            priority: 0,
            bytes: message("body").into_bytes(),
        };
        let (group_id, token) = ("g".to_owned(), token.to_owned());
        let close = Operation::CloseChord { group_id, token, ending, belonging: 1 };
        self.perform(vec![close, Operation::Send(body)]).await;
    }

    fn bodies(&self) -> Vec<String> {
        self.redis.ids("celery")
    }
}

fn parts(completed: &Completed) -> Vec<&str> {
    let parts = completed.ours.iter().flat_map(|chord| &chord.parts);
    parts.map(|part| std::str::from_utf8(part).unwrap()).collect()
}

#[tokio::test]
async fn a_part_that_is_returned_twice_counts_once_as_it_was_first() {
    let chord = Chord::of(2).await;

    assert!(chord.part("a", 0, "1", "first").await.is_empty());
    assert!(chord.part("a", 0, "100", "second").await.is_empty());
    let completed = chord.part("b", 1, "2", "third").await;

    assert_eq!(parts(&completed), [r#"[1, "a", "SUCCESS", 1]"#, r#"[1, "b", "SUCCESS", 2]"#]);
}

#[tokio::test]
async fn a_complete_chord_has_one_who_closes_it() {
    let chord = Chord::of(1).await;

    assert_eq!(chord.part("a", 0, "1", "ours").await.ours.len(), 1);
    let other = chord.part("a", 0, "1", "theirs").await;
    assert_eq!((other.ours.len(), other.others.as_slice()), (0, &["g".to_owned()][..]));
    // Whoever has the claim may ask again: it never heard that it has.
    assert_eq!(chord.part("a", 0, "1", "ours").await.ours.len(), 1);

    chord.close("theirs", ChordEnding::Called).await;
    assert!(chord.bodies().is_empty());
    chord.close("ours", ChordEnding::Called).await;
    chord.close("ours", ChordEnding::Called).await;
    assert_eq!(chord.bodies(), ["body"]);
}

#[tokio::test]
async fn a_part_that_comes_after_the_end_leaves_nothing() {
    let chord = Chord::of(1).await;
    chord.part("a", 0, "1", "ours").await;
    chord.close("ours", ChordEnding::Called).await;

    assert!(chord.part("a", 0, "1", "late").await.is_empty());

    let left: Vec<String> = chord.redis.query("KEYS", "celery-taskset-meta-*");
    assert_eq!(left, ["celery-taskset-meta-g.c"]);
}

#[tokio::test]
async fn a_chord_that_failed_does_not_fail_again() {
    let chord = Chord::of(1).await;
    chord.part("a", 0, "1", "ours").await;
    chord.close("ours", ChordEnding::Failed).await;
    // The claim runs out some seconds later.
    let _: i64 = chord.redis.query("DEL", "celery-taskset-meta-g.c");

    assert!(chord.part("a", 0, "1", "late").await.is_empty());
    chord.close("late", ChordEnding::Failed).await;

    assert_eq!(chord.bodies(), ["body"]);
}
