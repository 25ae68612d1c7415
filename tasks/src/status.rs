//! What `jwt_manage status` shows.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared_models::{Counts, Scope};

use crate::jwt::{Algorithm, KeyRing, VerificationKey};
use crate::{JwtAuth, JwtError, isoformat};

/// Key pairs, scopes and tokens at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// When.
    pub timestamp: String,
    /// Those that may sign, the newest first; the first one does.
    pub active_keypairs: Vec<ActiveKeyPair>,
    /// The number of the others.
    pub inactive_keypairs_count: usize,
    /// Those that tokens may carry.
    pub active_scopes: Vec<ActiveScope>,
    /// The tokens.
    pub tokens: TokenTotals,
}

/// A key pair that may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveKeyPair {
    /// Its primary key.
    pub id: String,
    /// Its `kid`.
    pub kid: String,
    /// Its algorithm; none where its public key cannot be read.
    pub algorithm: Option<Algorithm>,
    /// When it was made.
    pub created_at: String,
    /// How old it is.
    pub age_days: i64,
    /// Whether sites sign with it now.
    pub signs: bool,
}

/// A scope that tokens may carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveScope {
    /// Its name.
    pub name: String,
    /// What it permits.
    pub description: String,
}

/// Counts of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenTotals {
    /// All.
    pub total: i64,
    /// Neither expired nor revoked.
    pub active: i64,
}

/// Looks, and changes nothing.
///
/// # Errors
///
/// Those of the database.
pub fn status(jwt: &JwtAuth, now: DateTime<Utc>) -> Result<Status, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let ring = KeyRing::load(connection, &layout)?;
    let past = (now - TimeDelta::days(1)).into();
    let counts = Counts::load(connection, &layout, now.into(), past, past, past)?;
    let active_keypairs: Vec<ActiveKeyPair> = ring
        .active()
        .enumerate()
        .map(|(place, record)| ActiveKeyPair {
            id: record.id(),
            kid: record.kid.clone(),
            algorithm: VerificationKey::from_pem(&record.pair.public_key_pem)
                .ok()
                .map(|key| key.algorithm()),
            created_at: isoformat(record.created_at()),
            age_days: (now - record.created_at()).num_days(),
            signs: place == 0,
        })
        .collect();
    let active_scopes = Scope::all(connection)?
        .into_iter()
        .filter(|scope| scope.is_active)
        .map(|scope| ActiveScope { name: scope.name, description: scope.description })
        .collect();
    Ok(Status {
        timestamp: isoformat(now),
        inactive_keypairs_count: ring.records.len() - active_keypairs.len(),
        active_keypairs,
        active_scopes,
        tokens: TokenTotals { total: counts.total, active: counts.active },
    })
}
