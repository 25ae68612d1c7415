//! `jwt_auth_jwttoken`: the tokens that were issued.

use diesel::prelude::*;

use crate::schema::jwt_auth_jwttoken::{self, dsl};
use crate::{AnyConnection, RowId, UtcDateTime};

/// A token as it is stored, as far as maintenance needs it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = jwt_auth_jwttoken)]
pub struct Token {
    /// Its primary key.
    pub id: RowId,
    /// The `jti`.
    pub token_id: String,
    /// From then on nobody accepts it.
    pub expires_at: UtcDateTime,
    /// Whether it is refused before that.
    pub is_revoked: bool,
    /// Since when.
    pub revoked_at: Option<UtcDateTime>,
    /// The key pair that signed it.
    pub key_pair_id: RowId,
}

/// A token to be stored.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = jwt_auth_jwttoken)]
pub struct NewToken<'a> {
    /// Its primary key, where the database does not count.
    pub id: Option<RowId>,
    /// The `jti`.
    pub token_id: &'a str,
    /// When the row was made.
    pub created_at: UtcDateTime,
    /// When it was signed.
    pub issued_at: UtcDateTime,
    /// From then on nobody accepts it.
    pub expires_at: UtcDateTime,
    /// Whether it is refused before that.
    pub is_revoked: bool,
    /// Since when.
    pub revoked_at: Option<UtcDateTime>,
    /// What it is for.
    pub purpose: &'a str,
    /// The key pair that signed it.
    pub key_pair_id: RowId,
    /// Whose it is.
    pub user_id: RowId,
}

impl NewToken<'_> {
    /// Stores it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn insert(&self, connection: &mut AnyConnection) -> QueryResult<RowId> {
        diesel::insert_into(dsl::jwt_auth_jwttoken)
            .values(self)
            .returning(dsl::id)
            .get_result(connection)
    }
}

impl Token {
    /// All of them in the order of their keys; for small tables.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(connection: &mut AnyConnection) -> QueryResult<Vec<Self>> {
        dsl::jwt_auth_jwttoken.select(Self::as_select()).order(dsl::id.asc()).load(connection)
    }

    /// How many tokens of `key_pair` are accepted at `now`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn count_usable(
        connection: &mut AnyConnection,
        key_pair: RowId,
        now: UtcDateTime,
    ) -> QueryResult<i64> {
        dsl::jwt_auth_jwttoken
            .filter(dsl::key_pair_id.eq(key_pair))
            .filter(dsl::is_revoked.eq(false))
            .filter(dsl::expires_at.gt(now))
            .count()
            .get_result(connection)
    }

    /// Whether any token of `key_pair` is accepted at `now`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn any_usable(
        connection: &mut AnyConnection,
        key_pair: RowId,
        now: UtcDateTime,
    ) -> QueryResult<bool> {
        let usable = dsl::jwt_auth_jwttoken
            .filter(dsl::key_pair_id.eq(key_pair))
            .filter(dsl::is_revoked.eq(false))
            .filter(dsl::expires_at.gt(now))
            .select(dsl::id);
        diesel::select(diesel::dsl::exists(usable)).get_result(connection)
    }

    /// Whether any token refers to `key_pair`, accepted or not.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn any_of(connection: &mut AnyConnection, key_pair: RowId) -> QueryResult<bool> {
        let all = dsl::jwt_auth_jwttoken.filter(dsl::key_pair_id.eq(key_pair)).select(dsl::id);
        diesel::select(diesel::dsl::exists(all)).get_result(connection)
    }
}
