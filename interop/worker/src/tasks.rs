//! The tasks themselves.

use std::time::Duration;

use celery::task::TaskResult;
use celery_redis::Canvas;
use celery_redis::transport::connection::{Connection, TransportError, UrlError};
use celery_task::{Exception, MaxRetries, Retry, TaskContext, TypedValue};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

/// Why the tasks cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Settings(#[from] settings::ConfigError),
    #[error(transparent)]
    Redis(#[from] UrlError),
}

/// Where `bench.record` writes what it did: a Redis that no test disturbs, else the broker's.
pub(crate) struct Ledger {
    client: Option<redis::Client>,
    connection: OnceCell<MultiplexedConnection>,
}

impl Ledger {
    pub(crate) fn new(client: Option<redis::Client>) -> Self {
        Self { client, connection: OnceCell::new() }
    }

    pub(crate) async fn write(
        &self,
        event: &str,
        key: &str,
        retries: u32,
    ) -> redis::RedisResult<()> {
        // A process that is stopped and continued has waited long, but not in vain.
        let patient =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = self.client.as_ref().ok_or((
            redis::ErrorKind::InvalidClientConfig,
            "CHAOS_LEDGER_URL must be of the form redis://host:port/database",
        ))?;
        let connect = || client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        redis::cmd("XADD")
            .arg("ledger")
            .arg("*")
            .arg(&[("event", event), ("key", key)])
            .arg(&[("retries", retries), ("pid", std::process::id())])
            .query_async(&mut connection)
            .await
    }
}

/// Does nothing.
#[celery::task(name = "bench.noop")]
pub(crate) async fn noop() -> TaskResult<()> {
    Ok(())
}

/// Adds.
#[celery::task(name = "bench.add")]
pub(crate) async fn add(x: f64, y: f64) -> TaskResult<serde_json::Number> {
    let sum = x + y;
    // A sum of whole numbers is a whole number to the Python caller.
    #[allow(clippy::cast_possible_truncation)]
    let whole = (sum.fract() == 0.0 && sum.abs() < 9.0e15).then_some(sum as i64);
    whole.map(serde_json::Number::from).or_else(|| serde_json::Number::from_f64(sum)).ok_or_else(
        || {
            TaskContext::current()
                .fail(Exception::builtin("OverflowError", "the sum is not finite"))
        },
    )
}

/// Returns what it is given.
#[celery::task(name = "bench.echo")]
pub(crate) async fn echo(value: serde_json::Value) -> TaskResult<serde_json::Value> {
    Ok(value)
}

/// Returns a value of one of kombu's types.
#[celery::task(name = "bench.typed")]
pub(crate) async fn typed(value: TypedValue) -> TaskResult<TypedValue> {
    Ok(value)
}

/// Sleeps without blocking its thread; returns the seconds.
#[celery::task(name = "bench.sleep")]
pub(crate) async fn sleep(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(duration(seconds)).await;
    Ok(seconds)
}

/// Sleeps and blocks its thread.
#[celery::task(name = "bench.block")]
pub(crate) fn block(seconds: f64) -> TaskResult<f64> {
    std::thread::sleep(duration(seconds));
    Ok(seconds)
}

