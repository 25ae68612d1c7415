//! Batches on SQLite, in the order of `rowid`, in which the rows lie in the file.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Place, Sweep, Times};
use crate::{AnyConnection, Layout};

/// Where the rows are is known, and the indexes are no help.
const TOKENS: &str = "jwt_auth_jwttoken NOT INDEXED";

/// Looking at a row takes a tenth of the time of changing it: a batch looks at no more than so many for each
/// that it may change.
const ROWS_FOR_EACH: i64 = 4;

#[derive(QueryableByName)]
struct Ahead {
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// The way over a table's rows.
#[derive(Debug)]
pub(super) struct Rows {
    /// Where it is.
    after: i64,
    /// Where the next batch ends, if that is known.
    end: Option<i64>,
    last: i64,
}

impl Rows {
    pub(super) fn new(first: Place, last: Place) -> Self {
        Self { after: first.0.saturating_sub(1), end: None, last: last.0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.after >= self.last
    }

    /// Finds out where a batch ends that changes `size` tokens, and passes over rows that none would
    /// change. What others revoke before it is made makes it smaller.
    pub(super) fn look_ahead(
        &mut self,
        connection: &mut AnyConnection,
        sweep: &Sweep,
        layout: &Layout,
        size: u32,
    ) -> QueryResult<()> {
        let size = i64::from(size.max(1));
        let matching = sweep.matching(layout, Times::Text);
        while self.end.is_none() && !self.is_over() {
            let after = self.after;
            let end = self.last.min(after.saturating_add(ROWS_FOR_EACH * size));
            let query = format!(
                "SELECT count(*) AS tokens, coalesce(max(place), 0) AS last FROM \
                 (SELECT rowid AS place FROM {TOKENS} WHERE rowid > {after} AND rowid <= {end} \
                 AND {matching} ORDER BY rowid LIMIT {size})"
            );
            let ahead: Ahead = sweep.query(query).get_result(connection)?;
            match ahead.tokens {
                0 => self.after = end,
                tokens => self.end = Some(if tokens == size { ahead.last } else { end }),
            }
        }
        Ok(())
    }

    /// Changes the tokens that were found ahead, or else `size`.
    pub(super) fn batch(
        &mut self,
        connection: &mut AnyConnection,
        sweep: &Sweep,
        layout: &Layout,
        size: u32,
    ) -> QueryResult<Option<u64>> {
        self.look_ahead(connection, sweep, layout, size)?;
        let Some(end) = self.end.take() else { return Ok(None) };
        let place = format!("rowid > {} AND rowid <= {end}", self.after);
        let changed = change(connection, sweep, layout, &place)?;
        self.after = end;
        Ok(Some(changed))
    }
}

/// Changes what is at some places, as far as it still is what the sweep is about.
pub(super) fn change_places(
    connection: &mut AnyConnection,
    sweep: &Sweep,
    layout: &Layout,
    places: &[Place],
) -> QueryResult<u64> {
    let places: Vec<String> = places.iter().map(|place| place.0.to_string()).collect();
    let place = format!("rowid IN (SELECT value FROM json_each('[{}]'))", places.join(","));
    change(connection, sweep, layout, &place)
}

/// Changes what is there, in one transaction.
fn change(
    connection: &mut AnyConnection,
    sweep: &Sweep,
    layout: &Layout,
    place: &str,
) -> QueryResult<u64> {
    let here = format!("{place} AND {}", sweep.matching(layout, Times::Text));
    let change = sweep.change(layout, TOKENS, &here);
    let changed = match sweep {
        // One statement is a transaction by itself. In an open one SQLite would copy each page to a
        // temporary file before it changes it, to be able to take back the statement alone.
        Sweep::RevokeExpired { .. } => sweep.query(change).execute(connection)?,
        Sweep::DeleteRevoked { .. } => connection.write_transaction(|connection| {
            let scopes = format!(
                "DELETE FROM jwt_auth_jwttoken_scopes WHERE jwttoken_id IN \
                 (SELECT id FROM {TOKENS} WHERE {here})"
            );
            sweep.query(scopes).execute(connection)?;
            sweep.query(change).execute(connection)
        })?,
    };
    Ok(changed as u64)
}
