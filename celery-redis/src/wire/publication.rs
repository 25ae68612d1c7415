//! What goes out besides tasks: events, commands to all and their replies, each in kombu's envelope.

use serde::Serialize;
use uuid::Uuid;

use super::body_text;
use super::envelope::DeliveryInfo;
use super::python_json;

/// Something that is published; its delivery tag is made when it is encoded.
#[derive(Debug)]
pub(super) struct Publication<'a, H> {
    /// JSON text.
    pub(super) body: &'a str,
    pub(super) headers: H,
    pub(super) delivery_mode: DeliveryMode,
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
}

/// Whether a broker that can should keep it on a disk; Redis has no such difference.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeliveryMode {
    Transient = 1,
    Persistent = 2,
}

impl<H: Serialize> Publication<'_, H> {
    /// The bytes that are published.
    pub(super) fn encode(self) -> serde_json::Result<String> {
        python_json::to_string(&Envelope {
            body: body_text::encode(self.body),
            content_encoding: "utf-8",
            content_type: "application/json",
            headers: self.headers,
            properties: Properties {
                delivery_mode: self.delivery_mode as u8,
                delivery_info: DeliveryInfo {
                    exchange: self.exchange,
                    routing_key: self.routing_key,
                },
                priority: 0,
                body_encoding: "base64",
                delivery_tag: Uuid::new_v4().to_string(),
            },
        })
    }
}

/// A Python worker that listens drops its connection over an event without one of these fields
/// (`celery.worker.consumer.gossip`).
#[derive(Serialize)]
struct Envelope<'a, H> {
    body: String,
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    headers: H,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    delivery_mode: u8,
    delivery_info: DeliveryInfo<'a>,
    priority: u8,
    body_encoding: &'a str,
    delivery_tag: String,
}
