//! What can be wrong, and how bad that is.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared_models::{Counts, Scope, TaskSuccess};

use crate::JwtSettings;
use crate::initialize_jwt_scopes::DEFAULT_SCOPES;
use crate::jwt::{KeyError, KeyRing, Record};
use crate::shell::task_name;

/// A rotation that is run every week may be this late without anything being wrong.
const ROTATION_GRACE: TimeDelta = TimeDelta::days(7);

/// How often each task is to succeed.
const PERIODS: [(&str, TimeDelta); 5] = [
    (task_name::CLEANUP_TOKENS, TimeDelta::days(1)),
    (task_name::HEALTH, TimeDelta::days(1)),
    (task_name::ROTATE, TimeDelta::days(7)),
    (task_name::SCOPES, TimeDelta::days(7)),
    (task_name::CLEANUP_KEY_PAIRS, TimeDelta::days(31)),
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// Something needs attention.
    Warning,
    /// The site cannot sign tokens.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Everything that is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    severity: Severity,
    reasons: Vec<Reason>,
}

impl Findings {
    pub(super) fn into_parts(self) -> (Severity, Vec<Reason>) {
        (self.severity, self.reasons)
    }

    fn add(&mut self, severity: Severity, code: &'static str, message: String) {
        self.severity = self.severity.max(severity);
        self.reasons.push(Reason { code, message });
    }

    pub(super) fn look_at_rotation(
        &mut self,
        ring: &KeyRing,
        settings: &JwtSettings,
        now: DateTime<Utc>,
    ) {
        let Some(signing) = ring.signing() else {
            let message = "no key pair is active: the site can sign no tokens".to_owned();
            return self.add(Severity::Critical, "no_active_keypair", message);
        };
        let age = now - signing.active_since();
        if age > settings.rotation_period + ROTATION_GRACE {
            let message = format!(
                "the newest active key pair is {} days old, the rotation period is {} days",
                age.num_days(),
                settings.rotation_period.num_days()
            );
            self.add(Severity::Warning, "rotation_overdue", message);
        }
    }

    pub(super) fn add_bad_pair(&mut self, ring: &KeyRing, record: &Record, error: &KeyError) {
        let signs = ring.signing().is_some_and(|signing| signing.pair.id == record.pair.id);
        let severity = if signs { Severity::Critical } else { Severity::Warning };
        let message = format!("the private key of key pair {} {error}", record.kid);
        self.add(severity, "keypair_unusable", message);
    }

    pub(super) fn look_at_scopes(&mut self, scopes: &[Scope]) {
        for (name, _) in DEFAULT_SCOPES {
            let (code, problem) = match scopes.iter().find(|scope| scope.name == name) {
                Some(scope) if scope.is_active => continue,
                Some(_) => ("scope_inactive", "inactive"),
                None => ("scope_missing", "missing"),
            };
            let message = format!("the default scope {name} is {problem}");
            self.add(Severity::Warning, code, message);
        }
    }

    pub(super) fn look_at_tokens(&mut self, counts: &Counts, settings: &JwtSettings) {
        if counts.active_on_inactive_key_pairs > 0 {
            let message = format!(
                "{} tokens are not expired, but their key pair is inactive",
                counts.active_on_inactive_key_pairs
            );
            self.add(Severity::Warning, "tokens_on_inactive_keypair", message);
        }
        if counts.overdue > 0 {
            let message = format!(
                "{} tokens expired more than two days ago and are not revoked: the cleanup does \
                 not run",
                counts.overdue
            );
            self.add(Severity::Warning, "cleanup_overdue", message);
        }
        if counts.undeleted > 0 {
            let message = format!(
                "{} revoked tokens are older than the {} days that they are kept: the cleanup does \
                 not run to its end",
                counts.undeleted,
                settings.token_retention.num_days()
            );
            self.add(Severity::Warning, "deletion_overdue", message);
        }
    }

    /// A task that has never succeeded is missed once two of its periods have passed since the
    /// first success of any.
    pub(super) fn look_at_tasks(&mut self, successes: &[TaskSuccess], now: DateTime<Utc>) {
        let beginning = successes.iter().map(|success| success.first_at).min();
        for (task, period) in PERIODS {
            let last = successes.iter().find(|success| success.task == task);
            let since = last.map(|success| success.last_at).or(beginning);
            let Some(since) = since.map(DateTime::<Utc>::from) else { continue };
            if now - since > period * 2 {
                let message = match last {
                    Some(_) => {
                        format!("{task} last succeeded {} days ago", (now - since).num_days())
                    }
                    None => format!("{task} has never succeeded"),
                };
                self.add(Severity::Warning, "task_overdue", message);
            }
        }
    }
}
