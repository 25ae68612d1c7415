//! Tasks that must not start any more: by their id, by a stamp, or because they came too late
//! (`celery.worker.state`, `revoked` and `revoked_stamps`).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::TransportError;
use celery_redis::transport::revoked::{KEPT, Revoked};
use celery_redis::wire::message::Message;
use chrono::Utc;
use serde_json::Value;

/// How long it is remembered in Redis: longer than any eta that people give.
const REMEMBERED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Ids of tasks that came too late, which are remembered here only.
const EXPIRED_KEPT: usize = 10_000;

/// What must not start. Redis remembers it too, so that a worker that was down knows it.
#[derive(Debug)]
pub(crate) struct RevokedTasks(Mutex<Known>);

#[derive(Debug)]
struct Known {
    revoked: Bounded,
    expired: Bounded,
    /// By the stamps' names.
    stamps: BTreeMap<String, Vec<Value>>,
}

/// Ids in the order they came; beyond the limit the oldest are forgotten.
#[derive(Debug)]
struct Bounded {
    ids: HashSet<String>,
    order: VecDeque<String>,
    limit: usize,
}

/// A stamp and the values of it that are meant.
pub(crate) type Stamps = BTreeMap<String, Vec<Value>>;

impl Default for RevokedTasks {
    fn default() -> Self {
        Self(Mutex::new(Known {
            revoked: Bounded::new(KEPT),
            expired: Bounded::new(EXPIRED_KEPT),
            stamps: BTreeMap::new(),
        }))
    }
}

impl RevokedTasks {
    /// Whether the message's task must not start.
    pub(crate) fn covers(&self, message: &Message) -> bool {
        let known = self.known();
        if known.revoked.contains(&message.id) || known.expired.contains(&message.id) {
            return true;
        }
        !known.stamps.is_empty() && {
            let headers = &message.headers;
            matches(&known.stamps, &headers.stamped_headers, |name| headers.stamps.read(name))
                .is_some()
        }
    }

    /// Takes over what Redis remembers.
    pub(crate) async fn load(&self, broker: &Broker) -> Result<(), TransportError> {
        let (connection, keys) = (broker.beside(), broker.keys());
        let now = Utc::now().timestamp();
        let ids = Revoked::Tasks.remembered(connection, keys, now).await?;
        let stamps = Revoked::Stamps.remembered(connection, keys, now).await?;
        let mut known = self.known();
        known.revoked.extend(ids);
        for member in stamps {
            if let Ok((name, value)) = serde_json::from_str(&member) {
                known.add_stamp(name, value);
            }
        }
        Ok(())
    }

    /// From now on these tasks must not start, here and, once Redis has it, anywhere.
    pub(crate) async fn add(&self, broker: &Broker, ids: &[String]) -> Result<(), TransportError> {
        self.known().revoked.extend(ids.iter().cloned());
        remember(broker, Revoked::Tasks, ids).await
    }

    /// The same for those of `ids` that are not known yet, and how many they are. What is known is
    /// not remembered for longer than it was.
    pub(crate) async fn add_unknown(
        &self,
        broker: &Broker,
        ids: &[String],
    ) -> Result<usize, TransportError> {
        let unknown: Vec<String> = {
            let known = self.known();
            ids.iter().filter(|id| !known.revoked.contains(id)).cloned().collect()
        };
        self.add(broker, &unknown).await?;
        Ok(unknown.len())
    }

    /// From now on tasks with one of these stamps must not start.
    pub(crate) async fn add_stamps(
        &self,
        broker: &Broker,
        stamps: &Stamps,
    ) -> Result<(), TransportError> {
        let mut members = Vec::new();
        for (name, values) in stamps {
            for value in values {
                self.known().add_stamp(name.clone(), value.clone());
                members.push(Value::from(vec![Value::from(name.as_str()), value.clone()]));
            }
        }
        let members: Vec<String> = members.iter().map(Value::to_string).collect();
        remember(broker, Revoked::Stamps, &members).await
    }

    /// This task came too late; sent again under the same id it does not start either.
    pub(crate) fn add_expired(&self, id: &str) {
        self.known().expired.extend([id.to_owned()]);
    }

    /// All ids, the oldest first.
    pub(crate) fn ids(&self) -> Vec<String> {
        let known = self.known();
        known.revoked.order.iter().chain(&known.expired.order).cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of a task's stamps that is among `revoked`, and which of its values are
/// (`celery.worker.request`, `revoked`).
pub(crate) fn matches<'a>(
    revoked: &Stamps,
    stamped_headers: &'a [String],
    stamp: impl Fn(&str) -> Option<Value>,
) -> Option<(&'a str, Vec<Value>)> {
    stamped_headers.iter().find_map(|name| {
        let wanted = revoked.get(name)?;
        let common: Vec<Value> =
            maybe_list(stamp(name)?).into_iter().filter(|value| wanted.contains(value)).collect();
        (!common.is_empty()).then_some((name.as_str(), common))
    })
}

/// One value or a list of them (`celery.utils.functional`, `maybe_list`).
pub(crate) fn maybe_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        Value::Null => Vec::new(),
        value => vec![value],
    }
}

async fn remember(
    broker: &Broker,
    what: Revoked,
    members: &[String],
) -> Result<(), TransportError> {
    let now = Utc::now().timestamp();
    what.remember(broker.beside(), broker.keys(), members, now, REMEMBERED_FOR).await
}

impl Known {
    fn add_stamp(&mut self, name: String, value: Value) {
        let values = self.stamps.entry(name).or_default();
        if !values.contains(&value) && values.len() < KEPT {
            values.push(value);
        }
    }
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { ids: HashSet::new(), order: VecDeque::new(), limit }
    }

    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn extend(&mut self, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            if !self.ids.insert(id.clone()) {
                continue;
            }
            self.order.push_back(id);
            if self.order.len() > self.limit
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_ids_are_forgotten_first() {
        let mut ids = Bounded::new(2);
        ids.extend(["a", "b", "a", "c"].map(str::to_owned));
        assert!(!ids.contains("a") && ids.contains("b") && ids.contains("c"));
        assert_eq!(ids.order, ["b", "c"]);
    }

    #[test]
    fn a_stamp_matches_by_its_value_or_one_of_its_values() {
        let revoked = Stamps::from([("tenant".to_owned(), vec![json!("acme"), json!(7)])]);
        let stamped = ["other".to_owned(), "tenant".to_owned()];
        let found = |stamp: Value| {
            matches(&revoked, &stamped, |name| (name == "tenant").then(|| stamp.clone()))
        };
        assert_eq!(found(json!("acme")), Some(("tenant", vec![json!("acme")])));
        assert_eq!(found(json!(["x", 7])), Some(("tenant", vec![json!(7)])));
        assert_eq!(found(json!("7")), None);
        assert_eq!(found(Value::Null), None);
        assert_eq!(matches(&revoked, &[], |_| Some(json!("acme"))), None);
    }
}
