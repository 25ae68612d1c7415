//! Whatever bytes arrive: the decoder answers with a message or an error, and what only passes a
//! message on keeps everything else in it.
//!
//! `DECODER_FUZZ_CASES` is the number of cases of each of the five properties; without it they
//! take a second.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celery_redis::wire::accept::Accept;
use celery_redis::wire::body::Body;
use celery_redis::wire::envelope::{
    DELIVERY_COUNT, Redelivery, delivery_count, envelope_of_unacked, mark_redelivered,
    unacked_suffix,
};
use celery_redis::wire::message::{Message, Undecodable};
use celery_redis::wire::retry::{self, Retried};
use celery_redis::wire::serializer::Serializer;
use celery_redis::wire::{isoformat, python_json};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Messages of Python's Celery, whole and damaged, with the body of JSON ones as JSON.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let capture: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let of_messages = capture["messages"].as_array().into_iter().flatten();
        let malformed = capture.as_array().into_iter().flatten();
        let envelopes = of_messages
            .map(|message| &message["envelope"])
            .chain(malformed.map(|case| &case["pushed"]));
        seeds.extend(envelopes.filter(|value| !value.is_null()).map(|value| match value {
            Value::String(text) => text.clone().into_bytes(),
            value => python_json::to_string(value).unwrap().into_bytes(),
        }));
    }
    assert!(seeds.len() > 60, "the captures are missing");
    seeds
});

/// A worker that takes every serialiser.
fn decode(envelope: &[u8]) -> Result<Message, Undecodable> {
    static EVERYTHING: LazyLock<Accept> =
        LazyLock::new(|| Accept { serializers: Serializer::ALL.to_vec(), ..Accept::default() });
    Message::decode_accepted(envelope, &EVERYTHING)
}

fn config() -> ProptestConfig {
    #[allow(clippy::disallowed_methods, reason = "a number of the test's own, no configuration")]
    let cases = std::env::var("DECODER_FUZZ_CASES").map_or(256, |cases| cases.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn seed() -> impl Strategy<Value = Vec<u8>> {
    any::<Index>().prop_map(|index| SEEDS[index.index(SEEDS.len())].clone())
}

/// JSON of any shape, with values that stand at the edge of something.
fn json_value() -> impl Strategy<Value = Value> {
    let edges = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(0.5),
        json!(""),
        json!("null"),
        json!("\u{0}"),
        json!("2031-05-06T07:08:09.123456+00:00"),
        json!("2016-12-31T23:59:60Z"),
        json!("+262142-12-31T23:59:59-23:59"),
        json!("0000-01-01T00:00:00+23:59"),
        json!("application/json"),
        json!("application/x-yaml"),
        json!("application/x-msgpack"),
        json!("application/x-python-serialize"),
        json!("application/x-gzip"),
        json!("zstd"),
        json!("base64"),
        json!([]),
        json!({}),
        json!([[], {}, null]),
        json!([null, null]),
        json!(4_294_967_295_u32),
    ];
    let leaf = prop_oneof![
        4 => select(edges),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => ".{0,24}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Keys that the decoder looks at, and others.
fn key() -> impl Strategy<Value = String> {
    const KEYS: [&str; 32] = [
        "body",
        "headers",
        "properties",
        "content-type",
        "content-encoding",
        "id",
        "task",
        "eta",
        "expires",
        "retries",
        "timelimit",
        "group",
        "group_index",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "shadow",
        "compression",
        "redelivered",
        DELIVERY_COUNT,
        "delivery_info",
        "delivery_tag",
        "priority",
        "reply_to",
        "body_encoding",
        "args",
        "kwargs",
        "callbacks",
        "chord",
    ];
    prop_oneof![9 => select(&KEYS[..]).prop_map(ToOwned::to_owned), 1 => ".{0,8}"]
}

#[derive(Debug, Clone)]
enum Change {
    Set { at: Index, key: String, value: Value },
    Remove { at: Index, key: String },
    Body(Value),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<Index>(), key(), json_value())
            .prop_map(|(at, key, value)| Change::Set { at, key, value }),
        1 => (any::<Index>(), key()).prop_map(|(at, key)| Change::Remove { at, key }),
        2 => json_value().prop_map(Change::Body),
        2 => (json_value(), json_value(), json_value())
            .prop_map(|(args, kwargs, embed)| Change::Body(json!([args, kwargs, embed]))),
    ]
}

/// A capture whose structure was changed where the decoder looks.
fn changed_message() -> impl Strategy<Value = Vec<u8>> {
    (seed(), prop::collection::vec(change(), 1..4)).prop_map(|(seed, changes)| {
        let Ok(mut message) = serde_json::from_slice::<Value>(&seed) else { return seed };
        for change in changes {
            apply(&mut message, change);
        }
        python_json::to_string(&message).unwrap().into_bytes()
    })
}

fn apply(message: &mut Value, change: Change) {
    const PLACES: [&str; 4] = ["", "/headers", "/properties", "/properties/delivery_info"];
    let (place, (key, value)) = match change {
        Change::Set { at, key, value } => (PLACES[at.index(PLACES.len())], (key, value)),
        Change::Body(body) => ("", ("body".to_owned(), STANDARD.encode(body.to_string()).into())),
        Change::Remove { at, key } => {
            if let Some(object) =
                message.pointer_mut(PLACES[at.index(PLACES.len())]).and_then(Value::as_object_mut)
            {
                object.shift_remove(&key);
            }
            return;
        }
    };
    let object = message.pointer_mut(place).and_then(Value::as_object_mut);
    if let Some(object) = object {
        object.insert(key, value);
    }
}

/// A capture whose bytes were changed, cut or doubled.
fn damaged_message() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<Index>(), any::<u8>(), 0..4_u8);
    (seed(), prop::collection::vec(damage, 1..6)).prop_map(|(mut bytes, damages)| {
        for (at, byte, kind) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

/// Bytes that a failed property prints as text.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "b\"{}\"", self.0.escape_ascii())
    }
}

