//! The delivery protocol of `celery-redis` as a state machine, and a checker that explores every
//! state of it.
//!
//! [`Protocol`] has the steps that the documentation of `celery-redis/src/transport` names
//! (`Model step: …`): processes that claim, renew, settle, defer, bury, requeue and leave, two
//! reapers, the promotion of due messages, a kombu client that restores what looks stale, and a
//! clock. What Redis does in one Lua script is one step here, on the same records ([`redis`]).
//! Any process may crash at any moment or be silent for longer than its lease, and of any request
//! the reply may be lost, or the request itself arrive after its sender has given it up.
//!
//! [`checker::check`] says whether a state is reachable that breaks a promise ([`Broken`]), or
//! from which no message can come to its end without further faults. A [`Mutation`] takes one
//! safeguard out of the protocol; the tests show that the checker notices each.
//!
//! The checker is our own because the `stateright` crate's `eventually` ignores paths that end in
//! a cycle or join another path, as its documentation says, and this protocol consists of cycles:
//! renewing, restoring, promoting. What we need is a path to the end *from each state*, which
//! stateright cannot express.

pub mod checker;
mod process;
mod protocol;
pub mod redis;
mod state;
mod step;

pub use protocol::{Limits, Mutation, Protocol};
pub use redis::Broken;
pub use state::State;
pub use step::{Fate, Step};
