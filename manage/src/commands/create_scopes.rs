//! `create-scopes`: creates the default scopes that are missing.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use tasks::initialize_jwt_scopes::initialize;

use super::{mode, would};
use crate::cli::Change;
use crate::failure::Failure;
use crate::queued::{Queue, read, task};
use crate::report::{Report, counted, good, json};
use crate::session::Session;

#[derive(Deserialize)]
struct Scopes {
    created_scopes: Vec<String>,
    total_active_scopes: u64,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) fn run(
    session: &Session,
    arguments: &Change,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let result = match Queue::named(session, &arguments.via) {
        Some(queue) => queue.run(task::SCOPES, &[])?,
        None => json(&initialize(&session.jwt()?, now, mode(arguments.dry_run))?)?,
    };
    let lines = vec![line(&result)?];
    Ok(Report::new(result, lines))
}

/// Created scopes in words.
pub(super) fn line(result: &Value) -> Result<String, Failure> {
    let done: Scopes = read(task::SCOPES, result)?;
    let active = format!("{} active", counted(done.total_active_scopes, "scope"));
    if done.created_scopes.is_empty() {
        return Ok(format!("No default scope is missing; {active}"));
    }
    let created = would(done.dry_run, "Created", "Would create");
    Ok(good(format!("{created} the scopes {}; {active}", done.created_scopes.join(", "))))
}
