//! What a producer sends for chains, groups and chords beside what Python's Celery 5.7 sends,
//! captured in `golden/`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celery_redis::wire::body::Body;
use celery_redis::wire::canvas::{Directory, Dispatch, Step};
use celery_redis::wire::python_json;
use celery_redis::wire::signature::{Options, Parent, Producer, Sending};
use celery_redis::{Canvas, Signature};
use chrono::Utc;
use serde_json::{Value, json};

struct Everything;

impl Directory for Everything {
    fn ignore_result(&self, _: &str) -> Option<bool> {
        Some(false)
    }

    fn queue(&self, _: &str) -> &str {
        "celery"
    }
}

fn add(args: &[i64]) -> Signature {
    args.iter().fold(Signature::new("t.add"), |add, arg| add.arg(*arg))
}

/// A message with its body, each id in it by the order in which the ids appear.
fn readable(envelope: &Value, ids: &mut BTreeMap<String, usize>) -> String {
    let mut envelope = envelope.clone();
    let body = STANDARD.decode(envelope["body"].as_str().unwrap()).unwrap();
    envelope["body"] = String::from_utf8(body).unwrap().into();
    with_ids_named(&python_json::to_string(&envelope).unwrap(), ids)
}

fn with_ids_named(text: &str, ids: &mut BTreeMap<String, usize>) -> String {
    let mut named = String::new();
    let mut rest = text;
    while let Some(at) = rest
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| rest.get(*at..*at + 36).is_some_and(|word| uuid::Uuid::try_parse(word).is_ok()))
    {
        let count = ids.len();
        let number = *ids.entry(rest[at..at + 36].to_owned()).or_insert(count);
        named.push_str(&rest[..at]);
        named.push_str(&format!("<id {number}>"));
        rest = &rest[at + 36..];
    }
    named + rest
}

fn assert_sends(canvas: Canvas, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    let capture: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut expected: Vec<Value> = capture["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["envelope"].clone())
        .collect();
    // As they lie in the list, the first to be sent is the last.
    expected.reverse();

    let producer = Producer {
        origin: expected[0]["headers"]["origin"].as_str().unwrap().to_owned(),
        reply_to: expected[0]["properties"]["reply_to"].as_str().unwrap().to_owned(),
    };
    let sending = Sending {
        producer: &producer,
        now: Utc::now(),
        ignore_result: Some(false),
        queue: "celery",
        parent: None,
    };
    let mut dispatch = Dispatch::new(sending, &Everything);
    dispatch.apply(canvas, &[], &Options::new()).unwrap();
    let ours: Vec<Value> = dispatch
        .plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Send(message) => Some(serde_json::from_slice(&message.bytes).unwrap()),
            _ => None,
        })
        .collect();

    let (mut our_ids, mut their_ids) = (BTreeMap::new(), BTreeMap::new());
    assert_eq!(ours.len(), expected.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(&expected) {
        assert_eq!(readable(ours, &mut our_ids), readable(theirs, &mut their_ids), "{name}");
    }
}

#[test]
fn a_chain_is_its_first_task_with_the_others_in_it() {
    assert_sends(Canvas::chain([add(&[1, 2]), add(&[3]), add(&[4])]), "enqueue-chain");
}

#[test]
fn a_group_is_its_tasks() {
    assert_sends(Canvas::group([add(&[1, 1]), add(&[2, 2]), add(&[3, 3])]), "enqueue-group");
}

#[test]
fn a_chord_is_its_header_each_with_the_body() {
    let header = [add(&[1, 1]), add(&[2, 2]), add(&[3, 3])];
    assert_sends(Canvas::chord(header, Signature::new("t.xsum")), "enqueue-chord");

    let nested = Canvas::group([add(&[1, 1]), add(&[2, 2])]);
    let header = [nested, add(&[3, 3]).into()];
    assert_sends(Canvas::chord(header, Signature::new("t.xident")), "enqueue-chord-nested-group");
}

#[test]
fn a_group_in_a_chain_becomes_a_chord_of_what_follows() {
    let group = Canvas::group([add(&[1]), add(&[2])]);
    let chain: [Canvas; 3] = [add(&[1, 1]).into(), group, Signature::new("t.xsum").into()];
    assert_sends(Canvas::chain(chain), "enqueue-chain-group-chord");
}

#[test]
fn callbacks_and_errbacks_travel_in_the_message() {
    let mut call = Canvas::from(add(&[1, 2]));
    call.link(json!(add(&[10])));
    call.link(json!(Signature::new("t.xident").arg(5).immutable()));
    call.link_error(&json!(Signature::new("t.eb_old")));
    assert_sends(call, "enqueue-link");
}

