//! Deletes key pairs that have had their time.

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared_models::{AnyConnection, KeyPair, KeyState, TaskSuccess, Token};

use crate::audit::{Action, Trail};
use crate::jwt::{KeyRing, Record};
use crate::shell::{self, task_name};
use crate::{Caller, JwtAuth, JwtError, JwtSettings, Mode, is_false, isoformat};

/// Deletes old inactive key pairs that no token refers to.
#[celery::task(name = "jwt_auth.tasks.cleanup_inactive_keypairs")]
pub(crate) fn cleanup_inactive_keypairs() -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let jwt = context.state::<JwtAuth>();
    let caller = Caller::Task(context.task_id());
    let report = delete_inactive(&jwt, context.now(), caller, Mode::Apply);
    shell::answer(&context, &jwt, "cleanup_time", report)
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyPairCleanupReport {
    /// Always true: a failure is an error.
    pub success: bool,
    /// How many are gone.
    pub keypairs_deleted: usize,
    /// When.
    pub cleanup_time: String,
    /// Their `kid`s.
    pub deleted_kids: Vec<String>,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Deletes inactive key pairs older than `JWT_KEYPAIR_CLEANUP_DAYS` that no token refers to, and
/// not before the longest token life has passed since they signed.
///
/// # Errors
///
/// Those of the database.
pub fn delete_inactive(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<KeyPairCleanupReport, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let mut trail = Trail::new(caller, now);
    let kids = connection.exclusive_transaction(|connection| {
        let ring = KeyRing::load(connection, &layout)?;
        let candidates: Vec<&Record> = ring
            .records
            .iter()
            .filter(|record| is_outlived(&ring, record, &jwt.settings, now))
            .collect();
        match mode {
            Mode::DryRun => unused(connection, &candidates),
            Mode::Apply => {
                let kids = delete(connection, &candidates, &mut trail)?;
                TaskSuccess::record(connection, task_name::CLEANUP_KEY_PAIRS, now.into())?;
                Ok(kids)
            }
        }
    })?;
    trail.log();
    Ok(KeyPairCleanupReport {
        success: true,
        keypairs_deleted: kids.len(),
        cleanup_time: isoformat(now),
        deleted_kids: kids,
        dry_run: mode.is_dry_run(),
    })
}

/// Whether no token can be alive that it signed, and its age is beyond what the site keeps.
fn is_outlived(
    ring: &KeyRing,
    record: &Record,
    settings: &JwtSettings,
    now: DateTime<Utc>,
) -> bool {
    !record.pair.is_active
        && !ring.is_ahead(record)
        && record.created_at() + settings.key_pair_retention < now
        && ring.last_signed_at(record).is_some_and(|last| last + settings.max_token_life < now)
}

fn unused(connection: &mut AnyConnection, candidates: &[&Record]) -> Result<Vec<String>, JwtError> {
    let mut kids = Vec::new();
    for record in candidates {
        if !Token::any_of(connection, record.pair.id)? {
            kids.push(record.kid.clone());
        }
    }
    Ok(kids)
}

fn delete(
    connection: &mut AnyConnection,
    candidates: &[&Record],
    trail: &mut Trail<'_>,
) -> Result<Vec<String>, JwtError> {
    let ids: Vec<_> = candidates.iter().map(|record| record.pair.id).collect();
    let gone = KeyPair::delete_unused(connection, &ids)?;
    let mut kids = Vec::new();
    for record in candidates.iter().filter(|record| gone.contains(&record.pair.id)) {
        KeyState::delete(connection, &record.id())?;
        let reason = "inactive, old, and no token refers to it";
        trail.add(connection, Action::Deleted, &record.id(), &record.kid, reason);
        kids.push(record.kid.clone());
    }
    Ok(kids)
}
