//! What a task sees: the macro, its context, and the registry that a worker runs.
//!
//! rusty-celery's `#[celery::task]` defines a task; everything else of that crate stays unused.
//! [`TaskContext`] says what its types cannot, [`TaskOptions`] what its attributes cannot.

mod app;
mod arguments;
mod builtins;
mod canvas;
mod context;
mod failure;
mod hooks;
mod options;
mod rate;
mod registry;
mod time_limit;

pub use app::{TaskApp, TaskAppError};
pub use canvas::SendError;
pub use celery_redis::wire::exception::Exception;
pub use celery_redis::wire::typed_json::TypedValue;
pub use context::{Call, Progress, States, TaskContext};
pub use failure::{Ended, Retry, RetryTime};
pub use hooks::Hook;
pub use options::{AckPolicy, Autoretry, MaxRetries, RetryBackoff, TaskOptions};
pub use rate::{InvalidRate, Rate};
pub use registry::{Execution, Registry, RunFuture, Started, TaskDefinition};
pub use time_limit::{RunTime, SoftLimitPassed, soft_time_limit_exceeded};
