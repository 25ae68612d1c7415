//! What Redis holds, and what each script does to it: one function per file of
//! `celery-redis/src/transport/scripts`.

use crate::Mutation;

/// Messages.
pub const MESSAGES: usize = 2;
/// Numbers for claims and tags; one is used again when nobody knows it any more.
pub const CLAIMS: usize = 8;
/// Numbers for identities of processes.
pub const IDENTITIES: usize = 8;
/// Ticks that a lease lives without renewal.
pub const LEASE: u8 = 2;
/// Ticks until a kombu client finds a delivery stale.
pub const VISIBILITY_TIMEOUT: u8 = 2;
/// Deaths of processes with a message until it is a dead letter.
pub const MAX_DELIVERIES: u8 = 2;

/// A promise that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A message is nowhere: in no list, not unacked, not scheduled, not dead, not settled.
    Lost,
    /// A message is in two places.
    Twice,
    /// An acknowledgement removed the record of another claim.
    AnothersRecord,
    /// A delivery was taken from a process that had renewed in time.
    TakenFromTheLiving,
    /// A process was told that its lease goes on although deliveries of it had been reclaimed.
    RenewedAfterReclaim,
    /// No step leads to the end of every message any more.
    Stuck,
}

/// Every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Redis {
    /// The queue's list: how often each message is in it. Its order is the transport tests' matter.
    pub list: [u8; MESSAGES],
    /// `unacked` and `unacked_index`, by tag.
    pub unacked: [Option<Record>; CLAIMS],
    /// `processes`, `alive` and `held` of each identity.
    pub identities: [Identity; IDENTITIES],
    /// `scheduled`: ticks until each message is due.
    pub scheduled: [Option<u8>; MESSAGES],
    /// Dead letters.
    pub dead: [u8; MESSAGES],
    /// Messages that were acknowledged, and their result stored.
    pub settled: [u8; MESSAGES],
    /// The header in each message that counts dead processes.
    pub deaths: [u8; MESSAGES],
}

/// A delivery's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// The message.
    pub message: u8,
    /// Ticks since its score was set.
    pub age: u8,
    /// The claim that made it; no part of the protocol.
    pub claim: u8,
    /// The identity that holds it; no part of the record in Redis.
    pub holder: u8,
    /// Whether its holder has ever been silent for a whole lease; no part of the protocol.
    pub was_neglected: bool,
}

/// What Redis knows of one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// Its field in `processes`.
    pub entry: Entry,
    /// Ticks that `alive` still lives; 0 where there is none.
    pub alive: u8,
    /// Tags in `held`.
    pub held: u8,
    /// Ticks since it was heard, up to a lease; no part of the protocol.
    pub silence: u8,
    /// Whether a reaper has taken deliveries from it; no part of the protocol.
    pub was_reclaimed: bool,
}

/// A field of `processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Entry {
    /// There is none.
    #[default]
    Absent,
    /// A description.
    Described,
    /// Empty: somebody has begun to reclaim what it holds.
    Marked,
}

impl Identity {
    pub(crate) fn is_forgotten(&self) -> bool {
        self.entry == Entry::Absent && self.alive == 0 && self.held == 0
    }
}

/// What a sender asks of Redis; one request is one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the fields are those of the scripts")]
pub enum Request {
    Register { identity: u8 },
    Claim { identity: u8, claim: u8 },
    Renew { identity: u8 },
    Settle { identity: u8, tag: u8, claim: u8, message: u8, sends_again: bool },
    Defer { identity: u8, tag: u8, claim: u8, message: u8 },
    Bury { identity: u8, tag: u8, claim: u8, message: u8 },
    Requeue { identity: u8, tag: u8, claim: u8, message: u8 },
    Leave { identity: u8, delivery: Option<(u8, u8)> },
}

impl Request {
    /// The tag without whose record it has no effect.
    pub(crate) fn tag(&self) -> Option<usize> {
        match *self {
            Self::Settle { tag, .. }
            | Self::Defer { tag, .. }
            | Self::Bury { tag, .. }
            | Self::Requeue { tag, .. } => Some(usize::from(tag)),
            Self::Register { .. }
            | Self::Claim { .. }
            | Self::Renew { .. }
            | Self::Leave { .. } => None,
        }
    }

    pub(crate) fn claims_named(&self) -> u8 {
        match *self {
            Self::Register { .. } | Self::Renew { .. } => 0,
            Self::Claim { claim, .. } => 1 << claim,
            Self::Leave { delivery, .. } => delivery.map_or(0, |(tag, _)| 1 << tag),
            Self::Settle { tag, claim, .. }
            | Self::Defer { tag, claim, .. }
            | Self::Bury { tag, claim, .. }
            | Self::Requeue { tag, claim, .. } => 1 << tag | 1 << claim,
        }
    }

