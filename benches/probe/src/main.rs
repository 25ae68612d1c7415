//! What the benches need done fast and without a client library in the way: queues filled with
//! copies of one message, the commands that a task owes Redis with no worker behind them, and the
//! time from a message's LPUSH to its published result. Prints one JSON object.

mod ceiling;
mod fill;
mod load;
mod redis;
mod template;
mod trips;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::ceiling::Dues;
use crate::template::Template;

#[derive(Debug, Parser)]
struct Options {
    /// Port of Redis on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// The message that all others are copies of
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pushes copies of the message onto a list
    Fill {
        #[arg(long)]
        list: String,
        /// Number of the first copy
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[arg(long)]
        count: u64,
    },
    /// Takes all of a list and does for each message what it owes Redis, without a worker
    Ceiling {
        #[arg(long)]
        list: String,
        #[arg(long)]
        count: u64,
        #[arg(long, value_enum)]
        dues: Dues,
    },
    /// Sends one message at a time and waits for its published result
    Trips {
        #[arg(long)]
        list: String,
        /// Number of the first copy
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[arg(long)]
        count: u64,
    },
    /// The three commands of such a trip, from one client: LPUSH, RPOP, PUBLISH
    Bare {
        #[arg(long)]
        list: String,
        #[arg(long)]
        count: u64,
    },
    /// Sends at a steady rate and times a sample of the results
    Load {
        #[arg(long)]
        list: String,
        /// Messages per second
        #[arg(long)]
        rate: u64,
        #[arg(long)]
        seconds: u64,
    },
}

/// Why a figure could not be had.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("template {path}: {source}")]
    Template { path: PathBuf, source: template::TemplateError },
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("the thread that writes to Redis ended without an answer")]
    Writer,
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done where even this cannot be written.
            let _ = writeln!(io::stderr(), "bench-probe: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let template = Template::read(&options.template)
        .map_err(|source| Failure::Template { path: options.template.clone(), source })?;
    let figures = figures(options, &template)?;
    writeln!(io::stdout(), "{figures}")?;
    Ok(())
}

fn figures(options: &Options, template: &Template) -> Result<Value, Failure> {
    let port = options.port;
    match &options.command {
        Command::Fill { list, first, count } => fill::fill(port, template, list, *first, *count),
        Command::Ceiling { list, count, dues } => {
            ceiling::measure(port, template, list, *count, *dues)
        }
        Command::Trips { list, first, count } => {
            trips::through_worker(port, template, list, *first, *count)
        }
        Command::Bare { list, count } => trips::bare(port, template, list, *count),
        Command::Load { list, rate, seconds } => {
            load::measure(port, template, list, *rate, *seconds)
        }
    }
}
