//! What there is to do, found out by a look at the tokens.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool};

use super::{Query, Sweep, Times, deletable, expired};
use crate::connection::MultiBackend;
use crate::{AnyConnection, Layout, UtcDateTime, UtcDateTimeSql};

/// How many tokens are few on PostgreSQL: their places are remembered, which takes some 10 MB until
/// they are read.
const FEW: usize = 100_000;
/// And on SQLite, where finding out that there are more is in vain, and changing many rows one after
/// the other costs less than going to each.
const FEW_IN_A_FILE: usize = 20_000;

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
struct Token {
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
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

#[derive(QueryableByName)]
struct Totals {
    #[diesel(sql_type = BigInt)]
    expired: i64,
    #[diesel(sql_type = BigInt)]
    deletable: i64,
}

#[derive(QueryableByName)]
struct End {
    #[diesel(sql_type = BigInt)]
    place: i64,
}

/// A search for the tokens that expired before `now` and are to be revoked, and for those that were
/// revoked and expired before `before` and are to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct Survey {
    /// The first bound.
    pub now: UtcDateTime,
    /// The second.
    pub before: UtcDateTime,
    /// How the tables look.
    pub layout: Layout,
}

/// What is to be revoked, and what is to be deleted.
pub type Found = [(Sweep, Work); 2];

impl Survey {
    /// What there is to do. Where that is little, on a usual day, this is one pass over the tokens, or
    /// with indexes none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(&self, connection: &mut AnyConnection) -> QueryResult<Found> {
        match self.few(connection)? {
            Some(found) => Ok(found),
            None => self.many(connection),
        }
    }

    /// The places of all; none where they are not few.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn few(&self, connection: &mut AnyConnection) -> QueryResult<Option<Found>> {
        let (few, times) = match connection.is_postgres() {
            true => (FEW, Times::Columns),
            false => (FEW_IN_A_FILE, Times::Text),
        };
        let place = place(connection, "ctid");
        let parts: Vec<String> = conditions(&self.layout, times)
            .into_iter()
            .map(|matching| {
                format!(
                    "SELECT is_revoked, {place} AS place FROM jwt_auth_jwttoken WHERE {matching}"
                )
            })
            .collect();
        let query = format!("{} LIMIT {}", parts.join(" UNION ALL "), few + 1);
        let mut places = [Vec::new(), Vec::new()];
        let found: Vec<Token> = self.query(query).load(connection)?;
        if found.len() > few {
            return Ok(None);
        }
        for token in found {
            places[usize::from(token.is_revoked)].push(Place(token.place));
        }
        // Neighbours together; they are taken from the end.
        for places in &mut places {
            places.sort_unstable_by(|one, other| other.cmp(one));
        }
        Ok(Some(self.found(places.map(Work::Few))))
    }

    /// How many there are, and between which places.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn many(&self, connection: &mut AnyConnection) -> QueryResult<Found> {
        let work = match connection.is_postgres() {
            true => self.blocks(connection)?,
            false => self.rows(connection)?,
        };
        Ok(self.found(work))
    }

    /// Where what is to be revoked is on SQLite, whose `total` is not known before
    /// [`Survey::many`] has counted it: 0. None where nothing is to be revoked.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn uncounted(&self, connection: &mut AnyConnection) -> QueryResult<Option<(Sweep, Work)>> {
        let [revoke, _] = self.sweeps();
        let ends = self.ends(connection, revoke)?;
        Ok(ends.map(|(first, last)| (revoke, Work::Many { total: 0, first, last })))
    }

    fn sweeps(&self) -> [Sweep; 2] {
        let Self { now, before, .. } = *self;
        [Sweep::RevokeExpired { now }, Sweep::DeleteRevoked { before }]
    }

    fn found(&self, [revoke, delete]: [Work; 2]) -> Found {
        let [revoking, deleting] = self.sweeps();
        [(revoking, revoke), (deleting, delete)]
    }

    fn query(&self, query: String) -> Query {
        sql_query(query)
            .into_boxed::<MultiBackend>()
            .bind::<UtcDateTimeSql, _>(self.now)
            .bind::<UtcDateTimeSql, _>(self.before)
    }

    fn blocks(&self, connection: &mut AnyConnection) -> QueryResult<[Work; 2]> {
        let [first, last] = ["min", "max"].map(|of| place(connection, &format!("{of}(ctid)")));
        let query = format!(
            "SELECT is_revoked, count(*) AS total, {first} AS first, {last} AS last \
             FROM jwt_auth_jwttoken WHERE ({}) OR ({}) GROUP BY is_revoked",
            expired(Times::Columns, "$1"),
            deletable(&self.layout, Times::Columns, "$2"),
        );
        let extents: Vec<Extent> = self.query(query).load(connection)?;
        let mut work = [NOTHING; 2];
        for Extent { is_revoked, total, first, last } in extents {
            let (total, first, last) = (total.unsigned_abs(), Place(first), Place(last));
            work[usize::from(is_revoked)] = Work::Many { total, first, last };
        }
        Ok(work)
    }

    /// SQLite would sort what it groups, and take longer for that than for the rest.
    fn rows(&self, connection: &mut AnyConnection) -> QueryResult<[Work; 2]> {
        let Totals { expired, deletable } =
            self.query(totals(&self.layout)).get_result(connection)?;
        let mut work = [NOTHING; 2];
        for (part, total) in [expired, deletable].into_iter().enumerate() {
            if total == 0 {
                continue;
            }
            if let Some((first, last)) = self.ends(connection, self.sweeps()[part])? {
                work[part] = Work::Many { total: total.unsigned_abs(), first, last };
            }
        }
        Ok(work)
    }

    /// The places of the first and of the last on SQLite, searched from either end.
    fn ends(
        &self,
        connection: &mut AnyConnection,
        sweep: Sweep,
    ) -> QueryResult<Option<(Place, Place)>> {
        let matching = sweep.matching(&self.layout, Times::Text);
        let mut end = |order: &str| -> QueryResult<Option<Place>> {
            let query = format!(
                "SELECT rowid AS place FROM jwt_auth_jwttoken NOT INDEXED WHERE {matching} \
                 ORDER BY rowid {order} LIMIT 1"
            );
            let found: Option<End> = sweep.query(query).get_result(connection).optional()?;
            Ok(found.map(|end| Place(end.place)))
        };
        match end("ASC")? {
            Some(first) => Ok(end("DESC")?.map(|last| (first, last))),
            None => Ok(None),
        }
    }
}