    pub(crate) fn identities_named(&self) -> u8 {
        match *self {
            Self::Register { identity }
            | Self::Renew { identity }
            | Self::Claim { identity, .. }
            | Self::Settle { identity, .. }
            | Self::Defer { identity, .. }
            | Self::Bury { identity, .. }
            | Self::Requeue { identity, .. }
            | Self::Leave { identity, .. } => 1 << identity,
        }
    }
}

/// What a script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Nothing was there or nothing was to do.
    Nothing,
    /// Done.
    Done,
    /// A claimed delivery.
    Claimed {
        /// Its tag.
        tag: u8,
        /// Its message.
        message: u8,
    },
}

/// Why deliveries go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Died,
    Leaves,
}

impl Redis {
    /// Whether every message has come to its end.
    pub fn is_over(&self) -> bool {
        (0..MESSAGES).all(|message| self.settled[message] + self.dead[message] > 0)
    }

    /// Whether each message is in exactly one place; `elsewhere` are those outside of Redis.
    pub(crate) fn places(
        &self,
        elsewhere: &(impl Iterator<Item = usize> + Clone),
    ) -> Result<(), Broken> {
        for message in 0..MESSAGES {
            let unacked = self.unacked.iter().flatten();
            let places = usize::from(self.list[message])
                + unacked.filter(|record| usize::from(record.message) == message).count()
                + usize::from(self.scheduled[message].is_some())
                + usize::from(self.dead[message])
                + usize::from(self.settled[message])
                + elsewhere.clone().filter(|popped| *popped == message).count();
            match places {
                0 => return Err(Broken::Lost),
                1 => {}
                _ => return Err(Broken::Twice),
            }
        }
        Ok(())
    }

    pub(crate) fn execute(
        &mut self,
        request: Request,
        mutation: Option<Mutation>,
    ) -> Result<Reply, Broken> {
        match request {
            Request::Register { identity } => self.register(identity),
            Request::Claim { identity, claim } => return Ok(self.claim(identity, claim, mutation)),
            Request::Renew { identity } => return self.renew(identity, mutation),
            Request::Settle { identity, tag, claim, message, sends_again } => {
                let ours = self.remove(identity, tag, claim)?;
                if ours || mutation == Some(Mutation::SettleWithoutFence) {
                    let place = if sends_again { &mut self.list } else { &mut self.settled };
                    place[usize::from(message)] += 1;
                }
                if ours && sends_again {
                    self.deaths[usize::from(message)] = 0;
                }
                return Ok(if ours { Reply::Done } else { Reply::Nothing });
            }
            Request::Defer { identity, tag, claim, message } => {
                if !self.remove(identity, tag, claim)? {
                    return Ok(Reply::Nothing);
                }
                self.scheduled[usize::from(message)] = Some(1);
            }
            Request::Bury { identity, tag, claim, message } => {
                if !self.remove(identity, tag, claim)? {
                    return Ok(Reply::Nothing);
                }
                self.dead[usize::from(message)] += 1;
            }
            Request::Requeue { identity, tag, claim, message } => {
                if !self.remove(identity, tag, claim)? {
                    return Ok(Reply::Nothing);
                }
                self.list[usize::from(message)] += 1;
            }
            Request::Leave { identity, delivery } => {
                return self.reclaim(identity, Cause::Leaves, delivery, mutation);
            }
        }
        Ok(Reply::Done)
    }

    /// register.lua
    fn register(&mut self, identity: u8) {
        let identity = &mut self.identities[usize::from(identity)];
        identity.entry = Entry::Described;
        identity.alive = LEASE;
        identity.silence = 0;
    }

    /// claim.lua, with a limit of one message.
    fn claim(&mut self, holder: u8, claim: u8, mutation: Option<Mutation>) -> Reply {
        let is_alive = self.identities[usize::from(holder)].alive > 0;
        if !is_alive && mutation != Some(Mutation::ClaimWithoutLease) {
            return Reply::Nothing;
        }
        let Some(popped) = self.list.iter().position(|count| *count > 0) else {
            return Reply::Nothing;
        };
        self.list[popped] -= 1;
        let message = u8::try_from(popped).unwrap_or_default();
        self.record(holder, claim, message, mutation)
    }

    /// The second half of a claim, which is a step of its own only in kombu.
    pub(crate) fn record(
        &mut self,
        holder: u8,
        claim: u8,
        message: u8,
        mutation: Option<Mutation>,
    ) -> Reply {
        let tag = if mutation == Some(Mutation::TagsUsedAgain) { message } else { claim };
        let identity = &mut self.identities[usize::from(holder)];
        identity.held |= 1 << tag;
        let was_neglected = identity.silence == LEASE;
        self.unacked[usize::from(tag)] =
            Some(Record { message, age: 0, claim, holder, was_neglected });
        Reply::Claimed { tag, message }
    }

