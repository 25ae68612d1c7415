//! What beat sends, and when.

use celery_redis::Signature;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::schedule::{Schedule, ScheduleError};

/// The namespace of the ids of the tasks that beat sends.
const TASK_IDS: Uuid = Uuid::from_u128(0x6f1c_8f0e_53a4_4b7b_9d7e_2f0d_1c8b_5a96);
/// The namespace that spreads slots over an entry's jitter.
const JITTER: Uuid = Uuid::from_u128(0x0b0e_6c7f_51c9_4d57_8d1c_7c3d_9f5a_2e41);

/// A task that is sent again and again, or once.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name: what its last run is kept under.
    pub name: String,
    /// What is sent.
    pub call: Call,
    /// When.
    pub schedule: Schedule,
    /// What becomes of slots that could not be sent in time.
    pub catch_up: CatchUp,
    /// Slots are spread over this time after their instant; zero for none.
    pub jitter: TimeDelta,
    /// Slots before this instant are not sent.
    pub not_before: Option<DateTime<Utc>>,
    /// Slots from this instant on are not sent.
    pub not_after: Option<DateTime<Utc>>,
    /// Whether the first slot that is sent is its last.
    pub one_off: bool,
    /// Whether it is sent, unless an operator has switched it otherwise.
    pub enabled: bool,
    /// From when its slots count where no beat has sent it yet; `None` is from when it is first
    /// seen.
    pub first_from: Option<DateTime<Utc>>,
}

/// The call that an entry sends.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Call {
    /// The task's name on the wire.
    pub task: String,
    /// Positional arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// Keyword arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map<String, Value>,
    /// Where to.
    pub queue: String,
    /// 0 to 255; on Redis, 0 is served first.
    #[serde(default)]
    pub priority: i64,
    /// The task is not run later than this many seconds after it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<f64>,
    /// More headers of the message.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
}

/// What becomes of slots that could not be sent in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Which of them are sent.
    pub misfire: Misfire,
    /// The longest time that a slot may be late; then it is not sent any more.
    pub deadline: Option<TimeDelta>,
}

/// Which of the slots that could not be sent in time are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// The latest one.
    Once,
    /// None that is later than the deadline, which is a minute where nothing else is said.
    Skip,
    /// Each, the oldest first, up to this many of the latest.
    All {
        /// The most to send.
        limit: u32,
    },
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { misfire: Misfire::Once, deadline: None }
    }
}

impl CatchUp {
    /// What [`Misfire::Skip`] allows for where no deadline is given: the time that another beat
    /// needs to take over, and more.
    const SKIP_DEADLINE: TimeDelta = TimeDelta::seconds(60);

    /// The deadline that counts.
    pub(crate) fn longest_delay(self) -> Option<TimeDelta> {
        match self.misfire {
            Misfire::Skip => Some(self.deadline.unwrap_or(Self::SKIP_DEADLINE)),
            Misfire::Once | Misfire::All { .. } => self.deadline,
        }
    }
}

impl Entry {
    /// An entry without any options.
    pub fn new(name: impl Into<String>, call: Call, schedule: Schedule) -> Self {
        Self {
            name: name.into(),
            call,
            schedule,
            catch_up: CatchUp::default(),
            jitter: TimeDelta::zero(),
            not_before: None,
            not_after: None,
            one_off: false,
            enabled: true,
            first_from: None,
        }
    }

    /// The call for one slot, sent at `now`. The id follows from entry and slot alone, so that
    /// whoever sends the slot sends the same task.
    pub fn signature(&self, slot: DateTime<Utc>, now: DateTime<Utc>) -> Signature {
        self.untimed_signature(now).id(self.task_id(slot).to_string())
    }

    /// The call outside of all slots, with an id of its own.
    pub fn untimed_signature(&self, now: DateTime<Utc>) -> Signature {
        let call = &self.call;
        let mut signature = Signature::new(call.task.as_str())
            .queue(call.queue.as_str())
            .priority(call.priority)
            .ignore_result(None);
        for arg in &call.args {
            signature = signature.arg(arg.clone());
        }
        for (name, value) in &call.kwargs {
            signature = signature.kwarg(name.as_str(), value.clone());
        }
        for (name, value) in &call.headers {
            signature = signature.header(name.as_str(), value.clone());
        }
        if let Some(expires) = self.expires(now) {
            signature = signature.expires(expires);
        }
        signature.header("celery_beat_task", true)
    }

