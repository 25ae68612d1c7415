//! Where the site's database is.

use secrecy::SecretString;

use crate::env::Env;
use crate::error::ConfigError;

const DEFAULT_URL: &str = "sqlite://var/jwt.sqlite3";

/// `DATABASE_URL`, or the file that `DATABASE_URL_FILE` names; an embedded SQLite file without it.
///
/// # Errors
///
/// Where both are set or the file cannot be read. Which databases there are is for those to say
/// who connect.
pub fn database_url(env: &Env) -> Result<SecretString, ConfigError> {
    Ok(env.secret("DATABASE_URL")?.unwrap_or_else(|| SecretString::from(DEFAULT_URL)))
}
