//! Private keys at rest: PKCS#8, encrypted where there is a password.

use aws_lc_rs::rand;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::KeyError;

pub(super) const PLAIN_LABEL: &str = "PRIVATE KEY";
pub(super) const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// 16 MiB and tens of milliseconds for each try. Twice that is beyond what OpenSSL lets scrypt
/// have, and so what Python reads.
const SCRYPT_COST: (u8, u32, u32) = (14, 8, 1);

/// The PEM text, encrypted with `password` where there is one.
///
/// AES-256-CBC, because Python's `cryptography` does not read AES-GCM here. It proves nothing
/// about integrity: whoever decrypts compares the key with its public half.
pub(super) fn to_pem(
    key: &SecretDocument,
    password: Option<&SecretString>,
) -> Result<Zeroizing<String>, KeyError> {
    let Some(password) = password else {
        return key.to_pem(PLAIN_LABEL, LineEnding::LF).map_err(|_| KeyError::Encryption);
    };
    let mut salt = [0; 16];
    let mut iv = [0; 16];
    rand::fill(&mut salt).map_err(|_| KeyError::Generation)?;
    rand::fill(&mut iv).map_err(|_| KeyError::Generation)?;
    let (log_n, r, p) = SCRYPT_COST;
    let cost = scrypt::Params::new(log_n, r, p).map_err(|_| KeyError::Encryption)?;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|_| KeyError::Encryption)?;
    PrivateKeyInfoRef::try_from(key.as_bytes())
        .and_then(|info| info.encrypt_with_params(parameters, password.expose_secret()))
        .map_err(|_| KeyError::Encryption)?
        .to_pem(ENCRYPTED_LABEL, LineEnding::LF)
        .map_err(|_| KeyError::Encryption)
}

/// Decrypts what a text of [`ENCRYPTED_LABEL`] holds.
pub(super) fn decrypt(
    encrypted: &SecretDocument,
    password: Option<&SecretString>,
) -> Result<SecretDocument, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes())
        .map_err(|_| KeyError::PrivateForm)?;
    let password = password.ok_or(KeyError::PasswordMissing)?;
    let key = info.decrypt(password.expose_secret()).map_err(|_| KeyError::PasswordWrong)?;
    // A wrong password passes the padding once in some hundred times, and then this is noise.
    match PrivateKeyInfoRef::try_from(key.as_bytes()) {
        Ok(_) => Ok(key),
        Err(_) => Err(KeyError::PasswordWrong),
    }
}
