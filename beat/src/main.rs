//! The command line of beat.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use beat::schedule::CrontabError;
use beat::{Beat, Chain, Check, Config, InvalidBroker, check, entry, list};
use celery_redis::transport::beat_state::BeatStateError;
use chrono::Utc;
use clap::Parser;
use settings::{ConfigError, Env, logging};
use tokio::signal::unix::{Signal, SignalKind, signal};

const EXIT_CODES: &str = "\
Exit status:
  0   done; with --check: beat is alive
  1   with --check: beat is not alive
  64  the command line is wrong
  69  the broker cannot be reached (--list and --check; beat itself waits for it)
  71  the system refused something beat needs
  78  a setting is wrong

Settings: CELERY_BROKER_URL, BROKER_GLOBAL_KEYPREFIX, BEAT_QUEUE, RUST_LOG.";

/// Sends the periodic tasks, each slot of their schedules once.
///
/// Several beats may run on one broker: one sends, the others take over when it is gone.
#[derive(Parser)]
#[command(name = "beat", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The queue to send to [default: BEAT_QUEUE, or celery]
    #[arg(short, long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The name of this beat [default: beat@<host>]
    #[arg(short, long, value_name = "NAME")]
    node: Option<String>,
    /// Show the entries with their last and next runs, and end
    #[arg(long, conflicts_with = "check")]
    list: bool,
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
    Crontab(#[from] CrontabError),
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
            Self::Config(_) | Self::Broker(_) | Self::Crontab(_) => 78,
            Self::State(_) => 69,
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
    let config = Config::from_env(&env, arguments.queue.clone(), arguments.node.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        if arguments.list {
            show(&config, arguments.json).await
        } else if arguments.check {
            tell_whether_alive(&config).await
        } else {
            send(config).await
        }
    })
}

async fn send(config: Config) -> Result<ExitCode, Failure> {
    let state = config.state()?;
    let entries = entry::built_in(&config.queue)?;
    let terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    Beat::new(state, entries, config.node).run(either(terminate, interrupt)).await;
    Ok(ExitCode::SUCCESS)
}

async fn either(mut one: Signal, mut other: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

async fn show(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let listing = list(&config.state()?, &entry::built_in(&config.queue)?, Utc::now()).await?;
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

async fn tell_whether_alive(config: &Config) -> Result<ExitCode, Failure> {
    let mut output = std::io::stdout().lock();
    let (text, code) = match check(&config.state()?, &config.node).await? {
        Check::Alive { since } => (format!("alive at {since}"), ExitCode::SUCCESS),
        Check::Silent => ("has not ticked for a minute".to_owned(), ExitCode::FAILURE),
    };
    writeln!(output, "{}: {text}", config.node).map_err(Failure::Output)?;
    Ok(code)
}
