//! `cleanup`: revokes expired tokens, and deletes those that were revoked long ago.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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
            let jwt = session.jwt()?;
            let bar = bar();
            let report = clean_up(&jwt, now, mode, &mut |progress| show(&bar, progress));
            bar.finish_and_clear();
            json(&report?)?
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

const COUNTING: &str = "{spinner} counting";
const WORKING: &str = "{bar:30} {percent:>3} % of {len} tokens: {msg}; {per_sec}, {eta} left";
const REDRAW: Duration = Duration::from_millis(200);

/// A bar on standard error where that is a terminal; a log would only fill up with it.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style(COUNTING));
    bar.enable_steady_tick(REDRAW);
    bar
}

fn show(bar: &ProgressBar, progress: CleanupProgress) -> ControlFlow<()> {
    let CleanupProgress { revoked, deleted, total, .. } = progress;
    if total == 0 {
        return ControlFlow::Continue(());
    }
    if bar.length().is_none() {
        bar.reset_elapsed();
        bar.set_style(style(WORKING));
    }
    // Others issue and revoke meanwhile, so there may be more than there were.
    bar.set_length(total.max(revoked + deleted));
    bar.set_message(format!("{revoked} revoked, {deleted} deleted"));
    bar.set_position(revoked + deleted);
    ControlFlow::Continue(())
}

fn style(template: &str) -> ProgressStyle {
    // A bar in another form is no reason to stop.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
