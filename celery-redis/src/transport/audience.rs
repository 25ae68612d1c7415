//! Who hears what is published: a large result that nobody hears is not sent a second time.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;

use super::connection::Connection;

/// What is known of those who listen to one Redis.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Redis does not tell us.
    refused: AtomicBool,
}

/// What is to be done with results that are large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announcing {
    /// Somebody may hear of them: they are published.
    ToSomebody,
    /// Nobody did when Redis was asked: they are published to who has come since.
    ToNewcomers,
}

impl Audience {
    /// Asks whether anybody listens on these channels, by name or by pattern, here or at a replica,
    /// to which Redis passes on what is published: also to one that was cut off, when it returns.
    /// An answer that does not come is a yes.
    pub(super) async fn ask(&self, connection: &Connection, channels: &[&str]) -> Announcing {
        if self.refused.load(Ordering::Relaxed) {
            return Announcing::ToSomebody;
        }
        let mut questions = redis::pipe();
        questions.cmd("PUBSUB").arg("NUMSUB").arg(channels);
        questions.cmd("PUBSUB").arg("NUMPAT").cmd("INFO").arg("replication");
        match connection.pipeline("count who listens", &questions).await {
            Ok((named, patterns, replication)) if is_nobody(&named, &patterns, &replication) => {
                Announcing::ToNewcomers
            }
            Ok(_) => Announcing::ToSomebody,
            Err(error) => {
                if !error.is_outage() {
                    log::debug!(
                        "large results are published whether anybody listens or not: {error}"
                    );
                    self.refused.store(true, Ordering::Relaxed);
                }
                Announcing::ToSomebody
            }
        }
    }
}

fn is_nobody(named: &Value, patterns: &Value, replication: &Value) -> bool {
    let none_named = match named {
        // Each channel with its number.
        Value::Array(counts) => {
            counts.iter().skip(1).step_by(2).all(|count| *count == Value::Int(0))
        }
        _ => false,
    };
    none_named && *patterns == Value::Int(0) && has_no_replicas(replication)
}

/// Whether it has none and keeps nothing for one that may come back.
fn has_no_replicas(replication: &Value) -> bool {
    let Value::BulkString(replication) = replication else { return false };
    let lines: Vec<&[u8]> =
        replication.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    [&b"role:master"[..], b"connected_slaves:0", b"repl_backlog_active:0"]
        .iter()
        .all(|wanted| lines.contains(wanted))
}
