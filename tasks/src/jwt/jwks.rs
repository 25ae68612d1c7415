//! The public keys that a site's verifiers need.

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::Jwk;
use serde::Serialize;
use shared_models::Token;

use super::{KeyRing, VerificationKey};
use crate::{JwtAuth, JwtError};

/// A JWK set (RFC 7517, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwks {
    /// Its keys, the newest first.
    pub keys: Vec<Jwk>,
}

/// The public keys of all key pairs that may still have to verify something at `now`: active ones,
/// the one published ahead, and inactive ones that tokens may still rely on. Withdrawn ones, whose
/// private half others may know, are left out.
///
/// # Errors
///
/// Those of the database. A public key that cannot be read is left out, with a warning.
pub fn jwks(jwt: &JwtAuth, now: DateTime<Utc>) -> Result<Jwks, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let ring = KeyRing::load(connection, &layout)?;
    let pending = ring.pending().map(|record| record.pair.id);
    let mut keys = Vec::new();
    for record in ring.records.iter().filter(|record| !record.is_withdrawn()) {
        let recent = ring
            .last_signed_at(record)
            .is_none_or(|last| last + jwt.settings.max_token_life >= now);
        let needed = record.pair.is_active
            || pending == Some(record.pair.id)
            || recent
            || Token::any_usable(connection, record.pair.id, now.into())?;
        if needed {
            match VerificationKey::from_pem(&record.pair.public_key_pem) {
                Ok(key) => keys.push(key.to_jwk(&record.kid)),
                Err(error) => log::warn!("the public key of key pair {} {error}", record.kid),
            }
        }
    }
    Ok(Jwks { keys })
}
