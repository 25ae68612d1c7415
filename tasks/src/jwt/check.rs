//! Whether a stored key pair can do its work.

use secrecy::ExposeSecret;
use shared_models::AnyConnection;

use super::{Algorithm, KeyError, Record, SigningKey, VerificationKey};
use crate::{JwtAuth, JwtError};

/// Reads both halves of a stored key pair, and proves that they belong together.
pub(crate) fn check_pair(
    jwt: &JwtAuth,
    connection: &mut AnyConnection,
    record: &Record,
) -> Result<Result<Algorithm, KeyError>, JwtError> {
    let pem = record.pair.private_key_pem(connection)?;
    let password = jwt.settings.private_key_password.as_ref();
    Ok(SigningKey::from_pem(pem.expose_secret(), password).and_then(|key| {
        key.prove(&VerificationKey::from_pem(&record.pair.public_key_pem)?)?;
        Ok(key.algorithm())
    }))
}
