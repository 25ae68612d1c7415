//! Messages and results beside those of Python's Celery 5.7, captured in `golden/`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celery_redis::Signature;
use celery_redis::wire::accept::Accept;
use celery_redis::wire::call_record::CallRecord;
use celery_redis::wire::compression::Compression;
use celery_redis::wire::exception::Exception;
use celery_redis::wire::message::Message;
use celery_redis::wire::result::{Outcome, State, TaskMeta};
use celery_redis::wire::retry::Retried;
use celery_redis::wire::serializer::Serializer;
use celery_redis::wire::signature::Producer;
use celery_redis::wire::{isoformat, python_json, record, retry};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn capture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The messages of a capture, as their producer pushed them.
fn envelopes(name: &str) -> Vec<Value> {
    let messages = capture(name)["messages"].clone();
    let Value::Array(messages) = messages else { panic!("{name} has no messages") };
    messages.into_iter().map(|message| message["envelope"].clone()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn instant(value: &Value) -> DateTime<Utc> {
    isoformat::parse(text(value)).unwrap()
}

/// The signature's bytes are those of the capture; only its fresh delivery tag is taken over.
fn assert_encodes(signature: Signature, expected: &Value, now: DateTime<Utc>) {
    let producer = Producer {
        origin: text(&expected["headers"]["origin"]).to_owned(),
        reply_to: text(&expected["properties"]["reply_to"]).to_owned(),
    };
    let signature = signature.id(text(&expected["headers"]["id"]));
    let encoded = signature.encode(&producer, now).unwrap();
    let mut ours: Value = serde_json::from_slice(&encoded.bytes).unwrap();
    let fresh = ours["properties"]["delivery_tag"].take();
    let tag = text(&expected["properties"]["delivery_tag"]);

    let bytes = String::from_utf8(encoded.bytes).unwrap().replace(text(&fresh), tag);

    assert_eq!(bytes, python_json::to_string(expected).unwrap());
    assert_eq!(encoded.queue, text(&expected["properties"]["delivery_info"]["routing_key"]));
}

#[test]
fn a_signature_becomes_the_bytes_that_python_sends() {
    let now = Utc::now();
    let add = || Signature::new("t.add").arg(1).arg(2);
    for (name, signature) in [
        ("enqueue-add-delay", Signature::new("t.add").arg(2).arg(3)),
        (
            "enqueue-kwargs",
            Signature::new("t.kw")
                .arg(1)
                .kwarg("name", "x")
                .kwarg("n", Value::Null)
                .kwarg("u", "caf\u{e9}"),
        ),
        ("enqueue-queue-custom", add().queue("mails")),
        ("enqueue-time-limits", add().time_limits(Some(30.0), Some(20.0))),
        ("enqueue-ignore-result", Signature::new("t.ir").ignore_result(Some(true))),
        (
            "enqueue-send-task-unknown",
            Signature::new("no.such.task").arg(1).kwarg("a", 2).ignore_result(None),
        ),
    ] {
        for expected in envelopes(name) {
            assert_encodes(signature.clone(), &expected, now);
        }
    }
}

#[test]
fn a_priority_is_written_as_it_was_given() {
    let expected = envelopes("enqueue-priority");
    assert_eq!(expected.len(), 12);
    for message in expected {
        let priority = message["properties"]["priority"].as_i64().unwrap();
        let signature = Signature::new("t.add").arg(priority).arg(priority).priority(priority);
        assert_encodes(signature, &message, Utc::now());
    }
}

#[test]
fn eta_countdown_and_expires_become_the_bytes_that_python_sends() {
    let add = || Signature::new("t.add").arg(1).arg(2);

    let eta = &envelopes("enqueue-eta")[0];
    assert_encodes(add().eta(instant(&eta["headers"]["eta"])), eta, Utc::now());

    let countdown = &envelopes("enqueue-countdown")[0];
    let minute = TimeDelta::seconds(60);
    let sent = instant(&countdown["headers"]["eta"]) - minute;
    assert_encodes(add().countdown(minute), countdown, sent);

    for name in ["enqueue-expires", "enqueue-expires-datetime"] {
        let expires = &envelopes(name)[0];
        let at = instant(&expires["headers"]["expires"]);
        let left: i64 = text(&expires["properties"]["expiration"]).parse().unwrap();
        assert_encodes(add().expires(at), expires, at - TimeDelta::milliseconds(left));
    }
}

#[test]
fn own_headers_follow_celerys() {
    let mut expected = envelopes("enqueue-headers-shadow").remove(0);
    // A signature has no shadow name.
    expected["headers"]["shadow"] = Value::Null;
    let signature = Signature::new("t.add").arg(1).arg(2).header("x-req", "abc").header("n", 1);
    assert_encodes(signature, &expected, Utc::now());

    for mut expected in envelopes("beat-interval") {
        let body = STANDARD.decode(text(&expected["body"])).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let (args, kwargs) = (body[0].as_array().unwrap(), body[1].as_object().unwrap());
        let mut signature = Signature::new(text(&expected["headers"]["task"]));
        for arg in args {
            signature = signature.arg(arg.clone());
        }
        for (name, value) in kwargs {
            signature = signature.kwarg(name, value.clone());
        }
        // Python's beat sends a list where everybody else sends a tuple, and says so here.
        let tuple =
            text(&expected["headers"]["argsrepr"]).replace(['[', '('], "(").replace(']', ")");
        expected["headers"]["argsrepr"] = tuple.into();
        let mut now = Utc::now();
        if let Some(left) = expected["properties"]["expiration"].as_str() {
            let at = instant(&expected["headers"]["expires"]);
            signature = signature.expires(at);
            now = at - TimeDelta::milliseconds(left.parse().unwrap());
        }
        if let Some(own) = expected["headers"].get("x") {
            signature = signature.header("x", own.clone());
        }
        let signature = signature
            .queue(text(&expected["properties"]["delivery_info"]["routing_key"]))
            .priority(expected["properties"]["priority"].as_i64().unwrap())
            .ignore_result(expected["headers"]["ignore_result"].as_bool())
            .header("celery_beat_task", true);
        assert_encodes(signature, &expected, now);
    }
}

/// What a worker reads that takes every serialiser.
fn everything() -> Accept {
    Accept { serializers: Serializer::ALL.to_vec(), ..Accept::default() }
}

#[test]
fn every_message_is_read_as_it_was_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".json").filter(|name| name.starts_with("enqueue-"))
        else {
            continue;
        };
        let messages = capture(name)["messages"].clone();
        for captured in messages.as_array().unwrap() {
            let envelope = &captured["envelope"];
            let headers = &envelope["headers"];
            let bytes = python_json::to_string(envelope).unwrap();
            let message = Message::decode_accepted(bytes.as_bytes(), &everything());
            let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
            read += 1;
            let body = &captured["body_decoded"];
            let (fields, args, kwargs) = if headers["task"].is_null() {
                (body, &body["args"], &body["kwargs"])
            } else if body.get("__b64__").is_some() {
                // Not JSON: the call was add(2, 3).
                (headers, &json!([2, 3]), &json!({}))
            } else {
                (headers, &body[0], &body[1])
            };
            assert_eq!(*message.task, fields["task"], "{name}");
            assert_eq!(*message.id, fields["id"], "{name}");
            assert_eq!(json!(message.headers.retries), fields["retries"], "{name}");
            assert_eq!(json!(message.headers.group), fields["group"], "{name}");
            let eta = message.headers.eta;
            let expected = fields["eta"].as_str().map(|eta| isoformat::parse(eta).unwrap());
            assert_eq!(eta, expected, "{name}");
            assert_eq!(json!(message.body.args), *args, "{name}");
            assert_eq!(json!(message.body.kwargs), *kwargs, "{name}");
            assert!(message.body.embed.is_empty() || headers["compression"].is_null(), "{name}");
        }
    }
    assert!(read >= 50, "only {read}");
}

