//! The commands, one file each.

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

use chrono::Utc;
use tasks::Mode;
use tasks::convert_keys::Form;

use crate::cli::{Command, QueueCommand};
use crate::failure::Failure;
use crate::queue;
use crate::report::Report;
use crate::session::Session;

/// Does what the command line asks for.
pub(crate) fn run(session: &Session, command: &Command) -> Result<Report, Failure> {
    let now = Utc::now();
    match command {
        Command::Init(arguments) => init::run(session, arguments, now),
        Command::Cleanup(arguments) => cleanup::run(session, arguments, now),
        Command::Rotate(arguments) => rotate::run(session, arguments, now),
        Command::Health(via) => health::run(session, via, now),
        Command::Status => status::run(session, now),
        Command::CreateKeypair(arguments) => create_keypair::run(session, arguments, now),
        Command::CreateScopes(arguments) => create_scopes::run(session, arguments, now),
        Command::CleanupKeypairs(arguments) => cleanup_keypairs::run(session, arguments, now),
        Command::Migrate(arguments) => migrate::run(session, arguments),
        Command::Check => check::run(session),
        Command::Jwks(arguments) => jwks::run(session, arguments, now),
        Command::EncryptKeys(dry_run) => convert_keys::run(session, Form::Encrypted, dry_run, now),
        Command::DecryptKeys(dry_run) => convert_keys::run(session, Form::Plain, dry_run, now),
        Command::Queue(QueueCommand::Status(arguments)) => queue::status::run(session, arguments),
        Command::Queue(QueueCommand::Dead(command)) => queue::dead::run(session, command),
    }
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Apply }
}

fn would(dry_run: bool, done: &'static str, would_be_done: &'static str) -> &'static str {
    if dry_run { would_be_done } else { done }
}
