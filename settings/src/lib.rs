//! What the binaries are told from outside: environment variables over a settings file, as typed
//! values, and where their log goes.
//!
//! A program reads its settings once, at start, from an [`Env`] value, so that a mistake stops it
//! with one [`ConfigError`] that names the variable, and tests touch no process environment.

mod broker;
mod database;
mod env;
mod error;
mod file;
pub mod logging;

pub use broker::Broker;
pub use database::database_url;
pub use env::Env;
pub use error::{ConfigError, Origin};
/// The types of secret values, so that callers need not depend on the crate themselves.
pub use secrecy::{ExposeSecret, SecretString};