#[test]
fn json_alone_is_accepted_unless_more_is_asked_for() {
    for (name, content_type) in [
        ("enqueue-yaml", "application/x-yaml"),
        ("enqueue-msgpack", "application/x-msgpack"),
        ("enqueue-pickle", "application/x-python-serialize"),
    ] {
        let bytes = python_json::to_string(&envelopes(name)[0]).unwrap();
        let error = Message::decode(bytes.as_bytes()).unwrap_err().error;
        assert_eq!(
            error.to_string(),
            format!("content type {content_type:?} is not accepted here, only application/json")
        );
        assert_eq!(error.exception().exc_type, "ContentDisallowed");
    }
}

#[test]
fn a_retry_of_protocol_1_is_one_of_protocol_2() {
    let bytes = python_json::to_string(&envelopes("enqueue-protocol-1")[0]).unwrap();
    let message = Message::decode(bytes.as_bytes()).unwrap();
    let kwargs = serde_json::Map::from_iter([("y".to_owned(), json!(9))]);
    let names = ["x", "y"];
    let changed = Retried { kwargs: Some(&kwargs), names: &names, ..Retried::default() };

    let again = retry::retried(bytes.as_bytes(), &changed, Utc::now(), "gen1@host").unwrap();

    let envelope: Value = serde_json::from_slice(&again).unwrap();
    let plain = &envelopes("enqueue-add-delay")[0];
    let keys = |value: &Value| value["headers"].as_object().unwrap().keys().cloned().collect();
    let (ours, expected): (Vec<String>, Vec<String>) = (keys(&envelope), keys(plain));
    assert_eq!(ours, expected);
    assert_eq!(envelope["headers"]["parent_id"], *message.id);
    assert_eq!(envelope["headers"]["ignore_result"], false);
    let again = Message::decode(&again).unwrap();
    assert_eq!((again.headers.retries, &again.task), (1, &message.task));
    assert_eq!(again.body.args, [message.body.args[0].clone(), json!(9)]);
}

