//! Messages that wait in Redis for their instant.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::broker::Broker;
use super::connection::TransportError;
use super::scripts;

/// Messages promoted in one step, so that Redis serves others in between.
const BATCH: usize = 100;

impl Broker {
    /// Puts what is due into its list; the time until the next is due. Model step: `promote`.
    pub async fn promote(&self) -> Result<Option<Duration>, TransportError> {
        let mut script = scripts::PROMOTE.prepare_invoke();
        let keys = self.keys();
        script
            .key(keys.scheduled())
            .key(keys.scheduled_messages())
            .key(keys.dead())
            .key(keys.dead_records())
            .key(keys.dead_messages())
            .arg(BATCH);
        let (_, wait, now): (usize, i64, f64) =
            self.connection().script("promote due messages", &script).await?;
        self.set_clock(now);
        Ok(u64::try_from(wait).ok().map(Duration::from_millis))
    }

    /// The time on Redis's clock, as far as the last promotion told it.
    ///
    /// Whether a message is due is decided on this clock alone: one that Redis promotes and a slower
    /// clock here defers again would go to and fro without rest.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.clock_ahead.load(Ordering::Relaxed))
    }

    fn set_clock(&self, redis: f64) {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let ahead = (redis * 1e6 - Utc::now().timestamp_micros() as f64) as i64;
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }

    /// Ends when this process has put a message away that may be due before all others.
    pub async fn message_deferred(&self) {
        self.deferred.notified().await;
    }
}
