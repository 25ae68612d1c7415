//! The private half.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RsaKeyPair,
};
use jsonwebtoken::EncodingKey;
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use pkcs8::{Document, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, VerificationKey, encryption};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A private key in memory; its bytes are overwritten when it goes.
pub struct SigningKey {
    algorithm: Algorithm,
    pkcs8: SecretDocument,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What a probe token says.
#[derive(Serialize, Deserialize)]
struct Probe {
    probe: String,
}

impl SigningKey {
    /// Makes a new one; RSA with 2048 bits.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generation`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let pkcs8 = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048);
                rsa_pkcs8(&pair.map_err(|_| KeyError::Generation)?)
            }
            Algorithm::Es256 => {
                let key = p256::SecretKey::try_generate().map_err(|_| KeyError::Generation)?;
                key.to_pkcs8_der().ok()
            }
            Algorithm::Es384 => {
                let pair = EcdsaKeyPair::generate(curve(algorithm));
                ec_pkcs8(&pair.map_err(|_| KeyError::Generation)?)
            }
        };
        Ok(Self { algorithm, pkcs8: pkcs8.ok_or(KeyError::Generation)? })
    }

    /// Reads PKCS#8, encrypted or not, and the older forms that carry `RSA` or `EC` in their name.
    ///
    /// # Errors
    ///
    /// Those of [`KeyError`] that tell of a private key or a password.
    pub fn from_pem(pem: &str, password: Option<&SecretString>) -> Result<Self, KeyError> {
        if pem.trim().is_empty() {
            return Err(KeyError::Wiped);
        }
        let (label, document) =
            SecretDocument::from_pem(pem.trim()).map_err(|_| KeyError::PrivateForm)?;
        match label {
            encryption::PLAIN_LABEL => Self::from_pkcs8(document),
            encryption::ENCRYPTED_LABEL => {
                Self::from_pkcs8(encryption::decrypt(&document, password)?)
            }
            "RSA PRIVATE KEY" => {
                let pair = RsaKeyPair::from_der(document.as_bytes());
                let pkcs8 = pair.ok().as_ref().and_then(rsa_pkcs8);
                Self::from_pkcs8(pkcs8.ok_or(KeyError::PrivateContent)?)
            }
            "EC PRIVATE KEY" => {
                let pair = [Algorithm::Es256, Algorithm::Es384].into_iter().find_map(|algorithm| {
                    EcdsaKeyPair::from_private_key_der(curve(algorithm), document.as_bytes()).ok()
                });
                let pkcs8 = pair.as_ref().and_then(ec_pkcs8);
                Self::from_pkcs8(pkcs8.ok_or(KeyError::PrivateContent)?)
            }
            _ => Err(KeyError::PrivateForm),
        }
    }

    /// Whether `pem` says of itself that it is encrypted.
    pub fn is_encrypted(pem: &str) -> bool {
        pem.contains("ENCRYPTED")
    }

    fn from_pkcs8(pkcs8: SecretDocument) -> Result<Self, KeyError> {
        let bytes = pkcs8.as_bytes();
        let info = PrivateKeyInfoRef::try_from(bytes).map_err(|_| KeyError::PrivateContent)?;
        let algorithm = if info.algorithm.oid == RSA_ENCRYPTION {
            RsaKeyPair::from_pkcs8(bytes).ok().map(|_| Algorithm::Rs256)
        } else {
            [Algorithm::Es256, Algorithm::Es384]
                .into_iter()
                .find(|algorithm| EcdsaKeyPair::from_pkcs8(curve(*algorithm), bytes).is_ok())
        };
        Ok(Self { algorithm: algorithm.ok_or(KeyError::PrivateContent)?, pkcs8 })
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// As PKCS#8 PEM, encrypted with `password` where there is one.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encryption`].
    pub fn to_pem(&self, password: Option<&SecretString>) -> Result<Zeroizing<String>, KeyError> {
        encryption::to_pem(&self.pkcs8, password)
    }

    /// Its public half as SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    ///
    /// [`KeyError::PrivateContent`].
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let bytes = self.pkcs8.as_bytes();
        let der = match self.algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(|_| KeyError::PrivateContent)?;
                pair.public_key().as_der()
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                let pair = EcdsaKeyPair::from_pkcs8(curve(self.algorithm), bytes)
                    .map_err(|_| KeyError::PrivateContent)?;
                pair.public_key().as_der()
            }
        };
        der.ok()
            .and_then(|der| Document::try_from(der.as_ref()).ok())
            .and_then(|document| document.to_pem("PUBLIC KEY", LineEnding::LF).ok())
            .ok_or(KeyError::PrivateContent)
    }

    /// Proves that `public` belongs to this key: first by its numbers, then by a token that this
    /// key signs and `public` accepts.
    ///
    /// # Errors
    ///
    /// [`KeyError::Mismatch`], [`KeyError::Probe`].
    pub fn prove(&self, public: &VerificationKey) -> Result<(), KeyError> {
        let own = VerificationKey::from_pem(&self.public_pem()?)?;
        if own.kid()? != public.kid()? {
            return Err(KeyError::Mismatch);
        }
        let claims = Probe { probe: own.kid()? };
        let header = jsonwebtoken::Header::new(self.algorithm.in_jsonwebtoken());
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding_key()?)
            .map_err(|_| KeyError::Probe)?;
        let mut validation = jsonwebtoken::Validation::new(self.algorithm.in_jsonwebtoken());
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        match jsonwebtoken::decode::<Probe>(token, public.decoding_key(), &validation) {
            Ok(read) if read.claims.probe == claims.probe => Ok(()),
            Ok(_) | Err(_) => Err(KeyError::Probe),
        }
    }

    /// A token with these claims, whose header names `kid`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Probe`] where it cannot sign.
    pub fn sign(&self, kid: &str, claims: &impl Serialize) -> Result<String, KeyError> {
        let mut header = jsonwebtoken::Header::new(self.algorithm.in_jsonwebtoken());
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.encoding_key()?).map_err(|_| KeyError::Probe)
    }

    fn encoding_key(&self) -> Result<EncodingKey, KeyError> {
        let bytes = self.pkcs8.as_bytes();
        match self.algorithm {
            Algorithm::Rs256 => {
                let info =
                    PrivateKeyInfoRef::try_from(bytes).map_err(|_| KeyError::PrivateContent)?;
                Ok(EncodingKey::from_rsa_der(info.private_key.as_bytes()))
            }
            Algorithm::Es256 | Algorithm::Es384 => Ok(EncodingKey::from_ec_der(bytes)),
        }
    }
}

