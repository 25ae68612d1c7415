//! Whatever bytes a serialiser or a compression is given, it answers with what Python would have
//! read or with an error, within its limits.
//!
//! `DECODER_FUZZ_CASES` is the number of cases of each property; without it they take a second.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celery_redis::wire::compression::Compression;
use celery_redis::wire::record;
use celery_redis::wire::serializer::Serializer;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Values as kombu serialises them, and as its JSON has them.
#[derive(Clone, Deserialize)]
struct Serialized {
    case: String,
    serializer: String,
    protocol: Option<u8>,
    body: String,
    json: String,
}

static CASES: LazyLock<Vec<(Serializer, Vec<u8>, Serialized)>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/serialized-values.json");
    let cases: Vec<Serialized> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let read = |case: Serialized| {
        let serializer = Serializer::from_name(&case.serializer).unwrap();
        (serializer, STANDARD.decode(&case.body).unwrap(), case)
    };
    cases.into_iter().map(read).collect()
});

const LIMIT: usize = 1 << 17;

#[test]
fn every_value_becomes_the_json_that_kombu_writes() {
    assert!(CASES.len() >= 59);
    for (serializer, body, case) in CASES.iter() {
        let json =
            serializer.to_json(body.clone(), LIMIT).map(|json| String::from_utf8(json).unwrap());
        let name = format!("{} in {} {:?}", case.case, case.serializer, case.protocol);
        assert_eq!(json.unwrap_or_else(|error| panic!("{name}: {error}")), case.json, "{name}");
    }
}

fn config() -> ProptestConfig {
    #[allow(clippy::disallowed_methods, reason = "a number of the test's own, no configuration")]
    let cases = std::env::var("DECODER_FUZZ_CASES").map_or(256, |cases| cases.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Bytes of a serialiser with some changed, cut, or repeated.
fn damaged() -> impl Strategy<Value = (Serializer, Vec<u8>)> {
    let damage = (any::<Index>(), any::<Index>(), any::<u8>(), 0..6_u8);
    (any::<Index>(), prop::collection::vec(damage, 1..6)).prop_map(|(seed, damages)| {
        let (serializer, mut bytes, _) = CASES[seed.index(CASES.len())].clone();
        for (at, to, byte, kind) in damages {
            if bytes.is_empty() {
                break;
            }
            let (at, to) = (at.index(bytes.len()), to.index(bytes.len()));
            match kind {
                0 | 1 => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                3 => bytes.truncate(at.max(1)),
                4 => drop(bytes.drain(at.min(to)..at.max(to))),
                _ => bytes.extend_from_within(at.min(to)..at.max(to)),
            }
        }
        (serializer, bytes)
    })
}

/// Opcodes in any order, most of them with what has to follow them.
fn pickle() -> impl Strategy<Value = (Serializer, Vec<u8>)> {
    const OPCODES: [&[u8]; 44] = [
        b"(",
        b"0",
        b"1",
        b"2",
        b"N",
        b"\x88",
        b"\x89",
        b"I01\n",
        b"L-7L\n",
        b"K\x05",
        b"M\0\x01",
        b"J\xff\xff\xff\xff",
        b"\x8a\x02\0\x80",
        b"F1.5\n",
        b"G\x3f\xf0\0\0\0\0\0\0",
        b"Vtext\n",
        b"\x8c\x03key",
        b"\x8c\x08datetime",
        b"\x8c\x04uuid\x8c\x04UUID\x93",
        b"C\x02\xff\0",
        b"C\x04\x07\xe4\x01\x02",
        b"]",
        b"}",
        b")",
        b"\x8f",
        b"l",
        b"t",
        b"d",
        b"\x91",
        b"\x85",
        b"\x86",
        b"\x87",
        b"a",
        b"e",
        b"\x90",
        b"s",
        b"u",
        b"\x94",
        b"h\0",
        b"h\x01",
        b"R",
        b"\x81",
        b"b",
        b"cdatetime\ndate\n",
    ];
    prop::collection::vec(select(&OPCODES[..]), 0..40).prop_map(|opcodes| {
        let pickle = [opcodes.concat().as_slice(), b"."].concat();
        (Serializer::Pickle, pickle)
    })
}

/// Pieces of YAML that mean something to each other.
fn yaml() -> impl Strategy<Value = (Serializer, Vec<u8>)> {
    const PIECES: [&str; 34] = [
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        ": ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "&b ",
        "*b",
        "!!str ",
        "!!int ",
        "!!binary ",
        "!x ",
        "| ",
        ">-",
        "'",
        "\"",
        "#",
        "---\n",
        "...\n",
        "a",
        "1",
        "1.5",
        "~",
        "2020-01-02",
        "<<",
        "\\u00e9",
        "\t",
    ];
    prop::collection::vec(select(&PIECES[..]), 0..30)
        .prop_map(|pieces| (Serializer::Yaml, pieces.concat().into_bytes()))
}

fn anything() -> impl Strategy<Value = (Serializer, Vec<u8>)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        1 => (select(&Serializer::ALL[1..]), bytes),
        5 => damaged(),
        2 => pickle(),
        2 => yaml(),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_read_is_json_within_the_limit((serializer, bytes) in anything()) {
        match serializer.to_json(bytes, LIMIT) {
            Ok(json) => {
                prop_assert!(json.len() <= LIMIT);
                let parsed: Result<&RawValue, _> = serde_json::from_slice(&json);
                let text = String::from_utf8_lossy(&json);
                prop_assert!(parsed.is_ok(), "{}: {text}", parsed.unwrap_err());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_decompressed_is_within_the_limit(
        compression in select(&Compression::ALL[..]),
        text in prop::collection::vec(0..4_u8, 0..3000),
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        limit in 0..4000_usize,
    ) {
        let mut compressed = compression.compress(&text).unwrap();
        for (at, byte) in &damages {
            let at = at.index(compressed.len());
            compressed[at] = *byte;
        }
        match compression.decompress(&compressed, limit) {
            Ok(bytes) => prop_assert!(bytes.len() <= limit),
            Err(_) => prop_assert!(!damages.is_empty() || text.len() > limit),
        }
        let _ = record::decompress(&[b"\0celery-compressed\0gzip\0", &compressed[..]].concat());
    }
}
