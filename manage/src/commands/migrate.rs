//! `migrate`: makes the tables that are missing.

use serde::Serialize;
use shared_models::MigrationOutcome;

use crate::cli::Migrate;
use crate::failure::Failure;
use crate::report::{Report, good};
use crate::session::Session;

#[derive(Serialize)]
struct Outcome {
    dry_run: bool,
    migrations: Vec<Step>,
    cleanup_indexes: bool,
}

#[derive(Serialize)]
struct Step {
    version: &'static str,
    table: &'static str,
    /// The table was there already, and stays as it is.
    found: bool,
}

pub(crate) fn run(session: &Session, arguments: &Migrate) -> Result<Report, Failure> {
    let database = session.database()?;
    let dry_run = arguments.dry_run.dry_run;
    let outcomes = if dry_run { database.pending_migrations() } else { database.migrate() }?;
    if arguments.cleanup_indexes && !dry_run {
        database.create_cleanup_indexes()?;
    }
    let mut lines: Vec<String> = outcomes.iter().map(|outcome| line(outcome, dry_run)).collect();
    if outcomes.is_empty() {
        lines.push(good("Every migration has been applied."));
    }
    if arguments.cleanup_indexes {
        let verb = if dry_run { "would make" } else { "made" };
        lines.push(format!("{verb} the indexes for the cleanup, where they were missing"));
    }
    let migrations = outcomes
        .into_iter()
        .map(|MigrationOutcome { version, table, found }| Step { version, table, found })
        .collect();
    let outcome = Outcome { dry_run, migrations, cleanup_indexes: arguments.cleanup_indexes };
    Report::of(&outcome, lines)
}

fn line(outcome: &MigrationOutcome, dry_run: bool) -> String {
    let MigrationOutcome { version, table, found } = outcome;
    match (found, dry_run) {
        (true, _) => format!("{version}: table {table} is there and stays as it is"),
        (false, true) => format!("{version}: would make table {table}"),
        (false, false) => good(format!("{version}: made table {table}")),
    }
}
