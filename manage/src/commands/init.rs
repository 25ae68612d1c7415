//! `init`: the default scopes, and a key pair if none is active.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tasks::Caller;
use tasks::create_keypair::init;

use super::{create_scopes, mode, rotate};
use crate::cli::Change;
use crate::failure::Failure;
use crate::queued::{Queue, task};
use crate::report::{self, Report};
use crate::session::Session;

pub(crate) fn run(
    session: &Session,
    arguments: &Change,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.via) {
        Some(queue) => queued(&queue)?,
        None => {
            let operator = session.operator()?;
            let mode = mode(arguments.dry_run);
            report::json(&init(&session.jwt()?, now, Caller::Operator(&operator), mode)?)?
        }
    };
    let mut lines = vec![create_scopes::line(&result["scopes"])?];
    if result["keypair"]["action"] == "rotation_performed" {
        lines.extend(rotate::lines(&result["keypair"])?);
    } else {
        lines.push("A key pair is active already".to_owned());
    }
    Ok(Report::new(result, lines))
}

fn queued(queue: &Queue<'_>) -> Result<Value, Failure> {
    let scopes = queue.run(task::SCOPES, &[])?;
    // The rotation also replaces an old key pair, so it is asked for only where there is none.
    let health = queue.run(task::HEALTH, &[])?;
    let active = &health["keypairs"]["active"];
    let keypair = if active == 0 {
        queue.run(task::ROTATE, &[])?
    } else {
        json!({
            "success": true,
            "action": "rotation_not_needed",
            "active_keypairs_count": active,
            "check_time": health["timestamp"],
            "reason": "a key pair is active",
        })
    };
    Ok(json!({ "success": true, "scopes": scopes, "keypair": keypair }))
}
