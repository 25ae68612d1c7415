//! Queues, deliveries and results in Redis: the only code that names a key.

pub mod arrival;
pub mod beat_state;
pub mod broker;
pub mod connection;
pub mod dead_letters;
pub mod delivery;
pub mod event_dispatcher;
pub mod inspect;
pub mod keys;
pub mod lease;
pub mod mailbox;
pub mod operation;
mod outage;
pub mod publisher;
pub mod reclaim;
pub mod redbeat;
pub mod result_backend;
pub mod revoked;
pub mod scheduled;
mod scripts;
mod sentinel;
pub mod server;
mod settlements;
mod side_connection;
mod tls;
mod url;
pub mod waiting_room;
