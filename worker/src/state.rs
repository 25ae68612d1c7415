//! What this process has in its hands, and what it has done since its start
//! (`celery.worker.state`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// The books of one worker process.
#[derive(Debug)]
pub(crate) struct WorkerState {
    started: Instant,
    numbers: AtomicU64,
    processed: AtomicU64,
    totals: Mutex<BTreeMap<String, u64>>,
    /// In the order of their arrival. Few: no more than there are slots.
    reserved: Mutex<BTreeMap<u64, Arc<Reserved>>>,
}

/// A request that this process has and that has not ended.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Id of the task.
    pub(crate) id: Arc<str>,
    /// Name of the task.
    pub(crate) task: Arc<str>,
    /// The message, which is read again where somebody asks for its arguments.
    pub(crate) envelope: Bytes,
    begun: OnceLock<Begun>,
    /// How long its run may take.
    hard_limit: OnceLock<Duration>,
    acknowledged: AtomicBool,
    signal: Mutex<Option<Signal>>,
    terminated: Notify,
}

/// When a task began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    at: Instant,
    /// By the calendar.
    pub(crate) time: DateTime<Utc>,
}

/// Whether a runtime that does not move is left alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For now, with these runs.
    With(Vec<String>),
    /// No longer.
    Over,
}

/// The signal that a Python worker would end the task's process with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(pub(crate) i32);

impl Signal {
    /// What is meant where none is said.
    pub(crate) const TERM: Self = Self(15);
}

