//! What a process does: `broker.rs`, `delivery.rs` and `lease.rs` of the transport, as the worker
//! calls them.

use crate::protocol::Steps;
use crate::redis::{CLAIMS, Reply, Request};
use crate::state::{Delivery, Intent, Life, Process, SLOTS};
use crate::{Broken, Fate, Mutation, State};

/// The fates of a request.
const FATES: [Fate; 3] = [Fate::Answered, Fate::ReplyLost, Fate::Late];

pub(crate) fn steps(steps: &mut Steps<'_>, number: usize) {
    let process = steps.state.processes[number];
    let Some(life) = process.life else {
        steps.add("start", number, Fate::Answered, |state| {
            state.processes[number].life = Some(Life {
                identity: state.fresh_identity(),
                is_registered: false,
                has_unknown_claim: false,
                leaves_with: None,
            });
            Ok(())
        });
        return;
    };
    steps.add("crash", number, Fate::Fault, |state| {
        state.processes[number] = Process::default();
        Ok(())
    });
    if let Some(held) = life.leaves_with {
        put_back(steps, number, life, held);
        return;
    }
    if steps.state.detours > 0 {
        begin_to_leave(steps, number, life);
    }
    if !life.is_registered {
        register(steps, number, life);
        return;
    }
    if life.has_unknown_claim {
        return_unknown_claims(steps, number, life);
    } else if process.deliveries.iter().any(Option::is_none) {
        claim(steps, number, life, &process);
    }
    renew(steps, number, life);
    for slot in 0..SLOTS {
        if let Some(delivery) = process.deliveries[slot] {
            end(steps, number, slot, delivery);
        }
    }
}

fn begin_to_leave(steps: &mut Steps<'_>, number: usize, life: Life) {
    steps.add("begin to leave", number, Fate::Answered, |state| {
        state.detours -= 1;
        let held = state.redis.identities[usize::from(life.identity)].held;
        let leaving = Life { leaves_with: Some(held), ..life };
        state.processes[number] = Process { life: Some(leaving), ..Process::default() };
        Ok(())
    });
}

/// What becomes of a request; the reply where it arrives.
fn send(
    state: &mut State,
    request: Request,
    fate: Fate,
    mutation: Option<Mutation>,
) -> Result<Option<Reply>, Broken> {
    if fate == Fate::Late {
        if let Some(free) = state.late.iter_mut().find(|late| late.is_none()) {
            *free = Some(request);
        }
        return Ok(None);
    }
    let reply = state.redis.execute(request, mutation)?;
    Ok((fate == Fate::Answered).then_some(reply))
}

fn register(steps: &mut Steps<'_>, number: usize, life: Life) {
    let mutation = steps.mutation;
    for fate in FATES {
        steps.add("register", number, fate, |state| {
            let request = Request::Register { identity: life.identity };
            let is_registered = send(state, request, fate, mutation)?.is_some();
            let identity = if is_registered || mutation == Some(Mutation::RegisterAgain) {
                life.identity
            } else {
                state.fresh_identity()
            };
            state.processes[number].life = Some(Life { identity, is_registered, ..life });
            Ok(())
        });
    }
}

fn claim(steps: &mut Steps<'_>, number: usize, life: Life, process: &Process) {
    let mutation = steps.mutation;
    if mutation == Some(Mutation::PopThenRecord) {
        pop_then_record(steps, number, life, process);
        return;
    }
    for fate in FATES {
        steps.add("claim", number, fate, |state| {
            let claim = state.fresh_claim();
            let before = state.redis;
            let request = Request::Claim { identity: life.identity, claim };
            match send(state, request, fate, mutation)? {
                Some(reply) => take(state, number, life, claim, reply),
                // Where it took nothing, a lost reply changes nothing.
                None if fate == Fate::ReplyLost && state.redis == before => {}
                None => {
                    let failed = Life { has_unknown_claim: true, ..life };
                    state.processes[number].life = Some(failed);
                }
            }
            Ok(())
        });
    }
}

fn take(state: &mut State, number: usize, life: Life, claim: u8, reply: Reply) {
    let Reply::Claimed { tag, message } = reply else { return };
    let deliveries = &mut state.processes[number].deliveries;
    if let Some(free) = deliveries.iter_mut().find(|slot| slot.is_none()) {
        *free = Some(Delivery { identity: life.identity, tag, claim, message, intent: None });
    }
}

/// kombu's way: `BRPOP`, and when the reply is there, `HSET`.
fn pop_then_record(steps: &mut Steps<'_>, number: usize, life: Life, process: &Process) {
    let mutation = steps.mutation;
    steps.add("claim", number, Fate::Answered, |state| {
        if let Some(message) = process.popped {
            let claim = state.fresh_claim();
            let message = u8::try_from(message).unwrap_or_default();
            let reply = state.redis.record(life.identity, claim, message, mutation);
            state.processes[number].popped = None;
            take(state, number, life, claim, reply);
        } else if let Some(message) = state.redis.list.iter().position(|count| *count > 0) {
            state.redis.list[message] -= 1;
            state.processes[number].popped = Some(message);
        }
        Ok(())
    });
}

