//! Ends a thread's work at a chosen statement, as a killed process ends: what is open is rolled
//! back by the database, and nothing of ours runs any more.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

thread_local! {
    /// How many events are left before the end.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What the unwinding carries.
struct Killed;

/// Sits in each connection. Before and after each statement is an instant to die at: after the
/// last one the work is done, and nobody has heard of it.
struct Fuse;

impl Instrumentation for Fuse {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if !matches!(
            event,
            InstrumentationEvent::StartQuery { .. } | InstrumentationEvent::FinishQuery { .. }
        ) {
            return;
        }
        match FUSE.get() {
            Some(0) => {
                FUSE.set(None);
                resume_unwind(Box::new(Killed));
            }
            Some(left) => FUSE.set(Some(left - 1)),
            None => {}
        }
    }
}

/// To be called before the first connection of the test process is opened.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        set_default_instrumentation(|| Some(Box::new(Fuse))).unwrap();
    });
}

/// Does `work`, and kills it after that many events; none where it was killed.
pub fn killed_after<T>(events: u32, work: impl FnOnce() -> T) -> Option<T> {
    FUSE.set(Some(events));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    FUSE.set(None);
    match outcome {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}
