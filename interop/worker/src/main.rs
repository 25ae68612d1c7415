//! A worker with the tasks that the interop suites and the benches call.

// The task macro of rusty-celery expands to such code.
#![allow(non_local_definitions, unused_braces)]

mod tasks;

use std::process::ExitCode;
use std::sync::Arc;

use secrecy::ExposeSecret;

fn main() -> ExitCode {
    worker::cli::main(|env, _, registry| -> Result<(), tasks::SetupError> {
        let broker = settings::Broker::from_env(env)?;
        let client = redis::Client::open(broker.url.expose_secret())?;
        let ledger = match env.secret("CHAOS_LEDGER_URL")? {
            Some(url) => {
                redis::Client::open(url.expose_secret()).map_err(tasks::SetupError::Ledger)?
            }
            None => client.clone(),
        };
        registry
            .state(Arc::new(client))
            .state(Arc::new(tasks::Ledger::new(ledger)))
            .register::<tasks::noop>()
            .register::<tasks::add>()
            .register::<tasks::sleep>()
            .register_blocking::<tasks::block>()
            .register::<tasks::incr>()
            .register::<tasks::fail>()
            .register::<tasks::panic>()
            .register::<tasks::retry>()
            .register::<tasks::record>()
            .register::<tasks::progress>();
        Ok(())
    })
}
