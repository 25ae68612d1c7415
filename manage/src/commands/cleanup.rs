//! `cleanup`: revokes expired tokens, and deletes those that were revoked long ago.

use std::io::{IsTerminal, Write, stderr};
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tasks::cleanup_expired_tokens::{CleanupProgress, clean_up};

use super::{mode, would};
use crate::cli::Change;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, counted, good, json};
use crate::session::Session;

#[derive(Deserialize)]
struct Cleanup {
    expired_tokens_revoked: u64,
    old_tokens_deleted: u64,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) fn run(
    session: &Session,
    arguments: &Change,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.via) {
        Some(queue) => queue.run(task::CLEANUP, &[])?,
        None => {
            let mode = mode(arguments.dry_run);
            json(&clean_up(&session.jwt()?, now, mode, &mut show_progress)?)?
        }
    };
    let done: Cleanup = read(task::CLEANUP, &result)?;
    let line = format!(
        "{} {}, {} {}",
        would(done.dry_run, "Revoked", "Would revoke"),
        counted(done.expired_tokens_revoked, "expired token"),
        would(done.dry_run, "deleted", "delete"),
        counted(done.old_tokens_deleted, "old one"),
    );
    Ok(Report::new(result, vec![good(line)]))
}

/// A line that a terminal overwrites; a log would only fill up with it.
fn show_progress(progress: CleanupProgress) -> ControlFlow<()> {
    let mut output = stderr().lock();
    if output.is_terminal() {
        let CleanupProgress { percent, revoked, deleted } = progress;
        let end = if percent >= 100 { "\n" } else { "" };
        // What cannot be shown must not stop the work.
        write!(output, "\r{percent:3} %: {revoked} revoked, {deleted} deleted{end}").ok();
    }
    ControlFlow::Continue(())
}
