//! What beat sends, and when.

use celery_redis::Signature;
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::schedule::{CrontabError, Schedule};

/// The namespace of the ids of the tasks that beat sends.
const TASK_IDS: Uuid = Uuid::from_u128(0x6f1c_8f0e_53a4_4b7b_9d7e_2f0d_1c8b_5a96);

/// The tasks that keep a site's JWT authentication in order, at quiet hours: name of the entry,
/// name of the task, crontab in UTC. New scopes come before the rotation of the same night.
const BUILT_IN: [(&str, &str, &str); 5] = [
    ("cleanup-expired-tokens", "jwt_auth.tasks.cleanup_expired_tokens", "0 3 * * *"),
    ("health-report", "jwt_auth.tasks.generate_jwt_health_report", "0 6 * * *"),
    ("rotate-keypairs", "jwt_auth.tasks.rotate_jwt_keypairs", "0 2 * * sun"),
    ("initialize-scopes", "jwt_auth.tasks.initialize_jwt_scopes", "30 1 * * sun"),
    ("cleanup-inactive-keypairs", "jwt_auth.tasks.cleanup_inactive_keypairs", "0 4 1 * *"),
];

/// A task that is sent again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: what its last run is kept under.
    pub name: String,
    /// The task's name on the wire.
    pub task: String,
    /// When.
    pub schedule: Schedule,
    /// Where to.
    pub queue: String,
}

impl Entry {
    /// The call for one slot. The id follows from entry and slot alone, so that whoever sends
    /// the slot sends the same task.
    pub fn signature(&self, slot: DateTime<Utc>) -> Signature {
        Signature::new(self.task.as_str())
            .id(self.task_id(slot).to_string())
            .queue(self.queue.as_str())
            .ignore_result(None)
            .header("celery_beat_task", true)
    }

    fn task_id(&self, slot: DateTime<Utc>) -> Uuid {
        let slot = slot.to_rfc3339_opts(SecondsFormat::Micros, true);
        Uuid::new_v5(&TASK_IDS, format!("{}\n{slot}", self.name).as_bytes())
    }
}

/// The five entries of the JWT maintenance, sent to `queue`.
///
/// # Errors
///
/// Never in a build whose tests pass.
pub fn built_in(queue: &str) -> Result<Vec<Entry>, CrontabError> {
    let entry = |(name, task, crontab): (&str, &str, &str)| {
        Ok(Entry {
            name: name.to_owned(),
            task: task.to_owned(),
            schedule: Schedule::Crontab { crontab: crontab.parse()?, zone: Tz::UTC },
            queue: queue.to_owned(),
        })
    };
    BUILT_IN.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_entries_run_at_the_documented_hours() {
        // A Monday.
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let next: Vec<_> = built_in("celery")
            .unwrap()
            .iter()
            .map(|entry| {
                let next = entry.schedule.next_after(now).unwrap();
                format!("{} {}", entry.task, next.format("%a %d %H:%M"))
            })
            .collect();

        assert_eq!(
            next,
            [
                "jwt_auth.tasks.cleanup_expired_tokens Tue 24 03:00",
                "jwt_auth.tasks.generate_jwt_health_report Tue 24 06:00",
                "jwt_auth.tasks.rotate_jwt_keypairs Sun 29 02:00",
                "jwt_auth.tasks.initialize_jwt_scopes Sun 29 01:30",
                "jwt_auth.tasks.cleanup_inactive_keypairs Tue 01 04:00",
            ]
        );
    }

    #[test]
    fn the_id_of_a_slot_is_always_the_same_and_no_other_slots() {
        let [cleanup, health, ..] = &built_in("celery").unwrap()[..] else { panic!("two entries") };
        let slot: DateTime<Utc> = "2026-11-24T03:00:00Z".parse().unwrap();
        let later = "2026-11-25T03:00:00Z".parse().unwrap();

        assert_eq!(cleanup.task_id(slot), cleanup.clone().task_id(slot));
        assert_ne!(cleanup.task_id(slot), cleanup.task_id(later));
        assert_ne!(cleanup.task_id(slot), health.task_id(slot));
    }
}
