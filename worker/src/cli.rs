//! The command line that every binary built on this library has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use celery_redis::transport::connection::Connection;
use celery_redis::transport::inspect;
use celery_redis::transport::keys::Keys;
use celery_task::Registry;
use clap::Parser;
use log::LevelFilter;
use settings::{Env, logging};
use tokio::runtime::Builder;

use crate::begin_anew::begin_anew;
use crate::config::WorkerConfig;
use crate::control::Mingle;
use crate::events::TaskEvents;
use crate::shutdown::{Shutdown, follow_signals};
use crate::slots::{self, Autoscale};
use crate::state::{Patience, WorkerState};
use crate::stuck::Finish;
use crate::watchdog::Watchdog;
use crate::worker::{self, Worker};

/// Exit status for settings or a Redis that cannot work, and of a check that finds no worker.
const CANNOT_START: u8 = 1;
/// Runs that one line of the log names.
const NAMED: usize = 5;

/// Takes tasks from Celery's queues in Redis and runs them.
///
/// The broker is CELERY_BROKER_URL, results go to CELERY_RESULT_BACKEND or else to the broker.
/// TERM or INT once: finish what runs; twice, or QUIT: put it back and end.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Queues to consume, separated by commas; served in this order within each priority
    #[arg(
        short = 'Q',
        long,
        value_name = "QUEUES",
        value_delimiter = ',',
        default_value = "celery"
    )]
    queues: Vec<String>,
    /// Tasks that run at the same time [default: number of processors]
    #[arg(short, long, value_name = "SLOTS", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Let the number of slots follow what is needed, between MIN and MAX; instead of -c
    #[arg(long, value_name = "MAX,MIN", value_parser = autoscale, conflicts_with = "concurrency")]
    autoscale: Option<Autoscale>,
    /// Node name; %h is the host's name
    #[arg(short = 'n', long, value_name = "NODE", default_value = "celery@%h")]
    hostname: String,
    /// Tell of each task's life from the start, without waiting to be asked to
    #[arg(short = 'E', long)]
    task_events: bool,
    /// Do not ask the other workers at the start what was revoked
    #[arg(long)]
    without_mingle: bool,
    /// Tell monitors nothing of the worker's own life
    #[arg(long, conflicts_with = "heartbeat_interval")]
    without_heartbeat: bool,
    /// Seconds between two heartbeats [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    heartbeat_interval: Option<u64>,
    /// Tell by the exit status whether the worker of this node name is alive, and end
    #[arg(long)]
    check: bool,
    /// Level of the log: error, warn, info, debug or trace; RUST_LOG comes first
    #[arg(short, long, value_name = "LEVEL", value_parser = logging::parse_level)]
    loglevel: Option<LevelFilter>,
    /// Settings file (TOML, the same names as in the environment, which comes first)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

