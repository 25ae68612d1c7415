//! The transport on a real Redis: a server of its own for each test.

#![allow(missing_docs, reason = "a test's name says what it is about")]

mod broker;
mod claiming;
mod dead_letters;
mod leases;
mod outages;
mod scheduled;
mod settling;
