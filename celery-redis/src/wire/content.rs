//! A body on its way from the envelope to JSON text: base64, compression, serialiser.

use super::accept::Accept;
use super::body_text;
use super::compression::Compression;
use super::json_scan;
use super::message::DecodeError;
use super::parts::{Content, Text, is_base64};
use super::raw_map::RawMap;
use super::serializer::Serializer;

/// The body as the JSON text that Python would have written for it.
pub(super) fn json_body(
    content: &Content<'_>,
    headers: &RawMap<'_>,
    properties: &RawMap<'_>,
    accept: &Accept,
) -> Result<Vec<u8>, DecodeError> {
    let serializer = serializer(content, accept)?;
    let compression = compression(headers)?;
    let body = encoded(content, properties)?;
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
    let content = Content::of(outer);
    let is_json = serializer(&content, &everything)? == Serializer::Json;
    if is_json && compression(headers)?.is_none() {
        return Ok(());
    }
    let body = body_text::encode(json_body(&content, headers, properties, &everything)?);
    outer.set("body", &body).map_err(DecodeError::NotJson)?;
    outer.set("content-encoding", "utf-8").map_err(DecodeError::NotJson)?;
    outer.set("content-type", Serializer::Json.content_type()).map_err(DecodeError::NotJson)?;
    properties.set("body_encoding", "base64").map_err(DecodeError::NotJson)?;
    headers.remove("compression");
    Ok(())
}

/// JSON where the message does not say.
fn serializer(content: &Content<'_>, accept: &Accept) -> Result<Serializer, DecodeError> {
    let named = match content.media_type.filter(|value| value.get() != "null") {
        None => Serializer::Json.content_type().into(),
        Some(media_type) => serde_json::from_str(media_type.get())
            .map(|Text(name)| name)
            .map_err(|_| DecodeError::Field { field: "content-type", expected: "a string" })?,
    };
    Serializer::from_content_type(&named)
        .filter(|serializer| accept.serializers.contains(serializer))
        .ok_or_else(|| DecodeError::ContentType {
            content_type: named.into_owned(),
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

fn encoded(content: &Content<'_>, properties: &RawMap<'_>) -> Result<Vec<u8>, DecodeError> {
    let body = content.body.as_ref();
    let body = body.ok_or(DecodeError::Field { field: "body", expected: "a string" })?;
    if is_base64(properties) {
        return body_text::decode(body).map_err(|_| DecodeError::NotBase64);
    }
    Ok(body.to_vec())
}
