//! `beat trigger`: an entry's message, now, whatever its schedule says.

use celery_redis::transport::beat_state::BeatState;
use serde_json::{Value, json};

use super::chosen;
use crate::failure::Failure;
use crate::report::{Report, good};
use crate::session::Session;

pub(super) async fn run(
    session: &Session,
    state: &BeatState,
    names: &[String],
) -> Result<Report, Failure> {
    let entries = chosen(&state.ledger().await?, names)?;
    let now = state.now().await?;
    let client = session.client().await?;
    let mut sent: Vec<Value> = Vec::with_capacity(entries.len());
    let mut lines = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = client.send(&entry.untimed_signature(now)).await?.id().to_owned();
        let queue = &entry.call.queue;
        lines.push(good(format!("sent {} [{id}] to {queue}", entry.name)));
        sent.push(json!({ "entry": entry.name, "id": id, "queue": queue }));
    }
    Ok(Report::new(json!({ "sent": sent }), lines))
}