fn return_unknown_claims(steps: &mut Steps<'_>, number: usize, life: Life) {
    let mutation = steps.mutation;
    for fate in [Fate::Answered, Fate::ReplyLost] {
        steps.add("return", number, fate, |state| {
            if mutation != Some(Mutation::KeepUnknownClaims) {
                requeue_unknown(state, number, life, mutation)?;
            }
            let has_unknown_claim = fate != Fate::Answered;
            state.processes[number].life = Some(Life { has_unknown_claim, ..life });
            Ok(())
        });
    }
}

/// Gives back what Redis records as this identity's and the process knows nothing of.
fn requeue_unknown(
    state: &mut State,
    number: usize,
    life: Life,
    mutation: Option<Mutation>,
) -> Result<(), Broken> {
    let identity = life.identity;
    let known = state.processes[number].deliveries.iter().flatten();
    let known = known.fold(0_u8, |known, delivery| known | 1 << delivery.tag);
    let held = state.redis.identities[usize::from(identity)].held;
    for at in (0..CLAIMS).filter(|at| (held & !known) & 1 << at != 0) {
        let Some(record) = state.redis.unacked[at] else { continue };
        let tag = u8::try_from(at).unwrap_or_default();
        let (claim, message) = (record.claim, record.message);
        state.redis.execute(Request::Requeue { identity, tag, claim, message }, mutation)?;
    }
    Ok(())
}

fn renew(steps: &mut Steps<'_>, number: usize, life: Life) {
    let mutation = steps.mutation;
    let looks_again =
        !matches!(mutation, Some(Mutation::KeepUnknownClaims | Mutation::ReturnUnknownClaimsOnce));
    for fate in FATES {
        steps.add("renew", number, fate, |state| {
            match send(state, Request::Renew { identity: life.identity }, fate, mutation)? {
                Some(Reply::Nothing) => {
                    let identity = state.fresh_identity();
                    let lost = Life { identity, is_registered: false, ..life };
                    state.processes[number].life = Some(lost);
                }
                Some(_) if looks_again => {
                    requeue_unknown(state, number, life, mutation)?;
                }
                _ => {}
            }
            Ok(())
        });
    }
}

/// Ends a delivery in one of the ways there are; after a lost reply, in the same way again.
fn end(steps: &mut Steps<'_>, number: usize, slot: usize, delivery: Delivery) {
    let mutation = steps.mutation;
    for intent in Intent::ALL {
        if delivery.intent.is_some_and(|begun| begun != intent) {
            continue;
        }
        let is_new_detour = intent.is_detour() && delivery.intent.is_none();
        if is_new_detour && steps.state.detours == 0 {
            continue;
        }
        let is_recorded = steps.state.redis.unacked[usize::from(delivery.tag)].is_some();
        for fate in FATES {
            // A request that will find nothing may as well be answered.
            if fate != Fate::Answered && !is_recorded && mutation.is_none() {
                continue;
            }
            steps.add(intent.name(), number, fate, |state| {
                state.detours -= u8::from(is_new_detour);
                let reply = send(state, request(intent, delivery), fate, mutation)?;
                state.processes[number].deliveries[slot] =
                    reply.is_none().then_some(Delivery { intent: Some(intent), ..delivery });
                Ok(())
            });
        }
    }
}

fn request(intent: Intent, delivery: Delivery) -> Request {
    let Delivery { identity, tag, claim, message, .. } = delivery;
    match intent {
        Intent::Settle => Request::Settle { identity, tag, claim, message, sends_again: false },
        Intent::Retry => Request::Settle { identity, tag, claim, message, sends_again: true },
        Intent::Defer => Request::Defer { identity, tag, claim, message },
        Intent::Bury => Request::Bury { identity, tag, claim, message },
        Intent::Requeue => Request::Requeue { identity, tag, claim, message },
    }
}

/// The end of a process in order: one script for each delivery it held when it began to leave.
fn put_back(steps: &mut Steps<'_>, number: usize, life: Life, held: u8) {
    let mutation = steps.mutation;
    for fate in FATES {
        steps.add("leave", number, fate, |state| {
            let tag = (held != 0).then(|| held.trailing_zeros());
            let delivery = tag.and_then(|tag| u8::try_from(tag).ok()).map(|tag| {
                let record = state.redis.unacked[usize::from(tag)];
                (tag, record.map_or(0, |record| record.message))
            });
            let request = Request::Leave { identity: life.identity, delivery };
            let reply = send(state, request, fate, mutation)?;
            let rest = held & held.wrapping_sub(1);
            // Without an answer it ends all the same: others will reclaim.
            let goes_on = reply.is_some() && rest != 0;
            let next = goes_on.then_some(Life { leaves_with: Some(rest), ..life });
            state.processes[number].life = next;
            Ok(())
        });
    }
}
