//! Revokes tokens that have expired, and deletes those revoked long ago.

mod pace;

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use shared_models::{AnyConnection, Layout, Sweep, SweepWalk, TaskSuccess, Work, survey};

use crate::shell::{self, task_name};
use crate::{JwtAuth, JwtError, Mode, is_false, isoformat};
use pace::{Pace, Writers};

/// How often the caller is told how far it is, and from the first hundredth on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Revokes expired tokens, deletes old ones.
///
/// At its soft time limit it ends between two batches; the next run goes on there.
#[celery::task(name = "jwt_auth.tasks.cleanup_expired_tokens")]
pub(crate) fn cleanup_expired_tokens() -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let jwt = context.state::<JwtAuth>();
    let (mut told, mut percent) = (Instant::now(), 0);
    let mut time_is_up = None;
    let report = clean_up(&jwt, context.now(), Mode::Apply, &mut |progress| {
        if let Err(error) = context.check_time_limit() {
            time_is_up = Some(error);
            return ControlFlow::Break(());
        }
        let begins = percent == 0 && progress.percent > 0;
        if begins || told.elapsed() >= PROGRESS_INTERVAL {
            (told, percent) = (Instant::now(), progress.percent);
            context.update_state("PROGRESS", json!(progress));
        }
        ControlFlow::Continue(())
    });
    match time_is_up {
        Some(error) => Err(error),
        None => shell::answer(&context, &jwt, "cleanup_time", report),
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenCleanupReport {
    /// Always true: a failure is an error.
    pub success: bool,
    /// How many were revoked.
    pub expired_tokens_revoked: u64,
    /// How many are gone.
    pub old_tokens_deleted: u64,
    /// When.
    pub cleanup_time: String,
    /// Whether it was stopped before its end; the next run goes on.
    #[serde(skip_serializing_if = "is_false")]
    pub stopped: bool,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CleanupProgress {
    /// How much of what there was at the beginning, 0 to 100.
    pub percent: u64,
    /// How many tokens there were to revoke or delete at the beginning.
    pub total: u64,
    /// Tokens revoked until now.
    pub revoked: u64,
    /// Tokens deleted until now.
    pub deleted: u64,
}

/// Revokes what expired before `now`, and deletes what was revoked and had expired longer ago than
/// `JWT_TOKEN_RETENTION_DAYS`.
///
/// It works in short transactions, so that nobody waits for it, and may be ended at any time:
/// another run goes on where it was. `progress` is called after each of them, and stops it with
/// [`ControlFlow::Break`].
///
/// # Errors
///
/// Those of the database; what was done before stays done.
pub fn clean_up(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    mode: Mode,
    progress: &mut dyn FnMut(CleanupProgress) -> ControlFlow<()>,
) -> Result<TokenCleanupReport, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let bounds = (now.into(), (now - jwt.settings.token_retention).into());
    let mut walk = Walk { layout, total: [0; 2], done: [0; 2], progress };
    let work = survey(connection, &layout, bounds.0, bounds.1)?;
    walk.total = work.each_ref().map(|(_, work)| work.total());
    let mut stopped = false;
    if mode == Mode::DryRun {
        walk.done = walk.total;
    } else {
        stopped = connection.sweeping(|connection| walk.sweep(connection, work))?.is_break();
        // What others held meanwhile; on SQLite nobody can.
        if !stopped && connection.is_postgres() && walk.is_behind() {
            let work = survey(connection, &layout, bounds.0, bounds.1)?;
            stopped = walk.sweep(connection, work)?.is_break();
        }
        if !stopped {
            TaskSuccess::record(connection, task_name::CLEANUP_TOKENS, now.into())?;
        }
    }
    let [revoked, deleted] = walk.done;
    log::info!("{revoked} expired tokens revoked, {deleted} old tokens deleted");
    Ok(TokenCleanupReport {
        success: true,
        expired_tokens_revoked: revoked,
        old_tokens_deleted: deleted,
        cleanup_time: isoformat(now),
        stopped,
        dry_run: mode.is_dry_run(),
    })
}

/// The way through both sweeps.
struct Walk<'a> {
    layout: Layout,
    total: [u64; 2],
    done: [u64; 2],
    progress: &'a mut dyn FnMut(CleanupProgress) -> ControlFlow<()>,
}

impl Walk<'_> {
    /// Walks through both sweeps to their end.
    fn sweep(
        &mut self,
        connection: &mut AnyConnection,
        work: [(Sweep, Work); 2],
    ) -> Result<ControlFlow<()>, JwtError> {
        let writers = if connection.is_postgres() { Writers::Many } else { Writers::One };
        for (part, (sweep, work)) in work.into_iter().enumerate() {
            let mut pace = Pace::new(writers);
            let mut walk = SweepWalk::new(sweep, work, connection, &self.layout);
            loop {
                let began = Instant::now();
                let Some(tokens) = walk.batch(connection, pace.size())? else { break };
                let took = began.elapsed();
                self.done[part] += tokens;
                let state = self.state();
                if (self.progress)(state).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                rest(connection, pace.rest_after(took, tokens))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether tokens were passed over.
    fn is_behind(&self) -> bool {
        self.done.iter().zip(&self.total).any(|(done, total)| done < total)
    }

    fn state(&self) -> CleanupProgress {
        let [revoked, deleted] = self.done;
        let total = self.total.iter().sum::<u64>();
        let percent = (100 * (revoked + deleted) / total.max(1)).min(100);
        CleanupProgress { percent, total, revoked, deleted }
    }
}

/// Lets others write, and uses the time for what hinders nobody.
fn rest(connection: &mut AnyConnection, time: Duration) -> Result<(), JwtError> {
    if !time.is_zero() {
        let began = Instant::now();
        connection.checkpoint()?;
        thread::sleep(time.saturating_sub(began.elapsed()));
    }
    Ok(())
}
