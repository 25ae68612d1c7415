//! `health`: judges key pairs, tokens and scopes.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tasks::generate_jwt_health_report::report;

use crate::cli::Via;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, bad, good, json, warning};
use crate::session::Session;

#[derive(Deserialize)]
struct Health {
    tokens: Tokens,
    keypairs: KeyPairs,
    scopes: Scopes,
    severity: Severity,
    #[serde(default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Tokens {
    total: u64,
    active: u64,
    expired: u64,
    revoked: u64,
    recent_24h: u64,
}

#[derive(Deserialize)]
struct KeyPairs {
    active: u64,
    inactive: u64,
}

#[derive(Deserialize)]
struct Scopes {
    active: u64,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    Warning,
    Critical,
}

pub(crate) fn run(session: &Session, via: &Via, now: DateTime<Utc>) -> Result<Report, Failure> {
    let result = match Queue::named(session, via) {
        Some(queue) => queue.run(task::HEALTH, &[])?,
        None => json(&report(&session.jwt()?, now)?)?,
    };
    let health: Health = read(task::HEALTH, &result)?;
    let mut report = Report::new(result, lines(&health));
    report.exit = match health.severity {
        Severity::Ok => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    };
    Ok(report)
}

fn lines(health: &Health) -> Vec<String> {
    let Health { tokens, keypairs, scopes, severity, reasons } = health;
    let mut lines = vec![match severity {
        Severity::Ok => good("healthy"),
        Severity::Warning => warning("warning"),
        Severity::Critical => bad("critical"),
    }];
    lines.extend(reasons.iter().map(|Reason { code, message }| format!("  {message} [{code}]")));
    lines.push(format!(
        "Tokens: {} total, {} active, {} expired, {} revoked, {} made in the last 24 hours",
        tokens.total, tokens.active, tokens.expired, tokens.revoked, tokens.recent_24h
    ));
    lines.push(format!("Key pairs: {} active, {} inactive", keypairs.active, keypairs.inactive));
    lines.push(format!("Scopes: {} active", scopes.active));
    lines
}
