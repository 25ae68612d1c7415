//! `token inspect`: everything that is known of a token.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use settings::ExposeSecret;
use tasks::isoformat;
use tasks::token::{Examination, Row, Signer, examine, find};

use super::{input, verify};
use crate::cli::TokenInspect;
use crate::failure::Failure;
use crate::report::{Report, heading, warning};
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    arguments: &TokenInspect,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    if let Some(jti) = &arguments.jti {
        let row = find(&session.jwt()?, jti)?;
        let lines = row_lines(Some(&row));
        return Report::of(&json!({ "token": row }), lines);
    }
    let token = input::read(&arguments.token)?;
    let examined = examine(&session.jwt()?, now, token.expose_secret(), &[])?;
    let lines = lines(&examined);
    Report::of(&examined, lines)
}

fn lines(examined: &Examination) -> Vec<String> {
    let mut lines = verify::lines(examined);
    let Examination { header, claims, keypair, signature_valid, .. } = examined;
    if !signature_valid && claims.is_some() {
        lines.push(warning("Nobody vouches for what it says: the signature is not proved."));
    }
    lines.extend(members("Header", header.as_ref()));
    lines.extend(members("Claims", claims.as_ref()));
    lines.extend(keypair.iter().flat_map(keypair_lines));
    if *signature_valid {
        lines.extend(row_lines(examined.token.as_ref()));
    }
    lines
}

fn members(title: &str, object: Option<&Map<String, Value>>) -> Vec<String> {
    let Some(object) = object else { return Vec::new() };
    let mut lines = vec![heading(title)];
    lines.extend(object.iter().map(|(name, value)| {
        let is_time = ["exp", "iat", "nbf"].contains(&name.as_str());
        let time = value
            .as_i64()
            .filter(|_| is_time)
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .map(|at| format!(" ({})", isoformat(at)));
        // Of JSON, so that no control character of it reaches the terminal.
        format!("  {}: {value}{}", Value::from(name.as_str()), time.unwrap_or_default())
    }));
    lines
}

fn keypair_lines(signer: &Signer) -> Vec<String> {
    let state = match (signer.is_active, signer.is_withdrawn) {
        (true, _) => "active",
        (false, true) => "withdrawn",
        (false, false) => "inactive",
    };
    let algorithm = signer.algorithm.map_or("public key unreadable", |algorithm| algorithm.name());
    let retired = signer.retired_at.as_ref().map(|at| format!(", retired {at}"));
    vec![
        heading("Key pair"),
        format!(
            "  {} (id {}, {algorithm}): {state}, made {}{}",
            signer.kid,
            signer.id,
            signer.created_at,
            retired.unwrap_or_default()
        ),
    ]
}

fn row_lines(row: Option<&Row>) -> Vec<String> {
    let Some(row) = row else {
        return vec![heading("Record"), "  none: it cannot be revoked by itself".to_owned()];
    };
    let unknown = || "not recorded".to_owned();
    let scopes = if row.scopes.is_empty() { "none".to_owned() } else { row.scopes.join(", ") };
    let revoked = match (&row.revoked_at, row.is_revoked) {
        (Some(at), true) => format!("since {at}"),
        (None, true) => "yes".to_owned(),
        (_, false) => "no".to_owned(),
    };
    vec![
        heading("Record"),
        format!("  jti: {}", row.jti),
        format!("  user: {}", row.user.clone().unwrap_or_else(unknown)),
        format!("  purpose: {}", row.purpose.clone().unwrap_or_else(unknown)),
        format!("  scopes: {scopes}"),
        format!("  expires: {}", row.expires_at),
        format!("  revoked: {revoked}"),
    ]
}
