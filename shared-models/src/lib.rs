//! The tables that this project shares with a Django site, and those of its own beside them.
//!
//! A site's tables are Django's: they are read and written exactly as Django does it, and never
//! altered. [`Database::migrate`] makes them where they are missing, and [`Database::check`] says
//! what is missing.

mod audit_event;
mod connection;
mod counts;
mod database;
mod datetime;
mod error;
mod forced_rotation;
mod issued_token;
mod key_pair;
mod key_state;
mod layout;
mod manager;
mod migrations;
mod periodic_task;
mod row_id;
mod schema;
mod scope;
mod sweep;
mod task_success;
mod token;

pub use audit_event::{AuditEvent, NewAuditEvent};
pub use connection::{AnyConnection, Checkpoint};
pub use counts::Counts;
pub use database::{Connection, Database};
pub use datetime::{UtcDateTime, UtcDateTimeSql};
pub use error::DatabaseError;
pub use forced_rotation::ForcedRotation;
pub use issued_token::{IssuedToken, NewIssuedToken, UserId};
pub use key_pair::{KeyPair, NewKeyPair};
pub use key_state::KeyState;
pub use layout::{IdKind, Layout, TokenColumns, UserIdKind};
pub use migrations::MigrationOutcome;
pub use periodic_task::PeriodicTask;
pub use row_id::{RowId, RowIdSql};
pub use scope::{NewScope, Scope};
pub use sweep::{Found, Place, Survey, Sweep, SweepWalk, Work};
pub use task_success::TaskSuccess;
pub use token::{NewToken, Token};
