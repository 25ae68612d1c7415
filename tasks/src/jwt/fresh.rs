//! A new key pair before it is stored.

use zeroize::Zeroizing;

use super::{Algorithm, KeyError, SigningKey, VerificationKey};
use crate::JwtAuth;

/// A key pair that was made, and proved good, before the transaction that stores it.
pub(crate) struct Fresh {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: String,
    pub(crate) private_pem: Zeroizing<String>,
    pub(crate) public_pem: String,
}

impl Fresh {
    /// Makes one.
    pub(crate) fn make(jwt: &JwtAuth, algorithm: Algorithm) -> Result<Self, KeyError> {
        let key = SigningKey::generate(algorithm)?;
        let private_pem = key.to_pem(jwt.settings.private_key_password.as_ref())?;
        let public_pem = key.public_pem()?;
        let public = VerificationKey::from_pem(&public_pem)?;
        // What will be read later is what has to be good, not what is in memory now.
        let stored =
            SigningKey::from_pem(&private_pem, jwt.settings.private_key_password.as_ref())?;
        stored.prove(&public)?;
        Ok(Self { algorithm, kid: public.kid()?, private_pem, public_pem })
    }
}
