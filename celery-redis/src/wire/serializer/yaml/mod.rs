//! YAML 1.1 as `yaml.safe_load` of `PyYAML` reads it.
//!
//! The text is read event by event and written as JSON at once; an alias repeats the JSON of its
//! anchor, so that what a text of aliases stands for counts against the limit before it is there.

mod scalar;

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use scalar::Scalar;

use super::json_text::JsonText;
use super::{Serializer, SerializerError};
use crate::wire::typed_json::TypedValue;

/// The parser keeps every token of a list in brackets until it ends, because the list might yet
/// turn out to be a key: some 170 bytes for each of the text. So much shorter has the text to be.
const SHARE: usize = 32;

pub(super) fn to_json(body: &[u8], limit: usize) -> Result<Vec<u8>, SerializerError> {
    if body.len() > limit / SHARE {
        return Err(SerializerError::TooMuchYaml { limit: limit / SHARE });
    }
    let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    let mut writer = Writer {
        json: JsonText::new(limit),
        anchors: HashMap::new(),
        open: Vec::new(),
        documents: 0,
    };
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| malformed(error.to_string()))?;
        writer.write(&event)?;
    }
    if writer.documents == 0 {
        writer.json.null()?;
    }
    Ok(writer.json.into_bytes())
}

struct Writer {
    json: JsonText,
    /// Where the JSON of an anchor's value is.
    anchors: HashMap<usize, Range<usize>>,
    /// Anchors and beginnings of the lists and mappings that are not closed yet.
    open: Vec<(usize, usize)>,
    documents: usize,
}

impl Writer {
    fn write(&mut self, event: &Event<'_>) -> Result<(), SerializerError> {
        let begin = self.json.mark();
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(malformed("there is more than one document".to_owned()));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, *style, tag.as_deref())?;
                self.anchored(*anchor, begin);
            }
            Event::SequenceStart(anchor, tag) => {
                expect_tag(tag.as_deref(), "seq")?;
                self.json.begin_list()?;
                self.open.push((*anchor, begin));
            }
            Event::MappingStart(anchor, tag) => {
                expect_tag(tag.as_deref(), "map")?;
                self.json.begin_mapping()?;
                self.open.push((*anchor, begin));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.json.end()?;
                if let Some((anchor, begin)) = self.open.pop() {
                    self.anchored(anchor, begin);
                }
            }
            Event::Alias(anchor) => {
                let range =
                    self.anchors.get(anchor).cloned().ok_or_else(|| {
                        malformed("an alias names what is not there yet".to_owned())
                    })?;
                self.json.copy(range)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, begin: usize) {
        // Zero is the parser's word for none.
        if anchor != 0 {
            self.anchors.insert(anchor, begin..self.json.len());
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<(), SerializerError> {
        let (kind, scalar) = match tag {
            None if style == ScalarStyle::Plain => ("timestamp", scalar::resolve(text)),
            None => ("str", Some(Scalar::Text)),
            Some(tag) => match own_name(tag)? {
                "str" => ("str", Some(Scalar::Text)),
                name => (name, scalar::tagged(name, text)),
            },
        };
        match scalar {
            // The text may be an argument, which is nobody's to read.
            None => Err(malformed(format!("a scalar is no {}", shown(kind)))),
            Some(Scalar::Null) => self.json.null(),
            Some(Scalar::Bool(value)) => self.json.bool(value),
            Some(Scalar::Integer(digits)) => self.json.integer(&digits),
            Some(Scalar::Float(value)) => self.json.float(value),
            Some(Scalar::Text) => self.json.text(text),
            Some(Scalar::Bytes(bytes)) => self.json.typed(&TypedValue::Bytes(bytes)),
            Some(Scalar::DateTime(time)) => self.json.typed(&TypedValue::DateTime(time)),
            Some(Scalar::Date(date)) => self.json.typed(&TypedValue::Date(date)),
            Some(Scalar::Merge) => {
                Err(SerializerError::NotPlain { what: "a merge key (<<)".to_owned() })
            }
        }
    }
}

/// The name of a tag of YAML's own; `!` alone stands for a string.
fn own_name(tag: &Tag) -> Result<&str, SerializerError> {
    match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, name) => Ok(name),
        (false, "" | "!") => Ok("str"),
        (false, name) => Err(not_plain(name)),
    }
}

