//! Remote control: requests on the mailbox and the replies to them (`kombu.pidbox`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::publication::{DeliveryMode, Publication};
use super::python_json;

/// The exchange of all replies.
pub const REPLY_EXCHANGE: &str = "reply.celery.pidbox";

/// A command that somebody broadcasts.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// Name of the command.
    pub method: String,
    /// Its arguments.
    #[serde(default, deserialize_with = "or_default")]
    pub arguments: Map<String, Value>,
    /// Nodes that are meant; all where absent or empty.
    #[serde(default, deserialize_with = "or_default")]
    destination: Vec<String>,
    /// Pattern for the nodes that are meant.
    #[serde(default)]
    pattern: Option<String>,
    /// What kind of pattern: `glob` or `pcre`.
    #[serde(default)]
    matcher: Option<String>,
    /// The asker's clock.
    #[serde(skip)]
    pub clock: Option<u64>,
    /// Identifies the request in its replies.
    #[serde(default)]
    ticket: Option<String>,
    /// Where replies go; absent where none is wanted.
    #[serde(default)]
    reply_to: Option<ReplyTo>,
}

/// Where replies go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The exchange, [`REPLY_EXCHANGE`] with all clients of Celery's.
    #[serde(default = "reply_exchange")]
    pub exchange: String,
    /// What the asker's queue is bound by.
    pub routing_key: String,
}

fn reply_exchange() -> String {
    REPLY_EXCHANGE.to_owned()
}

#[derive(Deserialize)]
struct Broadcast {
    body: String,
    #[serde(default, deserialize_with = "or_default")]
    headers: BroadcastHeaders,
}

#[derive(Default, Deserialize)]
struct BroadcastHeaders {
    #[serde(default)]
    expires: Option<f64>,
    #[serde(default)]
    clock: Option<u64>,
}

impl Request {
    /// Reads a broadcast; `None` for what is no request, or has expired at `now` (epoch seconds).
    pub fn decode(message: &[u8], now: f64) -> Option<Self> {
        let broadcast: Broadcast = serde_json::from_slice(message).ok()?;
        // Zero is what a client sends that waits for no reply.
        if broadcast.headers.expires.is_some_and(|expires| expires != 0.0 && expires < now) {
            return None;
        }
        let mut request: Self =
            serde_json::from_slice(&STANDARD.decode(broadcast.body).ok()?).ok()?;
        request.clock = broadcast.headers.clock;
        Some(request)
    }

    /// Whether `node` is meant: it is named, or a pattern matches it, or nobody is chosen
    /// (`kombu.pidbox`, `handle_message`).
    pub fn concerns(&self, node: &str) -> bool {
        if !self.destination.is_empty() {
            return self.destination.iter().any(|name| name == node);
        }
        match (&self.pattern, &self.matcher) {
            (Some(pattern), Some(matcher)) if !pattern.is_empty() && !matcher.is_empty() => {
                matches(node, pattern, matcher)
            }
            _ => true,
        }
    }

    /// Where the asker listens, if it wants a reply.
    pub fn reply_to(&self) -> Option<&ReplyTo> {
        self.reply_to.as_ref()
    }

    /// The reply of `node`, as bytes for the asker's queue.
    pub fn reply(&self, node: &str, reply: &Value, clock: u64) -> serde_json::Result<String> {
        let (exchange, routing_key) = match &self.reply_to {
            Some(reply_to) => (reply_to.exchange.as_str(), reply_to.routing_key.as_str()),
            None => (REPLY_EXCHANGE, ""),
        };
        let mut body = Map::new();
        body.insert(node.to_owned(), reply.clone());
        Publication {
            body: &python_json::to_string(&body)?,
            headers: ReplyHeaders { ticket: self.ticket.as_deref(), clock },
            delivery_mode: DeliveryMode::Transient,
            exchange,
            routing_key,
        }
        .encode()
    }
}

/// Whether the pattern matches the name; one that nobody understands matches none.
fn matches(node: &str, pattern: &str, matcher: &str) -> bool {
    let pattern = match matcher {
        "glob" => format!("(?s)^{}$", glob(pattern)),
        // `re.match`: from the start, not to the end.
        "pcre" => format!("^(?:{pattern})"),
        _ => return false,
    };
    Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(node))
}

