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
    /// What: a word or two, such as created, activated, deactivated, deleted.
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
        Self::newest_of(connection, limit, None, None)
    }

    /// As [`AuditEvent::newest`], of those since `since`, and of the key pair whose `kid` or
    /// primary key is `key_pair`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn newest_of(
        connection: &mut AnyConnection,
        limit: u32,
        since: Option<UtcDateTime>,
        key_pair: Option<&str>,
    ) -> QueryResult<Vec<Self>> {
        let mut events = dsl::jwt_maintenance_audit_event
            .order(dsl::id.desc())
            .limit(i64::from(limit))
            .into_boxed();
        if let Some(since) = since {
            events = events.filter(dsl::at.ge(since));
        }
        if let Some(key_pair) = key_pair {
            events = events.filter(dsl::kid.eq(key_pair).or(dsl::key_pair.eq(key_pair)));
        }
        events.load(connection)
    }
}
