//! Changes of many tokens, in batches.

use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::BigInt;

use crate::connection::MultiBackend;
use crate::{AnyConnection, Layout, RowId, RowIdSql, UtcDateTime, UtcDateTimeSql};

/// A change of many tokens, made in batches. The bound is fixed, so that a long sweep ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Revokes what expired before `now`, as of `now`.
    RevokeExpired {
        /// The bound.
        now: UtcDateTime,
    },
    /// Deletes what was revoked and expired before `before`, with its scopes.
    DeleteRevoked {
        /// The bound.
        before: UtcDateTime,
    },
}

/// The last token of a batch: the next one begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Cursor {
    #[diesel(sql_type = UtcDateTimeSql)]
    expires_at: UtcDateTime,
    #[diesel(sql_type = RowIdSql)]
    id: RowId,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The tokens that were changed.
    pub tokens: u64,
    /// Where to go on; none where nothing was left.
    pub last: Option<Cursor>,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(embed)]
    last: Cursor,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

type Query = BoxedSqlQuery<'static, MultiBackend, SqlQuery>;

impl Sweep {
    /// How many tokens it is about.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn count(&self, connection: &mut AnyConnection, layout: &Layout) -> QueryResult<i64> {
        let counts: Vec<String> = self
            .countable(layout)
            .iter()
            .map(|matching| format!("(SELECT count(*) FROM jwt_auth_jwttoken WHERE {matching})"))
            .collect();
        let query = format!("SELECT {} AS total", counts.join(" + "));
        let total: Total = self.query(query, None, None).get_result(connection)?;
        Ok(total.total)
    }

    /// Changes up to `limit` tokens behind `after`, in a transaction of its own. On PostgreSQL
    /// tokens that another transaction holds are passed over, so nobody waits for this.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn batch(
        &self,
        connection: &mut AnyConnection,
        layout: &Layout,
        after: Option<Cursor>,
        limit: u32,
    ) -> QueryResult<Batch> {
        if connection.is_postgres() {
            self.batch_postgres(connection, layout, after, limit)
        } else {
            connection
                .write_transaction(|connection| self.batch_sqlite(connection, layout, after, limit))
        }
    }

    fn batch_postgres(
        &self,
        connection: &mut AnyConnection,
        layout: &Layout,
        after: Option<Cursor>,
        limit: u32,
    ) -> QueryResult<Batch> {
        let order = self.order(layout);
        let lock = match self {
            // Lets others add rows that refer to the token.
            Self::RevokeExpired { .. } => "FOR NO KEY UPDATE SKIP LOCKED",
            Self::DeleteRevoked { .. } => "FOR UPDATE SKIP LOCKED",
        };
        // By place instead of by key: the rows are locked, and need not be looked up again. One
        // that another changed just before is at a place that this statement does not see yet; it
        // keeps its scopes, and the next pass takes it.
        let here = "ctid = ANY (ARRAY (SELECT place FROM batch))";
        let change = match self {
            Self::RevokeExpired { .. } => format!(
                "changed AS (UPDATE jwt_auth_jwttoken SET {} WHERE {here} RETURNING 1)",
                revocation(layout)
            ),
            Self::DeleteRevoked { .. } => format!(
                "changed AS (DELETE FROM jwt_auth_jwttoken WHERE {here} RETURNING id), \
                 scopes AS (DELETE FROM jwt_auth_jwttoken_scopes \
                 WHERE jwttoken_id IN (SELECT id FROM changed))"
            ),
        };
        let query = format!(
            "WITH batch AS MATERIALIZED (SELECT expires_at, id, ctid AS place \
             FROM jwt_auth_jwttoken \
             WHERE {} AND {} ORDER BY {} LIMIT {limit} {lock}), {change} \
             SELECT expires_at, id, (SELECT count(*) FROM changed) AS tokens \
             FROM batch ORDER BY {} LIMIT 1",
            self.matching(layout),
            order.behind(after),
            order.ascending(),
            order.descending(),
        );
        let changed: Option<Changed> = self
            .query(query, after.map(|cursor| (order, cursor)), None)
            .get_result(connection)
            .optional()?;
        Ok(match changed {
            Some(changed) => {
                Batch { tokens: changed.tokens.unsigned_abs(), last: Some(changed.last) }
            }
            None => Batch { tokens: 0, last: None },
        })
    }

    fn batch_sqlite(
        &self,
        connection: &mut AnyConnection,
        layout: &Layout,
        after: Option<Cursor>,
        limit: u32,
    ) -> QueryResult<Batch> {
        let order = self.order(layout);
        let behind = after.map(|cursor| (order, cursor));
        let range = format!("{} AND {}", self.matching(layout), order.behind(after));
        let last = format!(
            "SELECT expires_at, id FROM (SELECT expires_at, id FROM jwt_auth_jwttoken \
             WHERE {range} ORDER BY {} LIMIT {limit}) ORDER BY {} LIMIT 1",
            order.ascending(),
            order.descending(),
        );
        let last: Option<Cursor> =
            self.query(last, behind, None).get_result(connection).optional()?;
        let Some(last) = last else {
            return Ok(Batch { tokens: 0, last: None });
        };
        let range = format!(
            "{} AND {} AND {}",
            self.within(layout, order),
            order.behind(after),
            order.up_to(after)
        );
        let up_to = Some((order, last));
        let change = match self {
            Self::RevokeExpired { .. } => {
                format!("UPDATE jwt_auth_jwttoken SET {} WHERE {range}", revocation(layout))
            }
            Self::DeleteRevoked { .. } => {
                let scopes = format!(
                    "DELETE FROM jwt_auth_jwttoken_scopes WHERE jwttoken_id IN \
                     (SELECT id FROM jwt_auth_jwttoken WHERE {range})"
                );
                self.query(scopes, behind, up_to).execute(connection)?;
                format!("DELETE FROM jwt_auth_jwttoken WHERE {range}")
            }
        };
        let tokens = self.query(change, behind, up_to).execute(connection)?;
        Ok(Batch { tokens: tokens as u64, last: Some(last) })
    }

    /// Tokens are taken in the order of an index, so that each is looked at once.
    fn order(&self, layout: &Layout) -> Order {
        match self {
            Self::RevokeExpired { .. } if layout.token_expiry_index => Order::Expiry,
            _ => Order::Key,
        }
    }

    /// The condition, where `$1` is the bound.
    fn matching(&self, layout: &Layout) -> String {
        match self {
            Self::RevokeExpired { .. } => "NOT is_revoked AND expires_at < $1".to_owned(),
            Self::DeleteRevoked { .. } => deletable(layout, "$1"),
        }
    }

    /// The condition in parts of which no token matches two. With the index over `revoked_at` each of
    /// them is a range in it, which PostgreSQL does not see in both together.
    fn countable(&self, layout: &Layout) -> Vec<String> {
        match self {
            Self::DeleteRevoked { .. } if layout.token_revoked_at && layout.token_expiry_index => {
                ["revoked_at < $1", "revoked_at IS NULL"]
                    .map(|when| format!("is_revoked AND expires_at < $1 AND {when}"))
                    .to_vec()
            }
            _ => vec![self.matching(layout)],
        }
    }

    /// The condition between two tokens that match. Along an index SQLite takes one upper bound, and
    /// with the whole condition it would be that of all batches instead of this one's.
    fn within(&self, layout: &Layout, order: Order) -> String {
        match order {
            Order::Expiry => "NOT is_revoked AND $1 = $1".to_owned(),
            Order::Key => self.matching(layout),
        }
    }

    fn query(
        &self,
        query: String,
        after: Option<(Order, Cursor)>,
        up_to: Option<(Order, Cursor)>,
    ) -> Query {
        let (Self::RevokeExpired { now: bound } | Self::DeleteRevoked { before: bound }) = *self;
        let mut query =
            sql_query(query).into_boxed::<MultiBackend>().bind::<UtcDateTimeSql, _>(bound);
        for (order, cursor) in [after, up_to].into_iter().flatten() {
            if order == Order::Expiry {
                query = query.bind::<UtcDateTimeSql, _>(cursor.expires_at);
            }
            query = query.bind::<RowIdSql, _>(cursor.id);
        }
        query
    }
}

