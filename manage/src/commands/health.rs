//! `health`: judges key pairs, tokens and scopes.

use std::io::{IsTerminal, Write, stdout};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Deserialize;
use serde_json::Value;
use tasks::generate_jwt_health_report::report;
use tasks::isoformat;

use crate::cli;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Output, Report, bad, good, json, warning};
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

pub(crate) fn run(
    session: &Session,
    arguments: &cli::Health,
    output: Output,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let queue = Queue::named(session, &arguments.via);
    let look: Box<dyn Fn(DateTime<Utc>) -> Result<Report, Failure>> = match queue {
        Some(queue) => Box::new(move |_| judged(queue.run(task::HEALTH, &[])?)),
        None => {
            let jwt = session.jwt()?;
            Box::new(move |now| judged(json(&report(&jwt, now)?)?))
        }
    };
    match arguments.watch {
        Some(interval) => watch(&look, interval, output),
        None => look(now),
    }
}

/// Reports until it is ended. What cannot be looked at now may well be a moment later, so only an
/// output that is gone ends this.
fn watch(
    look: &dyn Fn(DateTime<Utc>) -> Result<Report, Failure>,
    interval: Duration,
    output: Output,
) -> Result<Report, Failure> {
    let is_screen = output == Output::Text && stdout().is_terminal();
    loop {
        let now = Utc::now();
        let looked = look(now);
        if is_screen {
            clear_screen()?;
        }
        match looked {
            Ok(report) if output == Output::Text => report
                .headed(format!(
                    "{}, every {} s",
                    isoformat(now.trunc_subsecs(0)),
                    interval.as_secs_f64()
                ))
                .write(output)?,
            Ok(report) => report.write(output)?,
            Err(failure) => failure.complain(),
        }
        thread::sleep(interval);
    }
}

fn clear_screen() -> Result<(), Failure> {
    // To the upper left, and everything behind it away.
    write!(stdout(), "\x1b[H\x1b[2J").map_err(Failure::Output)
}

fn judged(result: Value) -> Result<Report, Failure> {
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