fn any_message() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => json_value().prop_map(|value| value.to_string().into_bytes()),
        4 => changed_message(),
        4 => damaged_message(),
    ]
    .prop_map(Bytes)
}

/// The message without the marks that a redelivery leaves.
fn unmarked(bytes: &[u8]) -> Option<Value> {
    let mut message: Value = serde_json::from_slice(bytes).ok()?;
    if let Some(headers) = message.get_mut("headers").and_then(Value::as_object_mut) {
        headers.shift_remove("redelivered");
        headers.shift_remove(DELIVERY_COUNT);
    }
    for part in ["/headers", "/properties/delivery_info"] {
        if let Some(part) = message.pointer_mut(part).and_then(Value::as_object_mut) {
            part.shift_remove("redelivered");
        }
    }
    // Where there was no object, there is an empty one now.
    let drop_empty = |object: Option<&mut Value>, key: &str| {
        let Some(object) = object.and_then(Value::as_object_mut) else { return };
        let is_empty =
            |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if object.get(key).is_some_and(is_empty) {
            object.shift_remove(key);
        }
    };
    drop_empty(message.get_mut("properties"), "delivery_info");
    drop_empty(Some(&mut message), "headers");
    Some(message)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_decoder_answers_whatever_arrives(Bytes(bytes) in any_message()) {
        match decode(&bytes) {
            Ok(message) => {
                prop_assert!(!message.id.is_empty() && !message.task.is_empty());
            }
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(error.id.as_deref() != Some(""));
                let exception = error.error.exception();
                prop_assert!(!exception.traceback_line().is_empty());
            }
        }
        let _ = Body::decode(&bytes);
    }

    #[test]
    fn a_mark_changes_nothing_but_the_marks(Bytes(bytes) in any_message(), deliveries in any::<u32>()) {
        for redelivery in [Redelivery::Restored, Redelivery::Reclaimed { deliveries }] {
            let marked = mark_redelivered(&bytes, redelivery);
            prop_assert_eq!(unmarked(&marked), unmarked(&bytes));
            if marked != bytes {
                // What can be marked stays the same however often it comes back.
                prop_assert_eq!(&mark_redelivered(&marked, redelivery), &marked);
                if redelivery == (Redelivery::Reclaimed { deliveries }) {
                    prop_assert_eq!(delivery_count(&marked), deliveries);
                }
            }
            // Whoever reads it afterwards reads the same call.
            let (before, after) = (decode(&bytes), decode(&marked));
            if let Ok(before) = before {
                let after = after.unwrap();
                prop_assert_eq!((before.id, before.task), (after.id, after.task));
                prop_assert_eq!(before.body.args, after.body.args);
                prop_assert!(after.headers.redelivered);
            } else {
                prop_assert!(after.is_err());
            }
        }
    }

    #[test]
    fn an_unacked_record_gives_back_the_exact_bytes(Bytes(bytes) in any_message(), queue in ".{0,12}") {
        let record = [b"[", bytes.as_slice(), unacked_suffix(&queue).as_bytes()].concat();
        prop_assert_eq!(envelope_of_unacked(&record, &queue), Some(bytes.clone()));
        // A record of anybody's is taken apart, or refused.
        let _ = envelope_of_unacked(&bytes, &queue);
    }

    #[test]
    fn a_retry_is_the_same_call_once_more(Bytes(bytes) in any_message(), eta in instant()) {
        let now = Utc::now();
        let changed = Retried { eta, ..Retried::default() };
        let Ok(message) = decode(&bytes) else {
            let _ = retry::retried(&bytes, &changed, now, "gen1@host");
            return Ok(());
        };
        let again = retry::retried(&bytes, &changed, now, "gen1@host").unwrap();
        let again = decode(&again).unwrap();
        prop_assert_eq!((&again.id, &again.task), (&message.id, &message.task));
        prop_assert_eq!(again.headers.retries, message.headers.retries.saturating_add(1));
        prop_assert_eq!(again.headers.eta, eta);
        prop_assert_eq!(again.headers.expires, message.headers.expires);
        prop_assert_eq!(again.body.args, message.body.args);
        prop_assert_eq!(again.body.kwargs, message.body.kwargs);
        prop_assert_eq!((again.headers.deliveries, again.headers.redelivered), (0, false));
    }

    #[test]
    fn an_instant_is_read_as_it_was_written(time in instant(), text in "[0-9TZ:. +-]{0,40}") {
        if let Some(time) = time {
            prop_assert_eq!(isoformat::parse(&isoformat::format(time)), Ok(time));
        }
        if let Ok(time) = isoformat::parse(&text) {
            let written = isoformat::format(time);
            prop_assert_eq!(isoformat::parse(&written).map(isoformat::format), Ok(written));
        }
    }
}

/// An instant of the years that Python knows, to the microsecond, or none.
fn instant() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    const YEARS_1_TO_9999: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
    prop::option::of(
        YEARS_1_TO_9999.prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap()),
    )
}