/// What walks over the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Expiry,
    Key,
}

impl Order {
    fn ascending(self) -> &'static str {
        match self {
            Self::Expiry => "expires_at, id",
            Self::Key => "id",
        }
    }

    fn descending(self) -> &'static str {
        match self {
            Self::Expiry => "expires_at DESC, id DESC",
            Self::Key => "id DESC",
        }
    }

    fn behind(self, after: Option<Cursor>) -> &'static str {
        match (self, after) {
            (_, None) => "1 = 1",
            (Self::Expiry, Some(_)) => "(expires_at, id) > ($2, $3)",
            (Self::Key, Some(_)) => "id > $2",
        }
    }

    fn up_to(self, after: Option<Cursor>) -> &'static str {
        match (self, after) {
            (Self::Expiry, None) => "(expires_at, id) <= ($2, $3)",
            (Self::Expiry, Some(_)) => "(expires_at, id) <= ($4, $5)",
            (Self::Key, None) => "id <= $2",
            (Self::Key, Some(_)) => "id <= $3",
        }
    }
}

/// A verifier that finds no row accepts a token, so no token goes before it has expired.
pub(crate) fn deletable(layout: &Layout, bound: &str) -> String {
    let revoked_before = if layout.token_revoked_at {
        format!(" AND (revoked_at IS NULL OR revoked_at < {bound})")
    } else {
        String::new()
    };
    format!("is_revoked AND expires_at < {bound}{revoked_before}")
}

/// What revoking sets, where `$1` is the time.
pub(crate) fn revocation(layout: &Layout) -> &'static str {
    if layout.token_revoked_at { "is_revoked = true, revoked_at = $1" } else { "is_revoked = true" }
}
