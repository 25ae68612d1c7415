//! What a rotation decides, from what is there and the time.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use shared_models::RowId;

use super::{Older, Request, Trigger};
use crate::JwtSettings;
use crate::jwt::{KeyRing, Record};

/// How much too early a rotation may be. Without it, one that is run every week and due every
/// fourth would miss its week whenever the last one had begun a second late.
const EARLY: TimeDelta = TimeDelta::hours(1);

/// What becomes of the key pair that is to sign next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// A new one is made, and signs from now on.
    Generate,
    /// A new one is made, and waits.
    PublishAhead,
    /// The one that waits signs from now on.
    ActivatePending,
}

impl Change {
    pub(super) fn adds_signing_key(self) -> bool {
        matches!(self, Self::Generate | Self::ActivatePending)
    }
}

/// The key pairs that stop being active, as places in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retirement {
    pub(super) places: Vec<usize>,
    pub(super) cap_exceeded: bool,
    pub(super) orphaned_tokens: i64,
}

impl Retirement {
    pub(super) fn none() -> Self {
        Self { places: Vec::new(), cap_exceeded: false, orphaned_tokens: 0 }
    }

    pub(super) fn records<'a>(&'a self, ring: &'a KeyRing) -> impl Iterator<Item = &'a Record> {
        self.places.iter().map(|place| &ring.records[*place])
    }
}

/// Decides on the next signing key, and says why.
pub(super) fn change(
    ring: &KeyRing,
    settings: &JwtSettings,
    now: DateTime<Utc>,
    request: &Request<'_>,
) -> (Change, String) {
    let next = if ring.pending().is_some() { Change::ActivatePending } else { Change::Generate };
    let signing = match (request.trigger, ring.signing()) {
        (Trigger::Added, _) => return (Change::Generate, "asked for".to_owned()),
        // A key pair that waits lies in the same database as one that leaked.
        (Trigger::Forced, _) if request.older == Older::RetireNow => {
            return (Change::Generate, "forced".to_owned());
        }
        (Trigger::Forced, _) => return (next, "forced".to_owned()),
        (Trigger::IfDue | Trigger::IfNoneActive, None) => {
            return (next, "no key pair was active".to_owned());
        }
        (Trigger::IfNoneActive, Some(_)) => {
            return (Change::None, "a key pair is active".to_owned());
        }
        (Trigger::IfDue, Some(signing)) => signing,
    };
    let age = now - signing.active_since();
    let period = settings.rotation_period;
    let due = age + EARLY >= period;
    let reason = format!(
        "the newest active key pair is {} days old, the period is {} days",
        age.num_days(),
        period.num_days()
    );
    let change = match settings.prepublish {
        None if due => next,
        None => Change::None,
        Some(ahead) => match ring.pending() {
            Some(pending) if due && now - pending.created_at() + EARLY >= ahead => {
                Change::ActivatePending
            }
            Some(_) => Change::None,
            // Even where it is late, verifiers get to know a key pair before it signs.
            None if due || age + ahead + EARLY >= period => Change::PublishAhead,
            None => Change::None,
        },
    };
    (change, reason)
}

/// How exactly tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// One means any number: quick, however many there are.
    Any,
    /// All of them.
    Exact,
}

/// Decides which key pairs stop being active after `change`. `usable` counts the tokens of one that
/// are still accepted.
pub(super) fn retirement(
    ring: &KeyRing,
    settings: &JwtSettings,
    now: DateTime<Utc>,
    older: Older,
    change: Change,
    mut usable: impl FnMut(RowId, Count) -> QueryResult<i64>,
) -> QueryResult<Retirement> {
    let active = ring.records.iter().enumerate().filter(|(_, record)| record.pair.is_active);
    // The newest active one signs, and is never among them, unless another has just taken over.
    let signing = usize::from(!change.adds_signing_key());
    let candidates: Vec<(usize, &Record)> = active.skip(signing).collect();
    let max_active = settings.max_active as usize;
    let mut excess = (candidates.len() + 1).saturating_sub(max_active);
    let at_any_cost = older == Older::RetireNow || max_active == 1;
    let mut retirement = Retirement::none();
    if at_any_cost {
        for (place, record) in candidates.into_iter().rev() {
            retirement.places.push(place);
            retirement.orphaned_tokens += usable(record.pair.id, Count::Exact)?;
        }
        return Ok(retirement);
    }
    for (place, record) in candidates.into_iter().rev() {
        if excess == 0 {
            break;
        }
        // One that signs until now has no such time yet, and is needed longest.
        let outlived = ring
            .superseded_at(record)
            .is_some_and(|superseded| superseded + settings.max_token_life < now);
        if outlived && usable(record.pair.id, Count::Any)? == 0 {
            retirement.places.push(place);
            excess -= 1;
        }
    }
    retirement.cap_exceeded = excess > 0;
    Ok(retirement)
}
