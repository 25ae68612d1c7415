//! The Celery worker that loses no message: an engine for tasks written with rusty-celery.
//!
//! A message's way is one line: [`consumer`](crate::Worker) fetches it, `request` decodes it,
//! `admit` decides, `execute` runs it, `settle` ends it.

mod admit;
mod aftermath;
mod annotations;
mod aside;
mod begin_anew;
mod chord;
pub mod cli;
mod conclude;
mod config;
mod consumer;
mod control;
mod events;
mod execute;
mod heartbeat;
mod lease_keeper;
mod limits;
mod promoter;
mod reaper;
mod request;
mod retry;
mod revoked;
mod running;
mod settle;
mod shutdown;
mod side;
mod slots;
mod state;
mod stuck;
mod task_threads;
mod waiting_room;
mod watchdog;
mod worker;

pub use config::WorkerConfig;
pub use control::{Mingle, RemoteControl};
pub use events::{Sendings, TaskEvents};
pub use shutdown::{Shutdown, Stage};
pub use slots::Autoscale;
pub use stuck::Finish;
pub use worker::{Worker, WorkerError, connection_settings};
