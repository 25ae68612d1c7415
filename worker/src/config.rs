//! How one worker works.

use std::sync::Arc;
use std::time::Duration;

use celery_redis::transport::result_backend::ResultOptions;
use celery_redis::wire::accept::Accept;
use celery_redis::wire::compression::Compression;
use celery_redis::wire::routes::Routes;
use celery_redis::wire::serializer::Serializer;
use celery_redis::wire::signature::DEFAULT_QUEUE;
use celery_task::{AckPolicy, Rate, TaskOptions};
use settings::{ConfigError, Env};

use crate::annotations::Annotations;
use crate::control::{Mingle, RemoteControl};
use crate::events::{Sendings, TaskEvents};
use crate::heartbeat;
use crate::slots::Autoscale;

/// The settings of one worker process.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Where messages come from and results go to.
    pub broker: settings::Broker,
    /// Node name, `worker@host`.
    pub node: Arc<str>,
    /// Queues, served in this order within each priority.
    pub queues: Vec<String>,
    /// Tasks that run at the same time.
    pub concurrency: usize,
    /// How tasks are run that do not say otherwise.
    pub tasks: TaskOptions,
    /// What it says of single tasks, whatever they say themselves.
    pub annotations: Annotations,
    /// Whether tasks' rate limits count.
    pub rate_limits: RateLimits,
    /// Which message bodies are read.
    pub accept: Accept,
    /// How results are kept.
    pub results: ResultOptions,
    /// What a record says beside the result.
    pub result_detail: ResultDetail,
    /// Where the calls go that its tasks and their callbacks make.
    pub routes: Routes,
    /// How long this process may be silent before others take its messages.
    pub lease: Duration,
    /// How often a message is delivered to processes that die with it.
    pub max_deliveries: u32,
    /// Dead letters kept.
    pub dead_letters_kept: usize,
    /// Between how many slots it scales itself.
    pub autoscale: Option<Autoscale>,
    /// Which commands it obeys.
    pub remote_control: RemoteControl,
    /// Whether it asks the others what was revoked.
    pub mingle: Mingle,
    /// Time between two heartbeats; `None` for none, nor any other word of its own life.
    pub heartbeat: Option<Duration>,
    /// When it tells of its tasks.
    pub task_events: TaskEvents,
    /// Whether it tells of the calls that its tasks make.
    pub sendings: Sendings,
    /// So many slots lost to runs that cannot be stopped make the process begin anew; `None` for
    /// no number of them.
    pub stuck_slots: Option<usize>,
    /// Time for running tasks at a warm shutdown; `None` for as long as they take.
    pub shutdown_timeout: Option<Duration>,
}

/// What a stored record says (Celery's `result_extended`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultDetail {
    /// State, result and time.
    Plain,
    /// Also the task's name, arguments and stamps, the worker, the queue and the retries.
    WithCall,
}

/// Whether tasks' rate limits count (Celery's `worker_disable_rate_limits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimits {
    /// Each task begins no more often than its limits say.
    Enabled,
    /// No rate limit holds this process back, also none that is set while it runs.
    Disabled,
}

impl WorkerConfig {
    /// Reads what the environment or the settings file says; the command line says the rest.
    pub fn from_env(
        env: &Env,
        node: String,
        queues: Vec<String>,
        concurrency: usize,
    ) -> Result<Self, ConfigError> {
        let broker = settings::Broker::from_env(env)?;
        let count = |name, range, default: i64| {
            Ok::<_, ConfigError>(env.integer(name, range)?.unwrap_or(default))
        };
        Ok(Self {
            broker,
            node: node.into(),
            queues,
            concurrency,
            tasks: task_options(env)?,
            annotations: annotations(env)?,
            rate_limits: match env.boolean("CELERY_WORKER_DISABLE_RATE_LIMITS")? {
                Some(true) => RateLimits::Disabled,
                _ => RateLimits::Enabled,
            },
            accept: Accept {
                serializers: serializers(env)?,
                longest_body: usize::try_from(count(
                    "WORKER_LONGEST_BODY",
                    1024..=1 << 40,
                    1 << 25,
                )?)
                .unwrap_or(Accept::LONGEST_BODY),
            },
            results: ResultOptions {
                expires: env.seconds("CELERY_RESULT_EXPIRES", 0.0..=ONE_YEAR)?.unwrap_or(ONE_DAY),
                failure_expires: env.seconds("CELERY_RESULT_FAILURE_EXPIRES", 0.0..=ONE_YEAR)?,
                compression: compression(env)?,
            },
            result_detail: match env.boolean("CELERY_RESULT_EXTENDED")? {
                Some(true) => ResultDetail::WithCall,
                _ => ResultDetail::Plain,
            },
            routes: routes(env)?,
            lease: env
                .seconds("WORKER_LEASE_SECONDS", 1.0..=3600.0)?
                .unwrap_or(Duration::from_secs(10)),
            max_deliveries: u32::try_from(count("WORKER_MAX_DELIVERIES", 1..=1000, 3)?)
                .unwrap_or(3),
            dead_letters_kept: usize::try_from(count(
                "WORKER_DEAD_LETTERS_KEPT",
                1..=1_000_000,
                10_000,
            )?)
            .unwrap_or(10_000),
            autoscale: None,
            remote_control: remote_control(env)?,
            mingle: Mingle::AtStart,
            heartbeat: Some(heartbeat::INTERVAL),
            task_events: match env.boolean("CELERY_WORKER_SEND_TASK_EVENTS")? {
                Some(true) => TaskEvents::Always,
                _ => TaskEvents::OnRequest,
            },
            sendings: match env.boolean("CELERY_TASK_SEND_SENT_EVENT")? {
                Some(true) => Sendings::Told,
                _ => Sendings::Untold,
            },
            stuck_slots: match env.integer("WORKER_STUCK_SLOTS", 0..=65_535)? {
                Some(0) => None,
                Some(count) => usize::try_from(count).ok(),
                None => Some(concurrency.div_ceil(2)),
            },
            shutdown_timeout: env.seconds("WORKER_SHUTDOWN_SECONDS", 0.0..=86_400.0)?,
        })
    }
}