fn curve(algorithm: Algorithm) -> &'static aws_lc_rs::signature::EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        Algorithm::Es256 | Algorithm::Rs256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

fn rsa_pkcs8(pair: &RsaKeyPair) -> Option<SecretDocument> {
    SecretDocument::try_from(pair.as_der().ok()?.as_ref()).ok()
}

fn ec_pkcs8(pair: &EcdsaKeyPair) -> Option<SecretDocument> {
    SecretDocument::try_from(pair.to_pkcs8v1().ok()?.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 3] = [Algorithm::Es256, Algorithm::Es384, Algorithm::Rs256];

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_new_key_is_read_again_plain_and_encrypted() {
        for algorithm in ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let public = VerificationKey::from_pem(&key.public_pem().unwrap()).unwrap();
            let plain = key.to_pem(None).unwrap();
            assert!(plain.starts_with("-----BEGIN PRIVATE KEY-----\n"));
            assert!(!SigningKey::is_encrypted(&plain));
            let encrypted = key.to_pem(Some(&password("geheim"))).unwrap();
            assert!(SigningKey::is_encrypted(&encrypted));
            for (pem, password) in [(plain, None), (encrypted, Some(password("geheim")))] {
                let read = SigningKey::from_pem(&pem, password.as_ref()).unwrap();
                assert_eq!(read.algorithm(), algorithm);
                read.prove(&public).unwrap();
            }
        }
    }

    #[test]
    fn a_wrong_and_a_missing_password_are_told_apart() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let pem = key.to_pem(Some(&password("geheim"))).unwrap();
        let error = |password: Option<&SecretString>| SigningKey::from_pem(&pem, password).err();
        assert_eq!(error(None), Some(KeyError::PasswordMissing));
        assert_eq!(error(Some(&password("falsch"))), Some(KeyError::PasswordWrong));
    }

    #[test]
    fn halves_of_different_pairs_do_not_match() {
        for algorithm in ALL {
            let [one, other] = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap());
            let public = VerificationKey::from_pem(&other.public_pem().unwrap()).unwrap();
            assert_eq!(one.prove(&public), Err(KeyError::Mismatch));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "private", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
        {
            assert!(SigningKey::from_pem(text, None).is_err(), "{text}");
            assert!(VerificationKey::from_pem(text).is_err(), "{text}");
        }
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        assert_eq!(
            SigningKey::from_pem(&key.public_pem().unwrap(), None).err(),
            Some(KeyError::PrivateForm)
        );
        assert!(!format!("{key:?}").contains("pkcs8"));
    }
}
