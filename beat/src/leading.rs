//! What the beat that leads does: adopt its entries, then send each slot when it comes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use celery_redis::SentEvents;
use celery_redis::transport::beat_state::{
    BeatState, BeatStateError, Lease, Outcome, Outgoing, Sending, Slot, Tail,
};
use celery_redis::wire::signature::Producer;
use chrono::{DateTime, TimeDelta, Utc};

use crate::agenda::{Agenda, DueRun};
use crate::announce;
use crate::clock::Clock;
use crate::consumption::Consumption;
use crate::entry::Entry;
use crate::reconcile::reconcile;
use crate::source::Journal;

/// Entries whose slots go to Redis in one step: few enough that others get their turn.
const BATCH: usize = 200;
/// Batches after which the lease is looked after, where that is due.
const BATCHES: usize = 100;
/// Entries after which whatever else is ready gets its turn.
const GIVE_WAY: usize = 50;
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

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Some entries were dealt with; there may be more that are due.
    Sent,
    /// Nothing is due.
    Idle,
    /// What is in Redis is not what this was decided from: look again.
    Outdated,
}

/// What goes to Redis at once.
#[derive(Debug, Default)]
struct Batch {
    /// When it was decided.
    now: DateTime<Utc>,
    runs: Vec<DueRun>,
    slots: Vec<Slot>,
}

/// What Redis answered.
struct Reply {
    outcomes: Vec<Outcome>,
    tails: Vec<Tail>,
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

    /// Sends what is due, in batches: while Redis takes one, what was sent before it is told of,
    /// and the next one is made.
    pub(crate) async fn send(
        &mut self,
        state: &BeatState,
        voice: &Voice,
        journal: &Journal,
        memory: &mut Memory,
        clock: &Clock,
    ) -> Result<Progress, BeatStateError> {
        let Self { lease, agenda, .. } = self;
        let mut batch = Batch::due(agenda, &voice.producer, clock).await;
        if batch.runs.is_empty() {
            return Ok(Progress::Idle);
        }
        let mut before: Option<(Batch, Reply)> = None;
        for more in (0..BATCHES).rev() {
            let meanwhile = async {
                // It is written to Redis first.
                tokio::task::yield_now().await;
                if let Some((batch, reply)) = before.take() {
                    batch.conclude(reply, agenda, journal, memory);
                }
                match more {
                    0 => Batch::default(),
                    _ => Batch::due(agenda, &voice.producer, clock).await,
                }
            };
            let (sending, next) = tokio::join!(state.send(lease, &batch.slots), meanwhile);
            let Sending::Leading { outcomes, tails } = sending? else {
                return Ok(Progress::Outdated);
            };
            let reply = Reply { outcomes, tails };
            if let Some(events) = &voice.events {
                let sent = batch.slots.iter().zip(&reply.outcomes);
                let sent = sent.filter(|(_, outcome)| **outcome == Outcome::Sent);
                let messages = sent.filter_map(|(slot, _)| Some(&slot.message.as_ref()?.message));
                events.tell(state.connection(), messages).await;
            }
            let is_outdated = batch.is_outdated(&reply.outcomes);
            let sent = std::mem::replace(&mut batch, next);
            if is_outdated || batch.runs.is_empty() {
                sent.conclude(reply, agenda, journal, memory);
                return Ok(if is_outdated { Progress::Outdated } else { Progress::Sent });
            }
            before = Some((sent, reply));
        }
        Ok(Progress::Sent)
    }
}

impl Batch {
    /// What is due now, up to so much as goes to Redis at once.
    async fn due(agenda: &mut Agenda, producer: &Producer, clock: &Clock) -> Self {
        let now = clock.now();
        let runs = agenda.due(now, BATCH);
        let mut slots = Vec::with_capacity(runs.len());
        for (count, run) in runs.iter().enumerate() {
            add_slots(&agenda.entries()[run.entry], run, producer, now, &mut slots);
            if count % GIVE_WAY == GIVE_WAY - 1 {
                // What is on its way to Redis may not have gone out at once.
                tokio::task::yield_now().await;
            }
        }
        Self { now, runs, slots }
    }

    /// Entries whose queues cannot take their slots.
    fn refused(&self, outcomes: &[Outcome]) -> HashSet<&str> {
        let outcomes = self.slots.iter().zip(outcomes);
        let refused = outcomes.filter(|(_, outcome)| **outcome == Outcome::NoQueue);
        refused.map(|(slot, _)| slot.entry.as_str()).collect()
    }

    /// Whether a slot was not decided from what is in Redis.
    fn is_outdated(&self, outcomes: &[Outcome]) -> bool {
        let refused = self.refused(outcomes);
        // What a refused slot was to be followed by is not sent either.
        self.slots.iter().zip(outcomes).any(|(slot, outcome)| {
            *outcome == Outcome::Before && !refused.contains(slot.entry.as_str())
        })
    }

    /// Tells of what was done, and notes it.
    fn conclude(&self, reply: Reply, agenda: &mut Agenda, journal: &Journal, memory: &mut Memory) {
        let mut fired = Vec::new();
        for (slot, outcome) in self.slots.iter().zip(&reply.outcomes) {
            match (outcome, &slot.message) {
                (Outcome::Sent, Some(outgoing)) => {
                    announce::sent(slot, outgoing);
                    match memory.sent.get_mut(&slot.entry) {
                        Some(known) => *known = Some(slot.slot),
                        None => {
                            memory.sent.insert(slot.entry.clone(), Some(slot.slot));
                        }
                    }
                    fired.push((slot.entry.as_str(), outgoing.at));
                }
                (Outcome::NoQueue, Some(outgoing)) => announce::no_queue(slot, outgoing),
                _ => {}
            }
        }
        journal.note(&fired);
        for tail in reply.tails {
            announce::consumption(memory.consumption.note(tail, self.now).as_ref());
        }
        let refused = self.refused(&reply.outcomes);
        for run in &self.runs {
            if refused.contains(agenda.entries()[run.entry].name.as_str()) {
                agenda.put_off(run, self.now + TRY_AGAIN);
            } else {
                announce::missed(&agenda.entries()[run.entry], run);
                agenda.settle(run);
            }
        }
    }
}

/// The slots of a run as they are sent, each from the one before.
fn add_slots(
    entry: &Entry,
    run: &DueRun,
    producer: &Producer,
    now: DateTime<Utc>,
    slots: &mut Vec<Slot>,
) {
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
