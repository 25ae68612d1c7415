//! Beat on a real Redis.

// What tests call is as much a test as they are.
#![allow(clippy::unwrap_used)]

mod broker;
mod leading;
mod program;
mod reloading;
mod running;
mod sending;
