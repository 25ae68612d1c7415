//! `jwt_maintenance_key_state`: what we know of a key pair beyond Django's columns.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Text};

use crate::schema::jwt_maintenance_key_state::dsl;
use crate::{AnyConnection, UtcDateTime, UtcDateTimeSql};

/// The life of one key pair. Key pairs that Django made and we never touched have none.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct KeyState {
    /// The key pair's primary key as text.
    pub key_pair: String,
    /// Its `kid`.
    pub kid: String,
    /// Whether it was published ahead of its rotation, and waits for it.
    pub is_pending: bool,
    /// Whether its tokens must not be accepted any more, because others may know it.
    pub is_withdrawn: bool,
    /// When it began to sign.
    pub activated_at: Option<UtcDateTime>,
    /// When a newer one began to sign in its place.
    pub superseded_at: Option<UtcDateTime>,
    /// When it stopped being active.
    pub retired_at: Option<UtcDateTime>,
}

impl KeyState {
    /// A key pair of which nothing is known yet.
    pub fn new(key_pair: String, kid: String) -> Self {
        Self {
            key_pair,
            kid,
            is_pending: false,
            is_withdrawn: false,
            activated_at: None,
            superseded_at: None,
            retired_at: None,
        }
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(connection: &mut AnyConnection) -> QueryResult<Vec<Self>> {
        dsl::jwt_maintenance_key_state.load(connection)
    }

    /// Stores it in place of what was stored of this key pair.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn save(&self, connection: &mut AnyConnection) -> QueryResult<()> {
        sql_query(
            "INSERT INTO jwt_maintenance_key_state \
             (key_pair, kid, is_pending, is_withdrawn, activated_at, superseded_at, retired_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (key_pair) DO UPDATE SET kid = excluded.kid, \
             is_pending = excluded.is_pending, is_withdrawn = excluded.is_withdrawn, \
             activated_at = excluded.activated_at, \
             superseded_at = excluded.superseded_at, retired_at = excluded.retired_at",
        )
        .bind::<Text, _>(&self.key_pair)
        .bind::<Text, _>(&self.kid)
        .bind::<Bool, _>(self.is_pending)
        .bind::<Bool, _>(self.is_withdrawn)
        .bind::<Nullable<UtcDateTimeSql>, _>(self.activated_at)
        .bind::<Nullable<UtcDateTimeSql>, _>(self.superseded_at)
        .bind::<Nullable<UtcDateTimeSql>, _>(self.retired_at)
        .execute(connection)?;
        Ok(())
    }

    /// Forgets a key pair that is deleted.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn delete(connection: &mut AnyConnection, key_pair: &str) -> QueryResult<()> {
        diesel::delete(dsl::jwt_maintenance_key_state.filter(dsl::key_pair.eq(key_pair)))
            .execute(connection)?;
        Ok(())
    }
}
