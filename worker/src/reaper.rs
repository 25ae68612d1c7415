//! Putting back what dead processes held: every worker does it for the whole fleet.

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;

/// Looks for dead processes five times within a lease. Never ends.
///
/// Not before Redis has served us for one lease: after an outage every lease may have run out, and
/// the living need a moment to say that they live.
pub(crate) async fn reap(broker: &Broker) {
    let lease = broker.options().lease;
    let mut backoff = Backoff::default();
    loop {
        tokio::time::sleep(lease / 5).await;
        if broker.connection().serving_for().is_none_or(|served| served < lease) {
            continue;
        }
        match broker.reclaim_dead().await {
            Ok(_) => backoff.reset(),
            Err(error) => {
                log::debug!("dead processes could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
