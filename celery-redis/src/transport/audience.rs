//! Who hears what is published: a large result that nobody hears is not sent a second time.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Pipeline, RedisError, Value};

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
    pub(super) fn ask(&self, questions: &mut Pipeline, channels: &[&str]) {
        if !self.refused.load(Ordering::Relaxed) {
            questions.cmd("PUBSUB").arg("NUMSUB").arg(channels);
            questions.cmd("PUBSUB").arg("NUMPAT").cmd("INFO").arg("replication");
        }
    }

    /// What follows from the answers; one that is missing is a yes.
    pub(super) fn answered(&self, answers: &[Result<Value, RedisError>]) -> Announcing {
        if let Some(Err(error)) = answers.iter().find(|answer| answer.is_err()) {
            log::debug!("large results are published whether anybody listens or not: {error}");
            self.refused.store(true, Ordering::Relaxed);
        }
        match answers {
            [Ok(named), Ok(patterns), Ok(replication)]
                if is_nobody(named, patterns, replication) =>
            {
                Announcing::ToNewcomers
            }
            _ => Announcing::ToSomebody,
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
