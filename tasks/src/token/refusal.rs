//! Why a token is not accepted.

use serde::Serialize;
use serde::ser::SerializeStruct;

/// One reason for which a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not three parts of base64url with JSON objects in the first two.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// The header demands what we do not understand (RFC 7515, section 4.1.11).
    #[error("its header demands an extension (crit) that is not supported")]
    Critical,
    /// The header names no key.
    #[error("its header has no kid")]
    NoKid,
    /// No key pair of the site has that name.
    #[error("no key pair has its kid")]
    UnknownKid,
    /// The key pair is one that nobody accepts any more.
    #[error("its key pair is inactive")]
    InactiveKeyPair,
    /// The key pair was given up, because others may know it.
    #[error("its key pair was withdrawn")]
    WithdrawnKeyPair,
    /// The public half cannot be read, so nothing can be said.
    #[error("the public key of its key pair cannot be read")]
    UnreadableKeyPair,
    /// What the header says is not what the key is for.
    #[error("it says that its algorithm is {claimed}, and its key pair is for {expected} only")]
    WrongAlgorithm {
        /// Of the header: not trusted.
        claimed: String,
        /// Of the key.
        expected: &'static str,
    },
    /// Signed by somebody else, or changed since.
    #[error("its signature is not of its key pair")]
    BadSignature,
    /// A claim that has to be there is not.
    #[error("it has no claim {0}")]
    Missing(&'static str),
    /// A claim is not what it has to be.
    #[error("its claim {0} is not {1}")]
    WrongType(&'static str, &'static str),
    /// `exp` has passed.
    #[error("it expired at {0}")]
    Expired(String),
    /// `iat` or `nbf` is in the future.
    #[error("it is not valid before {1} ({0})")]
    NotYetValid(&'static str, String),
    /// `iss` is of another site.
    #[error("its issuer is not JWT_ISSUER")]
    WrongIssuer,
    /// `aud` is of another site.
    #[error("its audience is not JWT_AUDIENCE")]
    WrongAudience,
    /// `aud` is there, and the site knows of none.
    #[error("it is for an audience, and JWT_AUDIENCE is not set")]
    UnexpectedAudience,
    /// Its row says so.
    #[error("it is revoked{}", .0.as_ref().map(|at| format!(" since {at}")).unwrap_or_default())]
    Revoked(Option<String>),
    /// It permits less than is asked for.
    #[error("it does not grant: {}", .0.join(", "))]
    Scopes(Vec<String>),
}

impl Refusal {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Critical => "unsupported_crit",
            Self::NoKid => "no_kid",
            Self::UnknownKid => "unknown_kid",
            Self::InactiveKeyPair => "keypair_inactive",
            Self::WithdrawnKeyPair => "keypair_withdrawn",
            Self::UnreadableKeyPair => "keypair_unreadable",
            Self::WrongAlgorithm { .. } => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Missing(_) => "missing_claim",
            Self::WrongType(..) => "invalid_claim",
            Self::Expired(_) => "expired",
            Self::NotYetValid(..) => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience | Self::UnexpectedAudience => "wrong_audience",
            Self::Revoked(_) => "revoked",
            Self::Scopes(_) => "missing_scope",
        }
    }

    /// Whether the key pair that it names did not sign it, as far as can be said.
    pub(super) fn is_of_the_signature(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Critical
                | Self::NoKid
                | Self::UnknownKid
                | Self::UnreadableKeyPair
                | Self::WrongAlgorithm { .. }
                | Self::BadSignature
        )
    }
}

impl Serialize for Refusal {
    /// As the reasons of a health report: `code` and `message`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reason = serializer.serialize_struct("Refusal", 2)?;
        reason.serialize_field("code", self.code())?;
        reason.serialize_field("message", &self.to_string())?;
        reason.end()
    }
}
