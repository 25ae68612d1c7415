//! Tasks that must not start any more: kept in Redis, so that a worker that was down knows them.

use std::time::Duration;

use super::connection::{Connection, TransportError};
use super::keys::{self, Keys};
use super::result_backend::ResultBackend;
use super::scripts;
use crate::wire::result::TaskMeta;

/// Most ids, and most stamps, that are kept; beyond it the oldest are forgotten.
pub const KEPT: usize = 100_000;

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Ids of tasks.
    Tasks,
    /// Stamps, each as the JSON of `["name", value]`.
    Stamps,
}

impl Revoked {
    fn key(self, keys: &Keys) -> String {
        match self {
            Self::Tasks => keys.revoked(),
            Self::Stamps => keys.revoked_stamps(),
        }
    }

    /// Remembers `members` for `kept_for` from `now` (epoch seconds).
    pub async fn remember(
        self,
        connection: &Connection,
        keys: &Keys,
        members: &[String],
        now: i64,
        kept_for: Duration,
    ) -> Result<(), TransportError> {
        if members.is_empty() {
            return Ok(());
        }
        let until = now.saturating_add(i64::try_from(kept_for.as_secs()).unwrap_or(i64::MAX));
        let key = self.key(keys);
        let scored: Vec<(i64, &String)> = members.iter().map(|member| (until, member)).collect();
        let kept = isize::try_from(KEPT).unwrap_or(isize::MAX);
        let mut pipeline = redis::pipe();
        pipeline.zadd_multiple(&key, &scored).ignore();
        pipeline.zrembyscore(&key, "-inf", now).ignore();
        pipeline.zremrangebyrank(&key, 0, -(kept + 1)).ignore();
        connection.pipeline("remember what was revoked", &pipeline).await
    }

    /// All that are still remembered at `now`, the oldest first.
    pub async fn remembered(
        self,
        connection: &Connection,
        keys: &Keys,
        now: i64,
    ) -> Result<Vec<String>, TransportError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.key(keys)).arg(now).arg("+inf");
        connection.query("read what was revoked", &command).await
    }
}

impl ResultBackend {
    /// Stores and publishes the state of a task that was revoked before a worker had it; one that
    /// a worker has told of, or that has ended, stays (`celery.worker.control`, `_revoke`).
    pub async fn store_revoked(&self, meta: &TaskMeta<'_>) -> Result<(), TransportError> {
        let result = self.encode(meta);
        let mut script = scripts::STORE_REVOKED.prepare_invoke();
        script.key(keys::task_meta(meta.task_id)).arg(result.ttl_seconds).arg(&result.record);
        self.connection().script("store that a task is revoked", &script).await
    }
}
