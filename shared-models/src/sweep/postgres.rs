//! Batches on PostgreSQL, in the order in which the rows lie on the disk.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Place, Sweep, Times};
use crate::{AnyConnection, Layout};

const TOKENS: &str = "jwt_auth_jwttoken";
/// In so many turns the tokens of a stretch are revoked where that pays. The first turn moves a part
/// of each block's rows elsewhere, which costs an entry in every index; the others fit into the room
/// that these have left, and cost none.
const TURNS: u64 = 4;
/// Tokens to revoke in a block, from which on turns pay: each looks at all blocks once more.
const TURNS_PAY_FROM: f64 = 4.0;
/// Blocks without anything to do are read that many at once, which takes some 10 ms.
const WIDEST: u64 = 8192;
const NARROWEST: u64 = 16;

#[derive(Debug, Clone, Copy, QueryableByName)]
struct Outcome {
    #[diesel(sql_type = BigInt)]
    found: i64,
    #[diesel(sql_type = BigInt)]
    changed: i64,
}

/// The way over a table's blocks, stretch by stretch.
#[derive(Debug)]
pub(super) struct Blocks {
    stretch: Stretch,
    /// The last block of all.
    last: u64,
    may_take_turns: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    /// Its first block.
    from: u64,
    /// The block behind it.
    to: u64,
    /// How many turns are left, with this one.
    turns: u64,
    /// Tokens to change in each block; not known before the first turn.
    density: Option<f64>,
}

impl Blocks {
    pub(super) fn new(sweep: &Sweep, layout: &Layout, first: Place, last: Place) -> Self {
        let revokes = matches!(sweep, Sweep::RevokeExpired { .. });
        let from = first.block();
        Self {
            stretch: Stretch { from, to: from + NARROWEST, turns: 1, density: None },
            last: last.block(),
            may_take_turns: revokes && !layout.token_revocation_index,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stretch.from > self.last
    }

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
        let Stretch { from, to, turns, .. } = self.stretch;
        // A range of places is scanned as such from PostgreSQL 14 on.
        let found = format!(
            "SELECT ctid AS place, row_number() OVER () AS number FROM jwt_auth_jwttoken \
             WHERE ctid >= '({from},0)' AND ctid < '({to},0)' AND {}",
            sweep.matching(layout, Times::Columns)
        );
        let chosen = format!("SELECT place FROM found WHERE number % {turns} = 0 LIMIT {size}");
        let outcome = change(connection, sweep, layout, &found, &chosen)?;
        self.stretch = self.stretch.after(outcome, u64::from(size), self.may_take_turns);
        Ok(Some(outcome.changed.unsigned_abs()))
    }
}

impl Stretch {
    /// What comes next, after a batch of at most `size` tokens in this one.
    fn after(self, outcome: Outcome, size: u64, may_take_turns: bool) -> Self {
        let Self { from, to, turns, density } = self;
        let width = to - from;
        let density = density.unwrap_or(outcome.found as f64 / width as f64);
        if outcome.found > 0 && turns > 1 {
            return Self { turns: turns - 1, density: Some(density), ..self };
        }
        // There were more than fit into a batch. What others hold is for the next pass.
        if outcome.changed > 0 && outcome.found > outcome.changed {
            return Self { density: Some(density), ..self };
        }
        let turns = if may_take_turns && density >= TURNS_PAY_FROM { TURNS } else { 1 };
        let wanted = (size * turns) as f64 / density.max(0.01);
        let width = (wanted as u64).clamp(NARROWEST, WIDEST.min(4 * width));
        Self { from: to, to: to + width, turns, density: None }
    }
}

/// Changes what is at some places, as far as it still is what the sweep is about.
pub(super) fn change_places(
    connection: &mut AnyConnection,
    sweep: &Sweep,
    layout: &Layout,
    places: &[Place],
) -> QueryResult<u64> {
    let places: Vec<String> = places
        .iter()
        .map(|place| format!("\"({},{})\"", place.block(), place.0 & 0xffff))
        .collect();
    let found = format!("SELECT unnest('{{{}}}'::tid[]) AS place", places.join(","));
    let outcome = change(connection, sweep, layout, &found, "SELECT place FROM found")?;
    Ok(outcome.changed.unsigned_abs())
}

