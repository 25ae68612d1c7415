//! Why a token could not be issued or revoked.

use super::Refusal;
use crate::JwtError;

/// The work on a token could not be done. No part of a token is ever in here but its `jti`.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Key pairs or the database.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// Nothing can sign.
    #[error("no key pair is active; `jwt_manage init` makes one")]
    NoSigningKey,
    /// Scopes that do not exist or are inactive.
    #[error("no such active scope: {}", .0.join(", "))]
    Scopes(Vec<String>),
    /// A life that is not allowed.
    #[error("a token may live up to {most} hours (JWT_MAX_EXPIRY_HOURS), not {asked}")]
    Life {
        /// What was asked for, in hours.
        asked: String,
        /// What is allowed, in hours.
        most: i64,
    },
    /// Not the key of a user.
    #[error("{0:?} cannot be the key of a user of this site")]
    UserId(String),
    /// The database knows no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// Nothing is recorded of it.
    #[error(
        "no token with the jti {0} is recorded: a verifier accepts it until it expires, unless its \
         key pair is retired"
    )]
    NotRecorded(String),
    /// It is not a token of this site.
    #[error("the token is none of this site's: {0}")]
    Foreign(Refusal),
}

impl From<shared_models::DatabaseError> for TokenError {
    fn from(error: shared_models::DatabaseError) -> Self {
        Self::Jwt(error.into())
    }
}

impl From<diesel::result::Error> for TokenError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Jwt(error.into())
    }
}
