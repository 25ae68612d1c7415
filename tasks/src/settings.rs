//! What a site decides about its keys and tokens.

use chrono::TimeDelta;
use settings::{ConfigError, Env, SecretString};

use crate::jwt::{Algorithm, AlgorithmChoice};

const CENTURY_DAYS: i64 = 36_500;
const CENTURY_HOURS: i64 = CENTURY_DAYS * 24;

/// The `JWT_*` settings.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// `JWT_KEYPAIR_ROTATION_DAYS`: how long a key pair signs.
    pub rotation_period: TimeDelta,
    /// `JWT_MAX_ACTIVE_KEYPAIRS`: how many key pairs are active at once; at least one.
    pub max_active: u32,
    /// `JWT_KEYPAIR_CLEANUP_DAYS`: the age at which inactive key pairs are deleted.
    pub key_pair_retention: TimeDelta,
    /// `JWT_TOKEN_RETENTION_DAYS`: how long revoked tokens are kept.
    pub token_retention: TimeDelta,
    /// `JWT_MAX_EXPIRY_HOURS`: the longest life of a token, whether it has a row or not.
    pub max_token_life: TimeDelta,
    /// `JWT_DEFAULT_EXPIRY_HOURS`: the life of a token whose issuer asks for none.
    pub default_token_life: TimeDelta,
    /// `JWT_ISSUER`: the `iss` claim, required of tokens where it is set.
    pub issuer: Option<String>,
    /// `JWT_AUDIENCE`: the `aud` claim, required of tokens where it is set.
    pub audience: Option<String>,
    /// `JWT_SIGNING_ALGORITHM`: `auto`, `ES256` or `RS256`.
    pub algorithm: AlgorithmChoice,
    /// `JWT_PRIVATE_KEY_PASSWORD`: encrypts private keys at rest.
    pub private_key_password: Option<SecretString>,
    /// `JWT_WIPE_RETIRED_KEYS`: what becomes of the private half of a retired key pair.
    pub retired_private_keys: RetiredPrivateKeys,
    /// `JWT_KEYPAIR_PREPUBLISH_HOURS`: how long a key pair is published before it signs.
    pub prepublish: Option<TimeDelta>,
    /// `JWT_LEGACY_ERROR_RESULTS`: failures are returned as dictionaries instead of raised.
    pub legacy_error_results: bool,
}

/// What becomes of a private key when its key pair is retired. It signs nothing any more, and
/// verifying needs the public half alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetiredPrivateKeys {
    /// It stays, so that the key pair can be made active again by hand.
    #[default]
    Keep,
    /// It is overwritten: nobody can steal what is not there.
    Wipe,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            rotation_period: TimeDelta::days(30),
            max_active: 3,
            key_pair_retention: TimeDelta::days(180),
            token_retention: TimeDelta::days(90),
            max_token_life: TimeDelta::hours(168),
            default_token_life: TimeDelta::hours(24),
            issuer: None,
            audience: None,
            algorithm: AlgorithmChoice::Auto,
            private_key_password: None,
            retired_private_keys: RetiredPrivateKeys::default(),
            prepublish: None,
            legacy_error_results: false,
        }
    }
}

