//! What an operator asks about beat, and changes while it runs.
//!
//! The entries are those that the beat that leads has made known in Redis, so that this says what
//! is sent, whatever is in the files of this machine.

mod import_redbeat;
mod next;
mod switch;
mod trigger;

use std::path::PathBuf;

use beat::entry::Entry;
use celery_redis::transport::beat_state::{BeatState, Ledger};
use celery_redis::transport::connection::Connection;
use chrono_tz::Tz;
use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::report::Report;
use crate::session::{Session, block_on};

#[derive(Debug, Subcommand)]
pub(crate) enum BeatCommand {
    /// Show the entries with their last and next runs, and the beats
    List,
    /// Show the runs that come next
    Next {
        /// How many
        #[arg(value_name = "NUMBER", default_value = "10",
              value_parser = clap::value_parser!(u16).range(1..=10_000))]
        number: u16,
    },
    /// Send entries again; what passed while they were off is not made up
    Enable(Entries),
    /// Send entries no longer, until they are enabled
    Disable(Entries),
    /// Let the slots of entries count from now on, for a last run that is in the future
    Reset(Entries),
    /// Send entries once, now; their schedules go on as they are
    Trigger(Entries),
    /// Send nothing at all until `resume`; what is missed is then caught up
    Pause,
    /// Send again
    Resume,
    /// Make a beat file of the entries that celery-redbeat keeps in Redis
    ImportRedbeat(ImportRedbeat),
}

#[derive(Debug, Args)]
pub(crate) struct Entries {
    /// Their names in the list
    #[arg(value_name = "ENTRY", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportRedbeat {
    /// Write this file, and let the entries go on from their last runs; without it, only show it
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// redbeat_key_prefix of the Celery app
    #[arg(long, value_name = "PREFIX", default_value = "redbeat:")]
    prefix: String,
    /// The timezone setting of the Celery app, in which redbeat's crontabs are meant
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: Tz,
}

pub(crate) fn run(session: &Session, command: &BeatCommand) -> Result<Report, Failure> {
    let (broker, settings) = session.broker()?;
    let state = BeatState::new(Connection::new(settings), &broker.global_keyprefix);
    block_on(async {
        match command {
            BeatCommand::List => list(&state).await,
            BeatCommand::Next { number } => next::run(&state, usize::from(*number)).await,
            BeatCommand::Enable(entries) => switch::enable(&state, &entries.names).await,
            BeatCommand::Disable(entries) => switch::disable(&state, &entries.names).await,
            BeatCommand::Reset(entries) => switch::reset(&state, &entries.names).await,
            BeatCommand::Trigger(entries) => trigger::run(session, &state, &entries.names).await,
            BeatCommand::Pause => switch::pause(&state, &session.operator()?).await,
            BeatCommand::Resume => switch::resume(&state).await,
            BeatCommand::ImportRedbeat(arguments) => import_redbeat::run(&state, arguments).await,
        }
    })
}

async fn list(state: &BeatState) -> Result<Report, Failure> {
    let listing = beat::list_known(state, state.now().await?).await?;
    let lines = listing.to_string().lines().map(ToOwned::to_owned).collect();
    Report::of(&listing, lines)
}

/// The entries of those names, or the first name that none has: then nothing is done to any.
fn chosen(ledger: &Ledger, names: &[String]) -> Result<Vec<Entry>, Failure> {
    let known = beat::known_entries(ledger);
    let chosen = |name: &String| {
        let entry = known.iter().find(|entry| entry.name == *name);
        entry.cloned().ok_or_else(|| Failure::NoBeatEntry { name: name.clone() })
    };
    names.iter().map(chosen).collect()
}
