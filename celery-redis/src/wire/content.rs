//! A body on its way from the envelope to JSON text: base64, compression, serialiser.

use std::borrow::Cow;

use serde::Deserialize;

use super::accept::Accept;
use super::body_text;
use super::compression::Compression;
use super::json_scan;
use super::message::DecodeError;
use super::raw_map::RawMap;
use super::serializer::Serializer;

/// A string that is copied only where it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The body as the JSON text that Python would have written for it.
pub(super) fn json_body(
    outer: &RawMap<'_>,
    headers: &RawMap<'_>,
    properties: &RawMap<'_>,
    accept: &Accept,
) -> Result<Vec<u8>, DecodeError> {
    let serializer = serializer(outer, accept)?;
    let compression = compression(headers)?;
    let body = encoded(outer, properties)?;
    let body = match compression {
        None if serializer == Serializer::Json => return Ok(body),
        None => body,
        Some(compression) => compression.decompress(&body, accept.longest_body)?,
    };
    let json = serializer.to_json(body, accept.longest_body)?;
    let most = accept.most_values();
    if std::str::from_utf8(&json).is_ok_and(|json| json_scan::count_values(json) > most) {
        return Err(DecodeError::TooManyValues { most });
    }
    Ok(json)
}

/// Makes the body JSON without a compression, as a worker of Python's sends a task once more
/// whatever it came as. What is that already keeps its bytes.
pub(super) fn rewrite_as_json(
    outer: &mut RawMap<'_>,
    headers: &mut RawMap<'_>,
    properties: &mut RawMap<'_>,
) -> Result<(), DecodeError> {
    let everything = Accept::everything();
    let is_json = serializer(outer, &everything)? == Serializer::Json;
    if is_json && compression(headers)?.is_none() {
        return Ok(());
    }
    let body = body_text::encode(json_body(outer, headers, properties, &everything)?);
    outer.set("body", &body).map_err(DecodeError::NotJson)?;
    outer.set("content-encoding", "utf-8").map_err(DecodeError::NotJson)?;
    outer.set("content-type", Serializer::Json.content_type()).map_err(DecodeError::NotJson)?;
    properties.set("body_encoding", "base64").map_err(DecodeError::NotJson)?;
    headers.remove("compression");
    Ok(())
}

/// JSON where the message does not say.
fn serializer(outer: &RawMap<'_>, accept: &Accept) -> Result<Serializer, DecodeError> {
    let named = match outer.get("content-type").filter(|value| value.get() != "null") {
        None => Serializer::Json.content_type().to_owned(),
        Some(content_type) => serde_json::from_str(content_type.get())
            .map_err(|_| DecodeError::Field { field: "content-type", expected: "a string" })?,
    };
    Serializer::from_content_type(&named)
        .filter(|serializer| accept.serializers.contains(serializer))
        .ok_or_else(|| DecodeError::ContentType {
            content_type: named,
            accepted: accept
                .serializers
                .iter()
                .map(|serializer| serializer.content_type())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn compression(headers: &RawMap<'_>) -> Result<Option<Compression>, DecodeError> {
    match headers.read::<String>("compression").filter(|name| !name.is_empty()) {
        None => Ok(None),
        Some(name) => match Compression::from_name(&name) {
            Some(compression) => Ok(Some(compression)),
            None => Err(DecodeError::Compression(name)),
        },
    }
}

fn encoded(outer: &RawMap<'_>, properties: &RawMap<'_>) -> Result<Vec<u8>, DecodeError> {
    const BODY: DecodeError = DecodeError::Field { field: "body", expected: "a string" };
    let raw = outer.get("body").ok_or(BODY)?.get();
    let encoding = properties.read::<Text<'_>>("body_encoding");
    let is_base64 = encoding.is_some_and(|Text(name)| name == "base64");
    // Base64 has no character that JSON would escape: mostly there is no string to be read first.
    let between = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if is_base64 && let Some(Ok(body)) = between.map(body_text::decode) {
        return Ok(body);
    }
    let Text(body) = serde_json::from_str(raw).map_err(|_| BODY)?;
    if is_base64 {
        return body_text::decode(&body).map_err(|_| DecodeError::NotBase64);
    }
    Ok(body.into_owned().into_bytes())
}