/// Runs until `key` is there, in the broker's Redis: for as long as a test wants it to.
#[celery::task(name = "bench.hold")]
pub(crate) async fn hold(key: String) -> TaskResult<String> {
    let context = TaskContext::current();
    let connection = context.state::<Connection>();
    loop {
        let there: Result<bool, _> =
            connection.query("ask for a key", redis::cmd("EXISTS").arg(&key)).await;
        match there {
            Ok(true) => return Ok(key),
            // Redis may be away: that is no reason to end.
            Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// `INCR key` in the broker's Redis: how often a task really ran.
#[celery::task(name = "bench.incr")]
pub(crate) async fn incr(key: String) -> TaskResult<i64> {
    let context = TaskContext::current();
    let failed = |error: TransportError| {
        context.fail(Exception::builtin("ConnectionError", error.to_string()))
    };
    let connection = context.state::<Connection>();
    connection.query("count a run", redis::cmd("INCR").arg(key)).await.map_err(failed)
}

/// Raises `ValueError(message)`.
#[celery::task(name = "bench.fail")]
pub(crate) async fn fail(message: String) -> TaskResult<()> {
    Err(TaskContext::current().fail(Exception::builtin("ValueError", message)))
}

/// Panics.
#[celery::task(name = "bench.panic")]
pub(crate) async fn panic(message: String) -> TaskResult<()> {
    panic!("{message}");
}

/// Asks for a retry until it was retried `times` times; returns the number.
#[celery::task(name = "bench.retry")]
pub(crate) async fn retry(times: u32, countdown: f64, max_retries: Option<u32>) -> TaskResult<u32> {
    let context = TaskContext::current();
    if context.retries() >= times {
        return Ok(context.retries());
    }
    let error = Exception::builtin("KeyError", "again");
    let retry = Retry::new().countdown(duration(countdown)).error(error);
    Err(context.retry(match max_retries {
        Some(most) => retry.max_retries(MaxRetries::AtMost(most)),
        None => retry,
    }))
}

/// Ends in a way of Celery's own: `ignore`, `reject`, or `requeue` until it is redelivered.
#[celery::task(name = "bench.refuse")]
pub(crate) async fn refuse(how: String) -> TaskResult<String> {
    let context = TaskContext::current();
    match how.as_str() {
        "ignore" => Err(context.ignore()),
        "reject" => Err(context.reject("no")),
        "requeue" if !context.call().redelivered => Err(context.requeue("not here")),
        _ => Ok("second".to_owned()),
    }
}

/// Writes "begun" and, `seconds` later, "ended" into the ledger; asks for a retry until it was
/// retried `retries` times.
#[celery::task(name = "bench.record")]
pub(crate) async fn record(key: String, seconds: f64, retries: u32) -> TaskResult<()> {
    let context = TaskContext::current();
    let failed = |error: redis::RedisError| {
        context.fail(Exception::builtin("ConnectionError", error.to_string()))
    };
    let ledger = context.state::<Ledger>();
    ledger.write("begun", &key, context.retries()).await.map_err(failed)?;
    tokio::time::sleep(duration(seconds)).await;
    ledger.write("ended", &key, context.retries()).await.map_err(failed)?;
    if context.retries() >= retries {
        return Ok(());
    }
    let error = Exception::builtin("KeyError", "again");
    let retry = Retry::new().countdown(duration(seconds)).error(error);
    Err(context.retry(retry.max_retries(MaxRetries::AtMost(retries))))
}

/// Shows `steps` states on its way, each for `seconds`.
#[celery::task(name = "bench.progress")]
pub(crate) async fn progress(steps: u32, seconds: f64) -> TaskResult<u32> {
    let context = TaskContext::current();
    for step in 1..=steps {
        context.update_state("PROGRESS", serde_json::json!({"step": step, "of": steps}));
        tokio::time::sleep(duration(seconds)).await;
    }
    Ok(steps)
}

pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Puts the canvas `signature` in its own place.
#[celery::task(name = "bench.replace")]
pub(crate) async fn replace(signature: serde_json::Value) -> TaskResult<()> {
    let context = TaskContext::current();
    Err(match Canvas::from_json(&signature) {
        Ok(canvas) => context.replace(canvas),
        Err(error) => context.fail(error.exception()),
    })
}

/// Starts the canvas `signature`; returns its result as Celery passes results around.
#[celery::task(name = "bench.spawn")]
pub(crate) async fn spawn(signature: serde_json::Value) -> TaskResult<serde_json::Value> {
    let context = TaskContext::current();
    let canvas = Canvas::from_json(&signature).map_err(|error| context.fail(error.exception()))?;
    let sent = context.send(canvas).await;
    let sent =
        sent.map_err(|error| context.fail(Exception::builtin("RuntimeError", error.to_string())))?;
    Ok(sent.as_tuple().clone())
}

/// An errback that takes what Celery gives to those that take more than the id: appends it to the
/// list `key`.
#[celery::task(name = "bench.note")]
pub(crate) async fn note(
    request: serde_json::Value,
    exception: serde_json::Value,
    traceback: serde_json::Value,
    key: String,
) -> TaskResult<()> {
    let context = TaskContext::current();
    let noted = serde_json::json!([request, exception, traceback]).to_string();
    let connection = context.state::<Connection>();
    let noted: Result<i64, TransportError> =
        connection.query("note", redis::cmd("RPUSH").arg(key).arg(noted)).await;
    noted
        .map(|_| ())
        .map_err(|error| context.fail(Exception::builtin("ConnectionError", error.to_string())))
}

/// Keeps its thread from everybody else, as no task should, and tells which one.
#[celery::task(name = "bench.hog")]
pub(crate) async fn hog(seconds: f64) -> TaskResult<String> {
    std::thread::sleep(duration(seconds));
    Ok(std::thread::current().name().unwrap_or_default().to_owned())
}
