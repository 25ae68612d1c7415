//! Changes of many tokens, in batches.

mod postgres;
mod sqlite;
mod survey;

use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;

use crate::connection::MultiBackend;
use crate::{AnyConnection, Layout, UtcDateTime, UtcDateTimeSql};
pub use survey::{Found, Place, Survey, Work};

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

type Query = BoxedSqlQuery<'static, MultiBackend, SqlQuery>;

impl Sweep {
    /// The condition, where `$1` is the bound.
    fn matching(&self, layout: &Layout, times: Times) -> String {
        match self {
            Self::RevokeExpired { .. } => expired(times, "$1"),
            Self::DeleteRevoked { .. } => deletable(layout, times, "$1"),
        }
    }

    /// What it does to those of `tokens` of which `place` is true.
    fn change(&self, layout: &Layout, tokens: &str, place: &str) -> String {
        match self {
            Self::RevokeExpired { .. } => {
                format!("UPDATE {tokens} SET {} WHERE {place}", revocation(layout))
            }
            Self::DeleteRevoked { .. } => format!("DELETE FROM {tokens} WHERE {place}"),
        }
    }

    fn query(&self, query: String) -> Query {
        let (Self::RevokeExpired { now: bound } | Self::DeleteRevoked { before: bound }) = *self;
        sql_query(query).into_boxed::<MultiBackend>().bind::<UtcDateTimeSql, _>(bound)
    }
}

/// A sweep on its way through the tokens that it is about.
#[derive(Debug)]
pub struct SweepWalk {
    sweep: Sweep,
    layout: Layout,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// From place to place, the last ones first.
    Places(Vec<Place>),
    Blocks(postgres::Blocks),
    Rows(sqlite::Rows),
}

impl SweepWalk {
    /// At its beginning.
    pub fn new(sweep: Sweep, work: Work, connection: &AnyConnection, layout: &Layout) -> Self {
        let way = match work {
            Work::Few(places) => Way::Places(places),
            Work::Many { first, last, .. } if connection.is_postgres() => {
                Way::Blocks(postgres::Blocks::new(&sweep, layout, first, last))
            }
            Work::Many { first, last, .. } => Way::Rows(sqlite::Rows::new(first, last)),
        };
        Self { sweep, layout: *layout, way }
    }

    /// Whether [`SweepWalk::batch`] has nothing left to do.
    pub fn is_over(&self) -> bool {
        match &self.way {
            Way::Places(places) => places.is_empty(),
            Way::Blocks(blocks) => blocks.is_over(),
            Way::Rows(rows) => rows.is_over(),
        }
    }

    /// Finds out as much about the next batch as can be while others write, so that they wait less for
    /// it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn look_ahead(&mut self, connection: &mut AnyConnection, size: u32) -> QueryResult<()> {
        let Self { sweep, layout, way } = self;
        match way {
            Way::Rows(rows) => rows.look_ahead(connection, sweep, layout, size),
            Way::Places(_) | Way::Blocks(_) => Ok(()),
        }
    }

    /// Changes about `size` tokens, at most, in a transaction of its own, and says how many it were;
    /// none at the end of the way. On PostgreSQL tokens that another transaction holds are passed
    /// over, so nobody waits for this.
    ///
    /// The transaction may be forgotten if the database's machine crashes; the next one that is not
    /// of a sweep makes it last.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn batch(&mut self, connection: &mut AnyConnection, size: u32) -> QueryResult<Option<u64>> {
        let Self { sweep, layout, way } = self;
        match way {
            Way::Places(places) => {
                let rest = places.len().saturating_sub(size.max(1) as usize);
                let these = places.split_off(rest);
                match these.is_empty() {
                    true => Ok(None),
                    false if connection.is_postgres() => {
                        postgres::change_places(connection, sweep, layout, &these).map(Some)
                    }
                    false => sqlite::change_places(connection, sweep, layout, &these).map(Some),
                }
            }
            Way::Blocks(blocks) => blocks.batch(connection, sweep, layout, size),
            Way::Rows(rows) => rows.batch(connection, sweep, layout, size),
        }
    }
}

/// How the times of a token are compared with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// As columns, of which an index may know.
    Columns,
    /// On SQLite, where each token is looked at anyway, as the text that they are. Each comparison with a
    /// column of type `datetime` first tries to read a number in that text.
    Text,
}

impl Times {
    fn column(self, name: &str) -> String {
        match self {
            Self::Columns => name.to_owned(),
            Self::Text => format!("+{name}"),
        }
    }
}

/// The condition of what is to be revoked.
fn expired(times: Times, bound: &str) -> String {
    format!("NOT is_revoked AND {} < {bound}", times.column("expires_at"))
}

/// A verifier that finds no row accepts a token, so no token goes before it has expired.
pub(crate) fn deletable(layout: &Layout, times: Times, bound: &str) -> String {
    let [expires_at, revoked_at] = ["expires_at", "revoked_at"].map(|name| times.column(name));
    let revoked_before = if layout.token_revoked_at {
        format!(" AND (revoked_at IS NULL OR {revoked_at} < {bound})")
    } else {
        String::new()
    };
    format!("is_revoked AND {expires_at} < {bound}{revoked_before}")
}

/// What revoking sets, where `$1` is the time.
pub(crate) fn revocation(layout: &Layout) -> &'static str {
    if layout.token_revoked_at { "is_revoked = true, revoked_at = $1" } else { "is_revoked = true" }
}
