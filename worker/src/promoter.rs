//! Bringing back messages whose instant has come: every worker does it for the whole fleet.

use std::time::Duration;

use celery_redis::transport::connection::Backoff;
use celery_redis::transport::scheduled::Promotion;
use tokio::time::{Instant, sleep_until};

use crate::consumer::Consumer;

/// Longest time without news of what waits: another process may have put away a message, and died.
/// Renewals of the lease bring them more often, unless the lease is long.
const LONGEST: Duration = Duration::from_secs(5);
/// A look is due in any case, so that a connection that nothing else uses is not closed by what lies
/// between us and Redis, and is known to be broken before there is a message.
const SELDOM: Duration = Duration::from_secs(20);

/// Looks when the next message is due, when this process puts one away, and when a connection to
/// Redis has failed. Never ends.
pub(crate) async fn promote(consumer: &Consumer) {
    let mut backoff = Backoff::default();
    loop {
        match consumer.broker.promote().await {
            Ok(promotion) => {
                backoff.reset();
                next_look(consumer, promotion).await;
            }
            Err(error) => {
                log::debug!("due messages could not be looked for: {error}");
                backoff.wait().await;
            }
        }
    }
}

/// Ends when there is reason to look again after a look that found `promotion`.
async fn next_look(consumer: &Consumer, promotion: Promotion) {
    let broker = &consumer.broker;
    let mut news = broker.news();
    consumer.doors.tell(promotion.waiting_rooms);
    let begin = Instant::now();
    let mut look = begin + promotion.next_due.unwrap_or(SELDOM).min(SELDOM);
    loop {
        tokio::select! {
            () = sleep_until(look.min(Instant::now() + LONGEST)) => return,
            () = broker.message_deferred() => return,
            () = broker.connection().doubted() => return,
            Ok(()) = news.changed() => {}
        }
        if let Some(news) = *news.borrow_and_update() {
            consumer.doors.tell(news.waiting.waiting_rooms);
            // Never later than was known: the renewal may be older than the message.
            if let Some(wait) = news.waiting.next_due {
                look = look.min(Instant::now() + wait);
            }
        }
    }
}