fn expect_tag(tag: Option<&Tag>, expected: &str) -> Result<(), SerializerError> {
    match tag.map(own_name).transpose()? {
        None => Ok(()),
        Some(name) if name == expected => Ok(()),
        Some(name) => Err(not_plain(name)),
    }
}

fn not_plain(tag: &str) -> SerializerError {
    SerializerError::NotPlain { what: format!("a value with the tag {}", shown(tag)) }
}

/// The beginning of a tag's name, for an error.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn malformed(detail: String) -> SerializerError {
    SerializerError::Malformed { serializer: Serializer::Yaml, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> Result<String, String> {
        to_json(yaml.as_bytes(), 16 << 20)
            .map(|json| String::from_utf8(json).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_those_that_python_reads() {
        for (yaml, expected) in [
            ("- - 2\n  - 3\n- {}\n- callbacks: null\n", r#"[[2, 3], {}, {"callbacks": null}]"#),
            ("", "null"),
            (
                "{1: a, 1.5: b, true: c, null: d, ~: e}",
                r#"{"1": "a", "1.5": "b", "true": "c", "null": "d", "null": "e"}"#,
            ),
            (
                "['1', \"2020-01-01\", 'yes', !!str 5, ! 6]",
                r#"["1", "2020-01-01", "yes", "5", "6"]"#,
            ),
            ("[!!int '5', !!float '1', !!bool 'yes', !!null '']", "[5, 1.0, true, null]"),
            (
                "- !!binary |\n  /wA=\n- !!binary 'YWJj'\n",
                r#"[{"__type__": "base64", "__value__": "/wA="}, {"__type__": "bytes", "__value__": "abc"}]"#,
            ),
            ("- &a [1, 2]\n- *a\n- {x: *a}\n", r#"[[1, 2], [1, 2], {"x": [1, 2]}]"#),
            (
                "- 2020-01-02 03:04:05.6+05:30\n- 2020-01-02\n",
                r#"[{"__type__": "datetime", "__value__": "2020-01-02T03:04:05.600000+05:30"}, {"__type__": "date", "__value__": "2020-01-02"}]"#,
            ),
            ("\"a\\u00e9\\\n  b\"", r#""a\u00e9b""#),
        ] {
            assert_eq!(json(yaml).as_deref(), Ok(expected), "{yaml}");
        }
    }

    #[test]
    fn what_python_does_not_read_or_json_does_not_hold_is_refused() {
        for (yaml, complaint) in [
            ("[1, 2", "the body is not yaml"),
            ("--- 1\n--- 2\n", "more than one document"),
            ("!!python/object/apply:os.system ['true']", "tag \"python/object/apply:os.system\""),
            ("!mine 5", "tag \"mine\""),
            ("!!set {a: null}", "tag \"set\""),
            ("2020-02-31", "a scalar is no \"timestamp\""),
            ("!!int x", "a scalar is no \"int\""),
            ("&a [*a]", "an alias names what is not there yet"),
            ("*a", "not yaml"),
            ("{[1]: 2}", "a list as the key"),
            ("{2020-01-01: 2}", "date as the key"),
            ("[.nan]", "the float NaN"),
            ("{<<: {a: 1}}", "a merge key"),
        ] {
            let error = json(yaml).unwrap_err();
            assert!(error.contains(complaint), "{yaml}: {error}");
        }
    }

    #[test]
    fn aliases_of_aliases_end() {
        let mut bomb = "- &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("- &a{level} [{}]\n", [before.as_str(); 9].join(", "));
        }
        assert!(json(&bomb).unwrap_err().starts_with("the body is longer than"));
    }

    #[test]
    fn a_text_that_would_fill_the_memory_is_refused() {
        let list = format!("[{}]", "0,".repeat(300_000));
        assert_eq!(
            json(&list).unwrap_err(),
            "the body is longer than the 524288 bytes of YAML that are accepted here"
        );
    }

    #[test]
    fn brackets_without_end_end() {
        for yaml in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            let error = json(&yaml).unwrap_err();
            assert!(error.contains("deeper than") || error.contains("not yaml"), "{error}");
        }
    }
}
