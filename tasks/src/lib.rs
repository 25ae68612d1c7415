//! The five tasks that maintain a site's JWT authentication, and what its commands do.
//!
//! Each task is a shell around a plain function, which takes the time as an argument and is what
//! `jwt_manage` and the tests call.

// What the task macro generates.
#![allow(non_local_definitions, unused_braces)]

mod audit;
mod error;
mod isoformat;
mod settings;
mod shell;

pub mod cleanup_expired_tokens;
pub mod cleanup_inactive_keypairs;
pub mod convert_keys;
pub mod create_keypair;
pub mod generate_jwt_health_report;
pub mod initialize_jwt_scopes;
pub mod jwt;
pub mod rotate_jwt_keypairs;
pub mod status;
pub mod token;

pub use audit::Caller;
pub use error::JwtError;
pub use isoformat::isoformat;
pub use settings::{JwtSettings, RetiredPrivateKeys};
pub use shell::register;

use shared_models::Database;

/// What the tasks need: the state that the registry gives them.
#[derive(Debug, Clone)]
pub struct JwtAuth {
    /// The site's database.
    pub database: Database,
    /// The site's decisions.
    pub settings: JwtSettings,
}

/// Whether to do something, or to say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Apply,
    /// Change nothing; the report tells what would have changed, and says `dry_run`.
    DryRun,
}

impl Mode {
    fn is_dry_run(self) -> bool {
        self == Self::DryRun
    }
}

/// For `skip_serializing_if`: a report says `dry_run` only where it is one.
fn is_false(value: &bool) -> bool {
    !value
}