/// What the worker's settings say for every task, under Celery's names.
fn task_options(env: &Env) -> Result<TaskOptions, ConfigError> {
    const ACKS_ON_EITHER: &str = "CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT";
    let seconds = |name| {
        Ok::<_, ConfigError>(env.seconds(name, 0.0..=ONE_YEAR)?.map(|limit| limit.as_secs_f64()))
    };
    let either = env.boolean(ACKS_ON_EITHER)?;
    Ok(TaskOptions {
        acks: env
            .boolean("CELERY_TASK_ACKS_LATE")?
            .map(|late| if late { AckPolicy::Late } else { AckPolicy::Early }),
        acks_on_failure: env.boolean("CELERY_TASK_ACKS_ON_FAILURE")?.or(either),
        acks_on_timeout: env.boolean("CELERY_TASK_ACKS_ON_TIMEOUT")?.or(either),
        reject_on_worker_lost: env.boolean("CELERY_TASK_REJECT_ON_WORKER_LOST")?,
        retry_on_worker_lost: env.boolean("CELERY_TASK_RETRY_ON_WORKER_LOST")?,
        soft_time_limit: seconds("CELERY_TASK_SOFT_TIME_LIMIT")?,
        time_limit: seconds("CELERY_TASK_TIME_LIMIT")?,
        ignore_result: env.boolean("CELERY_TASK_IGNORE_RESULT")?,
        store_errors_even_if_ignored: env.boolean("CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED")?,
        track_started: env.boolean("CELERY_TASK_TRACK_STARTED")?,
        rate_limit: default_rate_limit(env)?,
        ..TaskOptions::default()
    })
}

fn annotations(env: &Env) -> Result<Annotations, ConfigError> {
    const NAME: &str = "CELERY_TASK_ANNOTATIONS";
    let Some(json) = env.text(NAME)? else { return Ok(Annotations::default()) };
    Annotations::parse(&json).map_err(|error| env.invalid(NAME, error.to_string()))
}

fn default_rate_limit(env: &Env) -> Result<Option<Rate>, ConfigError> {
    const NAME: &str = "CELERY_TASK_DEFAULT_RATE_LIMIT";
    let Some(text) = env.text(NAME)? else { return Ok(None) };
    Rate::parse(&text)
        .map_err(|_| env.invalid(NAME, "a number with /s, /m or /h, such as 100/m, or 0 for none"))
}

/// One of kombu's compressions, by its name or its MIME type.
fn compression(env: &Env) -> Result<Option<Compression>, ConfigError> {
    const NAME: &str = "CELERY_RESULT_COMPRESSION";
    let Some(text) = env.text(NAME)? else { return Ok(None) };
    let allowed = "gzip, zlib, bzip2, lzma, xz, zstd or brotli";
    Compression::from_name(&text).map(Some).ok_or_else(|| env.invalid(NAME, allowed))
}

/// Names of kombu's serialisers or their content types, separated by commas.
fn serializers(env: &Env) -> Result<Vec<Serializer>, ConfigError> {
    const NAME: &str = "CELERY_ACCEPT_CONTENT";
    let Some(text) = env.text(NAME)? else { return Ok(Accept::default().serializers) };
    text.split(',')
        .map(|name| {
            Serializer::from_name(name.trim()).ok_or_else(|| {
                env.invalid(NAME, "some of json, yaml, msgpack, pickle, with commas")
            })
        })
        .collect()
}

const ONE_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Seconds.
const ONE_YEAR: f64 = 31_536_000.0;

/// Celery's `task_default_queue` and `task_routes`.
fn routes(env: &Env) -> Result<Routes, ConfigError> {
    let default = env.text("CELERY_TASK_DEFAULT_QUEUE")?;
    let routes = Routes::to(default.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()));
    match env.text("CELERY_TASK_ROUTES")? {
        None => Ok(routes),
        Some(json) => {
            routes.with(&json).map_err(|error| env.invalid("CELERY_TASK_ROUTES", error.to_string()))
        }
    }
}

fn remote_control(env: &Env) -> Result<RemoteControl, ConfigError> {
    let listens = env.boolean("CELERY_WORKER_ENABLE_REMOTE_CONTROL")?.unwrap_or(true);
    let changes = env.boolean("WORKER_REMOTE_CONTROL_CHANGES")?.unwrap_or(true);
    Ok(match (listens, changes) {
        (false, _) => RemoteControl::Off,
        (true, false) => RemoteControl::Inspect,
        (true, true) => RemoteControl::Full,
    })
}
