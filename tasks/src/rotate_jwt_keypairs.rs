//! Makes a new signing key when it is time, and retires those that nothing needs any more.

mod plan;
mod report;
mod turn;

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};

use crate::audit::Trail;
use crate::jwt::Fresh;
use crate::shell;
use crate::{Caller, JwtAuth, JwtError, Mode};
pub use report::RotationReport;
use turn::{Outcome, Turn};

/// Rotates the signing key where it is due.
///
/// `force` rotates now; `retire_now` with it deactivates all older key pairs at once, which is the
/// answer to a leaked key.
#[celery::task(name = "jwt_auth.tasks.rotate_jwt_keypairs")]
pub(crate) fn rotate_jwt_keypairs(
    force: Option<bool>,
    retire_now: Option<bool>,
) -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let caller = Caller::Task(context.task_id());
    let trigger = if force.unwrap_or(false) { Trigger::Forced } else { Trigger::IfDue };
    let older = if retire_now.unwrap_or(false) { Older::RetireNow } else { Older::Keep };
    let jwt = context.state::<JwtAuth>();
    let report = rotate(&jwt, context.now(), Request { trigger, older, caller }, Mode::Apply);
    shell::answer(&context, &jwt, "rotation_time", report)
}

/// When a new key pair is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// When the newest active one is old enough.
    IfDue,
    /// When none is active.
    IfNoneActive,
    /// Now, in place of the one that signs.
    Forced,
    /// Now, and none is deactivated for it.
    Added,
}

/// What becomes of older key pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// They stay active as long as their tokens need them.
    Keep,
    /// They are deactivated at once, and their tokens with them.
    RetireNow,
}

/// A call for a rotation.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// When.
    pub trigger: Trigger,
    /// And the older ones.
    pub older: Older,
    /// Who calls.
    pub caller: Caller<'a>,
}

/// Rotates as `request` says.
///
/// One call at a time does its work, for the whole site; it decides on what the one before left.
/// A new key pair is made between two transactions, so that nobody waits for it.
///
/// # Errors
///
/// Those of the database, and where no good key pair could be made.
pub fn rotate(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    request: Request<'_>,
    mode: Mode,
) -> Result<RotationReport, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let mut fresh: Option<Fresh> = None;
    loop {
        let mut trail = Trail::new(request.caller, now);
        let turn = Turn { jwt, now, request, mode, layout, fresh: fresh.as_ref() };
        let outcome =
            connection.exclusive_transaction(|connection| turn.take(connection, &mut trail))?;
        match outcome {
            Outcome::Done(report) => {
                trail.log();
                if report.cap_exceeded {
                    log::warn!(
                        "{} key pairs are active, more than JWT_MAX_ACTIVE_KEYPAIRS={}: tokens \
                         still need them; a later run retires them",
                        report.active_keypairs_count,
                        jwt.settings.max_active
                    );
                }
                return Ok(*report);
            }
            Outcome::Wants(algorithm) => {
                fresh = Some(Fresh::make(jwt, algorithm).map_err(JwtError::NewKeyPair)?);
            }
        }
    }
}
