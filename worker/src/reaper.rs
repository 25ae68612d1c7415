//! Putting back what dead processes held: every worker does it for the whole fleet.

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;

/// Looks for dead processes five times within a lease. Never ends.
pub(crate) async fn reap(broker: &Broker) {
    let period = broker.options().lease / 5;
    let mut backoff = Backoff::default();
    loop {
        tokio::time::sleep(period).await;
        match broker.reclaim_dead().await {
            Ok(_) => backoff.reset(),
            Err(error) => {
                log::debug!("dead processes could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
