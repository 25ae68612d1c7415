//! Revokes tokens that have expired, and deletes those revoked long ago.

mod pace;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use shared_models::{AnyConnection, Layout, Sweep, TaskSuccess};

use crate::shell::{self, task_name};
use crate::{JwtAuth, JwtError, Mode, is_false, isoformat};
use pace::Pace;

/// How often the caller is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Revokes expired tokens, deletes old ones.
///
/// At its soft time limit it ends between two batches; the next run goes on there.
#[celery::task(name = "jwt_auth.tasks.cleanup_expired_tokens")]
pub(crate) fn cleanup_expired_tokens() -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let jwt = context.state::<JwtAuth>();
    let mut told = Instant::now();
    let mut time_is_up = None;
    let report = clean_up(&jwt, context.now(), Mode::Apply, &mut |progress| {
        if let Err(error) = context.check_time_limit() {
            time_is_up = Some(error);
            return ControlFlow::Break(());
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
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
    let revoke = Sweep::RevokeExpired { now: now.into() };
    let delete = Sweep::DeleteRevoked { before: (now - jwt.settings.token_retention).into() };
    let mut walk = Walk { layout, total: [0; 2], done: [0; 2], progress };
    walk.total = [
        revoke.count(connection, &layout)?.unsigned_abs(),
        delete.count(connection, &layout)?.unsigned_abs(),
    ];
    let mut stopped = false;
    if mode == Mode::DryRun {
        walk.done = walk.total;
    } else {
        stopped = walk.sweep(connection, revoke, 0)?.is_break()
            || walk.sweep(connection, delete, 1)?.is_break();
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
    /// Walks to the end, and where tokens were passed over, a second time for those.
    fn sweep(
        &mut self,
        connection: &mut AnyConnection,
        sweep: Sweep,
        part: usize,
    ) -> Result<ControlFlow<()>, JwtError> {
        let passes = if connection.is_postgres() { 2 } else { 1 };
        for _ in 0..passes {
            // With nothing left, finding nothing would be the longest part of a quiet day.
            if self.done[part] >= self.total[part] {
                break;
            }
            let mut pace = Pace::new(connection.is_postgres());
            let mut after = None;
            loop {
                let began = Instant::now();
                let batch = sweep.batch(connection, &self.layout, after, pace.size())?;
                let took = began.elapsed();
                let Some(last) = batch.last else { break };
                after = Some(last);
                self.done[part] += batch.tokens;
                let state = self.state();
                if (self.progress)(state).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                pace.rest(took, batch.tokens);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn state(&self) -> CleanupProgress {
        let [revoked, deleted] = self.done;
        let total = self.total.iter().sum::<u64>();
        let percent = (100 * (revoked + deleted) / total.max(1)).min(100);
        CleanupProgress { percent, total, revoked, deleted }
    }
}