/// Python's `fnmatch` as a regular expression.
fn glob(pattern: &str) -> String {
    let mut expression = String::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => match set(rest) {
                Some((set, after)) => {
                    expression.push_str(&set);
                    rest = after;
                }
                None => expression.push_str("\\["),
            },
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression
}

/// `[seq]` or `[!seq]` after its bracket, and what follows it.
fn set(rest: &str) -> Option<(String, &str)> {
    let negated = rest.strip_prefix('!');
    let body = negated.unwrap_or(rest);
    // A bracket that comes first belongs to the set.
    let first = body.chars().next()?.len_utf8();
    let end = first + body[first..].find(']')?;
    let members = body[..end].replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
    let members = members.replace('^', "\\^").replace('&', "\\&").replace('~', "\\~");
    let not = if negated.is_some() { "^" } else { "" };
    Some((format!("[{not}{members}]"), &body[end + 1..]))
}

#[derive(Serialize)]
struct ReplyHeaders<'a> {
    ticket: Option<&'a str>,
    clock: u64,
}

/// Null is the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn broadcast(body: &Value, expires: f64) -> Vec<u8> {
        json!({"body": STANDARD.encode(body.to_string()), "headers": {"clock": 1, "expires": expires}})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn a_request_is_for_the_nodes_it_names_or_for_all() {
        let to = |destination: Value, pattern: Value| {
            let body = json!({"method": "ping", "arguments": null, "destination": destination, "pattern": pattern});
            Request::decode(&broadcast(&body, 10.0), 9.0).unwrap().concerns("a@h")
        };
        assert!(to(Value::Null, Value::Null));
        assert!(to(json!(["b@h", "a@h"]), Value::Null));
        assert!(!to(json!(["b@h"]), Value::Null));
        assert!(to(json!([]), Value::Null));
        // Without a matcher a pattern says nothing.
        assert!(to(Value::Null, json!("b*")));
    }

    #[test]
    fn a_pattern_chooses_nodes_as_in_python() {
        for (matcher, pattern, expected) in [
            ("glob", "celery@*", true),
            ("glob", "celery@h?st-[0-9]", true),
            ("glob", "celery@host-[!0-9]", false),
            ("glob", "celery", false),
            ("glob", "*.st*", false),
            ("glob", "[", false),
            ("glob", "celery@host-[]2]", true),
            ("pcre", "celery", true),
            ("pcre", "celery@host-\\d$", true),
            ("pcre", "host", false),
            ("pcre", "a|celery", true),
            ("pcre", "(", false),
            ("soundex", "celery@host-2", false),
        ] {
            let body = json!({"method": "ping", "pattern": pattern, "matcher": matcher});
            let request = Request::decode(&broadcast(&body, 10.0), 9.0).unwrap();
            assert_eq!(request.concerns("celery@host-2"), expected, "{matcher} {pattern}");
        }
    }

    #[test]
    fn a_request_that_expires_at_zero_never_does() {
        let body = json!({"method": "revoke"});
        assert!(Request::decode(&broadcast(&body, 0.0), 11.0).is_some());
    }

    #[test]
    fn what_is_no_request_or_too_old_is_none() {
        let body = json!({"method": "ping"});
        assert!(Request::decode(&broadcast(&body, 10.0), 11.0).is_none());
        assert!(Request::decode(b"not json", 0.0).is_none());
        assert!(Request::decode(&broadcast(&json!([1]), 10.0), 0.0).is_none());
    }

    #[test]
    fn a_reply_has_celerys_form() {
        let body = json!({"method": "ping", "ticket": "t", "reply_to": {"exchange": "e", "routing_key": "k"}});
        let request = Request::decode(&broadcast(&body, 10.0), 0.0).unwrap();
        let reply: Value =
            serde_json::from_str(&request.reply("a@h", &json!({"ok": "pong"}), 4).unwrap())
                .unwrap();
        assert_eq!(reply["body"], STANDARD.encode(r#"{"a@h": {"ok": "pong"}}"#));
        assert_eq!(reply["headers"], json!({"ticket": "t", "clock": 4}));
        assert_eq!(
            reply["properties"]["delivery_info"],
            json!({"exchange": "e", "routing_key": "k"})
        );
    }
}
