//! How to reach the broker, and the few rules that every process on it has to agree on.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::env::Env;
use crate::error::ConfigError;

const DEFAULT_URL: &str = "redis://127.0.0.1:6379/0";
const ONE_HOUR: Duration = Duration::from_secs(60 * 60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
const SCHEMES: [&str; 6] =
    ["redis://", "rediss://", "redis+socket://", "redis+unix://", "unix://", "sentinel://"];
const ALLOWED: &str = "the address of a Redis: redis://, rediss://, unix:// or sentinel://";

/// The settings of the broker, named as Celery names them.
#[derive(Debug, Clone)]
pub struct Broker {
    /// `CELERY_BROKER_URL`: the Redis that holds the queues; it may carry a password.
    pub url: SecretString,
    /// `CELERY_RESULT_BACKEND`: the Redis that holds the results; `None` is the broker's.
    pub result_backend: Option<SecretString>,
    /// `BROKER_GLOBAL_KEYPREFIX`: what Celery's `global_keyprefix` transport option puts in front
    /// of each of the broker's keys; empty by default.
    pub global_keyprefix: String,
    /// `BROKER_VISIBILITY_TIMEOUT`, in seconds: the age at which kombu gives an unacked message
    /// to somebody else. Every client of the broker has to use the same.
    pub visibility_timeout: Duration,
    /// `BROKER_SENTINEL_MASTER`: the name that the sentinels of a `sentinel://` URL know the
    /// primary by, as in Celery's `master_name` transport option.
    pub sentinel_master: Option<String>,
    /// `BROKER_CONNECT_TIMEOUT`, in seconds: longest time until a connection is established.
    pub connect_timeout: Duration,
    /// `BROKER_COMMAND_TIMEOUT`, in seconds: longest time that Redis may take for one reply; then
    /// the connection counts as dead, and a new one is made.
    pub command_timeout: Duration,
}

impl Broker {
    /// Reads the settings of the broker.
    ///
    /// # Errors
    ///
    /// Where one of the values is not valid.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let url = redis_url(env, "CELERY_BROKER_URL")?;
        Ok(Self {
            url: url.unwrap_or_else(|| SecretString::from(DEFAULT_URL)),
            result_backend: redis_url(env, "CELERY_RESULT_BACKEND")?,
            global_keyprefix: env.text("BROKER_GLOBAL_KEYPREFIX")?.unwrap_or_default(),
            visibility_timeout: env
                .seconds("BROKER_VISIBILITY_TIMEOUT", 1.0..=31_536_000.0)?
                .unwrap_or(ONE_HOUR),
            sentinel_master: env.text("BROKER_SENTINEL_MASTER")?,
            connect_timeout: env
                .seconds("BROKER_CONNECT_TIMEOUT", 0.1..=300.0)?
                .unwrap_or(DEFAULT_TIMEOUT),
            command_timeout: env
                .seconds("BROKER_COMMAND_TIMEOUT", 0.1..=300.0)?
                .unwrap_or(DEFAULT_TIMEOUT),
        })
    }
}

fn redis_url(env: &Env, name: &str) -> Result<Option<SecretString>, ConfigError> {
    let Some(url) = env.secret(name)? else { return Ok(None) };
    if SCHEMES.iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
        return Ok(Some(url));
    }
    Err(env.invalid_secret(name, ALLOWED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_celerys() {
        let broker = Broker::from_env(&Env::default()).unwrap();

        assert_eq!(broker.url.expose_secret(), "redis://127.0.0.1:6379/0");
        assert!(broker.result_backend.is_none());
        assert_eq!(broker.global_keyprefix, "");
        assert_eq!(broker.visibility_timeout, Duration::from_secs(3600));
        assert_eq!(broker.sentinel_master, None);
        assert_eq!(broker.connect_timeout, Duration::from_secs(3));
        assert_eq!(broker.command_timeout, Duration::from_secs(3));
    }

    #[test]
    fn sentinels_and_timeouts_are_read() {
        let broker = Broker::from_env(&Env::from_pairs([
            ("CELERY_BROKER_URL", "sentinel://a:26379;sentinel://b:26379"),
            ("BROKER_SENTINEL_MASTER", "primary"),
            ("BROKER_CONNECT_TIMEOUT", "1.5"),
            ("BROKER_COMMAND_TIMEOUT", "20"),
        ]))
        .unwrap();

        assert_eq!(broker.sentinel_master.as_deref(), Some("primary"));
        assert_eq!(broker.connect_timeout, Duration::from_millis(1500));
        assert_eq!(broker.command_timeout, Duration::from_secs(20));
    }

    #[test]
    fn another_brokers_address_is_refused_without_showing_it() {
        let env = Env::from_pairs([("CELERY_BROKER_URL", "amqp://u:hunter2@rabbit//")]);

        assert_eq!(
            Broker::from_env(&env).unwrap_err().to_string(),
            "the value of CELERY_BROKER_URL (from the program) is not valid: it must be the \
             address of a Redis: redis://, rediss://, unix:// or sentinel://"
        );
    }
}
