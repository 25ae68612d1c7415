//! Messages that wait in Redis for their instant.

use std::time::Duration;

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
        let (_, wait): (usize, i64) =
            self.connection().script("promote due messages", &script).await?;
        Ok(u64::try_from(wait).ok().map(Duration::from_millis))
    }

    /// Ends when this process has put a message away that may be due before all others.
    pub async fn message_deferred(&self) {
        self.deferred.notified().await;
    }
}
