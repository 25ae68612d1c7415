//! What beat says in its log about what it does.

use celery_redis::transport::beat_state::{Outgoing, Slot};
use celery_redis::wire::signature::SignatureError;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::agenda::DueRun;
use crate::chain::Chain;
use crate::consumption::Observation;
use crate::entry::Entry;
use crate::reconcile::Reconciled;

/// The most names in one line.
const NAMES: usize = 20;

/// Says how the entries differ from what Redis knew.
pub(crate) fn reconciled(found: &Reconciled) {
    if !found.lost.is_empty() {
        log::error!(
            "Redis has lost the last runs of {}: they start as new, and what they missed is not \
             made up",
            names(&found.lost)
        );
    }
    if !found.restored.is_empty() {
        log::error!(
            "in Redis the last runs of {} are earlier than what this beat has sent: an older state \
             was restored. Slots may be sent again, under the same task ids as before",
            names(&found.restored)
        );
    }
    if !found.new.is_empty() {
        log::info!("new: {}; the first slot of each is one to come", names(&found.new));
    }
    if !found.past.is_empty() {
        log::warn!("{} will never be sent: no slot is to come", names(&found.past));
    }
    if !found.rescheduled.is_empty() {
        log::info!("another schedule: {}; its slots count from now on", names(&found.rescheduled));
    }
    if !found.forgotten.is_empty() {
        log::info!("no longer there and forgotten: {}", names(&found.forgotten));
    }
}

/// Names entries whose last run is in the future.
pub(crate) fn ahead<'a>(entries: impl Iterator<Item = &'a str>) {
    let entries: Vec<String> = entries.map(ToOwned::to_owned).collect();
    if !entries.is_empty() {
        log::error!(
            "the last run of {} is in the future, and nothing is sent until then: the clock of \
             Redis is or was wrong. `jwt_manage beat reset NAME` lets an entry go on from now",
            names(&entries)
        );
    }
}

/// Says that a slot was sent, and how late.
pub(crate) fn sent(slot: &Slot, outgoing: &Outgoing) {
    let Outgoing { message, due, at } = outgoing;
    log::info!(
        "sent {} [{}] to {}, slot {}, {} ms late",
        slot.entry,
        message.id,
        message.queue,
        shown(slot.slot),
        (*at - *due).num_milliseconds()
    );
}

/// Says that a queue cannot take a slot.
pub(crate) fn no_queue(slot: &Slot, outgoing: &Outgoing) {
    log::error!(
        "{}: slot {} cannot be sent: the key of queue {} holds no list; it is tried again",
        slot.entry,
        shown(slot.slot),
        outgoing.message.queue
    );
}

/// Says that a slot cannot be sent at all.
pub(crate) fn unsendable(entry: &Entry, slot: DateTime<Utc>, error: &SignatureError) {
    let error = Chain(error);
    log::error!("{}: the message of slot {} cannot be made: {error}", entry.name, shown(slot));
}

/// Says that slots were given up.
pub(crate) fn missed(entry: &Entry, run: &DueRun) {
    let Some(first) = run.missed else { return };
    match run.slots.first() {
        Some(sent) => log::warn!(
            "{}: slots from {} on were missed, sent is {}",
            entry.name,
            shown(first),
            shown(*sent)
        ),
        None => log::warn!(
            "{}: slots from {} to {} were missed, and it is too late for them",
            entry.name,
            shown(first),
            shown(run.to)
        ),
    }
}

/// Says whether somebody takes what is sent.
pub(crate) fn consumption(observation: Option<&Observation>) {
    match observation {
        None => {}
        Some(Observation::NothingConsumed { list, since, slots }) => log::warn!(
            "nothing was taken from queue {} since {}, in which {slots} slots were sent to it: does \
             a worker consume it? (jwt_manage queue status)",
            queue(list),
            shown(*since)
        ),
        Some(Observation::ConsumedAgain { list }) => {
            log::info!("queue {} is consumed again", queue(list));
        }
    }
}

/// A list's name without the separator of its priority.
fn queue(list: &str) -> String {
    list.replace("\u{6}\u{16}", " priority ")
}

fn names(names: &[String]) -> String {
    match names.get(NAMES..) {
        None | Some([]) => names.join(", "),
        Some(more) => format!("{} and {} more", names[..NAMES].join(", "), more.len()),
    }
}

pub(crate) fn shown(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
