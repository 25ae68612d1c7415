//! What beat is told from outside.

use celery_redis::transport::beat_state::BeatState;
use celery_redis::transport::connection::{
    Connection, ConnectionOptions, ConnectionSettings, UrlError,
};
use settings::{Broker, ConfigError, Env, ExposeSecret};

/// The queue where Celery looks without further settings.
const DEFAULT_QUEUE: &str = "celery";

/// The settings of beat.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the messages and the last runs are.
    pub broker: Broker,
    /// `BEAT_QUEUE`: the queue of the built-in entries.
    pub queue: String,
    /// The name of this beat; with another one on the same machine, each needs its own.
    pub node: String,
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
    pub fn from_env(
        env: &Env,
        queue: Option<String>,
        node: Option<String>,
    ) -> Result<Self, ConfigError> {
        let queue = match queue {
            Some(queue) => Some(queue),
            None => env.text("BEAT_QUEUE")?,
        };
        Ok(Self {
            broker: Broker::from_env(env)?,
            queue: queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
            node: node.unwrap_or_else(default_node),
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

fn default_node() -> String {
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned());
    format!("beat@{}", host.unwrap_or_else(|_| "localhost".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let env = Env::from_pairs([("BEAT_QUEUE", "maintenance")]);

        let config = Config::from_env(&env, None, None).unwrap();
        assert_eq!(config.queue, "maintenance");
        assert!(config.node.starts_with("beat@"), "{}", config.node);

        let config = Config::from_env(&env, Some("night".into()), Some("beat@a".into())).unwrap();
        assert_eq!((config.queue.as_str(), config.node.as_str()), ("night", "beat@a"));
    }
}
