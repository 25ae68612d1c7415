//! The message that a retried task becomes (`celery.app.task`, `Task.retry`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::envelope::DELIVERY_COUNT;
use super::isoformat;
use super::python_json;
use super::raw_map::RawMap;

/// The same call once more: same id and everything else, one retry more, a new eta.
///
/// `eta` is `None` for a retry without delay. The deliveries counted so far are forgotten: the
/// message that they were counted on is settled.
pub fn retried(
    envelope: &[u8],
    eta: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    origin: &str,
) -> serde_json::Result<Vec<u8>> {
    let mut outer: RawMap = serde_json::from_slice(envelope)?;
    let mut headers: RawMap = outer.read("headers").unwrap_or_default();
    let mut properties: RawMap = outer.read("properties").unwrap_or_default();
    let eta = eta.map(isoformat::format);
    headers.remove("redelivered");
    headers.remove(DELIVERY_COUNT);
    if headers.get("task").is_some() {
        let retries: u32 = headers.read("retries").unwrap_or(0);
        headers.set("retries", &retries.saturating_add(1))?;
        headers.set("eta", &eta)?;
        if headers.read::<String>("parent_id").is_none() {
            let id: Option<String> = headers.read("id");
            headers.set("parent_id", &id)?;
        }
    } else {
        outer.set("body", &retried_protocol_1(&outer, &properties, eta.as_deref())?)?;
    }
    let expires = headers.read::<String>("expires").and_then(|text| isoformat::parse(&text).ok());
    if let Some(expires) = expires {
        let left = (expires - now).num_milliseconds().max(0).to_string();
        properties.set_after("delivery_mode", "expiration", &left)?;
    }
    if let Some(mut info) = properties.read::<RawMap>("delivery_info") {
        info.remove("redelivered");
        properties.set("delivery_info", &info)?;
    }
    properties.set_after("reply_to", "origin", origin)?;
    properties.set("delivery_tag", &Uuid::new_v4().to_string())?;
    outer.set("headers", &headers)?;
    outer.set("properties", &properties)?;
    python_json::to_string(&outer).map(String::into_bytes)
}

/// Protocol 1 has the same fields in its body.
fn retried_protocol_1(
    outer: &RawMap,
    properties: &RawMap,
    eta: Option<&str>,
) -> serde_json::Result<String> {
    let body: String = outer.read("body").unwrap_or_default();
    let in_base64 = properties.read::<String>("body_encoding").as_deref() == Some("base64");
    let bytes =
        if in_base64 { STANDARD.decode(&body).unwrap_or_default() } else { body.into_bytes() };
    let mut fields: RawMap = serde_json::from_slice(&bytes)?;
    let retries: u32 = fields.read("retries").unwrap_or(0);
    fields.set("retries", &retries.saturating_add(1))?;
    fields.set("eta", &eta)?;
    let text = python_json::to_string(&fields)?;
    Ok(if in_base64 { STANDARD.encode(text) } else { text })
}
