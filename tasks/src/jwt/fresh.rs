//! A new key pair before it is stored.

use secrecy::SecretString;
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

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Fresh {
    /// Makes one.
    pub(crate) fn make(jwt: &JwtAuth, algorithm: Algorithm) -> Result<Self, KeyError> {
        let password = jwt.settings.private_key_password.as_ref();
        let key = SigningKey::generate(algorithm)?;
        Self::proved(key.to_pem(password)?, key.public_pem()?, password)
    }

    /// Takes what is to be stored, once it has been read as it will be read later, and has signed
    /// and verified a probe.
    fn proved(
        private_pem: Zeroizing<String>,
        public_pem: String,
        password: Option<&SecretString>,
    ) -> Result<Self, KeyError> {
        let stored = SigningKey::from_pem(&private_pem, password)?;
        let public = VerificationKey::from_pem(&public_pem)?;
        stored.prove(&public)?;
        Ok(Self { algorithm: stored.algorithm(), kid: public.kid()?, private_pem, public_pem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 3] = [Algorithm::Es256, Algorithm::Es384, Algorithm::Rs256];

    #[test]
    fn only_a_pair_that_proves_itself_is_stored() {
        let password = SecretString::from("geheim");
        for algorithm in ALL {
            let [key, other] = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap());
            for password in [None, Some(&password)] {
                let pem = || key.to_pem(password).unwrap();
                let public = key.public_pem().unwrap();
                let good = Fresh::proved(pem(), public.clone(), password).unwrap();
                assert_eq!(good.algorithm, algorithm);
                assert!(!format!("{good:?}").contains("PRIVATE"), "{good:?}");

                let refused = |pem, public| Fresh::proved(pem, public, password).err();
                let of_other = other.public_pem().unwrap();
                assert_eq!(refused(pem(), of_other), Some(KeyError::Mismatch));
                assert!(refused(Zeroizing::new(pem().replace("KEY", "KEX")), public).is_some());
            }
            let pem = key.to_pem(Some(&password)).unwrap();
            let unread = Fresh::proved(pem, key.public_pem().unwrap(), None).err();
            assert_eq!(unread, Some(KeyError::PasswordMissing));
        }
    }
}