const NOTHING: Work = Work::Few(Vec::new());

/// The query of how many there are on SQLite: without indexes one pass over all tokens.
fn totals(layout: &Layout) -> String {
    if !layout.token_expiry_index {
        return format!(
            "SELECT count(*) FILTER (WHERE {}) AS expired, \
             count(*) FILTER (WHERE {}) AS deletable FROM jwt_auth_jwttoken NOT INDEXED",
            expired(Times::Text, "$1"),
            deletable(layout, Times::Text, "$2"),
        );
    }
    let counts: Vec<String> = conditions(layout, Times::Columns)
        .into_iter()
        .map(|matching| format!("(SELECT count(*) FROM jwt_auth_jwttoken WHERE {matching})"))
        .collect();
    let (expired, deletable) = counts.split_at(1);
    format!("SELECT {} AS expired, {} AS deletable", expired.concat(), deletable.join(" + "))
}

/// What is to be revoked and what is to be deleted, in parts of which no token matches two. With
/// indexes each part is a range in one of them, which neither database sees in all of them together;
/// without, they are found in the same pass.
fn conditions(layout: &Layout, unindexed: Times) -> Vec<String> {
    if !layout.token_expiry_index {
        let [expired, deletable] = [expired(unindexed, "$1"), deletable(layout, unindexed, "$2")];
        return vec![format!("({expired}) OR ({deletable})")];
    }
    let mut parts = vec![expired(Times::Columns, "$1")];
    if layout.token_revoked_at {
        parts.extend(
            ["revoked_at < $2", "revoked_at IS NULL"]
                .map(|when| format!("is_revoked AND expires_at < $2 AND {when}")),
        );
    } else {
        parts.push(deletable(layout, Times::Columns, "$2"));
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
