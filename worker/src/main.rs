//! The worker with the five JWT tasks.

use std::process::ExitCode;
use std::sync::Arc;

use shared_models::{Database, DatabaseError};
use tasks::{JwtAuth, JwtSettings};
use tikv_jemallocator::Jemalloc;

/// What one thread allocates another frees, for each message: jemalloc does not lock for it.
/// Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Settings(#[from] settings::ConfigError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

fn main() -> ExitCode {
    tasks::jwt::forbid_core_dumps();
    worker::cli::main(|env, config, registry| -> Result<(), SetupError> {
        let jwt = JwtSettings::from_env(env)?;
        // Each slot may use one connection; they are opened when they are first needed.
        let slots = u32::try_from(config.concurrency).unwrap_or(u32::MAX);
        let database = Database::connect(&settings::database_url(env)?, slots)?;
        if let Err(error) = database.check() {
            // Not the end: the database may come, the tables may be migrated while we run.
            log::error!("the five tasks will fail until this is mended: {error}");
        }
        registry.state(Arc::new(JwtAuth { database, settings: jwt }));
        tasks::register(registry);
        Ok(())
    })
}
