//! `cleanup-keypairs`: deletes old inactive key pairs that no token refers to.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tasks::Caller;
use tasks::cleanup_inactive_keypairs::delete_inactive;

use super::{mode, would};
use crate::cli::Change;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, counted, good, json};
use crate::session::Session;

#[derive(Deserialize)]
struct Cleanup {
    keypairs_deleted: u64,
    #[serde(default)]
    deleted_kids: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) fn run(
    session: &Session,
    arguments: &Change,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.via) {
        Some(queue) => queue.run(task::CLEANUP_KEYPAIRS, &[])?,
        None => {
            let operator = session.operator()?;
            let mode = mode(arguments.dry_run);
            json(&delete_inactive(&session.jwt()?, now, Caller::Operator(&operator), mode)?)?
        }
    };
    let done: Cleanup = read(task::CLEANUP_KEYPAIRS, &result)?;
    let deleted = would(done.dry_run, "Deleted", "Would delete");
    let line = format!("{deleted} {}", counted(done.keypairs_deleted, "inactive key pair"));
    let mut lines = vec![good(line)];
    lines.extend(done.deleted_kids.iter().map(|kid| format!("  {kid}")));
    Ok(Report::new(result, lines))
}
