//! Renewing this process's lease for as long as it lives.

use std::time::Duration;

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;
use celery_redis::transport::lease::Renewal;

/// Renews three times within the lease, and within kombu's visibility timeout. Never ends.
pub(crate) async fn keep(broker: &Broker, visibility_timeout: Duration) {
    let period = broker.options().lease.min(visibility_timeout) / 3;
    let mut backoff = Backoff::default();
    loop {
        match broker.renew().await {
            Ok(Renewal::Renewed | Renewal::Lost) => {}
            Err(error) => {
                log::debug!("the lease could not be renewed: {error}");
                backoff.wait().await;
                continue;
            }
        }
        backoff.reset();
        tokio::time::sleep(period).await;
    }
}
