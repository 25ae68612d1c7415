//! The operator's tool for a site's JWT authentication.
//!
//! `main` → [`commands`] (directly on the database, through the functions of `tasks`, or through
//! a worker, [`queued`]) → [`report`] (for people and for programs). What goes wrong is a
//! [`failure`], with an exit status of its own kind.

mod beat;
mod cli;
mod commands;
mod failure;
mod queue;
mod queued;
mod report;
mod session;

use std::process::ExitCode;

use clap::Parser;
use settings::{Env, logging};

use cli::Arguments;
use failure::{Failure, exit};
use report::{Output, Report};
use session::Session;

/// What these log about an outage, the error says already.
const LOG_FILTERS: &str = "warn,celery_redis=off,r2d2=off";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let asked_for = !message.use_stderr();
            let written = message.print().is_ok();
            return ExitCode::from(if asked_for && written { 0 } else { exit::USAGE });
        }
    };
    match &arguments.loglevel {
        Some(level) => logging::init(Some(level)),
        None => logging::init_with(LOG_FILTERS),
    }
    let output = if arguments.json { Output::Json } else { Output::Text };
    tasks::jwt::forbid_core_dumps();
    let outcome = run(&arguments, output).and_then(|report| {
        report.write(output)?;
        Ok(report.exit)
    });
    ExitCode::from(outcome.unwrap_or_else(|failure| {
        failure.complain();
        failure.exit()
    }))
}

fn run(arguments: &Arguments, output: Output) -> Result<Report, Failure> {
    let session = Session::new(Env::load(arguments.settings.as_deref())?);
    commands::run(&session, &arguments.command, output)
}
