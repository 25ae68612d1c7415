//! Bringing back messages whose instant has come: every worker does it for the whole fleet.

use std::time::Duration;

use celery_redis::transport::connection::Backoff;

use crate::consumer::Consumer;

/// Longest time between two looks: another process may have put away a message, and died.
const LONGEST: Duration = Duration::from_secs(5);

/// Looks when the next message is due, when this process puts one away, and when a connection to
/// Redis has failed. Never ends.
pub(crate) async fn promote(consumer: &Consumer) {
    let broker = &consumer.broker;
    let mut backoff = Backoff::default();
    loop {
        match broker.promote().await {
            Ok(promotion) => {
                backoff.reset();
                consumer.doors.tell(promotion.waiting_rooms);
                let wait = promotion.next_due.unwrap_or(LONGEST).min(LONGEST);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = broker.message_deferred() => {}
                    () = broker.connection().doubted() => {}
                }
            }
            Err(error) => {
                log::debug!("due messages could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}
