//! Putting back what dead processes held: every worker does it for the whole fleet.

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;

/// Looks for dead processes five times within a lease, where another process has just done so less
/// often, but twice. Never ends.
///
/// That is soon enough to take over: the lease of whoever looked often, and has died, still runs
/// when the others look next.
///
/// Not before Redis has served us for one lease: after an outage every lease may have run out, and
/// the living need a moment to say that they live.
pub(crate) async fn reap(broker: &Broker) {
    let lease = broker.options().lease;
    let (often, seldom) = (lease / 5, lease / 2);
    let mut backoff = Backoff::default();
    let mut period = often;
    loop {
        tokio::time::sleep(period).await;
        if broker.connection().serving_for().is_none_or(|served| served < lease) {
            period = often;
            continue;
        }
        match broker.reclaim_dead().await {
            Ok(looked) => {
                backoff.reset();
                period = looked.map_or((period * 2).min(seldom), |_| often);
            }
            Err(error) => {
                log::debug!("dead processes could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
