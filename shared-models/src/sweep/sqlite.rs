//! Batches on SQLite, in the order of `rowid`, in which the rows lie in the file.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::{Place, Sweep, Times};
use crate::connection::MultiBackend;
use crate::{AnyConnection, Layout};

/// Where the rows are is known, and the indexes are no help.
const TOKENS: &str = "jwt_auth_jwttoken NOT INDEXED";

#[derive(QueryableByName)]
struct End {
    #[diesel(sql_type = BigInt)]
    end: i64,
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

    /// Finds out where a batch of `size` rows ends. That rows go before it is made makes it shorter.
    pub(super) fn look_ahead(
        &mut self,
        connection: &mut AnyConnection,
        size: u32,
    ) -> QueryResult<()> {
        let Self { after, last, .. } = *self;
        let skipped = size.max(1) - 1;
        let end: Option<End> = sql_query(format!(
            "SELECT rowid AS \"end\" FROM {TOKENS} WHERE rowid > {after} AND rowid <= {last} \
             ORDER BY rowid LIMIT 1 OFFSET {skipped}"
        ))
        .into_boxed::<MultiBackend>()
        .get_result(connection)
        .optional()?;
        self.end = Some(end.map_or(last, |found| found.end));
        Ok(())
    }

    /// Looks at the rows that were found ahead, or else at `size`.
    pub(super) fn batch(
        &mut self,
        connection: &mut AnyConnection,
        sweep: &Sweep,
        layout: &Layout,
        size: u32,
    ) -> QueryResult<Option<u64>> {
        if self.is_over() {
            return Ok(None);
        }
        if self.end.is_none() {
            self.look_ahead(connection, size)?;
        }
        let (after, end) = (self.after, self.end.take().unwrap_or(self.last));
        let place = format!("rowid > {after} AND rowid <= {end}");
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
