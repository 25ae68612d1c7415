//! What is wrong with a key.

/// A key cannot be used. No part of a key or of a password is ever in here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not PEM, or of a form that we do not know.
    #[error(
        "is not a PEM text that holds one of PRIVATE KEY, ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY"
    )]
    PrivateForm,
    /// The text is not PEM, or of a form that we do not know.
    #[error("is not a PEM text that holds a PUBLIC KEY of RSA, P-256 or P-384")]
    PublicForm,
    /// The form is right and what it holds is not.
    #[error("holds no private key of RSA (2048 to 8192 bits), P-256 or P-384")]
    PrivateContent,
    /// It was overwritten when the key pair was retired.
    #[error("was wiped when the key pair was retired (JWT_WIPE_RETIRED_KEYS)")]
    Wiped,
    /// It is encrypted, and there is no password.
    #[error("is encrypted, and JWT_PRIVATE_KEY_PASSWORD is not set")]
    PasswordMissing,
    /// It is encrypted with another password, or in a way that we do not know.
    #[error("cannot be decrypted with JWT_PRIVATE_KEY_PASSWORD")]
    PasswordWrong,
    /// The two halves belong to different key pairs.
    #[error("does not match its public key")]
    Mismatch,
    /// A token that it signs is not accepted.
    #[error("signs tokens that its public key does not accept")]
    Probe,
    /// The machine has no randomness, or no memory.
    #[error("could not be made")]
    Generation,
    /// Encrypting failed.
    #[error("could not be encrypted")]
    Encryption,
}
