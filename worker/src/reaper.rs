//! Putting back what dead processes held: every worker does it for the whole fleet.

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;

/// Looks for dead processes five times within a lease, where there are others and none of them does.
/// Never ends.
///
/// What each renewal of our lease tells says whether that is so. That is soon enough to take over: the
/// lease of whoever looked, and has died, still runs when the others renew theirs next.
///
/// Not before Redis has served us for one lease: after an outage every lease may have run out, and
/// the living need a moment to say that they live.
pub(crate) async fn reap(broker: &Broker) {
    let lease = broker.options().lease;
    let mut news = broker.news();
    let mut backoff = Backoff::default();
    let mut reaps = false;
    loop {
        if reaps {
            tokio::time::sleep(lease / 5).await;
        } else if news.changed().await.is_err() {
            return;
        }
        let told = *news.borrow_and_update();
        let needed = told.is_some_and(|told| told.others && (reaps || !told.reaped));
        let served = broker.connection().serving_for().is_some_and(|served| served >= lease);
        if !needed || !served {
            reaps = false;
            continue;
        }
        match broker.reclaim_dead().await {
            Ok(looked) => {
                backoff.reset();
                reaps = looked.is_some();
            }
            Err(error) => {
                log::debug!("dead processes could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
