//! `jwt_auth_jwttoken` as support needs it: one row, found by its `jti`, with its user and scopes.

use std::fmt;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Text};
use uuid::Uuid;

use crate::connection::MultiBackend;
use crate::layout::lacks;
use crate::sweep::revocation;
use crate::{
    AnyConnection, DatabaseError, IdKind, Layout, RowId, RowIdSql, UserIdKind, UtcDateTime,
    UtcDateTimeSql,
};

const TABLE: &str = "jwt_auth_jwttoken";

/// The primary key of a user, of whichever kind the site's user model has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId {
    kind: UserIdKind,
    /// As Python's `str(user.pk)`.
    text: String,
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl UserId {
    /// Reads what people write; none where the site's users have keys of another kind.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Schema`] where the tokens of the site have no user.
    pub fn parse(layout: &Layout, text: &str) -> Result<Option<Self>, DatabaseError> {
        let kind = layout.token.user.ok_or_else(|| lacks(TABLE, "user_id"))?;
        let text = match kind {
            UserIdKind::Integer => text.parse::<i64>().ok().map(|id| id.to_string()),
            UserIdKind::Uuid => Uuid::parse_str(text).ok().map(|id| id.hyphenated().to_string()),
            UserIdKind::Text => Some(text.to_owned()),
        };
        Ok(text.map(|text| Self { kind, text }))
    }

    /// The text that is bound.
    fn stored(&self, connection: &AnyConnection) -> String {
        match (self.kind, connection.is_postgres()) {
            (UserIdKind::Uuid, false) => self.text.replace('-', ""),
            _ => self.text.clone(),
        }
    }

    /// What turns the bound text into a value of the column.
    fn place(&self, connection: &AnyConnection, place: usize) -> String {
        match (self.kind, connection.is_postgres()) {
            (UserIdKind::Integer, true) => format!("CAST(${place} AS bigint)"),
            (UserIdKind::Uuid, true) => format!("CAST(${place} AS uuid)"),
            // SQLite turns the text into a number where the column has numbers.
            _ => format!("${place}"),
        }
    }
}

/// A row of an issued token.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct IssuedToken {
    /// Its primary key.
    #[diesel(sql_type = RowIdSql)]
    pub id: RowId,
    /// The key pair that signed it.
    #[diesel(sql_type = RowIdSql)]
    pub key_pair_id: RowId,
    /// Whose it is, as Python's `str(user.pk)`; none where the table does not say.
    #[diesel(sql_type = Nullable<Text>)]
    pub user: Option<String>,
    /// From then on nobody accepts it.
    #[diesel(sql_type = UtcDateTimeSql)]
    pub expires_at: UtcDateTime,
    /// Whether it is refused before that.
    #[diesel(sql_type = Bool)]
    pub is_revoked: bool,
    /// Since when, where the table says.
    #[diesel(sql_type = Nullable<UtcDateTimeSql>)]
    pub revoked_at: Option<UtcDateTime>,
    /// What it is for, where the table says.
    #[diesel(sql_type = Nullable<Text>)]
    pub purpose: Option<String>,
}

/// A row to be stored. What the site's table has no column for is left out.
#[derive(Debug)]
pub struct NewIssuedToken<'a> {
    /// The `jti`.
    pub jti: &'a str,
    /// Whose it is.
    pub user: &'a UserId,
    /// The key pair that signed it.
    pub key_pair: RowId,
    /// What it permits.
    pub scopes: &'a [RowId],
    /// When it was signed.
    pub issued_at: UtcDateTime,
    /// From then on nobody accepts it.
    pub expires_at: UtcDateTime,
    /// What it is for.
    pub purpose: &'a str,
}

/// A value for one column.
enum Value<'a> {
    User(&'a UserId),
    Text(&'a str),
    Id(RowId),
    At(UtcDateTime),
    Bool(bool),
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = RowIdSql)]
    id: RowId,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

impl NewIssuedToken<'_> {
    /// Stores it with its scopes; in a transaction of the caller's.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Schema`] where the site's tokens have no `jti`; those of the database,
    /// which tells of an unknown user only when the transaction ends.
    pub fn insert(
        &self,
        connection: &mut AnyConnection,
        layout: &Layout,
    ) -> Result<RowId, DatabaseError> {
        let id = insert(connection, &self.row(layout)?)?;
        for scope in self.scopes {
            sql_query(
                "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id) VALUES ($1, $2)",
            )
            .bind::<RowIdSql, _>(id)
            .bind::<RowIdSql, _>(*scope)
            .execute(connection)?;
        }
        Ok(id)
    }

    fn row(&self, layout: &Layout) -> Result<Vec<(&'static str, Value<'_>)>, DatabaseError> {
        let there = layout.token;
        if !there.jti {
            return Err(lacks(TABLE, "token_id"));
        }
        let mut row = vec![
            ("user_id", Value::User(self.user)),
            ("token_id", Value::Text(self.jti)),
            ("key_pair_id", Value::Id(self.key_pair)),
            ("expires_at", Value::At(self.expires_at)),
            ("is_revoked", Value::Bool(false)),
        ];
        row.extend(there.issued_at.then_some(("issued_at", Value::At(self.issued_at))));
        row.extend(there.created_at.then_some(("created_at", Value::At(self.issued_at))));
        row.extend(there.purpose.then_some(("purpose", Value::Text(self.purpose))));
        if there.ids == IdKind::Uuid {
            row.push(("id", Value::Id(RowId::Uuid(Uuid::new_v4()))));
        }
        Ok(row)
    }
}

