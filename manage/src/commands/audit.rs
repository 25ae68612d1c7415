//! `audit`: who did what to key pairs and tokens, when and why.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared_models::AuditEvent;
use tasks::isoformat;

use crate::cli::Audit;
use crate::failure::Failure;
use crate::report::{Report, table};
use crate::session::Session;

#[derive(Serialize)]
struct Trail {
    events: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    at: String,
    action: String,
    keypair_id: String,
    kid: String,
    reason: String,
    /// Who: a task or an operator.
    actor: String,
    /// The id of the task, where it was one.
    task_id: Option<String>,
}

pub(crate) fn run(
    session: &Session,
    arguments: &Audit,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let database = session.database()?;
    let mut connection = database.get()?;
    let since = arguments.days.map(|days| (now - TimeDelta::days(days.into())).into());
    let keypair = arguments.keypair.as_deref();
    let events = AuditEvent::newest_of(&mut connection, arguments.limit, since, keypair)
        .map_err(shared_models::DatabaseError::from)?;
    let trail = Trail { events: events.into_iter().map(Event::from).collect() };
    let lines = lines(&trail.events);
    Report::of(&trail, lines)
}

impl From<AuditEvent> for Event {
    fn from(event: AuditEvent) -> Self {
        Self {
            at: isoformat(event.at.into()),
            action: event.action,
            keypair_id: event.key_pair,
            kid: event.kid,
            reason: event.reason,
            task_id: event.actor.strip_prefix("task ").map(str::to_owned),
            actor: event.actor,
        }
    }
}

/// The newest last, so that it stands above the prompt.
fn lines(events: &[Event]) -> Vec<String> {
    if events.is_empty() {
        return vec!["No event is recorded.".to_owned()];
    }
    let heading = ["when", "what", "key pair", "who", "why"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(events.iter().rev().map(|event| {
        // Seconds are enough for people.
        let at = event.at.get(..19).unwrap_or(&event.at).replace('T', " ");
        let Event { action, kid, actor, reason, .. } = event;
        vec![at, action.clone(), kid.clone(), actor.clone(), reason.clone()]
    }));
    table(&rows)
}
