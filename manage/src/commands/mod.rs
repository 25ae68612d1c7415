//! The commands, one file each.

mod audit;
mod check;
mod cleanup;
mod cleanup_keypairs;
mod convert_keys;
mod create_keypair;
mod create_scopes;
mod health;
mod init;
mod jwks;
mod migrate;
mod rotate;
mod status;
mod token;

use chrono::Utc;
use tasks::Mode;
use tasks::convert_keys::Form;

use crate::beat;
use crate::cli::{Command, QueueCommand};
use crate::failure::Failure;
use crate::queue;
use crate::report::{Output, Report};
use crate::session::Session;

/// Does what the command line asks for.
pub(crate) fn run(session: &Session, command: &Command, output: Output) -> Result<Report, Failure> {
    let now = Utc::now();
    match command {
        Command::Init(arguments) => init::run(session, arguments, now),
        Command::Cleanup(arguments) => cleanup::run(session, arguments, now),
        Command::Rotate(arguments) => rotate::run(session, arguments, now),
        Command::Health(arguments) => health::run(session, arguments, output, now),
        Command::Status => status::run(session, now),
        Command::CreateKeypair(arguments) => create_keypair::run(session, arguments, now),
        Command::CreateScopes(arguments) => create_scopes::run(session, arguments, now),
        Command::CleanupKeypairs(arguments) => cleanup_keypairs::run(session, arguments, now),
        Command::Migrate(arguments) => migrate::run(session, arguments),
        Command::Check => check::run(session),
        Command::Jwks(arguments) => jwks::run(session, arguments, now),
        Command::EncryptKeys(dry_run) => convert_keys::run(session, Form::Encrypted, dry_run, now),
        Command::DecryptKeys(dry_run) => convert_keys::run(session, Form::Plain, dry_run, now),
        Command::Audit(arguments) => audit::run(session, arguments, now),
        Command::Token(command) => token::run(session, command, now),
        Command::Queue(QueueCommand::Status(arguments)) => queue::status::run(session, arguments),
        Command::Queue(QueueCommand::Dead(command)) => queue::dead::run(session, command),
        Command::Beat(command) => beat::run(session, command),
    }
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Apply }
}

fn would(dry_run: bool, done: &'static str, would_be_done: &'static str) -> &'static str {
    if dry_run { would_be_done } else { done }
}
