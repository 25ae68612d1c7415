//! Bringing back messages whose instant has come: every worker does it for the whole fleet.

use std::time::Duration;

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::Backoff;

/// Longest time between two looks: another process may have put away a message, and died.
const LONGEST: Duration = Duration::from_secs(1);

/// Looks when the next message is due, and when this process puts one away. Never ends.
pub(crate) async fn promote(broker: &Broker) {
    let mut backoff = Backoff::default();
    loop {
        match broker.promote().await {
            Ok(next) => {
                backoff.reset();
                let wait = next.unwrap_or(LONGEST).min(LONGEST);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = broker.message_deferred() => {}
                }
            }
            Err(error) => {
                log::debug!("due messages could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
