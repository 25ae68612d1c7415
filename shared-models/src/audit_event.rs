//! `jwt_maintenance_audit_event`: who did what to which key pair, and why.

use diesel::prelude::*;

use crate::schema::jwt_maintenance_audit_event::{self, dsl};
use crate::{AnyConnection, UtcDateTime};

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct AuditEvent {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: UtcDateTime,
    /// What: created, activated, deactivated, deleted.
    pub action: String,
    /// The key pair's primary key as text.
    pub key_pair: String,
    /// Its `kid`.
    pub kid: String,
    /// Why.
    pub reason: String,
    /// The task id or the operator.
    pub actor: String,
}

/// An event to be stored.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = jwt_maintenance_audit_event)]
pub struct NewAuditEvent<'a> {
    /// When.
    pub at: UtcDateTime,
    /// What: created, activated, deactivated, deleted.
    pub action: &'a str,
    /// The key pair's primary key as text.
    pub key_pair: &'a str,
    /// Its `kid`.
    pub kid: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The task id or the operator.
    pub actor: &'a str,
}

impl NewAuditEvent<'_> {
    /// Stores it; in the transaction of the change that it tells of.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn insert(&self, connection: &mut AnyConnection) -> QueryResult<()> {
        diesel::insert_into(dsl::jwt_maintenance_audit_event).values(self).execute(connection)?;
        Ok(())
    }
}

impl AuditEvent {
    /// The last `limit` events, the newest first.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn newest(connection: &mut AnyConnection, limit: u32) -> QueryResult<Vec<Self>> {
        dsl::jwt_maintenance_audit_event
            .order(dsl::id.desc())
            .limit(i64::from(limit))
            .load(connection)
    }
}