#[test]
fn a_retry_is_json_without_compression_whatever_it_came_as() {
    for name in
        ["enqueue-yaml", "enqueue-msgpack-gzip", "enqueue-pickle", "enqueue-compression-zstd"]
    {
        let bytes = python_json::to_string(&envelopes(name)[0]).unwrap();
        let message = Message::decode_accepted(bytes.as_bytes(), &everything()).unwrap();

        let again =
            retry::retried(bytes.as_bytes(), &Retried::default(), Utc::now(), "gen1@host").unwrap();

        let envelope: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(envelope["content-type"], "application/json", "{name}");
        assert_eq!(envelope["content-encoding"], "utf-8", "{name}");
        assert_eq!(envelope["headers"].get("compression"), None, "{name}");
        let again = Message::decode(&again).unwrap();
        assert_eq!((again.headers.retries, &again.body.args), (1, &message.body.args), "{name}");
    }
}

#[test]
fn a_result_is_the_bytes_that_python_stores() {
    for name in [
        "success",
        "failure",
        "failure-custom-exception",
        "failure-notregistered",
        "revoked",
        "revoked-expired",
        "retry",
        "started",
        "custom-progress",
        "success-extended",
        "success-extended-stamped",
        "failure-extended",
    ] {
        let captured = capture(&format!("result-meta-{name}"));
        let meta = &captured["meta"];
        let traceback = meta["traceback"].as_str().map(ToOwned::to_owned);
        let exception = || serde_json::from_value::<Exception>(meta["result"].clone()).unwrap();
        let plain =
            || RawValue::from_string(python_json::to_string(&meta["result"]).unwrap()).unwrap();
        let outcome = match text(&meta["status"]) {
            "SUCCESS" => Outcome::success(plain()),
            "FAILURE" => Outcome::failure(&exception(), traceback),
            "REVOKED" => Outcome::revoked(text(&meta["result"]["exc_message"][0])),
            "RETRY" => Outcome { state: State::Retry, ..Outcome::failure(&exception(), traceback) },
            state => Outcome { state: state.to_owned().into(), result: plain(), traceback: None },
        };
        let children =
            RawValue::from_string(python_json::to_string(&meta["children"]).unwrap()).unwrap();
        let done =
            meta["date_done"].as_str().map_or_else(Utc::now, |at| isoformat::parse(at).unwrap());

        let call = extended_call(meta);
        let mut record = TaskMeta::new(text(&meta["task_id"]), &outcome, &children, done);
        record.call = call.as_ref();

        assert_eq!(record.encode(), text(&captured["raw"]).as_bytes(), "{name}");
    }
}

