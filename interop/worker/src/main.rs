//! A worker with the tasks that the interop suites and the benches call.

// The task macro of rusty-celery expands to such code.
#![allow(non_local_definitions, unused_braces)]

mod integration;
mod limited;
mod retried;
mod tasks;

use std::process::ExitCode;
use std::sync::Arc;

use celery_redis::transport::connection::Connection;
use secrecy::ExposeSecret;
use tikv_jemallocator::Jemalloc;

/// As the real worker has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    worker::cli::main(|env, _, registry| -> Result<(), tasks::SetupError> {
        let broker = settings::Broker::from_env(env)?;
        let connection = Connection::new(worker::connection_settings(&broker, &broker.url)?);
        let ledger = env.secret("CHAOS_LEDGER_URL")?.unwrap_or_else(|| broker.url.clone());
        // Only bench.record needs it, and says so where the URL is of a kind that it cannot use.
        let ledger = redis::Client::open(ledger.expose_secret()).ok();
        registry
            .state(Arc::new(connection))
            .state(Arc::new(tasks::Ledger::new(ledger)))
            .register::<tasks::noop>()
            .register::<tasks::add>()
            .register::<tasks::echo>()
            .register::<tasks::typed>()
            .register::<tasks::sleep>()
            .register::<tasks::hold>()
            .register_blocking::<tasks::block>()
            .register::<tasks::hog>()
            .register::<tasks::incr>()
            .register::<tasks::fail>()
            .register::<tasks::panic>()
            .register::<tasks::retry>()
            .register::<tasks::refuse>()
            .register::<tasks::record>()
            .register::<tasks::note>()
            .register::<tasks::replace>()
            .register::<tasks::spawn>()
            .register::<tasks::progress>();
        integration::register(registry);
        limited::register(registry);
        retried::register(registry);
        Ok(())
    })
}
