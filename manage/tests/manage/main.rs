//! `jwt_manage` as an operator runs it, on real databases and a real Redis.

// What tests call is as much a test as they are.
#![allow(clippy::unwrap_used)]

mod changes;
mod failures;
mod looks;
mod outages;
mod processes;
mod queues;
mod site;
mod tokens;
