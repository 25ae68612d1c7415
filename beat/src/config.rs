//! What beat is told from outside.

use std::path::PathBuf;
use std::time::Duration;

use celery_redis::transport::beat_state::BeatState;
use celery_redis::transport::connection::{
    Connection, ConnectionOptions, ConnectionSettings, UrlError,
};
use settings::{Broker, ConfigError, Env, ExposeSecret, database_url};
use shared_models::Database;

use crate::source::Source;

/// The queue where Celery looks without further settings.
const DEFAULT_QUEUE: &str = "celery";
/// Longer than a failover, shorter than an operator's patience.
const DEFAULT_MAX_SILENCE: Duration = Duration::from_secs(300);

/// The settings of beat.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the messages and the last runs are.
    pub broker: Broker,
    /// `BEAT_QUEUE`: the queue of the entries that name none. `BEAT_FILE`: a file of entries.
    /// `BEAT_SCHEDULER`: `file`, or `database` for django-celery-beat's tables in `DATABASE_URL`.
    pub source: Source,
    /// The name of this beat; with another one on the same machine, each needs its own.
    pub node: String,
    /// `CELERY_TASK_SEND_SENT_EVENT`: whether monitors are told of each message that is sent.
    pub sendings: Sendings,
    /// `BEAT_MAX_SILENCE`, in seconds: a beat that could not tick for so long ends.
    pub max_silence: Duration,
}

/// Whether what is sent is told of (Celery's `task_send_sent_event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sendings {
    /// Each message.
    Told,
    /// None.
    Untold,
}

/// What the command line says; it comes before the settings.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// In place of `BEAT_QUEUE`.
    pub queue: Option<String>,
    /// In place of `BEAT_FILE`.
    pub file: Option<PathBuf>,
    /// In place of `BEAT_SCHEDULER`.
    pub scheduler: Option<Scheduler>,
    /// In place of `beat@` and the host's name.
    pub node: Option<String>,
}

/// Where entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scheduler {
    /// In beat itself, and in a file
    File,
    /// In django-celery-beat's tables
    Database,
}

/// `CELERY_BROKER_URL` does not lead to a Redis.
#[derive(Debug, thiserror::Error)]
#[error("CELERY_BROKER_URL is not valid")]
pub struct InvalidBroker(#[from] UrlError);

impl Config {
    /// Reads the settings; what the command line says comes first.
    ///
    /// # Errors
    ///
    /// Where one of the values is not valid.
    pub fn from_env(env: &Env, overrides: Overrides) -> Result<Self, ConfigError> {
        let queue = match overrides.queue {
            Some(queue) => Some(queue),
            None => env.text("BEAT_QUEUE")?,
        };
        let queue = queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned());
        let file = match overrides.file {
            Some(file) => Some(file),
            None => env.text("BEAT_FILE")?.map(PathBuf::from),
        };
        let words = [("file", Scheduler::File), ("database", Scheduler::Database)];
        let scheduler = match overrides.scheduler {
            Some(scheduler) => Some(scheduler),
            None => env.one_of("BEAT_SCHEDULER", &words)?,
        };
        Ok(Self {
            broker: Broker::from_env(env)?,
            source: match (scheduler.unwrap_or(Scheduler::File), file) {
                (Scheduler::File, Some(path)) => Source::File { path, queue },
                (Scheduler::File, None) => Source::BuiltIn { queue },
                (Scheduler::Database, None) => Source::Database { database: database(env)?, queue },
                (Scheduler::Database, Some(_)) => {
                    let allowed = "empty: the scheduler is database";
                    return Err(env.invalid("BEAT_FILE", allowed));
                }
            },
            node: overrides.node.unwrap_or_else(default_node),
            sendings: match env.boolean("CELERY_TASK_SEND_SENT_EVENT")? {
                Some(true) => Sendings::Told,
                _ => Sendings::Untold,
            },
            max_silence: env
                .seconds("BEAT_MAX_SILENCE", 10.0..=86_400.0)?
                .unwrap_or(DEFAULT_MAX_SILENCE),
        })
    }

    /// The state of the beats on this broker. Connects when it is first used.
    ///
    /// # Errors
    ///
    /// Where the broker's URL is of no kind that is known.
    pub fn state(&self) -> Result<BeatState, InvalidBroker> {
        let options = ConnectionOptions {
            connect_timeout: self.broker.connect_timeout,
            command_timeout: self.broker.command_timeout,
            sentinel_master: self.broker.sentinel_master.clone(),
        };
        let settings = ConnectionSettings::parse_with(self.broker.url.expose_secret(), &options)?;
        Ok(BeatState::new(Connection::new(settings), &self.broker.global_keyprefix))
    }
}

fn database(env: &Env) -> Result<Database, ConfigError> {
    Database::connect(&database_url(env)?, 1).map_err(|_| {
        let allowed = "postgres://…, postgresql://…, sqlite://PATH or the path of a SQLite file";
        env.invalid_secret("DATABASE_URL", allowed)
    })
}

fn default_node() -> String {
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned());
    format!("beat@{}", host.unwrap_or_else(|_| "localhost".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let env = Env::from_pairs([("BEAT_QUEUE", "maintenance"), ("BEAT_FILE", "a.toml")]);

        let config = Config::from_env(&env, Overrides::default()).unwrap();
        let Source::File { path, queue } = config.source else { panic!("a file") };
        assert_eq!((path, queue.as_str()), ("a.toml".into(), "maintenance"));
        assert!(config.node.starts_with("beat@"), "{}", config.node);

        let overrides = Overrides {
            queue: Some("night".into()),
            file: Some("b.toml".into()),
            scheduler: None,
            node: Some("beat@a".into()),
        };
        let config = Config::from_env(&env, overrides).unwrap();
        let Source::File { path, queue } = config.source else { panic!("a file") };
        assert_eq!((path, queue.as_str()), ("b.toml".into(), "night"));
        assert_eq!(config.node, "beat@a");
    }
}
