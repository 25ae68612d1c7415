//! What there is to do, found out in one look at the tokens.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable};

use super::{Sweep, deletable, expired};
use crate::connection::MultiBackend;
use crate::{AnyConnection, Layout, UtcDateTime, UtcDateTimeSql};

/// How many tokens are few: their places are remembered, which takes some 10 MB until they are read.
const FEW: usize = 100_000;

/// Where a token's row is: on PostgreSQL its block and its number in that, on SQLite its `rowid`. A
/// row that is changed moves, so whoever comes to a place looks again what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub(super) i64);

/// Where the tokens are that a sweep is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Few: here.
    Few(Vec<Place>),
    /// Many.
    Many {
        /// How many.
        total: u64,
        /// The place of one of them; none is before it.
        first: Place,
        /// The place of one of them; none is behind it.
        last: Place,
    },
}

impl Work {
    /// How many tokens it is about.
    pub fn total(&self) -> u64 {
        match self {
            Self::Few(places) => places.len() as u64,
            Self::Many { total, .. } => *total,
        }
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    is_revoked: bool,
    #[diesel(sql_type = BigInt)]
    place: i64,
}

#[derive(QueryableByName)]
struct Extent {
    #[diesel(sql_type = Bool)]
    is_revoked: bool,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
}

/// Finds the tokens that expired before `now` and are to be revoked, and those that were revoked and
/// expired before `before` and are to be deleted.
///
/// Where they are few, on a usual day, this is one pass over the tokens, or with indexes none.
///
/// # Errors
///
/// Those of the database.
pub fn survey(
    connection: &mut AnyConnection,
    layout: &Layout,
    now: UtcDateTime,
    before: UtcDateTime,
) -> QueryResult<[(Sweep, Work); 2]> {
    let sweeps = [Sweep::RevokeExpired { now }, Sweep::DeleteRevoked { before }];
    let work = few(connection, layout, now, before)?
        .map_or_else(|| many(connection, layout, now, before), Ok)?;
    let [revoke, delete] = work;
    Ok([(sweeps[0], revoke), (sweeps[1], delete)])
}

/// The places of all; none where they are not few.
fn few(
    connection: &mut AnyConnection,
    layout: &Layout,
    now: UtcDateTime,
    before: UtcDateTime,
) -> QueryResult<Option<[Work; 2]>> {
    let place = place(connection, "ctid");
    let parts: Vec<String> = conditions(layout)
        .into_iter()
        .map(|matching| {
            format!("SELECT is_revoked, {place} AS place FROM jwt_auth_jwttoken WHERE {matching}")
        })
        .collect();
    let query = format!("{} LIMIT {}", parts.join(" UNION ALL "), FEW + 1);
    let mut places = [Vec::new(), Vec::new()];
    let query = sql_query(query)
        .into_boxed::<MultiBackend>()
        .bind::<UtcDateTimeSql, _>(now)
        .bind::<UtcDateTimeSql, _>(before);
    let found: Vec<Found> = query.load(connection)?;
    if found.len() > FEW {
        return Ok(None);
    }
    for token in found {
        places[usize::from(token.is_revoked)].push(Place(token.place));
    }
    // Neighbours together; they are taken from the end.
    for places in &mut places {
        places.sort_unstable_by(|one, other| other.cmp(one));
    }
    Ok(Some(places.map(Work::Few)))
}

/// How many there are, and between which places.
fn many(
    connection: &mut AnyConnection,
    layout: &Layout,
    now: UtcDateTime,
    before: UtcDateTime,
) -> QueryResult<[Work; 2]> {
    let own = if connection.is_postgres() { "ctid" } else { "rowid" };
    let [first, last] = ["min", "max"].map(|of| place(connection, &format!("{of}({own})")));
    let query = format!(
        "SELECT is_revoked, count(*) AS total, {first} AS first, {last} AS last \
         FROM jwt_auth_jwttoken WHERE ({}) OR ({}) GROUP BY is_revoked",
        expired("$1"),
        deletable(layout, "$2"),
    );
    let extents: Vec<Extent> = sql_query(query)
        .bind::<UtcDateTimeSql, _>(now)
        .bind::<UtcDateTimeSql, _>(before)
        .load(connection)?;
    let mut work = [Work::Few(Vec::new()), Work::Few(Vec::new())];
    for extent in extents {
        if let (Some(first), Some(last)) = (extent.first, extent.last) {
            work[usize::from(extent.is_revoked)] = Work::Many {
                total: extent.total.unsigned_abs(),
                first: Place(first),
                last: Place(last),
            };
        }
    }
    Ok(work)
}

/// What is to be revoked and what is to be deleted, in parts of which no token matches two. With
/// indexes each part is a range in one of them, which neither database sees in all of them together;
/// without, they are found in the same pass.
fn conditions(layout: &Layout) -> Vec<String> {
    if !layout.token_expiry_index {
        return vec![format!("({}) OR ({})", expired("$1"), deletable(layout, "$2"))];
    }
    let mut parts = vec![expired("$1")];
    if layout.token_revoked_at {
        parts.extend(
            ["revoked_at < $2", "revoked_at IS NULL"]
                .map(|when| format!("is_revoked AND expires_at < $2 AND {when}")),
        );
    } else {
        parts.push(deletable(layout, "$2"));
    }
    parts
}

/// A place as a number.
fn place(connection: &AnyConnection, of: &str) -> String {
    if connection.is_postgres() {
        let at = format!("({of})::text::point");
        format!("((({at})[0]::bigint << 16) | ({at})[1]::bigint)")
    } else {
        of.replace("ctid", "rowid")
    }
}
