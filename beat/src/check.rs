//! The answer to a health check: has the beat of this name ticked lately?

use celery_redis::transport::beat_state::{BeatState, BeatStateError, Sighting};

/// Whether a beat is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It ticked not long ago.
    Alive(Sighting),
    /// It has not ticked for a minute, or never.
    Silent,
}

/// Asks for the last tick of `node`.
///
/// # Errors
///
/// Where Redis does not answer: then no beat can send either.
pub async fn check(state: &BeatState, node: &str) -> Result<Check, BeatStateError> {
    Ok(state.sighting(node).await?.map_or(Check::Silent, Check::Alive))
}