    fn expires(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a float saturates, and is then refused"
        )]
        let after = |seconds: f64| {
            now.checked_add_signed(TimeDelta::try_milliseconds((seconds * 1000.0) as i64)?)
        };
        self.call.expires.and_then(after).or(self.not_after)
    }

    /// The task's id for a slot.
    pub fn task_id(&self, slot: DateTime<Utc>) -> Uuid {
        self.of_slot(TASK_IDS, slot)
    }

    /// When the slot is sent: somewhere within the jitter, always at the same instant.
    pub fn due_at(&self, slot: DateTime<Utc>) -> DateTime<Utc> {
        if self.jitter <= TimeDelta::zero() {
            return slot;
        }
        let (random, ..) = self.of_slot(JITTER, slot).as_fields();
        let share = self.jitter.num_milliseconds() * i64::from(random) / (i64::from(u32::MAX) + 1);
        slot.checked_add_signed(TimeDelta::milliseconds(share)).unwrap_or(slot)
    }

    fn of_slot(&self, namespace: Uuid, slot: DateTime<Utc>) -> Uuid {
        let slot = slot.to_rfc3339_opts(SecondsFormat::Micros, true);
        Uuid::new_v5(&namespace, format!("{}\n{slot}", self.name).as_bytes())
    }

    /// As JSON, for others to read.
    pub fn to_definition(&self) -> Definition {
        let (misfire, misfire_limit) = match self.catch_up.misfire {
            Misfire::Once => ("once", None),
            Misfire::Skip => ("skip", None),
            Misfire::All { limit } => ("all", Some(limit)),
        };
        Definition {
            call: self.call.clone(),
            schedule: self.schedule.text(),
            timezone: self.schedule.zone(),
            misfire: misfire.to_owned(),
            misfire_limit,
            deadline: self.catch_up.deadline.map(TimeDelta::as_seconds_f64),
            jitter: self.jitter.as_seconds_f64(),
            not_before: self.not_before,
            not_after: self.not_after,
            one_off: self.one_off,
            enabled: self.enabled,
        }
    }

    /// What [`Entry::to_definition`] said of the entry `name`.
    ///
    /// # Errors
    ///
    /// Where the schedule is of another release.
    pub fn of_definition(name: &str, definition: Definition) -> Result<Self, ScheduleError> {
        let misfire = match definition.misfire.as_str() {
            "skip" => Misfire::Skip,
            "all" => Misfire::All { limit: definition.misfire_limit.unwrap_or(1) },
            _ => Misfire::Once,
        };
        let seconds = |seconds: f64| {
            #[allow(clippy::cast_possible_truncation, reason = "a float saturates")]
            let milliseconds = (seconds * 1000.0).round() as i64;
            TimeDelta::try_milliseconds(milliseconds).unwrap_or(TimeDelta::MAX)
        };
        Ok(Self {
            name: name.to_owned(),
            schedule: Schedule::parse(&definition.schedule, definition.timezone)?,
            call: definition.call,
            catch_up: CatchUp { misfire, deadline: definition.deadline.map(seconds) },
            jitter: seconds(definition.jitter),
            not_before: definition.not_before,
            not_after: definition.not_after,
            one_off: definition.one_off,
            enabled: definition.enabled,
            first_from: None,
        })
    }
}

/// An entry as the leader tells of it in Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What is sent.
    #[serde(flatten)]
    pub call: Call,
    /// As in a file.
    pub schedule: String,
    /// Whose clocks a crontab means.
    pub timezone: Tz,
    /// `once`, `skip` or `all`.
    pub misfire: String,
    /// Of `all`, the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire_limit: Option<u32>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<f64>,
    /// Seconds.
    #[serde(default)]
    pub jitter: f64,
    /// As [`Entry::not_before`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// As [`Entry::not_after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<DateTime<Utc>>,
    /// As [`Entry::one_off`].
    #[serde(default)]
    pub one_off: bool,
    /// As [`Entry::enabled`].
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::built_in::built_in;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_id_of_a_slot_is_always_the_same_and_no_other_slots() {
        let [cleanup, health, ..] = &built_in("celery").unwrap()[..] else { panic!("two entries") };
        let (slot, later) = (utc("2026-11-24T03:00:00Z"), utc("2026-11-25T03:00:00Z"));

        assert_eq!(cleanup.task_id(slot), cleanup.clone().task_id(slot));
        assert_ne!(cleanup.task_id(slot), cleanup.task_id(later));
        assert_ne!(cleanup.task_id(slot), health.task_id(slot));
        // What releases before this one sent for that slot.
        assert_eq!(cleanup.task_id(slot).to_string(), "3feac869-b4cb-5cd1-aad0-837866cda9ac");
    }

    #[test]
    fn jitter_spreads_slots_and_each_stays_where_it_is() {
        let mut entry = built_in("celery").unwrap().remove(0);
        entry.jitter = TimeDelta::minutes(10);
        let slots: Vec<_> =
            (0..1000).map(|day| utc("2026-11-24T03:00:00Z") + TimeDelta::days(day)).collect();

        let delays: Vec<_> = slots.iter().map(|slot| entry.due_at(*slot) - *slot).collect();

        assert!(delays.iter().all(|delay| (TimeDelta::zero()..entry.jitter).contains(delay)));
        let late = delays.iter().filter(|delay| **delay > TimeDelta::minutes(5)).count();
        assert!((400..600).contains(&late), "{late} of 1000 in the second half");
        assert_eq!(entry.due_at(slots[7]), entry.clone().due_at(slots[7]));
    }

    #[test]
    fn a_definition_says_all_of_an_entry() {
        let mut entry = built_in("celery").unwrap().remove(0);
        entry.catch_up =
            CatchUp { misfire: Misfire::All { limit: 7 }, deadline: Some(TimeDelta::hours(3)) };
        entry.jitter = TimeDelta::milliseconds(1500);
        entry.not_after = Some(utc("2027-01-01T00:00:00Z"));
        entry.call.args = vec![Value::from(1), Value::Null];
        entry.call.expires = Some(0.5);
        entry.enabled = false;

        let text = serde_json::to_string(&entry.to_definition()).unwrap();
        let definition = serde_json::from_str(&text).unwrap();

        assert_eq!(Entry::of_definition(&entry.name, definition).unwrap(), entry);
    }
}
