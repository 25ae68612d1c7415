//! `jwt_maintenance_task_success`: when each task last did its work.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use crate::schema::jwt_maintenance_task_success::dsl;
use crate::{AnyConnection, UtcDateTime, UtcDateTimeSql};

/// The successes of one task.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct TaskSuccess {
    /// The task's name.
    pub task: String,
    /// Its first success.
    pub first_at: UtcDateTime,
    /// Its latest.
    pub last_at: UtcDateTime,
}

impl TaskSuccess {
    /// Remembers that `task` did its work at `at`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn record(connection: &mut AnyConnection, task: &str, at: UtcDateTime) -> QueryResult<()> {
        sql_query(
            "INSERT INTO jwt_maintenance_task_success (task, first_at, last_at) \
             VALUES ($1, $2, $2) ON CONFLICT (task) DO UPDATE SET last_at = excluded.last_at",
        )
        .bind::<Text, _>(task)
        .bind::<UtcDateTimeSql, _>(at)
        .execute(connection)?;
        Ok(())
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(connection: &mut AnyConnection) -> QueryResult<Vec<Self>> {
        dsl::jwt_maintenance_task_success.load(connection)
    }
}
