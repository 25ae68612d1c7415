//! `jwt_maintenance_forced_rotation`: which calls have had their forced rotation.

use diesel::prelude::*;

use crate::schema::jwt_maintenance_forced_rotation::{self, dsl};
use crate::{AnyConnection, UtcDateTime};

/// A forced rotation that was done. A message that is delivered twice finds it here.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = jwt_maintenance_forced_rotation)]
pub struct ForcedRotation {
    /// The id of the task that asked for it.
    pub task_id: String,
    /// When it was done.
    pub rotated_at: UtcDateTime,
    /// The new key pair's primary key as text.
    pub key_pair: String,
}

impl ForcedRotation {
    /// The one that the task `task_id` has had.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn find(connection: &mut AnyConnection, task_id: &str) -> QueryResult<Option<Self>> {
        dsl::jwt_maintenance_forced_rotation
            .filter(dsl::task_id.eq(task_id))
            .first(connection)
            .optional()
    }

    /// Stores it; in the transaction of the rotation.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn insert(&self, connection: &mut AnyConnection) -> QueryResult<()> {
        diesel::insert_into(dsl::jwt_maintenance_forced_rotation)
            .values(self)
            .execute(connection)?;
        Ok(())
    }

    /// Forgets those from before `bound`: no message is delivered again after that.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn delete_before(connection: &mut AnyConnection, bound: UtcDateTime) -> QueryResult<()> {
        diesel::delete(dsl::jwt_maintenance_forced_rotation.filter(dsl::rotated_at.lt(bound)))
            .execute(connection)?;
        Ok(())
    }
}
