//! apalis-redis's worker, and with a number its producer.

use std::env;
use std::time::Duration;

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use futures::stream;
use serde::{Deserialize, Serialize};

const BATCH: usize = 512;
const POLL: Duration = Duration::from_millis(1);

#[derive(Debug, Deserialize, Serialize)]
struct Noop;

async fn noop(_: Noop) -> Result<(), BoxDynError> {
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxDynError> {
    let connection = apalis_redis::connect(env::var("BENCH_REDIS_URL")?).await?;
    let config = Config::default().queue("bench").batch_size(BATCH);
    let mut storage = RedisStorage::<Noop>::new(connection).with_config(config);
    if let Some(count) = env::args().nth(1) {
        storage.push_stream(&mut stream::iter((0..count.parse()?).map(|_: u64| Noop))).await?;
    } else {
        let backend = storage.poll_with_interval(POLL);
        let name = format!("bench-{}", std::process::id());
        let worker = WorkerBuilder::new(name).backend(backend).concurrency(BATCH).build(noop);
        worker.run().await?;
    }
    Ok(())
}
