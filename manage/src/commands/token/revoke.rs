//! `token revoke`: has a token refused from now on.

use chrono::{DateTime, Utc};
use settings::ExposeSecret;
use tasks::Caller;
use tasks::token::{Revocation, Target, revoke};

use super::input;
use crate::cli::TokenRevoke;
use crate::commands::{mode, would};
use crate::failure::Failure;
use crate::report::{Report, good};
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    arguments: &TokenRevoke,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let token = match &arguments.jti {
        Some(_) => None,
        None => Some(input::read(&arguments.token)?),
    };
    let target = match (&arguments.jti, &token) {
        (Some(jti), _) => Target::Jti(jti),
        (None, Some(token)) => Target::Token(token.expose_secret()),
        (None, None) => return Err(Failure::NoToken),
    };
    let operator = session.operator()?;
    let mode = mode(arguments.dry_run.dry_run);
    let caller = Caller::Operator(&operator);
    let done = revoke(&session.jwt()?, now, target, &arguments.reason, caller, mode)?;
    let line = line(&done);
    Report::of(&done, vec![line])
}

fn line(done: &Revocation) -> String {
    let Revocation { token, .. } = done;
    let user = token.user.as_ref().map(|user| format!(" of user {user}")).unwrap_or_default();
    let expired = if done.expired { "; it has expired anyway" } else { "" };
    if done.revoked {
        let revoked = would(done.dry_run, "Revoked", "Would revoke");
        return good(format!("{revoked} token {}{user}", token.jti)) + expired;
    }
    let since = token.revoked_at.as_ref().map(|at| format!(" since {at}")).unwrap_or_default();
    format!("Token {}{user} is revoked already{since}{expired}", token.jti)
}
