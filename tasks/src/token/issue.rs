//! Signs a token and records it.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared_models::{AnyConnection, DatabaseError, Layout, NewIssuedToken, RowId, Scope, UserId};
use uuid::Uuid;

use super::TokenError;
use crate::audit::{Action, Trail};
use crate::jwt::{Algorithm, KeyRing, SigningKey, VerificationKey};
use crate::{Caller, JwtAuth, JwtError, Mode, is_false, isoformat};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The key of the user, as Python's `str(user.pk)`.
    pub user: &'a str,
    /// What the token is to permit.
    pub scopes: &'a [String],
    /// How long it is to live; none: `JWT_DEFAULT_EXPIRY_HOURS`.
    pub life: Option<TimeDelta>,
    /// What it is for.
    pub purpose: &'a str,
}

/// A token that was signed and recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Issued {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The token; none where nothing was done.
    #[serde(serialize_with = "shown")]
    pub token: Option<SecretString>,
    /// Its `jti`; none where nothing was done.
    pub jti: Option<String>,
    /// The key pair that signed it.
    pub kid: String,
    /// How.
    pub algorithm: Algorithm,
    /// Whose it is.
    pub user: String,
    /// What it permits.
    pub scopes: Vec<String>,
    /// When it was signed.
    pub issued_at: String,
    /// From then on nobody accepts it.
    pub expires_at: String,
    /// Whether nothing was done.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Whoever asks for the report asked for the token.
fn shown<S: serde::Serializer>(
    token: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    token.as_ref().map(|token| token.expose_secret().to_owned()).serialize(serializer)
}

/// Signs a token with the newest active key pair, as the site's Python does, and records it.
///
/// # Errors
///
/// [`TokenError::Scopes`], [`TokenError::Life`], [`TokenError::UserId`], [`TokenError::NoUser`],
/// [`TokenError::NoSigningKey`]; where the private key cannot be used; those of the database.
pub fn issue(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    order: Order<'_>,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<Issued, TokenError> {
    let life = order.life.unwrap_or(jwt.settings.default_token_life);
    if life <= TimeDelta::zero() || life > jwt.settings.max_token_life {
        let asked = life.num_seconds() as f64 / 3600.0;
        let most = jwt.settings.max_token_life.num_hours();
        return Err(TokenError::Life { asked: asked.to_string(), most });
    }
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let user = UserId::parse(&layout, order.user)?
        .ok_or_else(|| TokenError::UserId(order.user.to_owned()))?;
    let issued_at = now.trunc_subsecs(0);
    let work = Work { jwt, layout, order, user: &user, issued_at, expires_at: issued_at + life };
    let mut trail = Trail::new(caller, now);
    // Between the choice of the key pair and the row none may be retired.
    let issued = connection
        .exclusive_transaction(|connection| work.done(connection, &mut trail, mode))
        .map_err(|error| if is_foreign_key(&error) { no_user(&user) } else { error })?;
    trail.log();
    Ok(issued)
}

struct Work<'a> {
    jwt: &'a JwtAuth,
    layout: Layout,
    order: Order<'a>,
    user: &'a UserId,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Work<'_> {
    fn done(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
        mode: Mode,
    ) -> Result<Issued, TokenError> {
        let (scope_ids, scopes) = granted(connection, self.order.scopes)?;
        let ring = KeyRing::load(connection, &self.layout)?;
        let signing = ring.signing().ok_or(TokenError::NoSigningKey)?;
        let pem = signing.pair.private_key_pem(connection)?;
        let password = self.jwt.settings.private_key_password.as_ref();
        let unusable = |source| JwtError::KeyPair { kid: signing.kid.clone(), source };
        let key = SigningKey::from_pem(pem.expose_secret(), password).map_err(unusable)?;
        let public = VerificationKey::from_pem(&signing.pair.public_key_pem).map_err(unusable)?;
        key.prove(&public).map_err(unusable)?;

        let mut issued = Issued {
            success: true,
            token: None,
            jti: None,
            kid: signing.kid.clone(),
            algorithm: key.algorithm(),
            user: self.user.to_string(),
            scopes,
            issued_at: isoformat(self.issued_at),
            expires_at: isoformat(self.expires_at),
            dry_run: mode.is_dry_run(),
        };
        if mode.is_dry_run() {
            return Ok(issued);
        }
        let jti = Uuid::new_v4().hyphenated().to_string();
        let claims = self.claims(&jti, &issued.scopes);
        let token = key.sign(&signing.kid, &claims).map_err(unusable)?;
        NewIssuedToken {
            jti: &jti,
            user: self.user,
            key_pair: signing.pair.id,
            scopes: &scope_ids,
            issued_at: self.issued_at.into(),
            expires_at: self.expires_at.into(),
            purpose: self.order.purpose,
        }
        .insert(connection, &self.layout)?;
        let reason = format!(
            "{jti} for user {}, scopes: {}, until {}",
            self.user,
            if issued.scopes.is_empty() { "none".to_owned() } else { issued.scopes.join(", ") },
            issued.expires_at
        );
        trail.add(connection, Action::TokenIssued, &signing.id(), &signing.kid, &reason);
        issued.token = Some(SecretString::from(token));
        issued.jti = Some(jti);
        Ok(issued)
    }

    /// Those that the site's Python puts into a token.
    fn claims(&self, jti: &str, scopes: &[String]) -> Map<String, Value> {
        let mut claims = Map::new();
        claims.insert("jti".to_owned(), json!(jti));
        claims.insert("sub".to_owned(), json!(self.user.to_string()));
        claims.insert("iat".to_owned(), json!(self.issued_at.timestamp()));
        claims.insert("exp".to_owned(), json!(self.expires_at.timestamp()));
        claims.insert("scopes".to_owned(), json!(scopes));
        let JwtAuth { settings, .. } = self.jwt;
        for (name, value) in [("iss", &settings.issuer), ("aud", &settings.audience)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), json!(value));
            }
        }
        claims
    }
}

/// The scopes by name, each once, in order; an error names those that cannot be granted.
fn granted(
    connection: &mut AnyConnection,
    wanted: &[String],
) -> Result<(Vec<RowId>, Vec<String>), TokenError> {
    let mut names = wanted.to_vec();
    names.sort();
    names.dedup();
    let active: Vec<Scope> = Scope::all(connection)?;
    let find = |name: &String| active.iter().find(|one| one.is_active && one.name == *name);
    let missing: Vec<String> = names.iter().filter(|name| find(name).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Err(TokenError::Scopes(missing));
    }
    Ok((names.iter().filter_map(find).map(|scope| scope.id).collect(), names))
}

fn no_user(user: &UserId) -> TokenError {
    TokenError::NoUser(user.to_string())
}

/// Key pair and scopes were read in the same transaction: what is missing is the user.
fn is_foreign_key(error: &TokenError) -> bool {
    let TokenError::Jwt(JwtError::Database(DatabaseError::Query(error))) = error else {
        return false;
    };
    matches!(error, QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _))
}
