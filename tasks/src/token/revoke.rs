//! Has a token refused before it expires.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared_models::{AnyConnection, IssuedToken, Layout};

use super::{Refusal, Row, TokenError, examine};
use crate::audit::{Action, Trail};
use crate::jwt::KeyRing;
use crate::{Caller, JwtAuth, Mode, is_false};

/// Which token.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The token itself. It has to be signed by a key pair of the site.
    Token(&'a str),
    /// The one with this `jti`.
    Jti(&'a str),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revocation {
    /// Always true: a failure is an error.
    pub success: bool,
    /// Whether it was this that revoked it; false where it was revoked already.
    pub revoked: bool,
    /// The token as it is now.
    pub token: Row,
    /// Whether it has expired anyway.
    pub expired: bool,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Revokes a token. `reason` goes into the audit trail.
///
/// # Errors
///
/// [`TokenError::Foreign`], [`TokenError::NotRecorded`]; those of the database.
pub fn revoke(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    target: Target<'_>,
    reason: &str,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<Revocation, TokenError> {
    let jti = match target {
        Target::Jti(jti) => jti.to_owned(),
        Target::Token(token) => proved_jti(jwt, now, token)?,
    };
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let mut trail = Trail::new(caller, now);
    let revocation = connection.write_transaction(|connection| {
        revoke_one(connection, &layout, now, &jti, reason, mode, &mut trail)
    })?;
    trail.log();
    Ok(revocation)
}

/// The `jti` of a token that a key pair of the site has signed, expired or not.
fn proved_jti(jwt: &JwtAuth, now: DateTime<Utc>, token: &str) -> Result<String, TokenError> {
    let examination = examine(jwt, now, token, &[])?;
    if let Some(refusal) = examination.reasons.iter().find(|reason| reason.is_of_the_signature()) {
        return Err(TokenError::Foreign(refusal.clone()));
    }
    let claims = examination.claims.unwrap_or_default();
    let jti = claims.get("jti").and_then(Value::as_str);
    jti.map(str::to_owned).ok_or(TokenError::Foreign(Refusal::Missing("jti")))
}

fn revoke_one(
    connection: &mut AnyConnection,
    layout: &Layout,
    now: DateTime<Utc>,
    jti: &str,
    reason: &str,
    mode: Mode,
    trail: &mut Trail<'_>,
) -> Result<Revocation, TokenError> {
    let not_recorded = || TokenError::NotRecorded(jti.to_owned());
    let mut token = IssuedToken::find(connection, layout, jti)?.ok_or_else(not_recorded)?;
    let mut revoked = !token.is_revoked;
    if mode == Mode::Apply && revoked {
        // Another may have done it since, or deleted it.
        revoked = token.revoke(connection, layout, now.into())?;
        token = IssuedToken::find(connection, layout, jti)?
            .filter(|token| token.is_revoked)
            .ok_or_else(not_recorded)?;
    }
    let row = Row::of(connection, &token, jti)?;
    if mode == Mode::Apply && revoked {
        let ring = KeyRing::load(connection, layout)?;
        let signer = ring.records.iter().find(|record| record.pair.id == token.key_pair_id);
        let kid = signer.map(|record| record.kid.clone()).unwrap_or_default();
        let id = token.key_pair_id.to_string();
        let reason = if reason.is_empty() { jti.to_owned() } else { format!("{jti}: {reason}") };
        trail.add(connection, Action::TokenRevoked, &id, &kid, &reason);
    }
    let expired = DateTime::<Utc>::from(token.expires_at) <= now;
    Ok(Revocation { success: true, revoked, token: row, expired, dry_run: mode.is_dry_run() })
}
