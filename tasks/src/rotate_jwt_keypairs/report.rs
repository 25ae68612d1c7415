//! What callers of a rotation read.

use serde::Serialize;

use crate::is_false;

/// What a call for a rotation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationReport {
    /// Always true: a failure is an error.
    pub success: bool,
    /// `rotation_performed` or `rotation_not_needed`.
    pub action: &'static str,
    /// The key of the new key pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_keypair_id: Option<String>,
    /// How many are active now.
    pub active_keypairs_count: usize,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_time: Option<String>,
    /// When there was nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_time: Option<String>,
    /// Why.
    pub reason: String,
    /// The `kid` of the new key pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_kid: Option<String>,
    /// The key of a key pair that was published ahead of the next rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_keypair_id: Option<String>,
    /// The `kid`s of those that were deactivated.
    pub retired_keypairs: Vec<String>,
    /// The `kid`s of those whose private half is gone for good (`JWT_WIPE_RETIRED_KEYS`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wiped_keypairs: Vec<String>,
    /// Whether more are active than allowed, because tokens still need them.
    pub cap_exceeded: bool,
    /// How many tokens lost their key pair before they expired.
    pub orphaned_tokens: i64,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}
