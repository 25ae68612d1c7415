//! Beat: sends periodic tasks, each slot of a schedule once.
//!
//! [`schedule`] says when, [`entry`] says what, a [`source`] says which, the [`agenda`] decides
//! from these, the last runs and the clock, and [`Beat`] acts: sending a message and advancing its
//! entry's last run is one step in Redis, done only by the beat that leads.

pub mod agenda;
mod announce;
mod beat;
mod built_in;
mod chain;
mod check;
mod clock;
mod config;
mod consumption;
pub mod entry;
mod leading;
mod list;
mod reconcile;
pub mod schedule;
pub mod source;
mod watchdog;

pub use beat::{Beat, Silent};
pub use built_in::built_in;
pub use chain::Chain;
pub use check::{Check, check};
pub use config::{Config, InvalidBroker, Overrides, Scheduler, Sendings};
pub use list::{ListedBeat, ListedEntry, Listing, known_entries, list, list_known};
pub use reconcile::is_sent;
pub use watchdog::Progressing;
