//! Beat: sends periodic tasks, each slot of a schedule once.
//!
//! [`schedule`] says when, [`entry`] says what, the scheduler decides from these, the last runs
//! and the clock, and [`Beat`] acts: sending a message and advancing its entry's last run is one
//! step in Redis, done only by the beat that leads.

mod beat;
mod chain;
mod check;
mod config;
pub mod entry;
mod list;
pub mod schedule;
mod scheduler;

pub use beat::Beat;
pub use chain::Chain;
pub use check::{Check, check};
pub use config::{Config, InvalidBroker};
pub use list::{Listing, list};
