//! `token issue`: signs a token for a user and records it.

use chrono::{DateTime, Utc};
use settings::ExposeSecret;
use tasks::Caller;
use tasks::token::{Issued, Order, issue};

use crate::cli::TokenIssue;
use crate::commands::mode;
use crate::failure::Failure;
use crate::report::{Report, good};
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    arguments: &TokenIssue,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let operator = session.operator()?;
    let order = Order {
        user: &arguments.user,
        scopes: &arguments.scopes,
        life: arguments.expires_in,
        purpose: &arguments.purpose,
    };
    let mode = mode(arguments.dry_run.dry_run);
    let issued = issue(&session.jwt()?, now, order, Caller::Operator(&operator), mode)?;
    let line = line(&issued);
    Report::of(&issued, vec![line])
}

/// The token alone, so that a shell can take it.
fn line(issued: &Issued) -> String {
    match &issued.token {
        Some(token) => token.expose_secret().to_owned(),
        None => good(format!(
            "Would sign a token for user {} with key pair {}, valid until {}",
            issued.user, issued.kid, issued.expires_at
        )),
    }
}
