//! `create-keypair`: makes a new signing key pair now.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tasks::Caller;
use tasks::create_keypair::create;

use super::{mode, would};
use crate::cli::Change;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, counted, good, json};
use crate::session::Session;

/// A worker does this as a forced rotation, whose report has other names for the same.
#[derive(Serialize, Deserialize)]
struct Created {
    success: bool,
    #[serde(alias = "new_keypair_id")]
    keypair_id: Option<String>,
    #[serde(alias = "new_kid")]
    kid: Option<String>,
    active_keypairs_count: u64,
    #[serde(alias = "rotation_time")]
    creation_time: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// Directly, none is deactivated for it. A forced rotation may deactivate what nothing needs.
pub(crate) fn run(
    session: &Session,
    arguments: &Change,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.via) {
        Some(queue) => queue.run(task::ROTATE, &[("force", true)])?,
        None => {
            let operator = session.operator()?;
            let mode = mode(arguments.dry_run);
            json(&create(&session.jwt()?, now, Caller::Operator(&operator), mode)?)?
        }
    };
    let created: Created = read(task::ROTATE, &result)?;
    let made = would(created.dry_run, "Now signing: key pair", "Would make a new key pair sign");
    let kid = created.kid.as_deref().or(created.keypair_id.as_deref()).unwrap_or_default();
    let active = counted(created.active_keypairs_count, "key pair");
    let line = good(format!("{made} {kid}").trim_end());
    Report::of(&created, vec![format!("{line}; {active} active")])
}
