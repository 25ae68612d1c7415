//! Revokes tokens that have expired, and deletes those revoked long ago.

mod checkpoints;
mod counting;
mod pace;

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use shared_models::{AnyConnection, Database, Found, Survey, Sweep, SweepWalk, TaskSuccess, Work};

use crate::shell::{self, task_name};
use crate::{JwtAuth, JwtError, Mode, is_false, isoformat};
use checkpoints::Checkpoints;
use counting::Counting;
use pace::{Pace, Writers};

/// How often the caller is told how far it is, and from the first hundredth on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the work, in their order.
const REVOKING: usize = 0;
const DELETING: usize = 1;

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
    /// How many tokens there were to revoke or delete at the beginning; 0 as long as they are counted.
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
    let before = (now - jwt.settings.token_retention).into();
    let survey = Survey { now: now.into(), before, layout };
    let mut walk = Walk {
        survey,
        counting: None,
        deleting: None,
        checkpoints: None,
        next_batch: Instant::now(),
        total: [0; 2],
        done: [0; 2],
        progress,
    };
    let mut stopped = false;
    if mode == Mode::DryRun {
        walk.done = totals(&survey.all(connection)?);
    } else {
        stopped = connection
            .sweeping(|connection| walk.both_sweeps(connection, &jwt.database))?
            .is_break();
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
    survey: Survey,
    /// As long as all that there is to do is being counted.
    counting: Option<Counting>,
    /// What comes after the revoking, when that is counted.
    deleting: Option<(Sweep, Work)>,
    /// Where that pays; else the rests are for it.
    checkpoints: Option<Checkpoints>,
    /// Until then others may write, where only one can.
    next_batch: Instant,
    total: [u64; 2],
    done: [u64; 2],
    progress: &'a mut dyn FnMut(CleanupProgress) -> ControlFlow<()>,
}

impl Walk<'_> {
    fn both_sweeps(
        &mut self,
        connection: &mut AnyConnection,
        database: &Database,
    ) -> Result<ControlFlow<()>, JwtError> {
        let found = match self.survey.few(connection)? {
            Some(found) => found,
            None if connection.writes_ahead()? => {
                return self.before_all_is_counted(connection, database);
            }
            None => self.survey.many(connection)?,
        };
        self.total = totals(&found);
        let outcome = self.one_by_one(connection, found)?;
        // What others held meanwhile; on SQLite nobody can.
        if outcome.is_continue() && connection.is_postgres() && self.is_behind() {
            let found = self.survey.all(connection)?;
            return self.one_by_one(connection, found);
        }
        Ok(outcome)
    }

    /// Begins with what is to be revoked while a connection beside this one counts.
    fn before_all_is_counted(
        &mut self,
        connection: &mut AnyConnection,
        database: &Database,
    ) -> Result<ControlFlow<()>, JwtError> {
        self.checkpoints = Some(Checkpoints::begin(database)?);
        self.counting = Some(Counting::begin(database, self.survey)?);
        if let Some((sweep, work)) = self.survey.uncounted(connection)?
            && self.sweep(connection, REVOKING, sweep, work)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        self.take_count()?;
        match self.deleting.take() {
            Some((sweep, work)) => self.sweep(connection, DELETING, sweep, work),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn one_by_one(
        &mut self,
        connection: &mut AnyConnection,
        found: Found,
    ) -> Result<ControlFlow<()>, JwtError> {
        for (part, (sweep, work)) in found.into_iter().enumerate() {
            if self.sweep(connection, part, sweep, work)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn sweep(
        &mut self,
        connection: &mut AnyConnection,
        part: usize,
        sweep: Sweep,
        work: Work,
    ) -> Result<ControlFlow<()>, JwtError> {
        let mut pace = match work {
            _ if connection.is_postgres() => Pace::new(Writers::Many),
            Work::Few(_) => Pace::new(Writers::One),
            Work::Many { .. } => Pace::of_many_rows(),
        };
        let mut walk = SweepWalk::new(sweep, work, connection, &self.survey.layout);
        while !walk.is_over() {
            // While others may write.
            walk.look_ahead(connection, pace.size())?;
            thread::sleep(self.next_batch.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            let Some(tokens) = walk.batch(connection, pace.size())? else { break };
            let ended = Instant::now();
            self.done[part] += tokens;
            let state = self.state()?;
            if (self.progress)(state).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let rest = pace.rest_after(began, ended, tokens);
            if !rest.is_zero() {
                self.next_batch = ended + rest;
                self.copy_log(connection)?;
            }
        }
        self.copy_log(connection)?;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.wait()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Has the log copied, which hinders nobody.
    fn copy_log(&mut self, connection: &mut AnyConnection) -> Result<(), JwtError> {
        match &mut self.checkpoints {
            Some(checkpoints) => checkpoints.ask(connection)?,
            None => {
                connection.checkpoint()?;
            }
        }
        Ok(())
    }

    /// Whether tokens were passed over.
    fn is_behind(&self) -> bool {
        self.done.iter().zip(&self.total).any(|(done, total)| done < total)
    }

    fn state(&mut self) -> Result<CleanupProgress, JwtError> {
        if self.counting.as_ref().is_some_and(Counting::is_done) {
            self.take_count()?;
        }
        let [revoked, deleted] = self.done;
        let total = self.total.iter().sum::<u64>();
        let percent = (100 * (revoked + deleted)).checked_div(total).unwrap_or(0).min(100);
        Ok(CleanupProgress { percent, total, revoked, deleted })
    }

    /// Waits until all is counted.
    fn take_count(&mut self) -> Result<(), JwtError> {
        if let Some(counting) = self.counting.take() {
            let found = counting.found()?;
            self.total = totals(&found);
            let [_, deleting] = found;
            self.deleting = Some(deleting);
        }
        Ok(())
    }
}

fn totals(found: &Found) -> [u64; 2] {
    found.each_ref().map(|(_, work)| work.total())
}