impl JwtSettings {
    /// Reads them; what is not set keeps its default.
    ///
    /// # Errors
    ///
    /// Where a value is not allowed.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let default = Self::default();
        let days = |name: &str, default: TimeDelta| -> Result<TimeDelta, ConfigError> {
            Ok(env.integer(name, 1..=CENTURY_DAYS)?.map_or(default, TimeDelta::days))
        };
        let rotation_period = days("JWT_KEYPAIR_ROTATION_DAYS", default.rotation_period)?;
        let prepublish = env
            .integer("JWT_KEYPAIR_PREPUBLISH_HOURS", 0..=CENTURY_HOURS)?
            .filter(|hours| *hours > 0)
            .map(TimeDelta::hours);
        if prepublish.is_some_and(|ahead| ahead >= rotation_period) {
            return Err(env.invalid(
                "JWT_KEYPAIR_PREPUBLISH_HOURS",
                format!(
                    "fewer hours than JWT_KEYPAIR_ROTATION_DAYS has ({})",
                    rotation_period.num_hours()
                ),
            ));
        }
        let hours = |name: &str| -> Result<Option<TimeDelta>, ConfigError> {
            Ok(env.integer(name, 1..=CENTURY_HOURS)?.map(TimeDelta::hours))
        };
        let max_token_life = hours("JWT_MAX_EXPIRY_HOURS")?.unwrap_or(default.max_token_life);
        let default_token_life = hours("JWT_DEFAULT_EXPIRY_HOURS")?;
        if default_token_life.is_some_and(|life| life > max_token_life) {
            return Err(env.invalid(
                "JWT_DEFAULT_EXPIRY_HOURS",
                format!("at most JWT_MAX_EXPIRY_HOURS ({})", max_token_life.num_hours()),
            ));
        }
        let algorithms = [
            ("auto", AlgorithmChoice::Auto),
            ("ES256", AlgorithmChoice::Fixed(Algorithm::Es256)),
            ("RS256", AlgorithmChoice::Fixed(Algorithm::Rs256)),
        ];
        Ok(Self {
            rotation_period,
            max_active: env
                .integer("JWT_MAX_ACTIVE_KEYPAIRS", 1..=1_000)?
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(default.max_active),
            key_pair_retention: days("JWT_KEYPAIR_CLEANUP_DAYS", default.key_pair_retention)?,
            token_retention: days("JWT_TOKEN_RETENTION_DAYS", default.token_retention)?,
            max_token_life,
            default_token_life: default_token_life
                .unwrap_or(default.default_token_life.min(max_token_life)),
            issuer: env.text("JWT_ISSUER")?,
            audience: env.text("JWT_AUDIENCE")?,
            algorithm: env.one_of("JWT_SIGNING_ALGORITHM", &algorithms)?.unwrap_or_default(),
            private_key_password: env.secret("JWT_PRIVATE_KEY_PASSWORD")?,
            retired_private_keys: match env.boolean("JWT_WIPE_RETIRED_KEYS")? {
                Some(true) => RetiredPrivateKeys::Wipe,
                Some(false) | None => RetiredPrivateKeys::Keep,
            },
            prepublish,
            legacy_error_results: env.boolean("JWT_LEGACY_ERROR_RESULTS")?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<JwtSettings, ConfigError> {
        JwtSettings::from_env(&Env::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.rotation_period, TimeDelta::days(30));
        assert_eq!(settings.max_active, 3);
        assert_eq!(settings.key_pair_retention, TimeDelta::days(180));
        assert_eq!(settings.token_retention, TimeDelta::days(90));
        assert_eq!(settings.max_token_life, TimeDelta::days(7));
        assert_eq!(settings.algorithm, AlgorithmChoice::Auto);
        assert_eq!(settings.default_token_life, TimeDelta::hours(24));
        assert_eq!(settings.retired_private_keys, RetiredPrivateKeys::Keep);
        assert!(settings.prepublish.is_none() && !settings.legacy_error_results);
    }

    #[test]
    fn values_that_would_stop_the_site_from_signing_are_refused() {
        for (name, value) in [
            ("JWT_MAX_ACTIVE_KEYPAIRS", "0"),
            ("JWT_MAX_ACTIVE_KEYPAIRS", "-1"),
            ("JWT_KEYPAIR_ROTATION_DAYS", "0"),
            ("JWT_KEYPAIR_ROTATION_DAYS", "monthly"),
            ("JWT_SIGNING_ALGORITHM", "HS256"),
            ("JWT_KEYPAIR_PREPUBLISH_HOURS", "720"),
            ("JWT_LEGACY_ERROR_RESULTS", "perhaps"),
            ("JWT_DEFAULT_EXPIRY_HOURS", "169"),
            ("JWT_WIPE_RETIRED_KEYS", "perhaps"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn the_default_life_of_a_token_is_never_above_the_longest() {
        let settings = read(&[("JWT_MAX_EXPIRY_HOURS", "12")]).unwrap();
        assert_eq!(settings.default_token_life, TimeDelta::hours(12));
    }

    #[test]
    fn a_password_stays_out_of_debug() {
        let settings = read(&[("JWT_PRIVATE_KEY_PASSWORD", "geheim")]).unwrap();
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
