//! The transport on a real Redis: a server of its own for each test.

#![allow(clippy::unwrap_used, missing_docs)]

mod broker;
mod chords;
mod claiming;
mod dead_letters;
mod large;
mod leases;
mod outages;
mod scheduled;
mod settling;
mod waiting_room;
