//! Makes the scopes that every site has.

use celery::task::TaskResult;
use celery_task::TaskContext;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared_models::{NewScope, Scope, TaskSuccess};

use crate::shell::{self, task_name};
use crate::{JwtAuth, JwtError, Mode, is_false, isoformat};

/// The scopes that every site has, with their descriptions.
pub const DEFAULT_SCOPES: [(&str, &str); 4] = [
    ("base", "Basic access to authenticated endpoints"),
    ("image_upload", "Permission to upload images and media files"),
    ("event_management", "Permission to create and manage events"),
    ("admin", "Full administrative access"),
];

/// Makes the default scopes that are missing.
#[celery::task(name = "jwt_auth.tasks.initialize_jwt_scopes")]
pub(crate) fn initialize_jwt_scopes() -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let jwt = context.state::<JwtAuth>();
    let report = initialize(&jwt, context.now(), Mode::Apply);
    shell::answer(&context, &jwt, "initialization_time", report)
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopesReport {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The names of the new ones.
    pub created_scopes: Vec<String>,
    /// How many are active now.
    pub total_active_scopes: usize,
    /// When.
    pub initialization_time: String,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// Makes the default scopes that are missing. One that exists is never changed, not even where it
/// is inactive: that is a decision of the site's.
///
/// # Errors
///
/// Those of the database.
pub fn initialize(jwt: &JwtAuth, now: DateTime<Utc>, mode: Mode) -> Result<ScopesReport, JwtError> {
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    connection.exclusive_transaction(|connection| {
        let existing = Scope::all(connection)?;
        let missing: Vec<_> = DEFAULT_SCOPES
            .iter()
            .filter(|(name, _)| !existing.iter().any(|scope| scope.name == *name))
            .collect();
        if mode == Mode::Apply {
            for (name, description) in &missing {
                NewScope::active(&layout, name, description, now.into()).insert(connection)?;
                log::info!("scope {name} created");
            }
            TaskSuccess::record(connection, task_name::SCOPES, now.into())?;
        }
        let active = existing.iter().filter(|scope| scope.is_active).count();
        Ok(ScopesReport {
            success: true,
            total_active_scopes: active + missing.len(),
            created_scopes: missing.iter().map(|(name, _)| (*name).to_owned()).collect(),
            initialization_time: isoformat(now),
            dry_run: mode.is_dry_run(),
        })
    })
}
