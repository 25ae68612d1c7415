//! Tasks that must not start any more: kept in Redis, so that a worker that was down knows them.

use std::time::Duration;

use super::connection::{Connection, TransportError};
use super::keys::Keys;

/// Most ids that are kept; beyond it the oldest are forgotten.
const KEPT: isize = 100_000;

/// Remembers ids for `kept_for` from `now` (epoch seconds).
pub async fn revoke(
    connection: &Connection,
    keys: &Keys,
    ids: &[String],
    now: i64,
    kept_for: Duration,
) -> Result<(), TransportError> {
    if ids.is_empty() {
        return Ok(());
    }
    let until = now.saturating_add(i64::try_from(kept_for.as_secs()).unwrap_or(i64::MAX));
    let mut pipeline = redis::pipe();
    for id in ids {
        pipeline.zadd(keys.revoked(), id, until).ignore();
    }
    pipeline.zrembyscore(keys.revoked(), "-inf", now).ignore();
    pipeline.zremrangebyrank(keys.revoked(), 0, -(KEPT + 1)).ignore();
    connection.pipeline("remember revoked tasks", &pipeline).await
}

/// All ids that are still remembered at `now`.
pub async fn revoked(
    connection: &Connection,
    keys: &Keys,
    now: i64,
) -> Result<Vec<String>, TransportError> {
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(keys.revoked()).arg(now).arg("+inf");
    connection.query("read revoked tasks", &command).await
}
