//! `status`: lists key pairs, scopes and tokens.

use chrono::{DateTime, Utc};
use tasks::jwt::Algorithm;
use tasks::status::{ActiveKeyPair, ActiveScope, Status, TokenTotals, status};

use crate::failure::Failure;
use crate::report::{Report, bad, counted, heading, json};
use crate::session::Session;

pub(crate) fn run(session: &Session, now: DateTime<Utc>) -> Result<Report, Failure> {
    let status = status(&session.jwt()?, now)?;
    Ok(Report::new(json(&status)?, lines(&status)))
}

fn lines(status: &Status) -> Vec<String> {
    let active = &status.active_keypairs;
    let mut lines = vec![heading(format!("Active key pairs: {}", active.len()))];
    if active.is_empty() {
        lines.push(bad("  none: the site can sign nothing (`jwt_manage init` makes one)"));
    }
    lines.extend(active.iter().map(|pair| format!("  {}", described(pair))));
    lines.push(heading(format!("Inactive key pairs: {}", status.inactive_keypairs_count)));
    lines.push(heading(format!("Active scopes: {}", status.active_scopes.len())));
    lines.extend(
        status
            .active_scopes
            .iter()
            .map(|ActiveScope { name, description }| format!("  {name}: {description}")),
    );
    let TokenTotals { total, active } = status.tokens;
    lines.push(heading(format!("Tokens: {total} total, {active} active")));
    lines
}

fn described(pair: &ActiveKeyPair) -> String {
    let algorithm = match pair.algorithm {
        Some(Algorithm::Es256) => "ES256".to_owned(),
        Some(Algorithm::Es384) => "ES384".to_owned(),
        Some(Algorithm::Rs256) => "RS256".to_owned(),
        None => bad("public key unreadable"),
    };
    let signs = if pair.signs { ", signs" } else { "" };
    format!("{} ({algorithm}), {} old{signs}", pair.kid, counted(pair.age_days, "day"))
}
