//! The commands that make a key pair by hand.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::initialize_jwt_scopes::{ScopesReport, initialize};
use crate::rotate_jwt_keypairs::{Older, Request, RotationReport, Trigger, rotate};
use crate::{Caller, JwtAuth, JwtError, Mode, is_false, isoformat};

/// What `create-keypair` made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreatedKeyPair {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The key of the new key pair; none where nothing was changed.
    pub keypair_id: Option<String>,
    /// Its `kid`.
    pub kid: Option<String>,
    /// How many are active now.
    pub active_keypairs_count: usize,
    /// When.
    pub creation_time: String,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Makes a key pair, which signs from now on. None is deactivated for it; a later rotation does
/// that where there are too many.
///
/// # Errors
///
/// As [`rotate`].
pub fn create(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<CreatedKeyPair, JwtError> {
    let request = Request { trigger: Trigger::Added, older: Older::Keep, caller };
    let report = rotate(jwt, now, request, mode)?;
    Ok(CreatedKeyPair {
        success: true,
        keypair_id: report.new_keypair_id,
        kid: report.new_kid,
        active_keypairs_count: report.active_keypairs_count,
        creation_time: isoformat(now),
        dry_run: mode.is_dry_run(),
    })
}

/// What `init` made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Initialized {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The scopes.
    pub scopes: ScopesReport,
    /// The key pair.
    pub keypair: RotationReport,
}

/// Makes what a new site needs: the default scopes, and a key pair where none is active.
///
/// # Errors
///
/// As [`initialize`] and [`rotate`].
pub fn init(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<Initialized, JwtError> {
    let request = Request { trigger: Trigger::IfNoneActive, older: Older::Keep, caller };
    let scopes = initialize(jwt, now, mode)?;
    Ok(Initialized { success: true, scopes, keypair: rotate(jwt, now, request, mode)? })
}
