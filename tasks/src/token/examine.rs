//! Whether a token is accepted, and if not, why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared_models::{AnyConnection, IssuedToken, Layout};

use super::compact::Compact;
use super::{Refusal, TokenError, claims};
use crate::jwt::{Algorithm, KeyRing, Record, VerificationKey};
use crate::{JwtAuth, isoformat};

/// Everything that can be said of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// Whether the site accepts it.
    pub valid: bool,
    /// Why it does not; the first one is what the site's Python says.
    pub reasons: Vec<Refusal>,
    /// Whether its key pair signed it. Where not, header and claims are anybody's words.
    pub signature_valid: bool,
    /// Its header; none where it cannot be read.
    pub header: Option<Map<String, Value>>,
    /// Its claims; none where they cannot be read.
    pub claims: Option<Map<String, Value>>,
    /// The key pair that its header names, where there is one.
    pub keypair: Option<Signer>,
    /// What is recorded of it; none where nothing is.
    pub token: Option<Row>,
}

/// A key pair that a token names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// Its primary key.
    pub id: String,
    /// Its `kid`.
    pub kid: String,
    /// Its algorithm; none where its public key cannot be read.
    pub algorithm: Option<Algorithm>,
    /// Whether it is active.
    pub is_active: bool,
    /// Whether it was withdrawn.
    pub is_withdrawn: bool,
    /// When it was made.
    pub created_at: String,
    /// When we retired it, where we did.
    pub retired_at: Option<String>,
}

/// The row of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its `jti`.
    pub jti: String,
    /// Whose it is.
    pub user: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// What it permits.
    pub scopes: Vec<String>,
    /// From then on nobody accepts it.
    pub expires_at: String,
    /// Whether it is refused before that.
    pub is_revoked: bool,
    /// Since when.
    pub revoked_at: Option<String>,
    /// The primary key of its key pair.
    pub keypair_id: String,
}

/// Says whether the site accepts `token` at `now` for something that needs `scopes`.
///
/// The key is the one that the header names among the site's, and the algorithm the one of that
/// key: the header's own `alg` decides nothing.
///
/// # Errors
///
/// Those of the database. A token that is refused is no error.
pub fn examine(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    token: &str,
    scopes: &[String],
) -> Result<Examination, TokenError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let mut examination = Examination {
        valid: false,
        reasons: Vec::new(),
        signature_valid: false,
        header: None,
        claims: None,
        keypair: None,
        token: None,
    };
    let compact = match Compact::parse(token.trim()) {
        Ok(compact) => compact,
        Err(refusal) => {
            examination.reasons.push(refusal);
            return Ok(examination);
        }
    };
    let ring = KeyRing::load(connection, &layout)?;
    let (signer, mut reasons) = signature(&ring, &compact);
    examination.keypair = signer.map(Signer::of);
    examination.signature_valid = !reasons.iter().any(Refusal::is_of_the_signature);
    if examination.signature_valid {
        reasons.extend(claims::refusals(&compact.claims, &jwt.settings, now));
        examination.token = row(connection, &layout, &compact)?;
        let revoked = examination.token.as_ref().filter(|row| row.is_revoked);
        reasons.extend(revoked.map(|row| Refusal::Revoked(row.revoked_at.clone())));
        reasons.extend(missing_scopes(&compact, scopes));
    }
    examination.valid = reasons.is_empty();
    examination.reasons = reasons;
    examination.header = Some(compact.header);
    examination.claims = Some(compact.claims);
    Ok(examination)
}

/// What is recorded of the token with this `jti`.
///
/// # Errors
///
/// [`TokenError::NotRecorded`]; those of the database.
pub fn find(jwt: &JwtAuth, jti: &str) -> Result<Row, TokenError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let Some(token) = IssuedToken::find(connection, &layout, jti)? else {
        return Err(TokenError::NotRecorded(jti.to_owned()));
    };
    Row::of(connection, &token, jti)
}

/// The key pair that the header names, and what is wrong with it and its signature.
fn signature<'a>(ring: &'a KeyRing, compact: &Compact<'_>) -> (Option<&'a Record>, Vec<Refusal>) {
    let kid = match compact.kid() {
        Ok(kid) => kid,
        Err(refusal) => return (None, vec![refusal]),
    };
    let Some(record) = ring.records.iter().find(|record| record.kid == kid) else {
        return (None, vec![Refusal::UnknownKid]);
    };
    let mut refusals = Vec::new();
    if !record.pair.is_active {
        refusals.push(if record.is_withdrawn() {
            Refusal::WithdrawnKeyPair
        } else {
            Refusal::InactiveKeyPair
        });
    }
    match VerificationKey::from_pem(&record.pair.public_key_pem) {
        Ok(key) => refusals.extend(compact.check_signature(&key).err()),
        Err(_) => refusals.push(Refusal::UnreadableKeyPair),
    }
    (Some(record), refusals)
}

fn row(
    connection: &mut AnyConnection,
    layout: &Layout,
    compact: &Compact<'_>,
) -> Result<Option<Row>, TokenError> {
    let Some(jti) = compact.claims.get("jti").and_then(Value::as_str) else { return Ok(None) };
    match IssuedToken::find(connection, layout, jti)? {
        Some(token) => Row::of(connection, &token, jti).map(Some),
        None => Ok(None),
    }
}

fn missing_scopes(compact: &Compact<'_>, wanted: &[String]) -> Option<Refusal> {
    let granted = claims::scopes(&compact.claims);
    let mut missing: Vec<String> =
        wanted.iter().filter(|scope| !granted.contains(&scope.as_str())).cloned().collect();
    missing.sort();
    missing.dedup();
    (!missing.is_empty()).then_some(Refusal::Scopes(missing))
}

impl Signer {
    fn of(record: &Record) -> Self {
        let retired = record.state.as_ref().and_then(|state| state.retired_at);
        Self {
            id: record.id(),
            kid: record.kid.clone(),
            algorithm: VerificationKey::from_pem(&record.pair.public_key_pem)
                .ok()
                .map(|key| key.algorithm()),
            is_active: record.pair.is_active,
            is_withdrawn: record.is_withdrawn(),
            created_at: isoformat(record.created_at()),
            retired_at: retired.map(|at| isoformat(at.into())),
        }
    }
}

impl Row {
    pub(super) fn of(
        connection: &mut AnyConnection,
        token: &IssuedToken,
        jti: &str,
    ) -> Result<Self, TokenError> {
        Ok(Self {
            jti: jti.to_owned(),
            user: token.user.clone(),
            purpose: token.purpose.clone(),
            scopes: token.scopes(connection)?,
            expires_at: isoformat(token.expires_at.into()),
            is_revoked: token.is_revoked,
            revoked_at: token.revoked_at.map(|at| isoformat(at.into())),
            keypair_id: token.key_pair_id.to_string(),
        })
    }
}
