//! The public half.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse, ThumbprintHash};

use super::{Algorithm, KeyError};

/// A public key.
#[derive(Debug, Clone)]
pub struct VerificationKey {
    algorithm: Algorithm,
    key: DecodingKey,
    jwk: Jwk,
}

impl VerificationKey {
    /// Reads SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    ///
    /// [`KeyError::PublicForm`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let bytes = pem.trim().as_bytes();
        let key = DecodingKey::from_ec_pem(bytes)
            .or_else(|_| DecodingKey::from_rsa_pem(bytes))
            .map_err(|_| KeyError::PublicForm)?;
        let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| KeyError::PublicForm)?;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::Rs256,
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                Algorithm::Es256
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => {
                Algorithm::Es384
            }
            _ => return Err(KeyError::PublicForm),
        };
        Ok(Self { algorithm, key, jwk })
    }

    /// The algorithm of the tokens that it accepts.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The SHA-256 thumbprint of RFC 7638, which is the `kid` of new key pairs.
    ///
    /// # Errors
    ///
    /// [`KeyError::PublicForm`].
    pub fn kid(&self) -> Result<String, KeyError> {
        self.jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| KeyError::PublicForm)
    }

    /// As a member of a JWKS, under the name `kid`.
    pub fn to_jwk(&self, kid: &str) -> Jwk {
        let mut jwk = self.jwk.clone();
        jwk.common.key_id = Some(kid.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(self.algorithm.in_jsonwebtoken().into());
        jwk
    }

    /// Whether it accepts `signature`, which is base64url, as one of `signed`. The algorithm is
    /// this key's, whatever a header says.
    pub(crate) fn accepts(&self, signature: &str, signed: &str) -> bool {
        let algorithm = self.algorithm.in_jsonwebtoken();
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, algorithm)
            .unwrap_or(false)
    }

    pub(super) fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made and measured with Python's `cryptography`.
    const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0GfC5DR08F1vlBGs0KG3BN7sNuT0
X1v0K2i1VYdjQYh3ATiHovOLWnQDnj84HdWoYBJFXzeIpcYxD5C6S61u9Q==
-----END PUBLIC KEY-----
";
    const P256_KID: &str = "F21JXnR8UK18N3OHlDv51Gw5nv8hEw9TaFXku9uF-1M";
    const RSA: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAukNOaxXnXHfam1Zvu7cH
Q9fIwRFC9MJOtSkUZscsMZXwJCx1Pl/b/tCHE/1ghyK0Ly403n+gqdNVgasSvdSL
O5Y+5w0Y+2eK1XlZfAx9wRlgaFtBoHPUQjPeDUtBUHntFwA8F3d0zsVE+Du8x+Ev
om5Fun5M0DzDJjOpWn8NQV9N7UP9suCPvexiXEv0Ig2PulAEdPGNl6UFa0Wjg0Id
Pq0b0l5ch3dd6ksoUX8kygtvZK3p985D6VwoCFXsFH4Uk1fNRlZA3sI6xdyp1rsz
nVeTqAP0gsDgDCAociCqBKz6KB8jhg5+tutEt5v0cOU+MDGa9cvbT+mmHO7COiDM
EwIDAQAB
-----END PUBLIC KEY-----
";
    const RSA_KID: &str = "mpw316C6xyyQEbKkrX9zWs8uxl32mBmmw7GXOeIB3JQ";

    #[test]
    fn the_kid_is_the_thumbprint_that_python_computes() {
        for (pem, algorithm, kid) in
            [(P256, Algorithm::Es256, P256_KID), (RSA, Algorithm::Rs256, RSA_KID)]
        {
            let key = VerificationKey::from_pem(pem).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.kid().unwrap(), kid);
            let jwk = serde_json::to_value(key.to_jwk(kid)).unwrap();
            assert_eq!((&jwk["kid"], &jwk["use"]), (&kid.into(), &"sig".into()));
            assert_eq!(jwk["alg"], serde_json::to_value(algorithm).unwrap());
        }
    }
}
