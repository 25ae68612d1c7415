//! `rotate`: makes a new signing key pair, if one is due or wanted.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use tasks::Caller;
use tasks::rotate_jwt_keypairs::{Older, Request, Trigger, rotate};

use super::{mode, would};
use crate::cli::Rotate;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, counted, good, json, warning};
use crate::session::Session;

#[derive(Deserialize)]
struct Rotation {
    action: String,
    new_keypair_id: Option<String>,
    new_kid: Option<String>,
    published_keypair_id: Option<String>,
    active_keypairs_count: u64,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    retired_keypairs: Vec<String>,
    #[serde(default)]
    cap_exceeded: bool,
    #[serde(default)]
    orphaned_tokens: u64,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) fn run(
    session: &Session,
    arguments: &Rotate,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.change.via) {
        Some(queue) => {
            let flags = [("force", arguments.force), ("retire_now", arguments.retire_now)];
            let given: Vec<_> = flags.into_iter().filter(|(_, given)| *given).collect();
            queue.run(task::ROTATE, &given)?
        }
        None => {
            let trigger = if arguments.force { Trigger::Forced } else { Trigger::IfDue };
            let older = if arguments.retire_now { Older::RetireNow } else { Older::Keep };
            let operator = session.operator()?;
            let request = Request { trigger, older, caller: Caller::Operator(&operator) };
            json(&rotate(&session.jwt()?, now, request, mode(arguments.change.dry_run))?)?
        }
    };
    let lines = lines(&result)?;
    Ok(Report::new(result, lines))
}

/// A rotation in words.
pub(super) fn lines(result: &Value) -> Result<Vec<String>, Failure> {
    let done: Rotation = read(task::ROTATE, result)?;
    let active = format!("{} active", counted(done.active_keypairs_count, "key pair"));
    let reason = if done.reason.is_empty() { String::new() } else { format!(" ({})", done.reason) };
    let mut lines = vec![if done.action == "rotation_performed" {
        let new = done.new_kid.or(done.new_keypair_id).unwrap_or_default();
        let made = would(done.dry_run, "Now signing: key pair", "Would make a new key pair sign");
        good(format!("{made} {new}").trim_end()) + &format!("; {active}{reason}")
    } else {
        format!("No rotation is due; {active}{reason}")
    }];
    if let Some(published) = done.published_keypair_id {
        lines.push(good(format!("Published ahead of the next rotation: key pair {published}")));
    }
    if !done.retired_keypairs.is_empty() {
        let deactivated = would(done.dry_run, "Deactivated", "Would deactivate");
        lines.push(format!("{deactivated} {}", done.retired_keypairs.join(", ")));
    }
    if done.cap_exceeded {
        lines.push(warning(
            "More are active than JWT_MAX_ACTIVE_KEYPAIRS allows: their tokens still need them. \
             A later rotation deactivates them.",
        ));
    }
    if done.orphaned_tokens > 0 {
        let lost = would(done.dry_run, "lost", "would lose");
        let tokens = counted(done.orphaned_tokens, "unexpired token");
        lines.push(warning(format!("{tokens} {lost} the key pair that verifies them")));
    }
    Ok(lines)
}
