//! `token`: single tokens, for support and for tests.

mod input;
mod inspect;
mod issue;
mod revoke;
mod verify;

use chrono::{DateTime, Utc};

use crate::cli::TokenCommand;
use crate::failure::Failure;
use crate::report::Report;
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    command: &TokenCommand,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    match command {
        TokenCommand::Issue(arguments) => issue::run(session, arguments, now),
        TokenCommand::Verify(arguments) => verify::run(session, arguments, now),
        TokenCommand::Inspect(arguments) => inspect::run(session, arguments, now),
        TokenCommand::Revoke(arguments) => revoke::run(session, arguments, now),
    }
}