    /// renew.lua
    fn renew(&mut self, number: u8, mutation: Option<Mutation>) -> Result<Reply, Broken> {
        let identity = &mut self.identities[usize::from(number)];
        let may_renew = match identity.entry {
            Entry::Described => true,
            Entry::Marked => mutation == Some(Mutation::RenewAfterReclaimBegan),
            Entry::Absent => false,
        };
        if !may_renew {
            return Ok(Reply::Nothing);
        }
        if identity.was_reclaimed {
            return Err(Broken::RenewedAfterReclaim);
        }
        identity.entry = Entry::Described;
        identity.alive = LEASE;
        identity.silence = 0;
        if mutation != Some(Mutation::RenewWithoutScores) {
            let held = identity.held;
            for (tag, record) in self.unacked.iter_mut().enumerate() {
                if let Some(record) = record.as_mut().filter(|_| held & 1 << tag != 0) {
                    record.age = 0;
                }
            }
        }
        Ok(Reply::Done)
    }

    /// The beginning of every script that ends a delivery: `HDEL unacked tag == 1`, then the rest.
    fn remove(&mut self, identity: u8, tag: u8, claim: u8) -> Result<bool, Broken> {
        let Some(record) = self.unacked[usize::from(tag)].take() else {
            return Ok(false);
        };
        self.identities[usize::from(identity)].held &= !(1 << tag);
        if record.claim == claim { Ok(true) } else { Err(Broken::AnothersRecord) }
    }

    /// reclaim.lua for one batch of one delivery, or an empty batch.
    pub(crate) fn reclaim(
        &mut self,
        number: u8,
        cause: Cause,
        delivery: Option<(u8, u8)>,
        mutation: Option<Mutation>,
    ) -> Result<Reply, Broken> {
        let identity = &mut self.identities[usize::from(number)];
        let checks = cause == Cause::Died && mutation != Some(Mutation::ReapTheLiving);
        if checks && identity.alive > 0 {
            return Ok(Reply::Nothing);
        }
        identity.entry = Entry::Marked;
        if let Some((tag, message)) = delivery {
            identity.held &= !(1 << tag);
            let record = self.unacked[usize::from(tag)].take();
            if let Some(record) = record {
                identity.was_reclaimed |= cause == Cause::Died;
                if cause == Cause::Died && !record.was_neglected {
                    return Err(Broken::TakenFromTheLiving);
                }
            }
            if record.is_some() || mutation == Some(Mutation::ReclaimWithoutFence) {
                self.put_back(message, cause);
            }
        }
        let identity = &mut self.identities[usize::from(number)];
        if identity.held == 0 || mutation == Some(Mutation::ForgetTooEarly) {
            identity.entry = Entry::Absent;
            identity.alive = 0;
        }
        Ok(Reply::Done)
    }

    fn put_back(&mut self, message: u8, cause: Cause) {
        let message = usize::from(message);
        if cause == Cause::Died {
            self.deaths[message] = (self.deaths[message] + 1).min(MAX_DELIVERIES);
            if self.deaths[message] == MAX_DELIVERIES {
                self.dead[message] += 1;
                return;
            }
        }
        self.list[message] += 1;
    }

    /// promote.lua
    pub(crate) fn promote(&mut self) {
        for message in 0..MESSAGES {
            if self.scheduled[message] == Some(0) {
                self.scheduled[message] = None;
                self.list[message] += 1;
            }
        }
    }

    /// Tags that a kombu client finds stale.
    pub(crate) fn stale(&self) -> u8 {
        self.unacked.iter().enumerate().fold(0, |stale, (tag, record)| {
            let is_stale = record.is_some_and(|record| record.age >= VISIBILITY_TIMEOUT);
            stale | u8::from(is_stale) << tag
        })
    }

    /// What a kombu client does with each of them, in one transaction.
    pub(crate) fn restore(&mut self, tag: u8) -> Result<(), Broken> {
        let Some(record) = self.unacked[usize::from(tag)].take() else {
            return Ok(());
        };
        self.list[usize::from(record.message)] += 1;
        if record.was_neglected { Ok(()) } else { Err(Broken::TakenFromTheLiving) }
    }

    /// One tick of the clock.
    pub(crate) fn tick(&mut self) {
        for identity in &mut self.identities {
            if !identity.is_forgotten() {
                identity.alive = identity.alive.saturating_sub(1);
                identity.silence = (identity.silence + 1).min(LEASE);
            }
        }
        for record in self.unacked.iter_mut().flatten() {
            record.age = (record.age + 1).min(VISIBILITY_TIMEOUT);
            let holder = &self.identities[usize::from(record.holder)];
            record.was_neglected |= holder.silence == LEASE;
        }
        for wait in self.scheduled.iter_mut().flatten() {
            *wait = wait.saturating_sub(1);
        }
    }
}
