//! Tokens counted by what maintenance wants to know.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use crate::sweep::{Times, deletable};
use crate::{AnyConnection, Layout, UtcDateTime, UtcDateTimeSql};

/// The tokens counted in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Counts {
    /// All rows.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
    /// Neither expired nor revoked.
    #[diesel(sql_type = BigInt)]
    pub active: i64,
    /// Expired, revoked or not.
    #[diesel(sql_type = BigInt)]
    pub expired: i64,
    /// Revoked, expired or not.
    #[diesel(sql_type = BigInt)]
    pub revoked: i64,
    /// Made since `recent_since`.
    #[diesel(sql_type = BigInt)]
    pub recent: i64,
    /// Not revoked although expired before `overdue_before`.
    #[diesel(sql_type = BigInt)]
    pub overdue: i64,
    /// Still there although the cleanup had to delete them before.
    #[diesel(sql_type = BigInt)]
    pub undeleted: i64,
    /// Accepted, but signed by a key pair that is inactive.
    #[diesel(sql_type = BigInt)]
    pub active_on_inactive_key_pairs: i64,
}

impl Counts {
    /// Counts at `now`. The other bounds are those of [`Counts::recent`], [`Counts::overdue`] and
    /// [`Counts::undeleted`].
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn load(
        connection: &mut AnyConnection,
        layout: &Layout,
        now: UtcDateTime,
        recent_since: UtcDateTime,
        overdue_before: UtcDateTime,
        undeleted_before: UtcDateTime,
    ) -> QueryResult<Self> {
        let recent =
            layout.token_created.map_or("false".to_owned(), |made| format!("{made} >= $2"));
        let undeleted = deletable(layout, Times::Columns, "$4");
        sql_query(format!(
            "SELECT count(*) AS total, \
             count(*) FILTER (WHERE NOT is_revoked AND expires_at > $1) AS active, \
             count(*) FILTER (WHERE expires_at < $1) AS expired, \
             count(*) FILTER (WHERE is_revoked) AS revoked, \
             count(*) FILTER (WHERE $2 = $2 AND {recent}) AS recent, \
             count(*) FILTER (WHERE NOT is_revoked AND expires_at < $3) AS overdue, \
             count(*) FILTER (WHERE {undeleted}) AS undeleted, \
             count(*) FILTER (WHERE NOT is_revoked AND expires_at > $1 AND key_pair_id IN \
             (SELECT id FROM jwt_auth_jwtkeypair WHERE NOT is_active)) \
             AS active_on_inactive_key_pairs \
             FROM jwt_auth_jwttoken"
        ))
        .bind::<UtcDateTimeSql, _>(now)
        .bind::<UtcDateTimeSql, _>(recent_since)
        .bind::<UtcDateTimeSql, _>(overdue_before)
        .bind::<UtcDateTimeSql, _>(undeleted_before)
        .get_result(connection)
    }
}
