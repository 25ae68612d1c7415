//! Counts, and says whether anything is wrong.

mod reasons;

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared_models::{Counts, Scope, TaskSuccess};

use crate::jwt::{KeyRing, check_pair};
use crate::shell::{self, task_name};
use crate::{JwtAuth, JwtError, isoformat};
use reasons::Findings;
pub use reasons::{Reason, Severity};

/// From then on an expired token had to be revoked by a daily cleanup.
const CLEANUP_GRACE: TimeDelta = TimeDelta::days(2);

/// Reports on tokens, key pairs and scopes, and logs it.
#[celery::task(name = "jwt_auth.tasks.generate_jwt_health_report")]
pub(crate) fn generate_jwt_health_report() -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let jwt = context.state::<JwtAuth>();
    shell::answer(&context, &jwt, "timestamp", report(&jwt, context.now()))
}

/// The state of a site's JWT authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// When.
    pub timestamp: String,
    /// The tokens.
    pub tokens: TokenCounts,
    /// The key pairs.
    pub keypairs: KeyPairCounts,
    /// The scopes.
    pub scopes: ScopeCounts,
    /// `healthy` or `warning`.
    pub health_status: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub reasons: Vec<Reason>,
}

/// Counts of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenCounts {
    /// All.
    pub total: i64,
    /// Neither expired nor revoked.
    pub active: i64,
    /// Expired.
    pub expired: i64,
    /// Revoked.
    pub revoked: i64,
    /// Made within 24 hours.
    pub recent_24h: i64,
}

/// Counts of key pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyPairCounts {
    /// Those that may sign.
    pub active: usize,
    /// The others.
    pub inactive: usize,
    /// All.
    pub total: usize,
}

/// Counts of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScopeCounts {
    /// Those that tokens may carry.
    pub active: usize,
}

/// Looks at everything once.
///
/// # Errors
///
/// Those of the database.
pub fn report(jwt: &JwtAuth, now: DateTime<Utc>) -> Result<HealthReport, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let counts = Counts::load(
        connection,
        &layout,
        now.into(),
        (now - TimeDelta::hours(24)).into(),
        (now - CLEANUP_GRACE).into(),
        (now - jwt.settings.token_retention - CLEANUP_GRACE).into(),
    )?;
    let ring = KeyRing::load(connection, &layout)?;
    let scopes = Scope::all(connection)?;
    let successes = TaskSuccess::all(connection)?;

    let mut findings = Findings::default();
    findings.look_at_rotation(&ring, &jwt.settings, now);
    for record in ring.active() {
        if let Err(error) = check_pair(jwt, connection, record)? {
            findings.add_bad_pair(&ring, record, &error);
        }
    }
    findings.look_at_scopes(&scopes);
    findings.look_at_tokens(&counts, &jwt.settings);
    findings.look_at_tasks(&successes, now);

    let active = ring.active().count();
    let (severity, reasons) = findings.into_parts();
    let report = HealthReport {
        timestamp: isoformat(now),
        tokens: TokenCounts {
            total: counts.total,
            active: counts.active,
            expired: counts.expired,
            revoked: counts.revoked,
            recent_24h: counts.recent,
        },
        keypairs: KeyPairCounts {
            active,
            inactive: ring.records.len() - active,
            total: ring.records.len(),
        },
        scopes: ScopeCounts { active: scopes.iter().filter(|scope| scope.is_active).count() },
        health_status: if severity == Severity::Ok { "healthy" } else { "warning" },
        severity,
        reasons,
    };
    log_report(&report);
    // Whoever may only read can have a report too.
    if let Err(error) = TaskSuccess::record(connection, task_name::HEALTH, now.into()) {
        log::warn!("that there was a health report could not be stored: {error}");
    }
    Ok(report)
}

fn log_report(report: &HealthReport) {
    let level = match report.severity {
        Severity::Ok => log::Level::Info,
        Severity::Warning => log::Level::Warn,
        Severity::Critical => log::Level::Error,
    };
    let HealthReport { tokens, keypairs, scopes, .. } = report;
    log::log!(
        level,
        "JWT health {}: {} tokens ({} active, {} expired, {} revoked, {} of the last 24 hours), {} \
         key pairs ({} active), {} active scopes",
        report.severity,
        tokens.total,
        tokens.active,
        tokens.expired,
        tokens.revoked,
        tokens.recent_24h,
        keypairs.total,
        keypairs.active,
        scopes.active
    );
    for reason in &report.reasons {
        log::log!(level, "JWT health: {}: {}", reason.code, reason.message);
    }
}
