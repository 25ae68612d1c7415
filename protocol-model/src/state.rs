//! One state of everything: Redis, the processes, the reapers, a kombu client, the network.

use crate::redis::{CLAIMS, Identity, Redis, Request};

/// Processes at a time; each can be started again after its end.
pub(crate) const PROCESSES: usize = 2;
/// Reapers, each with its own view of a dead process.
pub(crate) const REAPERS: usize = 2;
/// Deliveries that one process can hold.
pub(crate) const SLOTS: usize = 2;
/// Requests that can be under way after their sender gave them up.
pub(crate) const LATE: usize = 2;

/// Everything at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// What Redis holds.
    pub redis: Redis,
    /// The processes.
    pub processes: [Process; PROCESSES],
    /// The reapers.
    pub reapers: [Option<Reaper>; REAPERS],
    /// Tags that a kombu client has found to be stale and has not restored yet.
    pub stale: u8,
    /// Requests that their senders gave up.
    pub late: [Option<Request>; LATE],
    /// Faults that may still happen.
    pub faults: u8,
    /// Times that a message may still be deferred, requeued or retried.
    pub detours: u8,
}

/// One process of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Process {
    /// What it is doing; `None` where it does not run.
    pub life: Option<Life>,
    /// Its deliveries.
    pub deliveries: [Option<Delivery>; SLOTS],
    /// A message that it popped and has not recorded, where it claims as kombu does.
    pub popped: Option<usize>,
}

/// A process that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    /// Number of its UUID.
    pub identity: u8,
    /// Whether Redis has confirmed that it knows this identity.
    pub is_registered: bool,
    /// A claim failed: what it took, if anything, has to go back before the next one.
    pub has_unknown_claim: bool,
    /// Leaving: tags that it still has to put back.
    pub leaves_with: Option<u8>,
}

/// A delivery in a process's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delivery {
    /// The identity that claimed it.
    pub identity: u8,
    /// Its tag.
    pub tag: u8,
    /// The claim that it is from; no part of the protocol, only of its promises.
    pub claim: u8,
    /// The message.
    pub message: u8,
    /// What the process has begun to do with it, and does again until there is an answer.
    pub intent: Option<Intent>,
}

/// Ways to end a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Intent {
    /// Acknowledge and store the result.
    Settle,
    /// Acknowledge and send the task once more.
    Retry,
    /// Put away until it is due.
    Defer,
    /// Move to the dead letters.
    Bury,
    /// Give back to the queue.
    Requeue,
}

impl Intent {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Settle, Self::Retry, Self::Defer, Self::Bury, Self::Requeue];

    /// The step's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settle | Self::Retry => "settle",
            Self::Defer => "defer",
            Self::Bury => "bury",
            Self::Requeue => "requeue",
        }
    }

    /// Whether the message goes on.
    pub fn is_detour(self) -> bool {
        matches!(self, Self::Retry | Self::Defer | Self::Requeue)
    }
}

/// A reaper that has begun with a dead process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reaper {
    /// The process's identity.
    pub identity: u8,
    /// What it held when the reaper looked: message by tag.
    pub held: [Option<u8>; CLAIMS],
}

impl State {
    /// A number that no claim and no tag has that anybody still knows.
    pub(crate) fn fresh_claim(&self) -> u8 {
        let mut used = self.stale;
        for (tag, record) in self.redis.unacked.iter().enumerate() {
            if let Some(record) = record {
                used |= 1 << tag | 1 << record.claim;
            }
        }
        for identity in &self.redis.identities {
            used |= identity.held;
        }
        for process in &self.processes {
            used |= process.life.and_then(|life| life.leaves_with).unwrap_or(0);
            for delivery in process.deliveries.iter().flatten() {
                used |= 1 << delivery.tag | 1 << delivery.claim;
            }
        }
        for reaper in self.reapers.iter().flatten() {
            for (tag, _) in reaper.held.iter().enumerate().filter(|(_, held)| held.is_some()) {
                used |= 1 << tag;
            }
        }
        for request in self.late.iter().flatten() {
            used |= request.claims_named();
        }
        free_bit(used)
    }

    /// A number that no identity has that anybody still knows.
    pub(crate) fn fresh_identity(&self) -> u8 {
        free_bit(self.known_identities())
    }

    fn known_identities(&self) -> u8 {
        let mut used = 0;
        for (number, identity) in self.redis.identities.iter().enumerate() {
            if !identity.is_forgotten() {
                used |= 1 << number;
            }
        }
        for record in self.redis.unacked.iter().flatten() {
            used |= 1 << record.holder;
        }
        for process in &self.processes {
            used |= process.life.map_or(0, |life| 1 << life.identity);
            for delivery in process.deliveries.iter().flatten() {
                used |= 1 << delivery.identity;
            }
        }
        for reaper in self.reapers.iter().flatten() {
            used |= 1 << reaper.identity;
        }
        for request in self.late.iter().flatten() {
            used |= request.identities_named();
        }
        used
    }

    /// The same state without what can have no effect any more, and with what has no order in
    /// order. States that differ in nothing else are explored once.
    ///
    /// `is_fenced`: a request or a look whose tag is gone has no effect.
    pub(crate) fn reduced(mut self, is_fenced: bool) -> Self {
        if is_fenced {
            self.forget_gone_tags();
        }
        let known = self.known_identities();
        for (number, identity) in self.redis.identities.iter_mut().enumerate() {
            if known & 1 << number == 0 {
                *identity = Identity::default();
            }
        }
        for process in &mut self.processes {
            process.deliveries.sort_unstable();
        }
        self.processes.sort_unstable();
        self.late.sort_unstable();
        self.reapers.sort_unstable();
        self
    }

    fn forget_gone_tags(&mut self) {
        let recorded = |tag: usize| self.redis.unacked[tag].is_some();
        for tag in (0..CLAIMS).filter(|tag| !recorded(*tag)) {
            self.stale &= !(1 << tag);
            for reaper in self.reapers.iter_mut().flatten() {
                let identity = &self.redis.identities[usize::from(reaper.identity)];
                if identity.held & 1 << tag == 0 {
                    reaper.held[tag] = None;
                }
            }
        }
        for late in &mut self.late {
            if late.is_some_and(|request| request.tag().is_some_and(|tag| !recorded(tag))) {
                *late = None;
            }
        }
        for process in &mut self.processes {
            for delivery in process.deliveries.iter_mut().flatten() {
                if !recorded(usize::from(delivery.tag)) {
                    delivery.intent = None;
                }
            }
        }
    }
}

fn free_bit(used: u8) -> u8 {
    let free = used.trailing_ones();
    assert!(free < u8::BITS, "the limits of the exploration need more numbers than there are");
    u8::try_from(free).unwrap_or_default()
}