fn insert(connection: &mut AnyConnection, row: &[(&str, Value<'_>)]) -> QueryResult<RowId> {
    let columns: Vec<&str> = row.iter().map(|(column, _)| *column).collect();
    let places: Vec<String> = row
        .iter()
        .enumerate()
        .map(|(at, (_, value))| match value {
            Value::User(user) => user.place(connection, at + 1),
            _ => format!("${}", at + 1),
        })
        .collect();
    let mut query = sql_query(format!(
        "INSERT INTO {TABLE} ({}) VALUES ({}) RETURNING id",
        columns.join(", "),
        places.join(", ")
    ))
    .into_boxed::<MultiBackend>();
    for (_, value) in row {
        query = match value {
            Value::User(user) => query.bind::<Text, _>(user.stored(connection)),
            Value::Text(text) => query.bind::<Text, _>((*text).to_owned()),
            Value::Id(id) => query.bind::<RowIdSql, _>(*id),
            Value::At(at) => query.bind::<UtcDateTimeSql, _>(*at),
            Value::Bool(yes) => query.bind::<Bool, _>(*yes),
        };
    }
    query.get_result::<Id>(connection).map(|row| row.id)
}

impl IssuedToken {
    /// The row of the token with this `jti`.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Schema`] where the site's tokens have no `jti`; those of the database.
    pub fn find(
        connection: &mut AnyConnection,
        layout: &Layout,
        jti: &str,
    ) -> Result<Option<Self>, DatabaseError> {
        let there = layout.token;
        if !there.jti {
            return Err(lacks(TABLE, "token_id"));
        }
        let or_null = |there: bool, column: &'static str, null: &'static str| {
            if there { column } else { null }
        };
        let found: Option<Self> = sql_query(format!(
            "SELECT id, key_pair_id, {} AS \"user\", expires_at, is_revoked, {} AS revoked_at, \
             {} AS purpose FROM {TABLE} WHERE token_id = $1",
            or_null(there.user.is_some(), "CAST(user_id AS text)", "CAST(NULL AS text)"),
            match (layout.token_revoked_at, connection.is_postgres()) {
                (true, _) => "revoked_at",
                (false, true) => "CAST(NULL AS timestamptz)",
                (false, false) => "NULL",
            },
            or_null(there.purpose, "purpose", "CAST(NULL AS text)"),
        ))
        .bind::<Text, _>(jti)
        .get_result(connection)
        .optional()?;
        Ok(found.map(|mut token| {
            let is_uuid = there.user == Some(UserIdKind::Uuid);
            let uuid = token.user.as_deref().filter(|_| is_uuid).map(Uuid::parse_str);
            if let Some(Ok(uuid)) = uuid {
                token.user = Some(uuid.hyphenated().to_string());
            }
            token
        }))
    }

    /// The names of what it permits, in order.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn scopes(&self, connection: &mut AnyConnection) -> QueryResult<Vec<String>> {
        let names: Vec<Name> = sql_query(
            "SELECT s.name FROM jwt_auth_jwtscope s \
             JOIN jwt_auth_jwttoken_scopes t ON t.jwtscope_id = s.id \
             WHERE t.jwttoken_id = $1 ORDER BY s.name",
        )
        .bind::<RowIdSql, _>(self.id)
        .load(connection)?;
        Ok(names.into_iter().map(|row| row.name).collect())
    }

    /// Has it refused from `now` on. Says whether it was not revoked before.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn revoke(
        &self,
        connection: &mut AnyConnection,
        layout: &Layout,
        now: UtcDateTime,
    ) -> QueryResult<bool> {
        // SQLite numbers the places in the order in which they stand.
        sql_query(format!(
            "UPDATE {TABLE} SET {} WHERE NOT is_revoked AND $1 = $1 AND id = $2",
            revocation(layout)
        ))
        .bind::<UtcDateTimeSql, _>(now)
        .bind::<RowIdSql, _>(self.id)
        .execute(connection)
        .map(|changed| changed == 1)
    }
}