impl WorkerState {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            numbers: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            totals: Mutex::default(),
            reserved: Mutex::default(),
        })
    }

    /// Enters a request; it is struck off when the reservation is dropped.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        task: &Arc<str>,
        id: &Arc<str>,
        envelope: &Bytes,
    ) -> Reservation {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let reserved = Arc::new(Reserved {
            id: Arc::clone(id),
            task: Arc::clone(task),
            envelope: envelope.clone(),
            begun: OnceLock::new(),
            hard_limit: OnceLock::new(),
            acknowledged: AtomicBool::new(false),
            signal: Mutex::default(),
            terminated: Notify::new(),
        });
        self.book().insert(number, Arc::clone(&reserved));
        Reservation { state: Arc::clone(self), number, reserved }
    }

    /// All that have not ended, in the order of their arrival.
    pub(crate) fn reserved(&self) -> Vec<Arc<Reserved>> {
        self.book().values().map(Arc::clone).collect()
    }

    /// Number of tasks that run.
    pub(crate) fn active(&self) -> usize {
        self.book().values().filter(|reserved| reserved.begun().is_some()).count()
    }

    /// Number of tasks that have begun since the start.
    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// The same by the tasks' names.
    pub(crate) fn totals(&self) -> BTreeMap<String, u64> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long this process has been at work.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What to do with a runtime that has not moved for `silent`.
    ///
    /// Tasks may hold up all its threads for as long as they may run at all: a task's hard limit,
    /// which nobody is left to enforce then, else `longest`. Without a task that runs, the fault is
    /// ours.
    pub(crate) fn patience(&self, silent: Duration, longest: Duration) -> Patience {
        let reserved = self.reserved();
        let running: Vec<_> =
            reserved.iter().filter_map(|it| Some((it, it.begun()?.at.elapsed()))).collect();
        let is_over = |(reserved, runtime): &(&Arc<Reserved>, Duration)| {
            reserved.hard_limit.get().is_some_and(|limit| limit < runtime)
        };
        if silent >= longest || running.is_empty() || running.iter().any(is_over) {
            return Patience::Over;
        }
        let name = |reserved: &Reserved| format!("{}[{}]", reserved.task, reserved.id);
        Patience::With(running.into_iter().map(|(reserved, _)| name(reserved)).collect())
    }

    fn count(&self, task: &str) {
        self.processed.fetch_add(1, Ordering::Relaxed);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        match totals.get_mut(task) {
            Some(total) => *total += 1,
            None => {
                totals.insert(task.to_owned(), 1);
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Reserved>>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// When its task began, if it has.
    pub(crate) fn begun(&self) -> Option<Begun> {
        self.begun.get().copied()
    }

    /// Whether its message was acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Has its task stopped, at once or when it begins.
    pub(crate) fn terminate(&self, signal: Signal) {
        *self.signal.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
        self.terminated.notify_waiters();
    }

    fn signal(&self) -> Option<Signal> {
        *self.signal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's entry in the books, owned by the request.
#[derive(Debug)]
pub(crate) struct Reservation {
    state: Arc<WorkerState>,
    number: u64,
    reserved: Arc<Reserved>,
}

impl Reservation {
    /// Its task begins.
    pub(crate) fn begin(&self) {
        let begun = Begun { at: Instant::now(), time: Utc::now() };
        if self.reserved.begun.set(begun).is_ok() {
            self.state.count(&self.reserved.task);
        }
    }

    /// Its run may take so many seconds.
    pub(crate) fn limited(&self, seconds: f64) {
        if let Ok(limit) = Duration::try_from_secs_f64(seconds) {
            // One run, one limit.
            let _ = self.reserved.hard_limit.set(limit);
        }
    }

    /// Its message was acknowledged.
    pub(crate) fn acknowledged(&self) {
        self.reserved.acknowledged.store(true, Ordering::Relaxed);
    }

    /// How long its task has run; nothing where it has not begun.
    pub(crate) fn runtime(&self) -> Duration {
        self.reserved.begun().map(|begun| begun.at.elapsed()).unwrap_or_default()
    }

    /// Ends when somebody wants the task stopped.
    pub(crate) async fn terminated(&self) -> Signal {
        loop {
            // Listening begins before the look, so that no order falls between the two.
            let terminated = self.reserved.terminated.notified();
            match self.reserved.signal() {
                Some(signal) => return signal,
                None => terminated.await,
            }
        }
    }

    /// The signal it was to be stopped with.
    pub(crate) fn signal(&self) -> Option<Signal> {
        self.reserved.signal()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.state.book().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_may_hold_up_the_runtime_for_as_long_as_they_may_run() {
        let (silent, longest) = (Duration::from_secs(20), Duration::from_secs(3600));
        let state = WorkerState::new();
        assert_eq!(state.patience(silent, longest), Patience::Over);

        let unlimited = state.reserve(&"t.hog".into(), &"1".into(), &Bytes::new());
        assert_eq!(state.patience(silent, longest), Patience::Over);
        unlimited.begin();
        assert_eq!(state.patience(silent, longest), Patience::With(vec!["t.hog[1]".to_owned()]));
        assert_eq!(state.patience(longest, longest), Patience::Over);

        let limited = state.reserve(&"t.hog".into(), &"2".into(), &Bytes::new());
        limited.limited(3000.0);
        limited.begin();
        assert!(matches!(state.patience(silent, longest), Patience::With(runs) if runs.len() == 2));
        let passed = state.reserve(&"t.hog".into(), &"3".into(), &Bytes::new());
        passed.limited(0.0);
        passed.begin();
        assert_eq!(state.patience(silent, longest), Patience::Over);
    }

    #[tokio::test]
    async fn a_request_is_in_the_books_from_its_arrival_to_its_end() {
        let state = WorkerState::new();
        let reservation = state.reserve(&"t.add".into(), &"1".into(), &Bytes::new());
        assert_eq!((state.reserved().len(), state.active(), state.processed()), (1, 0, 0));

        reservation.begin();
        assert_eq!((state.active(), state.processed()), (1, 1));
        assert_eq!(state.totals()["t.add"], 1);

        state.reserved()[0].terminate(Signal::TERM);
        assert_eq!(reservation.terminated().await, Signal::TERM);

        drop(reservation);
        assert_eq!((state.reserved().len(), state.active(), state.processed()), (0, 0, 1));
    }
}