/// Parses the command line, reads the settings and works until the shutdown is over.
///
/// `register` fills the registry; what it returns as an error ends the program before anything
/// is fetched.
pub fn main<E: std::error::Error>(
    register: impl FnOnce(&Env, &WorkerConfig, &mut Registry) -> Result<(), E>,
) -> ExitCode {
    let options = Options::parse();
    let level = options.loglevel.unwrap_or(LevelFilter::Info);
    // rusty-celery tells how it sets itself up, which is of no use here.
    logging::init_with(&format!("{level},celery::broker=warn,celery::app=warn"));
    let outcome = if options.check { check(&options) } else { start(&options, register) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            log::error!("{message}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn start<E: std::error::Error>(
    options: &Options,
    register: impl FnOnce(&Env, &WorkerConfig, &mut Registry) -> Result<(), E>,
) -> Result<(), String> {
    let env = Env::load(options.settings.as_deref()).map_err(|error| chain(&error))?;
    let queues = options.queues()?;
    let mut config =
        WorkerConfig::from_env(&env, node_name(&options.hostname), queues, options.slots())
            .map_err(|error| chain(&error))?;
    config.autoscale = options.autoscale;
    if options.task_events {
        config.task_events = TaskEvents::Always;
    }
    if options.without_mingle {
        config.mingle = Mingle::Never;
    }
    if let Some(seconds) = options.heartbeat_interval {
        config.heartbeat = Some(Duration::from_secs(seconds));
    }
    if options.without_heartbeat {
        config.heartbeat = None;
    }
    let lease = config.lease;
    // Celery's own measure of what is too long for a task without a limit.
    let longest = config.broker.visibility_timeout.max(lease * 2);
    let mut registry = Registry::new();
    register(&env, &config, &mut registry).map_err(|error| chain(&error))?;
    registry.register_builtins();
    let worker = Worker::new(config, registry).map_err(|error| chain(&error))?;
    let state = worker.state();
    let is_over = move |silent| is_over(&state, silent, longest);
    let watchdog = Watchdog::start(lease * 2, is_over, give_up).map_err(|error| chain(&error))?;
    // One thread does all that a message needs but its task: so nobody is woken up on its way. It
    // is of the kind that lets a task which runs on it block in place.
    let line = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("line")
        .enable_all()
        .build()
        .map_err(|error| chain(&error))?;
    let tasks = worker.task_threads();
    line.spawn(async move { watchdog.show_life(&tasks).await });
    let result = line.block_on(async {
        let (stage, shutdown) = Shutdown::channel();
        tokio::select! {
            finish = tokio::spawn(worker.run(shutdown)) => match finish {
                Ok(finish) => finish.map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            },
            Err(error) = follow_signals(stage) => Err(chain(&error)),
        }
    });
    // A task that keeps the line's thread may still do so; nobody waits for it.
    line.shutdown_background();
    match result? {
        Finish::Asked => Ok(()),
        Finish::BeginAnew => Err(begin_anew()),
    }
}

/// Whether a process whose runtime has stopped for so long is to begin anew.
fn is_over(state: &WorkerState, silent: Duration, longest: Duration) -> bool {
    let seconds = silent.as_secs_f64();
    match state.patience(silent, longest) {
        Patience::With(runs) => {
            log::warn!(
                "no other async task has had a turn for {seconds:.0} s: async tasks block all their threads, and should be blocking ones ({})",
                runs.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ")
            );
            false
        }
        Patience::Over => {
            log::error!("nothing has moved here for {seconds:.0} s, and nothing says that it will");
            true
        }
    }
}

/// Ends a process whose runtime has stopped; its messages come back when its lease has run out.
fn give_up() {
    log::error!("{}", begin_anew());
    std::process::exit(CANNOT_START.into());
}

/// Whether a process of this node name has a lease.
fn check(options: &Options) -> Result<(), String> {
    let env = Env::load(options.settings.as_deref()).map_err(|error| chain(&error))?;
    let broker = settings::Broker::from_env(&env).map_err(|error| chain(&error))?;
    let connection =
        worker::connection_settings(&broker, &broker.url).map_err(|error| chain(&error))?;
    let node = node_name(&options.hostname);
    let keys = Keys::new(&broker.global_keyprefix);
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| chain(&error))?;
    let workers = runtime
        .block_on(inspect::workers(&Connection::new(connection), &keys))
        .map_err(|error| chain(&error))?;
    let is_ours = |worker: &inspect::WorkerStatus| {
        worker.alive && worker.description.as_ref().is_some_and(|it| it.node == node)
    };
    if workers.iter().any(is_ours) {
        return Ok(());
    }
    Err(format!("no worker of the name {node} is alive"))
}

impl Options {
    /// Each queue once.
    fn queues(&self) -> Result<Vec<String>, String> {
        let mut queues: Vec<String> = Vec::new();
        for queue in self.queues.iter().map(|queue| queue.trim()).filter(|queue| !queue.is_empty())
        {
            if !queues.iter().any(|known| known == queue) {
                queues.push(queue.to_owned());
            }
        }
        if queues.is_empty() {
            return Err("-Q names no queue; give at least one, such as -Q celery".to_owned());
        }
        Ok(queues)
    }

    fn slots(&self) -> usize {
        self.concurrency.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        )
    }
}

/// `MAX,MIN` or `MAX`, as Celery's option.
fn autoscale(text: &str) -> Result<Autoscale, String> {
    let (max, min) = text.split_once(',').unwrap_or((text, "1"));
    match (max.trim().parse(), min.trim().parse()) {
        (Ok(max), Ok(min)) if 1 <= min && min <= max && max <= slots::MOST => {
            Ok(Autoscale { max, min })
        }
        _ => {
            Err(format!("it must be MAX,MIN with 1 <= MIN <= MAX <= {}, such as 10,2", slots::MOST))
        }
    }
}

/// Celery's node names: a part without `@` gets the host, `%h` is the host.
fn node_name(name: &str) -> String {
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.replace("%h", &host);
    if name.contains('@') { name } else { format!("{name}@{host}") }
}

/// An error with its sources, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