#[test]
fn a_compressed_record_is_read() {
    let captured = capture("result-meta-compressed");
    let bytes = STANDARD.decode(text(&captured["raw_b64"])).unwrap();
    let read = record::decompress(&bytes).unwrap();
    assert_eq!(std::str::from_utf8(&read).unwrap(), text(&captured["decoded"]));

    let ours =
        record::compress(text(&captured["decoded"]).as_bytes(), &State::Retry, Compression::Zlib)
            .unwrap();
    let marks = "\0celery-compressed\0application/x-gzip\0".len();
    assert_eq!(ours[..marks], bytes[..marks]);
}

/// The call that an extended record names, read from a message of it; a stamp that is no stamped
/// header is not shown.
fn extended_call(meta: &Value) -> Option<CallRecord> {
    let name = meta.get("name")?;
    let body = STANDARD.encode(json!([meta["args"], meta["kwargs"], null]).to_string());
    let envelope = json!({
        "body": body,
        "headers": {
            "id": meta["task_id"], "task": name, "retries": meta["retries"],
            "stamped_headers": meta.get("stamped_headers"),
            "stamps": {"tenant": meta.get("tenant"), "other": 1},
        },
        "properties": {"body_encoding": "base64"},
    });
    let message = Message::decode(envelope.to_string().as_bytes()).unwrap();
    Some(CallRecord::new(&message, text(&meta["worker"]), text(&meta["queue"])).unwrap())
}

#[test]
fn a_retry_is_the_message_that_python_sends_again() {
    let messages = envelopes("retry-republish");
    assert_eq!(messages.len(), 3);
    for (message, expected) in messages.iter().zip(&messages[1..]) {
        let left: i64 = text(&expected["properties"]["expiration"]).parse().unwrap();
        let now = instant(&expected["headers"]["expires"]) - TimeDelta::milliseconds(left);
        let eta = Some(instant(&expected["headers"]["eta"]));
        let changed = Retried { eta, ..Retried::default() };
        let origin = text(&expected["properties"]["origin"]);
        let envelope = python_json::to_string(message).unwrap();

        let again = retry::retried(envelope.as_bytes(), &changed, now, origin).unwrap();

        let fresh: Value = serde_json::from_slice(&again).unwrap();
        let fresh = text(&fresh["properties"]["delivery_tag"]);
        let tag = text(&expected["properties"]["delivery_tag"]);
        let again = String::from_utf8(again).unwrap().replace(fresh, tag);
        assert_eq!(again, python_json::to_string(expected).unwrap());
    }
}

#[test]
fn a_retry_with_other_arguments_keeps_what_follows() {
    let message = &envelopes("retry-republish")[0];
    let args = [json!([2]), json!("é")];
    let changed = Retried { args: Some(&args), ..Retried::default() };
    let envelope = python_json::to_string(message).unwrap();

    let again = retry::retried(envelope.as_bytes(), &changed, Utc::now(), "gen1@host").unwrap();

    let before = Message::decode(envelope.as_bytes()).unwrap();
    let after = Message::decode(&again).unwrap();
    assert_eq!(after.body.args, args);
    assert_eq!(after.headers.argsrepr.as_deref(), Some("([2], 'é')"));
    let follows = |message: &Message| format!("{:?}", message.body.embed);
    assert_eq!(follows(&after), follows(&before));
}

#[test]
fn a_retry_with_other_keywords_replaces_what_was_given_by_position() {
    let message = &envelopes("retry-republish")[0];
    let envelope = python_json::to_string(message).unwrap();
    let retried = |args: Option<&[Value]>, kwargs: Option<Value>| {
        let kwargs = kwargs.map(|kwargs| kwargs.as_object().unwrap().clone());
        let changed =
            Retried { args, kwargs: kwargs.as_ref(), names: &["x", "y"], ..Retried::default() };
        let again = retry::retried(envelope.as_bytes(), &changed, Utc::now(), "gen1@host").unwrap();
        let body = Message::decode(&again).unwrap().body;
        (json!(body.args), json!(body.kwargs))
    };
    assert_eq!(retried(None, Some(json!({"x": 7, "y": 8}))), (json!([7]), json!({"y": 8})));
    assert_eq!(retried(None, Some(json!({"y": 8}))), (json!([1]), json!({"y": 8})));
    assert_eq!(retried(Some(&[json!(5)]), None), (json!([5]), json!({})));
    let both = retried(Some(&[json!(5)]), Some(json!({"y": 1})));
    assert_eq!(both, (json!([5]), json!({"y": 1})));
}
