//! Tasks with options of their own: limits of rate, number and time.

use std::time::Duration;

use celery::task::TaskResult;
use celery_task::{Exception, Rate, Registry, TaskContext, TaskOptions};

use crate::tasks::{Ledger, duration};

/// Makes them known.
pub(crate) fn register(registry: &mut Registry) {
    registry
        .register_with::<rate_limited>(TaskOptions {
            rate_limit: Some(Rate::per_second(20.0)),
            ..TaskOptions::default()
        })
        .register_with::<fleet_rate_limited>(TaskOptions {
            fleet_rate_limit: Some(Rate::per_second(20.0)),
            ..TaskOptions::default()
        })
        .register_with::<two_at_a_time>(TaskOptions {
            fleet_concurrency: Some(2),
            ..TaskOptions::default()
        })
        .register_with::<hasty>(TaskOptions {
            soft_time_limit: Some(0.25),
            ..TaskOptions::default()
        })
        .register::<tidy>()
        .register::<burn>()
        .register::<once_slow>()
        .register_blocking::<patient>();
}

/// Writes into the ledger when it begins; 20 a second in each process.
#[celery::task(name = "bench.rate_limited")]
async fn rate_limited(key: String) -> TaskResult<()> {
    note("begun", &key).await
}

/// Writes into the ledger when it begins; 20 a second on all workers.
#[celery::task(name = "bench.fleet_rate_limited")]
async fn fleet_rate_limited(key: String) -> TaskResult<()> {
    note("begun", &key).await
}

/// Writes into the ledger when it begins and, `seconds` later, when it ends; two at a time on all
/// workers.
#[celery::task(name = "bench.two_at_a_time")]
async fn two_at_a_time(key: String, seconds: f64) -> TaskResult<()> {
    note("begun", &key).await?;
    tokio::time::sleep(duration(seconds)).await;
    note("ended", &key).await
}

/// Sleeps longer than its soft time limit allows.
#[celery::task(name = "bench.hasty")]
async fn hasty() -> TaskResult<()> {
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(())
}

/// Works for `seconds`, or until its soft time limit; says which.
#[celery::task(name = "bench.tidy")]
async fn tidy(seconds: f64) -> TaskResult<String> {
    let limit = TaskContext::current().soft_time_limit();
    tokio::select! {
        () = tokio::time::sleep(duration(seconds)) => Ok("done".to_owned()),
        () = limit => Ok("tidied up".to_owned()),
    }
}

/// Blocks its thread for `seconds`, but asks every 10 ms whether its time is up.
#[celery::task(name = "bench.patient")]
fn patient(seconds: f64) -> TaskResult<String> {
    let context = TaskContext::current();
    let end = std::time::Instant::now() + duration(seconds);
    while std::time::Instant::now() < end {
        context.check_time_limit()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok("done".to_owned())
}

/// Takes an hour, unless its message was delivered before.
#[celery::task(name = "bench.once_slow")]
async fn once_slow(key: String) -> TaskResult<String> {
    if !TaskContext::current().call().redelivered {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    Ok(key)
}

async fn note(event: &str, key: &str) -> TaskResult<()> {
    let context = TaskContext::current();
    let ledger = context.state::<Ledger>();
    ledger
        .write(event, key, context.retries())
        .await
        .map_err(|error| context.fail(Exception::builtin("ConnectionError", error.to_string())))
}

/// Keeps a processor busy for `seconds`, on a thread that is not its own.
#[celery::task(name = "bench.burn")]
async fn burn(seconds: f64) -> TaskResult<()> {
    let end = std::time::Instant::now() + duration(seconds);
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
    Ok(())
}
