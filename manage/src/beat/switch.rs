//! `beat enable`, `disable`, `reset`, `pause` and `resume`.

use beat::is_sent;
use celery_redis::transport::beat_state::{BeatState, Switch};
use serde_json::json;

use super::chosen;
use crate::failure::Failure;
use crate::report::{Report, good, warning};

pub(super) async fn enable(state: &BeatState, names: &[String]) -> Result<Report, Failure> {
    let ledger = state.ledger().await?;
    let now = state.now().await?;
    for entry in chosen(&ledger, names)? {
        let stored = ledger.get(&entry.name);
        if is_sent(&entry, stored) {
            continue;
        }
        let switch = Some(Switch::On).filter(|_| !entry.enabled);
        // Never back: what was sent stays sent.
        let from = stored.and_then(|stored| stored.cursor).map_or(now, |cursor| cursor.max(now));
        state.switch(&entry.name, switch, Some(from)).await?;
    }
    Ok(told("enabled", names))
}

pub(super) async fn disable(state: &BeatState, names: &[String]) -> Result<Report, Failure> {
    let ledger = state.ledger().await?;
    for entry in chosen(&ledger, names)? {
        let switch = Some(Switch::Off).filter(|_| entry.enabled);
        state.switch(&entry.name, switch, None).await?;
    }
    Ok(told("disabled", names))
}

pub(super) async fn reset(state: &BeatState, names: &[String]) -> Result<Report, Failure> {
    let ledger = state.ledger().await?;
    let now = state.now().await?;
    for entry in chosen(&ledger, names)? {
        let switch = ledger.get(&entry.name).and_then(|stored| stored.switch);
        state.switch(&entry.name, switch, Some(now)).await?;
    }
    Ok(told("reset", names))
}

pub(super) async fn pause(state: &BeatState, by: &str) -> Result<Report, Failure> {
    state.pause(by).await?;
    let line = "Nothing is sent until `jwt_manage beat resume`.";
    Ok(Report::new(json!({ "paused": true }), vec![warning(line)]))
}

pub(super) async fn resume(state: &BeatState) -> Result<Report, Failure> {
    let line = if state.resume().await? { "Slots are sent again." } else { "Nobody had paused." };
    Ok(Report::new(json!({ "paused": false }), vec![good(line)]))
}

fn told(what: &str, names: &[String]) -> Report {
    let line = format!("{what}: {}", names.join(", "));
    Report::new(json!({ what: names }), vec![good(line)])
}
