//! The entries of the JWT maintenance, which are there where nobody says otherwise.

use chrono_tz::Tz;

use crate::entry::{Call, Entry};
use crate::schedule::{Schedule, ScheduleError};

/// The tasks that keep a site's JWT authentication in order, at quiet hours: name of the entry,
/// name of the task, crontab in UTC. New scopes come before the rotation of the same night.
const BUILT_IN: [(&str, &str, &str); 5] = [
    ("cleanup-expired-tokens", "jwt_auth.tasks.cleanup_expired_tokens", "0 3 * * *"),
    ("health-report", "jwt_auth.tasks.generate_jwt_health_report", "0 6 * * *"),
    ("rotate-keypairs", "jwt_auth.tasks.rotate_jwt_keypairs", "0 2 * * sun"),
    ("initialize-scopes", "jwt_auth.tasks.initialize_jwt_scopes", "30 1 * * sun"),
    ("cleanup-inactive-keypairs", "jwt_auth.tasks.cleanup_inactive_keypairs", "0 4 1 * *"),
];

/// The five entries of the JWT maintenance, sent to `queue`.
///
/// # Errors
///
/// Never in a build whose tests pass.
pub fn built_in(queue: &str) -> Result<Vec<Entry>, ScheduleError> {
    let entry = |(name, task, crontab): (&str, &str, &str)| {
        let call = Call { task: task.to_owned(), queue: queue.to_owned(), ..Call::default() };
        Ok(Entry::new(name, call, Schedule::parse(crontab, Tz::UTC)?))
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
                format!("{} {}", entry.call.task, next.format("%a %d %H:%M"))
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
}
