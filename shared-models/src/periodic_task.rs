//! django-celery-beat's tables: what the site's admin says about periodic tasks.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Integer, Nullable, Text};

use crate::{AnyConnection, Database, DatabaseError, UtcDateTime, UtcDateTimeSql};

/// A row of `django_celery_beat_periodictask`, with that of its schedule.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct PeriodicTask {
    /// Unique.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The task's name on the wire.
    #[diesel(sql_type = Text)]
    pub task: String,
    /// A JSON array.
    #[diesel(sql_type = Text)]
    pub args: String,
    /// A JSON object.
    #[diesel(sql_type = Text)]
    pub kwargs: String,
    /// A JSON object.
    #[diesel(sql_type = Nullable<Text>)]
    pub headers: Option<String>,
    /// `None` for the default one.
    #[diesel(sql_type = Nullable<Text>)]
    pub queue: Option<String>,
    /// Beside queues.
    #[diesel(sql_type = Nullable<Text>)]
    pub exchange: Option<String>,
    /// Beside queues.
    #[diesel(sql_type = Nullable<Text>)]
    pub routing_key: Option<String>,
    /// 0 to 255.
    #[diesel(sql_type = Nullable<Integer>)]
    pub priority: Option<i32>,
    /// From when on it is not sent any more.
    #[diesel(sql_type = Nullable<UtcDateTimeSql>)]
    pub expires: Option<UtcDateTime>,
    /// How long each message is valid.
    #[diesel(sql_type = Nullable<Integer>)]
    pub expire_seconds: Option<i32>,
    /// Whether it is sent once only.
    #[diesel(sql_type = Bool)]
    pub one_off: bool,
    /// Before which it is not sent.
    #[diesel(sql_type = Nullable<UtcDateTimeSql>)]
    pub start_time: Option<UtcDateTime>,
    /// Whether it is sent.
    #[diesel(sql_type = Bool)]
    pub enabled: bool,
    /// When it was sent last.
    #[diesel(sql_type = Nullable<UtcDateTimeSql>)]
    pub last_run_at: Option<UtcDateTime>,
    /// When the row was changed last.
    #[diesel(sql_type = UtcDateTimeSql)]
    pub date_changed: UtcDateTime,
    /// Of an interval, how many of its periods.
    #[diesel(sql_type = Nullable<Integer>)]
    pub every: Option<i32>,
    /// `days`, `hours`, `minutes`, `seconds` or `microseconds`.
    #[diesel(sql_type = Nullable<Text>)]
    pub period: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub minute: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub hour: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub day_of_month: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub month_of_year: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub day_of_week: Option<String>,
    /// Of a crontab.
    #[diesel(sql_type = Nullable<Text>)]
    pub timezone: Option<String>,
    /// The instant of a clocked schedule.
    #[diesel(sql_type = Nullable<UtcDateTimeSql>)]
    pub clocked_time: Option<UtcDateTime>,
}

const ALL: &str = "\
SELECT task.name, task.task, task.args, task.kwargs, task.headers, task.queue, task.exchange, \
task.routing_key, task.priority, task.expires, task.expire_seconds, task.one_off, \
task.start_time, task.enabled, task.last_run_at, task.date_changed, \
every.every, every.period, cron.minute, cron.hour, cron.day_of_month, cron.month_of_year, \
cron.day_of_week, cron.timezone, clocked.clocked_time \
FROM django_celery_beat_periodictask task \
LEFT JOIN django_celery_beat_intervalschedule every ON every.id = task.interval_id \
LEFT JOIN django_celery_beat_crontabschedule cron ON cron.id = task.crontab_id \
LEFT JOIN django_celery_beat_clockedschedule clocked ON clocked.id = task.clocked_id \
ORDER BY task.name";

#[derive(QueryableByName)]
struct Change {
    #[diesel(sql_type = UtcDateTimeSql)]
    last_update: UtcDateTime,
}

impl Database {
    /// All periodic tasks, also those that are switched off, by name.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached, or has no such tables.
    pub fn periodic_tasks(&self) -> Result<Vec<PeriodicTask>, DatabaseError> {
        Ok(sql_query(ALL).load(&mut *self.unchecked()?)?)
    }

    /// When the site changed them last, as it says itself; `None` where it never has.
    ///
    /// # Errors
    ///
    /// As [`Database::periodic_tasks`].
    pub fn periodic_tasks_changed(&self) -> Result<Option<UtcDateTime>, DatabaseError> {
        let query = "SELECT last_update FROM django_celery_beat_periodictasks WHERE ident = 1";
        let found: Vec<Change> = sql_query(query).load(&mut *self.unchecked()?)?;
        Ok(found.first().map(|change| change.last_update))
    }

    /// Writes when periodic tasks ran last and how often since, where the site's admin shows it,
    /// and switches off those of them that run once only. To be told what it wrote itself would
    /// not help the site's own scheduler: the flag of changes stays, but for what was switched off.
    ///
    /// # Errors
    ///
    /// As [`Database::periodic_tasks`], and where the tables may not be written to.
    pub fn note_periodic_runs(
        &self,
        runs: &[(String, UtcDateTime, i32)],
        now: UtcDateTime,
    ) -> Result<(), DatabaseError> {
        let mut connection = self.unchecked()?;
        connection.write_transaction(|connection| {
            let mut switched_off = 0;
            for (name, last_run_at, count) in runs {
                note(connection, name, *last_run_at, *count)?;
                switched_off += switch_off(connection, name, now)?;
            }
            if switched_off > 0 {
                sql_query("UPDATE django_celery_beat_periodictasks SET last_update = $1")
                    .bind::<UtcDateTimeSql, _>(now)
                    .execute(connection)?;
            }
            Ok(())
        })
    }
}

fn note(
    connection: &mut AnyConnection,
    name: &str,
    last_run_at: UtcDateTime,
    count: i32,
) -> QueryResult<usize> {
    sql_query(
        "UPDATE django_celery_beat_periodictask \
         SET last_run_at = $1, total_run_count = total_run_count + $2 WHERE name = $3",
    )
    .bind::<UtcDateTimeSql, _>(last_run_at)
    .bind::<Integer, _>(count)
    .bind::<Text, _>(name)
    .execute(connection)
}

/// As django-celery-beat leaves a task that has run its only time.
fn switch_off(connection: &mut AnyConnection, name: &str, now: UtcDateTime) -> QueryResult<usize> {
    sql_query(
        "UPDATE django_celery_beat_periodictask \
         SET enabled = FALSE, total_run_count = 0, last_run_at = NULL, date_changed = $1 \
         WHERE name = $2 AND one_off AND enabled",
    )
    .bind::<UtcDateTimeSql, _>(now)
    .bind::<Text, _>(name)
    .execute(connection)
}
