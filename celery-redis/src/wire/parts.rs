//! An envelope taken apart: its headers, its properties, and the body that they describe.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::long_strings::{Skeleton, text_of};
use super::message::DecodeError;
use super::raw_map::RawMap;

/// What a worker reads of an envelope, borrowed from its bytes.
pub(super) struct Parts<'a> {
    pub(super) content: Content<'a>,
    /// `None` where something else than an object stands there.
    pub(super) headers: Option<RawMap<'a>>,
    /// The same.
    pub(super) properties: Option<RawMap<'a>>,
}

/// The body as it is written.
pub(super) struct Content<'a> {
    /// Its media type, as JSON.
    pub(super) media_type: Option<&'a RawValue>,
    /// The string's text; where it stands for base64, nobody has looked yet whether it is text.
    /// `None` where it is no string.
    pub(super) body: Option<Cow<'a, [u8]>>,
}

impl<'a> Parts<'a> {
    /// In one pass over the bytes, or, where something is not as it should be, in as many as it takes
    /// to know what: whoever is named in one part is answered, whatever stands in the others.
    pub(super) fn read(envelope: &'a [u8]) -> Result<Self, DecodeError> {
        // Once for all of it, and not for each part again.
        let utf8 = std::str::from_utf8(envelope);
        if let Some(outer) = utf8.ok().and_then(|text| serde_json::from_str(text).ok()) {
            return Ok(Self::of(outer));
        }
        let outer: Outer<'a, &'a RawValue, &'a RawValue> = serde_json::from_slice(envelope)
            .map_err(|error| match error.classify() {
                Category::Data => DecodeError::NotAnEnvelope,
                _ => DecodeError::NotJson(error),
            })?;
        Ok(Self {
            content: Content {
                media_type: outer.media_type,
                body: outer.body.and_then(text).map(bytes),
            },
            headers: object(outer.headers),
            properties: object(outer.properties),
        })
    }

    /// What is left of an envelope without its body, and that body; `None` where they are not all.
    pub(super) fn restored(skeleton: &'a Skeleton<'_>) -> Option<Self> {
        let mut parts = Self::of(serde_json::from_str(&skeleton.text).ok()?);
        let read = std::str::from_utf8(parts.content.body.as_deref()?).ok()?;
        let body = skeleton.only(read)?;
        // Whoever decodes base64 looks at each byte anyway.
        if !is_base64(parts.properties.as_ref()?) {
            text_of(body)?;
        }
        parts.content.body = Some(body.into());
        Some(parts)
    }

    fn of(outer: Outer<'a, Text<'a>, RawMap<'a>>) -> Self {
        let body = outer.body.map(|Text(body)| bytes(body));
        Self {
            content: Content { media_type: outer.media_type, body },
            headers: Some(outer.headers.unwrap_or_default()),
            properties: Some(outer.properties.unwrap_or_default()),
        }
    }
}

impl<'a> Content<'a> {
    /// That of an envelope that is changed part by part.
    pub(super) fn of(outer: &'a RawMap<'_>) -> Self {
        Self {
            media_type: outer.get("content-type"),
            body: outer.get("body").and_then(text).map(bytes),
        }
    }
}

/// Whether the body is base64 of what it stands for.
pub(super) fn is_base64(properties: &RawMap<'_>) -> bool {
    let encoding = properties.read::<Text<'_>>("body_encoding");
    encoding.is_some_and(|Text(name)| name == "base64")
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
}

/// The string that `value` is, copied only where it has escapes; `None` for what is no string.
pub(super) fn plain_text(value: &RawValue) -> Option<Cow<'_, str>> {
    // What a raw value holds is known to be JSON.
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') { text(value) } else { Some(inside.into()) }
}

/// Null and absent are an empty object; anything else that is no object is `None`.
fn object(value: Option<&RawValue>) -> Option<RawMap<'_>> {
    match value {
        None => Some(RawMap::default()),
        Some(raw) if raw.get() == "null" => Some(RawMap::default()),
        Some(raw) => serde_json::from_str(raw.get()).ok(),
    }
}

/// A string that is copied only where it has escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The object itself; of a key that is there twice the last counts, as in Python.
struct Outer<'a, B, O> {
    body: Option<B>,
    media_type: Option<&'a RawValue>,
    headers: Option<O>,
    properties: Option<O>,
}

impl<'de: 'a, 'a, B: Deserialize<'de>, O: Deserialize<'de>> Deserialize<'de> for Outer<'a, B, O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<B, O>(PhantomData<(B, O)>);

        impl<'de, B: Deserialize<'de>, O: Deserialize<'de>> Visitor<'de> for Fields<B, O> {
            type Value = Outer<'de, B, O>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut outer =
                    Outer { body: None, media_type: None, headers: None, properties: None };
                while let Some(Text(key)) = map.next_key()? {
                    match key.as_ref() {
                        "body" => outer.body = Some(map.next_value()?),
                        "content-type" => outer.media_type = Some(map.next_value()?),
                        "headers" => outer.headers = Some(map.next_value()?),
                        "properties" => outer.properties = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(outer)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::message::{DecodeError, Message, Undecodable};

    const LONG: usize = 64 << 10;

    fn decode(body: &[u8], encoding: &str) -> Result<Message, Undecodable> {
        let before = br#"{"headers": {"id": "i", "task": "t"}, "body": ""#;
        let behind = format!(r#"", "properties": {{"body_encoding": "{encoding}"}}}}"#);
        Message::decode(&[before, body, behind.as_bytes()].concat())
    }

    #[test]
    fn a_long_body_that_is_no_base64_is_told_to_its_caller() {
        for wrong in [&b"!"[..], b"\n", b"\xff"] {
            let body = ["A".repeat(LONG).as_bytes(), wrong].concat();
            let error = decode(&body, "base64").unwrap_err();
            assert!(matches!(error.error, DecodeError::NotBase64), "{error}");
            assert_eq!(error.id.as_deref(), Some("i"));
        }
    }

    #[test]
    fn a_long_body_that_is_no_text_is_no_json() {
        for wrong in [&b"\n"[..], b"\xff"] {
            let body = ["1".repeat(LONG).as_bytes(), wrong].concat();
            let error = decode(&body, "utf-8").unwrap_err();
            assert!(matches!(error.error, DecodeError::NotJson(_)), "{error}");
        }
    }
}