/// Changes what `found` selects and `chosen` chooses of it, in one transaction, which nobody waits
/// for until it is on the disk.
fn change(
    connection: &mut AnyConnection,
    sweep: &Sweep,
    layout: &Layout,
    found: &str,
    chosen: &str,
) -> QueryResult<Outcome> {
    let lock = match sweep {
        // Lets others add rows that refer to the token.
        Sweep::RevokeExpired { .. } => "FOR NO KEY UPDATE SKIP LOCKED",
        Sweep::DeleteRevoked { .. } => "FOR UPDATE SKIP LOCKED",
    };
    let matching = sweep.matching(layout, Times::Columns);
    // By place instead of by key: the rows are locked, and need not be looked up again. One that
    // another changed just before is at a place that this statement does not see yet; it keeps its
    // scopes, and the next pass takes it.
    let change = sweep.change(layout, TOKENS, "ctid = ANY (ARRAY (SELECT place FROM batch))");
    let changed = match sweep {
        Sweep::RevokeExpired { .. } => format!("changed AS ({change} RETURNING 1)"),
        Sweep::DeleteRevoked { .. } => format!(
            "changed AS ({change} RETURNING id), \
             scopes AS (DELETE FROM jwt_auth_jwttoken_scopes \
             WHERE jwttoken_id IN (SELECT id FROM changed))"
        ),
    };
    let query = format!(
        "WITH found AS MATERIALIZED ({found}), \
         batch AS MATERIALIZED (SELECT ctid AS place FROM jwt_auth_jwttoken \
         WHERE ctid = ANY (ARRAY ({chosen})) AND {matching} {lock}), {changed} \
         SELECT (SELECT count(*) FROM found) AS found, (SELECT count(*) FROM changed) AS changed"
    );
    connection.transaction(|connection| {
        connection.batch_execute("SET LOCAL synchronous_commit = off")?;
        sweep.query(query).get_result(connection)
    })
}

impl Place {
    fn block(self) -> u64 {
        (self.0 >> 16).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1_000;

    fn walk(mut stretch: Stretch, outcomes: &[(i64, i64)], may_take_turns: bool) -> Stretch {
        for &(found, changed) in outcomes {
            stretch = stretch.after(Outcome { found, changed }, SIZE, may_take_turns);
        }
        stretch
    }

    fn begun(width: u64) -> Stretch {
        Stretch { from: 0, to: width, turns: 1, density: None }
    }

    #[test]
    fn a_stretch_without_work_is_followed_by_a_wider_one() {
        let next = walk(begun(16), &[(0, 0)], true);
        assert_eq!(next, Stretch { from: 16, to: 80, turns: 1, density: None });
        assert_eq!(walk(next, &[(0, 0); 9], true).to - walk(next, &[(0, 0); 8], true).to, WIDEST);
    }

    #[test]
    fn a_stretch_that_holds_more_than_a_batch_is_gone_on_with() {
        let next = walk(begun(100), &[(3_000, 1_000), (2_000, 1_000)], false);
        assert_eq!((next.from, next.to), (0, 100));
        let next = walk(next, &[(1_000, 1_000)], false);
        assert_eq!((next.from, next.to - next.from), (100, 33));
    }

    #[test]
    fn what_others_hold_does_not_keep_it() {
        assert_eq!(walk(begun(100), &[(7, 0)], false).from, 100);
        assert_eq!(walk(begun(100), &[(7, 6), (1, 0)], false).from, 100);
    }

    #[test]
    fn full_blocks_are_taken_in_turns() {
        let next = walk(begun(100), &[(1_000, 1_000)], true);
        assert_eq!((next.turns, next.to - next.from), (TURNS, 400));
        let next = walk(next, &[(4_000, 1_000), (3_000, 1_000), (2_000, 1_000)], true);
        assert_eq!((next.from, next.turns), (100, 1));
        assert_eq!(walk(next, &[(1_000, 1_000)], true).from, 500);
    }
}