/// What is sent for the step of a chain, where `sent` is how.
fn step(sent: impl FnOnce(&mut Dispatch<'_>)) -> Vec<String> {
    let producer = Producer { origin: "gen1@host".to_owned(), reply_to: "here".to_owned() };
    let sending = Sending {
        producer: &producer,
        now: chrono::DateTime::UNIX_EPOCH,
        ignore_result: Some(false),
        queue: "celery",
        parent: Some(Parent { id: "before", root_id: "root" }),
    };
    let mut dispatch = Dispatch::new(sending, &Everything);
    sent(&mut dispatch);
    let mut ids = BTreeMap::new();
    let mut seen = Vec::new();
    for step in &dispatch.plan.steps {
        seen.push(match step {
            Step::Send(message) => {
                readable(&serde_json::from_slice(&message.bytes).unwrap(), &mut ids)
            }
            other => with_ids_named(&format!("{other:?}"), &mut ids),
        });
    }
    for child in &dispatch.plan.children {
        let child = dispatch.results.as_tuple(*child).to_string();
        seen.push(with_ids_named(&child, &mut ids));
    }
    seen
}

#[test]
fn a_step_of_a_chain_is_sent_the_same_whether_the_others_are_read_or_not() {
    let group = Canvas::group([add(&[1]), add(&[2])]);
    let chord = Canvas::chord([add(&[1]), add(&[2])], Signature::new("t.xsum"));
    let chunks = json!({"task": "celery.chunks", "subtask_type": "chunks", "kwargs": {
        "task": add(&[]), "it": [[1], [2], [3]], "n": 2,
    }});
    let steps: Vec<Value> = vec![
        json!(add(&[4])),
        json!(add(&[4]).immutable().id("mine").queue("mails").priority(6).expires(Utc::now())),
        json!(add(&[4]).stamp("who", "me").header("x", [1.5]).option("reply_to", "there")),
        json!(add(&[4]).option("link", json!([add(&[5])])).option("link_error", json!(add(&[6])))),
        json!(add(&[4]).option("group_id", "g").option("group_index", 3)),
        json!(add(&[4]).option("chord", json!(Signature::new("t.xsum")))),
        json!(add(&[4]).option("chain", json!([add(&[7])]))),
        json!(add(&[4]).option("root_id", "other").option("replaced_task_nesting", 2)),
        Canvas::chain([add(&[8]), add(&[9])]).to_json(),
        group.option("task_id", "g").to_json(),
        chord.option("task_id", "g").to_json(),
        chunks,
    ];
    // Each as the last of three, of two and of one.
    let others = [json!(add(&[1, 2]).option("task_id", "first")), json!({"task": "caf\u{e9}"})];
    for next in &steps {
        for count in 0..=others.len() {
            let chain = [&others[..count], std::slice::from_ref(next)].concat();
            let body = python_json::to_string(&json!([[], {}, {"chain": chain}])).unwrap();
            let chain = Body::decode(body.as_bytes()).unwrap().embed.chain.unwrap();
            let options = json!({"parent_id": "before", "root_id": "root"});
            let options = || options.as_object().unwrap().clone();

            let unread =
                step(|dispatch| dispatch.apply_next(&chain, &[json!("é")], options()).unwrap());

            let read = step(|dispatch| {
                let mut options = options();
                options.insert("chain".to_owned(), json!(others[..count]));
                let next = Canvas::from_json(next).unwrap();
                dispatch.apply(next, &[json!("é")], &options).unwrap();
            });
            assert!(!unread.is_empty());
            assert_eq!(unread, read);
        }
    }
}

#[test]
fn what_follows_a_step_keeps_its_bytes() {
    // Spaces, a float, an integer of more than 64 bits and a key twice, as nobody of ours writes them.
    let others =
        r#"[{"task":"t.a","args":[1.50,1e5,99999999999999999999],"x":1,"x":2}, {"task" : "b"}"#;
    let body = format!(r#"[[],{{}},{{"chain":{others} , {{"task": "t.next"}} ]}}]"#);
    let chain = Body::decode(body.as_bytes()).unwrap().embed.chain.unwrap();

    let sent = step(|dispatch| dispatch.apply_next(&chain, &[], Options::new()).unwrap());

    let envelope: Value = serde_json::from_str(&sent[0]).unwrap();
    let body = envelope["body"].as_str().unwrap();
    assert!(body.contains(&format!(r#""chain": {others}], "chord": null"#)), "{body}");
}

#[test]
fn a_canvas_reads_what_it_has_written() {
    let group = Canvas::group([add(&[1]), add(&[2])]);
    let chord = Canvas::chord([add(&[1, 1])], Signature::new("t.xsum").immutable());
    let chain: [Canvas; 3] = [add(&[1, 1]).queue("mails").into(), group, chord];
    for canvas in [Canvas::chain(chain), add(&[]).into()] {
        assert_eq!(Canvas::from_json(&canvas.to_json()).unwrap(), canvas);
    }
}

#[test]
fn what_is_no_signature_is_named() {
    for (value, complaint) in [
        (json!(3), "a number is no signature"),
        (json!({"args": []}), "an object without a task is no signature"),
        (json!({"task": "t.a", "args": 1}), "args of the signature \"t.a\" must be a list"),
        (
            json!({"task": "celery.group", "subtask_type": "group", "kwargs": {}}),
            "kwargs.tasks of the signature \"celery.group\" must be a list of signatures",
        ),
    ] {
        let error = Canvas::from_json(&value).unwrap_err().to_string();
        assert!(error.starts_with(complaint), "{error}");
    }
}
