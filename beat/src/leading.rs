//! What the beat that leads does: adopt its entries, then send each slot when it comes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use celery_redis::SentEvents;
use celery_redis::transport::beat_state::{
    BeatState, BeatStateError, Lease, Outcome, Outgoing, Sending, Slot,
};
use celery_redis::wire::signature::Producer;
use chrono::{DateTime, TimeDelta, Utc};

use crate::agenda::{Agenda, DueRun};
use crate::announce;
use crate::consumption::Consumption;
use crate::entry::Entry;
use crate::reconcile::reconcile;

/// Entries whose slots go to Redis in one step: few enough that others get their turn.
const BATCH: usize = 200;
/// A last run that is ahead of the clock by more than this is told of.
const AHEAD: TimeDelta = TimeDelta::minutes(5);
/// When a slot is tried again whose queue cannot take it.
const TRY_AGAIN: TimeDelta = TimeDelta::seconds(10);

/// One term of leading, with the entries as they are during it.
#[derive(Debug)]
pub(crate) struct Leading {
    lease: Lease,
    /// What operators have changed until the agenda was made.
    changes: String,
    agenda: Agenda,
}

/// What outlives a term.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The slot of each entry that this process has sent last, if any, since it was last known.
    sent: HashMap<String, Option<DateTime<Utc>>>,
    consumption: Consumption,
}

/// How this process's messages are made, and told of.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) producer: Producer,
    /// `None` where nobody is to be told.
    pub(crate) events: Option<SentEvents>,
}

/// What was done at an instant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Some entries were dealt with; there may be more that are due.
    Sent(Vec<Fired>),
    /// Nothing is due.
    Idle,
    /// What is in Redis is not what this was decided from: look again.
    Outdated,
}

/// A slot that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) entry: String,
    pub(crate) at: DateTime<Utc>,
}

impl Leading {
    /// Begins to lead with `entries`, or goes on with others; `None` where another beat leads.
    pub(crate) async fn begin(
        state: &BeatState,
        lease: &Lease,
        entries: &Arc<[Entry]>,
        changes: &str,
        memory: &mut Memory,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, BeatStateError> {
        let ledger = state.ledger().await?;
        let found = reconcile(entries, &ledger, &memory.sent, now);
        announce::reconciled(&found);
        let is_ahead = |(_, cursor): &(&Entry, &Option<DateTime<Utc>>)| {
            cursor.is_some_and(|cursor| cursor > now + AHEAD)
        };
        let ahead = entries.iter().zip(&found.cursors).filter(is_ahead);
        announce::ahead(ahead.map(|(entry, _)| entry.name.as_str()));
        if !state.adopt(lease, &found.adoptions, &found.forgotten).await? {
            return Ok(None);
        }
        let known = entries.iter().map(|entry| {
            let is_told = found.lost.contains(&entry.name) || found.restored.contains(&entry.name);
            let sent = memory.sent.get(&entry.name).copied().flatten();
            (entry.name.clone(), sent.filter(|_| !is_told))
        });
        memory.sent = known.collect();
        Ok(Some(Self {
            lease: lease.clone(),
            changes: changes.to_owned(),
            agenda: Agenda::new(Arc::clone(entries), found.cursors),
        }))
    }

    /// Whether this is still what there is to do.
    pub(crate) fn is_of(&self, lease: &Lease, entries: &Arc<[Entry]>, changes: &str) -> bool {
        self.lease == *lease
            && self.changes == changes
            && std::ptr::eq(self.agenda.entries(), &raw const **entries)
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.agenda.next()
    }

    /// Sends what is due at `now`, up to a batch.
    pub(crate) async fn send(
        &mut self,
        state: &BeatState,
        voice: &Voice,
        memory: &mut Memory,
        now: DateTime<Utc>,
    ) -> Result<Progress, BeatStateError> {
        let runs = self.agenda.due(now, BATCH);
        if runs.is_empty() {
            return Ok(Progress::Idle);
        }
        let mut slots = Vec::with_capacity(runs.len());
        for run in &runs {
            self.slots(run, &voice.producer, now, &mut slots);
        }
        let Sending::Leading { outcomes, tails } = state.send(&self.lease, &slots).await? else {
            return Ok(Progress::Outdated);
        };
        let mut fired = Vec::with_capacity(slots.len());
        let mut refused = HashSet::new();
        for (slot, outcome) in slots.iter().zip(&outcomes) {
            match (outcome, &slot.message) {
                (Outcome::Sent, Some(outgoing)) => {
                    announce::sent(slot, outgoing);
                    memory.sent.insert(slot.entry.clone(), Some(slot.slot));
                    fired.push(Fired { entry: slot.entry.clone(), at: outgoing.at });
                }
                (Outcome::NoQueue, Some(outgoing)) => {
                    announce::no_queue(slot, outgoing);
                    refused.insert(slot.entry.as_str());
                }
                _ => {}
            }
        }
        if let Some(events) = &voice.events {
            let sent =
                slots.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Sent);
            let messages = sent.filter_map(|(slot, _)| Some(&slot.message.as_ref()?.message));
            events.tell(state.connection(), messages).await;
        }
        for tail in tails {
            announce::consumption(memory.consumption.note(tail, now).as_ref());
        }
        for run in &runs {
            let entry = &self.agenda.entries()[run.entry];
            if refused.contains(entry.name.as_str()) {
                self.agenda.put_off(run, now + TRY_AGAIN);
            } else {
                announce::missed(entry, run);
                self.agenda.settle(run);
            }
        }
        // What a refused slot was to be followed by is not sent either.
        let is_outdated = |(slot, outcome): (&Slot, &Outcome)| {
            *outcome == Outcome::Before && !refused.contains(slot.entry.as_str())
        };
        if slots.iter().zip(&outcomes).any(is_outdated) {
            return Ok(Progress::Outdated);
        }
        Ok(Progress::Sent(fired))
    }

    /// The slots of a run as they are sent, each from the one before.
    fn slots(&self, run: &DueRun, producer: &Producer, now: DateTime<Utc>, slots: &mut Vec<Slot>) {
        let entry = &self.agenda.entries()[run.entry];
        let mut expected = run.from;
        for slot in &run.slots {
            match entry.signature(*slot, now).encode(producer, now) {
                Ok(message) => {
                    let message = Some(Outgoing { message, due: entry.due_at(*slot), at: now });
                    slots.push(Slot { entry: entry.name.clone(), expected, slot: *slot, message });
                    expected = *slot;
                }
                // One entry that cannot be sent must not keep others from it.
                Err(error) => announce::unsendable(entry, *slot, &error),
            }
        }
        if expected < run.to {
            let (entry, slot) = (entry.name.clone(), run.to);
            slots.push(Slot { entry, expected, slot, message: None });
        }
    }
}
