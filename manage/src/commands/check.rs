//! `check`: compares the tables with what is needed.

use serde::Serialize;
use shared_models::{IdKind, Layout};

use crate::failure::Failure;
use crate::report::{Report, good, warning};
use crate::session::Session;

#[derive(Serialize)]
struct Outcome {
    success: bool,
    key_pair_ids: &'static str,
    scope_ids: &'static str,
    /// Whether the tables remember what the site's own code may not need.
    key_pair_name: bool,
    token_revoked_at: bool,
    token_created: Option<&'static str>,
    /// Whether the cleanup finds expired tokens through an index.
    token_expiry_index: bool,
    pending_migrations: Vec<&'static str>,
}

pub(crate) fn run(session: &Session) -> Result<Report, Failure> {
    let database = session.database()?;
    let layout = database.check()?;
    let pending = database.pending_migrations()?;
    let outcome = Outcome {
        success: true,
        key_pair_ids: word(layout.key_pair_ids),
        scope_ids: word(layout.scope_ids),
        key_pair_name: layout.key_pair_name,
        token_revoked_at: layout.token_revoked_at,
        token_created: layout.token_created,
        token_expiry_index: layout.token_expiry_index,
        pending_migrations: pending.iter().map(|step| step.version).collect(),
    };
    let lines = lines(&layout, &outcome);
    Report::of(&outcome, lines)
}

fn lines(layout: &Layout, outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![
        good("The tables are what is needed."),
        format!(
            "Primary keys: {} (key pairs), {} (scopes)",
            outcome.key_pair_ids, outcome.scope_ids
        ),
    ];
    for (column, there) in [
        ("jwt_auth_jwtkeypair.name", layout.key_pair_name),
        ("jwt_auth_jwttoken.revoked_at", layout.token_revoked_at),
    ] {
        if !there {
            lines.push(format!("Column {column} is not there; the work goes on without it."));
        }
    }
    if !layout.token_expiry_index {
        lines.push(warning(
            "No index helps the cleanup of many tokens: `jwt_manage migrate --cleanup-indexes` \
             adds one.",
        ));
    }
    if !outcome.pending_migrations.is_empty() {
        lines.push(format!(
            "Not yet noted as done: {} (`jwt_manage migrate`)",
            outcome.pending_migrations.join(", ")
        ));
    }
    lines
}

fn word(kind: IdKind) -> &'static str {
    match kind {
        IdKind::Integer => "integer",
        IdKind::Uuid => "uuid",
    }
}
