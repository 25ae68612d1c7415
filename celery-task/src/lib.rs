//! What a task sees: the macro, its context, and the registry that a worker runs.
//!
//! rusty-celery's `#[celery::task]` defines a task; everything else of that crate stays unused.
//! [`TaskContext`] says what its types cannot.

mod app;
mod arguments;
mod context;
mod failure;
mod registry;

pub use app::{TaskApp, TaskAppError};
pub use celery_redis::wire::exception::Exception;
pub use context::{Call, Progress, States, TaskContext};
pub use failure::{Ended, Retry};
pub use registry::{AckPolicy, Registry, TaskDefinition};
