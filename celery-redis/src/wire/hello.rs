//! What a worker that starts asks the others, and their replies: who was revoked, and how far their
//! clocks are (`celery.worker.consumer.mingle`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::control::ReplyTo;
use super::publication::{DeliveryMode, Publication};
use super::python_json;

/// The exchange of all broadcasts.
const MAILBOX_EXCHANGE: &str = "celery.pidbox";

/// The question.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// Who asks.
    pub from_node: &'a str,
    /// Ids of tasks that are revoked as far as it knows, the oldest first.
    pub revoked: &'a [String],
    /// Marks the replies to this question.
    pub ticket: &'a str,
    /// Where they go.
    pub reply_to: &'a ReplyTo,
    /// The asker's clock.
    pub clock: u64,
    /// When nobody waits for replies any more, epoch seconds.
    pub expires: f64,
}

/// What one node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub node: String,
    /// Its clock; absent from those that have nothing to tell.
    pub clock: Option<u64>,
    /// Ids of revoked tasks.
    pub revoked: Vec<String>,
}

impl Hello<'_> {
    /// The broadcast.
    pub fn encode(&self) -> serde_json::Result<String> {
        let body = python_json::to_string(&Body {
            method: "hello",
            arguments: Arguments { from_node: self.from_node, revoked: self.revoked },
            destination: None,
            pattern: None,
            matcher: None,
            ticket: self.ticket,
            reply_to: self.reply_to,
        })?;
        Publication {
            body: &body,
            headers: Headers { clock: self.clock, expires: self.expires },
            delivery_mode: DeliveryMode::Persistent,
            exchange: MAILBOX_EXCHANGE,
            routing_key: "",
        }
        .encode()
    }

    /// Who is in a reply, and what they know: nobody in one that cannot be read. `None` where it
    /// replies to another question.
    pub fn decode_reply(&self, message: &[u8]) -> Option<Vec<Neighbour>> {
        let reply: Reply = serde_json::from_slice(message).ok()?;
        if reply.headers.get("ticket").and_then(Value::as_str) != Some(self.ticket) {
            return None;
        }
        let body = STANDARD.decode(reply.body).unwrap_or_default();
        let nodes: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
        Some(nodes.into_iter().map(|(node, knows)| neighbour(node, &knows)).collect())
    }
}

/// Whatever is not as a node of some Celery says it counts as nothing.
fn neighbour(node: String, knows: &Value) -> Neighbour {
    let revoked = match &knows["revoked"] {
        Value::Array(ids) => ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        // Up to Celery 5.6: to each id the time.
        Value::Object(times) => times.keys().cloned().collect(),
        _ => Vec::new(),
    };
    Neighbour { node, clock: knows["clock"].as_u64(), revoked }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: String,
}

/// Field order as `kombu.pidbox` has it.
#[derive(Serialize)]
struct Body<'a> {
    method: &'a str,
    arguments: Arguments<'a>,
    destination: Option<()>,
    pattern: Option<()>,
    matcher: Option<()>,
    ticket: &'a str,
    reply_to: &'a ReplyTo,
}

#[derive(Serialize)]
struct Arguments<'a> {
    from_node: &'a str,
    revoked: &'a [String],
}

#[derive(Serialize)]
struct Headers {
    clock: u64,
    expires: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GOLDEN: &str = include_str!("../../tests/golden/mingle-hello.json");

    fn golden() -> Value {
        serde_json::from_str(GOLDEN).unwrap()
    }

    fn reply_to() -> ReplyTo {
        serde_json::from_value(golden()["request_body"]["reply_to"].clone()).unwrap()
    }

    fn hello(reply_to: &ReplyTo) -> Hello<'_> {
        Hello {
            from_node: "w2@host",
            revoked: &[],
            ticket: "1bac4812-a186-4d3c-a1bb-5843128bed8b",
            reply_to,
            clock: 1,
            expires: 1_795_404_980.992_933,
        }
    }

    #[test]
    fn the_question_is_celerys_byte_for_byte() {
        let reply_to = reply_to();
        let mut ours: Value = serde_json::from_str(&hello(&reply_to).encode().unwrap()).unwrap();
        let request = &golden()["request"];
        ours["properties"]["delivery_tag"] = request["properties"]["delivery_tag"].clone();
        assert_eq!(ours.to_string(), request.to_string());
    }

    #[test]
    fn a_reply_of_celery_is_understood() {
        let reply_to = reply_to();
        let reply = golden()["replies"][0]["envelope"].to_string();
        let w1 = Neighbour {
            node: "w1@host".to_owned(),
            clock: Some(4),
            revoked: vec!["abababab-0000-4000-8000-000000000001".to_owned()],
        };
        assert_eq!(hello(&reply_to).decode_reply(reply.as_bytes()), Some(vec![w1]));
    }

    fn told(knows: &Value) -> Vec<Neighbour> {
        let reply_to = reply_to();
        let hello = hello(&reply_to);
        let body = STANDARD.encode(json!({"a@h": knows}).to_string());
        let reply = json!({"body": body, "headers": {"ticket": hello.ticket, "clock": 4}});
        hello.decode_reply(reply.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn both_formats_of_what_is_revoked_are_read() {
        assert_eq!(told(&json!({"clock": 7, "revoked": ["x", "y"]}))[0].revoked, ["x", "y"]);
        let older = told(&json!({"clock": 7, "revoked": {"x": 1.5, "y": [2.0, 0, "y"]}}));
        assert_eq!(older[0].revoked, ["x", "y"]);
    }

    #[test]
    fn a_reply_that_makes_no_sense_says_nothing() {
        for knows in [
            json!(null),
            json!({}),
            json!("hi"),
            json!([1]),
            json!({"error": "no"}),
            json!({"clock": "x", "revoked": "abc"}),
            json!({"clock": -1, "revoked": [1, null]}),
        ] {
            let nobody = Neighbour { node: "a@h".to_owned(), ..Neighbour::default() };
            assert_eq!(told(&knows), [nobody], "{knows}");
        }
        let reply_to = reply_to();
        let hello = hello(&reply_to);
        let ticket = json!({"ticket": hello.ticket});
        for body in [json!("%%%"), json!("W10="), json!("bm8=")] {
            let reply = json!({"body": body, "headers": ticket}).to_string();
            assert_eq!(hello.decode_reply(reply.as_bytes()), Some(vec![]), "{reply}");
        }
        for reply in ["", "not json", "[]", "{}", r#"{"body": "", "headers": {"ticket": "other"}}"#]
        {
            assert_eq!(hello.decode_reply(reply.as_bytes()), None, "{reply}");
        }
    }
}
