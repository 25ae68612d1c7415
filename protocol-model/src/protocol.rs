//! The steps that are possible in a state, and what each does.

use crate::redis::{
    CLAIMS, Cause, Entry, IDENTITIES, Identity, LEASE, MAX_DELIVERIES, MESSAGES, Redis, Reply,
};
use crate::state::{LATE, PROCESSES, Process, REAPERS, Reaper};
use crate::{Broken, Fate, State, Step, process};

/// How much may happen in one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages in the queue at the beginning, at most [`MESSAGES`]; the others are settled.
    pub messages: u8,
    /// Crashes, silences longer than a lease, lost replies and late requests.
    pub faults: u8,
    /// Times that a message is deferred, requeued or retried, or a process leaves.
    pub detours: u8,
    /// Reapers, at most [`REAPERS`].
    pub reapers: usize,
    /// Whether a kombu client restores.
    pub with_kombu: bool,
}

/// A safeguard that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The tag is the message's own, as kombu's is, instead of new for each claim.
    TagsUsedAgain,
    /// Neither the reaper nor reclaim.lua looks whether the process is alive.
    ReapTheLiving,
    /// renew.lua renews even when somebody has begun to reclaim.
    RenewAfterReclaimBegan,
    /// settle.lua stores and sends although the tag is gone.
    SettleWithoutFence,
    /// A claim pops and then records, in two steps, as kombu does.
    PopThenRecord,
    /// renew.lua does not refresh the scores in `unacked_index`.
    RenewWithoutScores,
    /// claim.lua does not look for the lease.
    ClaimWithoutLease,
    /// A process does not give back what a claim took whose reply was lost.
    KeepUnknownClaims,
    /// A process gives that back before its next claim, and never looks again.
    ReturnUnknownClaimsOnce,
    /// reclaim.lua forgets the process although it still holds something.
    ForgetTooEarly,
    /// reclaim.lua puts back without having removed the record.
    ReclaimWithoutFence,
    /// After a registration without an answer, a process registers the same identity again.
    RegisterAgain,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::TagsUsedAgain,
        Self::ReapTheLiving,
        Self::RenewAfterReclaimBegan,
        Self::SettleWithoutFence,
        Self::PopThenRecord,
        Self::RenewWithoutScores,
        Self::ClaimWithoutLease,
        Self::KeepUnknownClaims,
        Self::ReturnUnknownClaimsOnce,
        Self::ForgetTooEarly,
        Self::ReclaimWithoutFence,
        Self::RegisterAgain,
    ];
}

/// The protocol, whole or without one of its safeguards.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// How much may happen.
    pub limits: Limits,
    /// The missing safeguard.
    pub mutation: Option<Mutation>,
}

type Outcome = Result<State, (Broken, State)>;

/// Collects the steps out of one state.
pub(crate) struct Steps<'a> {
    pub(crate) state: &'a State,
    pub(crate) mutation: Option<Mutation>,
    is_fenced: bool,
    found: &'a mut Vec<(Step, Outcome)>,
}

impl Steps<'_> {
    /// Adds a step, unless it changes nothing or has no fault left to be.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        who: usize,
        fate: Fate,
        change: impl FnOnce(&mut State) -> Result<(), Broken>,
    ) {
        let mut state = *self.state;
        if fate != Fate::Answered {
            let Some(left) = state.faults.checked_sub(1) else { return };
            state.faults = left;
        }
        let changed = change(&mut state).and_then(|()| state.places());
        let unchanged = State { faults: self.state.faults, ..state } == *self.state;
        let step = Step { name, who, fate };
        match changed {
            Err(broken) => self.found.push((step, Err((broken, state)))),
            Ok(()) if unchanged => {}
            Ok(()) => self.found.push((step, Ok(state.reduced(self.is_fenced)))),
        }
    }
}

impl Protocol {
    pub(crate) fn initial(&self) -> State {
        let mut redis = Redis {
            list: [0; MESSAGES],
            unacked: [None; CLAIMS],
            identities: [Identity::default(); IDENTITIES],
            scheduled: [None; MESSAGES],
            dead: [0; MESSAGES],
            settled: [0; MESSAGES],
            deaths: [0; MESSAGES],
        };
        for message in 0..MESSAGES {
            let waits = message < usize::from(self.limits.messages);
            let place = if waits { &mut redis.list } else { &mut redis.settled };
            place[message] = 1;
        }
        State {
            redis,
            processes: [Process::default(); PROCESSES],
            reapers: [None; REAPERS],
            stale: 0,
            late: [None; LATE],
            faults: self.limits.faults,
            detours: self.limits.detours,
        }
    }

