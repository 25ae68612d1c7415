//! The Celery worker that loses no message: an engine for tasks written with rusty-celery.
//!
//! A message's way is one line: [`consumer`](crate::Worker) fetches it, `request` decodes it,
//! `admit` decides, `execute` runs it, `settle` ends it.

mod admit;
pub mod cli;
mod config;
mod consumer;
mod control;
mod execute;
mod lease_keeper;
mod promoter;
mod reaper;
mod request;
mod settle;
mod shutdown;
mod worker;

pub use config::WorkerConfig;
pub use shutdown::{Shutdown, Stage};
pub use worker::{Worker, WorkerError, connection_settings};
