//! The command line of beat.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use beat::source::{Follower, SourceError};
use beat::{
    Beat, Chain, Check, Config, InvalidBroker, Overrides, Scheduler, Sendings, Silent, check, list,
};
use celery_redis::transport::beat_state::BeatStateError;
use chrono::SecondsFormat;
use clap::Parser;
use settings::{ConfigError, Env, logging};
use tokio::signal::unix::{Signal, SignalKind, signal};

const EXIT_CODES: &str = "\
Exit status:
  0   done; with --check: beat is alive
  1   with --check: beat is not alive
  64  the command line is wrong
  69  the broker cannot be reached (beat itself waits for it for BEAT_MAX_SILENCE seconds)
  70  beat could not tick for BEAT_MAX_SILENCE seconds, and no outage is the reason
  71  the system refused something beat needs
  74  the database cannot be read (--list and --validate)
  78  a setting or an entry is wrong

Signals: HUP loads the entries again, TERM and INT end beat.

Settings: CELERY_BROKER_URL, BROKER_GLOBAL_KEYPREFIX, BEAT_QUEUE, BEAT_FILE, BEAT_SCHEDULER,
DATABASE_URL, BEAT_MAX_SILENCE, CELERY_TASK_SEND_SENT_EVENT, RUST_LOG.";

/// The loop notices by itself when it cannot tick; this is for a loop that does not go on at all.
const WATCHDOG_DELAY: Duration = Duration::from_secs(60);

/// Sends the periodic tasks, each slot of their schedules once.
///
/// Several beats may run on one broker: one sends, the others take over when it is gone.
#[derive(Parser)]
#[command(name = "beat", version, after_help = EXIT_CODES)]
struct Arguments {
    /// A TOML file of entries, over the five built-in ones [default: BEAT_FILE]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where entries are kept [default: BEAT_SCHEDULER, or file]
    #[arg(long, value_enum, conflicts_with = "file", value_name = "WHERE")]
    scheduler: Option<Scheduler>,
    /// The queue of entries that name none [default: BEAT_QUEUE, or celery]
    #[arg(short, long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The name of this beat [default: beat@<host>]
    #[arg(short, long, value_name = "NAME")]
    node: Option<String>,
    /// Show the entries with their last and next runs, and end
    #[arg(long, conflicts_with_all = ["check", "validate"])]
    list: bool,
    /// Read the entries, say what is wrong with them, and end; needs no broker
    #[arg(long, conflicts_with = "check")]
    validate: bool,
    /// With --list: as one JSON object
    #[arg(long, requires = "list")]
    json: bool,
    /// Tell by the exit status whether the beat of this name is alive, and end
    #[arg(long)]
    check: bool,
    /// A TOML file of settings; the environment comes first [default: SETTINGS_FILE]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What to log: error, warning, info, debug or trace
    #[arg(short = 'l', long, value_name = "LEVEL", value_parser = level)]
    loglevel: Option<String>,
}

fn level(name: &str) -> Result<String, String> {
    logging::parse_level(name).map(|_| name.to_owned())
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Broker(#[from] InvalidBroker),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Silent(#[from] Silent),
    #[error(transparent)]
    State(#[from] BeatStateError),
    #[error("the list cannot be written")]
    Output(#[source] std::io::Error),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("no threads can be started")]
    Runtime(#[source] std::io::Error),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Source(error) if error.is_outage() => 74,
            Self::Config(_) | Self::Broker(_) | Self::Source(_) => 78,
            Self::State(_) => 69,
            Self::Silent(silent) => {
                if silent.is_outage() {
                    69
                } else {
                    70
                }
            }
            Self::Output(_) | Self::Signals(_) | Self::Runtime(_) => 71,
        })
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let wrong = message.use_stderr();
            return match message.print() {
                Ok(()) if !wrong => ExitCode::SUCCESS,
                _ => ExitCode::from(64),
            };
        }
    };
    match &arguments.loglevel {
        // These do not wait for a broker, and say themselves that it is not there.
        None if arguments.list || arguments.check => logging::init_with("warn,celery_redis=off"),
        level => logging::init(level.as_deref()),
    }
    run(&arguments).unwrap_or_else(|failure| {
        log::error!("{}", Chain(&failure));
        failure.exit_code()
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let env = Env::load(arguments.settings.as_deref())?;
    let overrides = Overrides {
        queue: arguments.queue.clone(),
        file: arguments.file.clone(),
        scheduler: arguments.scheduler,
        node: arguments.node.clone(),
    };
    let config = Config::from_env(&env, overrides)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async {
        if arguments.list {
            show(&config, arguments.json).await
        } else if arguments.validate {
            validate(&config)
        } else if arguments.check {
            tell_whether_alive(&config).await
        } else {
            send(config).await
        }
    });
    // A database that does not answer must not keep beat from ending.
    runtime.shutdown_background();
    outcome
}

async fn send(config: Config) -> Result<ExitCode, Failure> {
    let state = config.state()?;
    let follower = Follower::start(config.source).await?;
    let signal = |kind| signal(kind).map_err(Failure::Signals);
    let hangup = signal(SignalKind::hangup())?;
    let (terminate, interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let beat =
        Beat::new(state, follower.entries(), follower.journal(), config.node, config.max_silence);
    let beat = match config.sendings {
        Sendings::Told => beat.telling_what_it_sends(),
        Sendings::Untold => beat,
    };
    let limit = config.max_silence + WATCHDOG_DELAY;
    beat.progress().watch(limit, stop_at_once).map_err(Failure::Runtime)?;
    tokio::select! {
        outcome = beat.run(either(terminate, interrupt)) => outcome?,
        () = follower.follow(hangup) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn stop_at_once(silence: Duration) {
    log::error!("the loop stands still for {} s; ending", silence.as_secs());
    std::process::exit(70);
}

async fn either(mut one: Signal, mut other: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

async fn show(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let state = config.state()?;
    let loaded = config.source.load()?;
    for sentence in &loaded.unusable {
        log::error!("{sentence}");
    }
    let listing = list(&state, &loaded.entries, state.now().await?).await?;
    let mut output = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut output, &listing)
            .map_err(|error| Failure::Output(error.into()))?;
        writeln!(output).map_err(Failure::Output)?;
    } else {
        writeln!(output, "{listing}").map_err(Failure::Output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(config: &Config) -> Result<ExitCode, Failure> {
    let loaded = config.source.load()?;
    let mut output = std::io::stdout().lock();
    let number = loaded.entries.len();
    writeln!(output, "{}: {number} entries", config.source).map_err(Failure::Output)?;
    for sentence in &loaded.unusable {
        writeln!(output, "{sentence}").map_err(Failure::Output)?;
    }
    Ok(if loaded.unusable.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(78) })
}

async fn tell_whether_alive(config: &Config) -> Result<ExitCode, Failure> {
    let mut output = std::io::stdout().lock();
    let (text, code) = match check(&config.state()?, &config.node).await? {
        Check::Alive(seen) => {
            let does = if seen.leads { "leads" } else { "ready, waits" };
            let at = seen.at.to_rfc3339_opts(SecondsFormat::Millis, true);
            (format!("alive at {at}, {does}, term {}", seen.term), ExitCode::SUCCESS)
        }
        Check::Silent => ("has not ticked for a minute".to_owned(), ExitCode::FAILURE),
    };
    writeln!(output, "{}: {text}", config.node).map_err(Failure::Output)?;
    Ok(code)
}