    /// Every step that is possible in `state`, and the state or the broken promise after it.
    pub(crate) fn steps(&self, state: &State, found: &mut Vec<(Step, Outcome)>) {
        let mutation = self.mutation;
        let is_fenced = !matches!(
            mutation,
            Some(
                Mutation::TagsUsedAgain
                    | Mutation::SettleWithoutFence
                    | Mutation::ReclaimWithoutFence
            )
        );
        let mut steps = Steps { state, mutation, is_fenced, found };
        for number in 0..PROCESSES {
            process::steps(&mut steps, number);
        }
        for number in 0..self.limits.reapers {
            reaper_steps(&mut steps, number);
        }
        if self.limits.with_kombu {
            kombu_steps(&mut steps);
        }
        late_steps(&mut steps);
        steps.add("promote", 0, Fate::Answered, |state| {
            state.redis.promote();
            Ok(())
        });
        let fate = if state.silences_somebody() { Fate::Fault } else { Fate::Answered };
        steps.add("tick", 0, fate, |state| {
            state.redis.tick();
            Ok(())
        });
    }
}

/// A reaper looks at a dead process, then puts back what it held, one delivery a script.
fn reaper_steps(steps: &mut Steps<'_>, number: usize) {
    let mutation = steps.mutation;
    let Some(reaper) = steps.state.reapers[number] else {
        for identity in 0..IDENTITIES {
            let known = &steps.state.redis.identities[identity];
            let seems_dead = known.alive == 0 || mutation == Some(Mutation::ReapTheLiving);
            if known.entry != Entry::Absent && seems_dead {
                steps.add("look for dead", number, Fate::Answered, |state| {
                    state.reapers[number] = Some(look(&state.redis, identity));
                    Ok(())
                });
            }
        }
        return;
    };
    let first = reaper.held.iter().position(Option::is_some);
    steps.add("reap", number, Fate::Answered, |state| {
        let batch = first.and_then(|tag| Some((u8::try_from(tag).ok()?, reaper.held[tag]?)));
        let reply = state.redis.reclaim(reaper.identity, Cause::Died, batch, mutation)?;
        let mut rest = reaper;
        if let Some(tag) = first {
            rest.held[tag] = None;
        }
        let goes_on = reply == Reply::Done && rest.held.iter().any(Option::is_some);
        state.reapers[number] = goes_on.then_some(rest);
        Ok(())
    });
    steps.add("give up reaping", number, Fate::Answered, |state| {
        state.reapers[number] = None;
        Ok(())
    });
}

/// `HGETALL held`, `HMGET unacked`. One step here: a record that is gone never comes back.
fn look(redis: &Redis, identity: usize) -> Reaper {
    let mut held = [None; CLAIMS];
    for (tag, message) in held.iter_mut().enumerate() {
        if redis.identities[identity].held & 1 << tag != 0 {
            // Without a record only the tag is left, and no message to push.
            *message = Some(redis.unacked[tag].map_or(0, |record| record.message));
        }
    }
    Reaper { identity: u8::try_from(identity).unwrap_or_default(), held }
}

/// A client of kombu's: it lists what is stale, and restores one after the other.
fn kombu_steps(steps: &mut Steps<'_>) {
    if steps.state.stale == 0 {
        steps.add("look for stale", 0, Fate::Answered, |state| {
            state.stale = state.redis.stale();
            Ok(())
        });
    }
    for tag in 0..CLAIMS {
        if steps.state.stale & 1 << tag != 0 {
            steps.add("restore", tag, Fate::Answered, |state| {
                state.stale &= !(1 << tag);
                state.redis.restore(u8::try_from(tag).unwrap_or_default())
            });
        }
    }
}

/// A request arrives that its sender gave up long ago; nobody reads the reply.
fn late_steps(steps: &mut Steps<'_>) {
    let mutation = steps.mutation;
    for number in 0..LATE {
        if let Some(request) = steps.state.late[number] {
            steps.add("arrive late", number, Fate::Answered, |state| {
                state.late[number] = None;
                state.redis.execute(request, mutation).map(|_| ())
            });
        }
    }
}

impl State {
    /// Whether the next tick makes the lease of a running process run out.
    fn silences_somebody(&self) -> bool {
        self.processes.iter().filter_map(|process| process.life).any(|life| {
            let identity = &self.redis.identities[usize::from(life.identity)];
            life.is_registered && identity.alive == 1
        })
    }

    /// Whether each message is in exactly one place. What a process of kombu's kind has popped
    /// and not recorded yet counts while that process lives.
    fn places(&self) -> Result<(), Broken> {
        let popped = self.processes.iter().filter_map(|process| process.popped);
        self.redis.places(&popped)
    }
}

const _: () = assert!(LEASE > 1 && MAX_DELIVERIES > 1, "nothing could ever be in time, or return");
