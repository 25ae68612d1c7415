//! The runs of one worker: many are begun at once, and at its end it waits for them all.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

/// What runs, shared by whoever begins runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<JoinSet<()>>>);

impl Running {
    /// Begins a run.
    ///
    /// Tokio moves a future of its own several times; one in a box stays where it is.
    pub(crate) fn begin(&self, run: impl Future<Output = ()> + Send + 'static) {
        self.runs().spawn(Box::pin(run));
    }

    /// Begins many runs.
    pub(crate) fn begin_all<R>(&self, runs: impl Iterator<Item = R>)
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.runs();
        while running.try_join_next().is_some() {}
        for run in runs {
            running.spawn(Box::pin(run));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let mut runs = self.runs();
        while runs.try_join_next().is_some() {}
        runs.len()
    }

    /// Ends when all have ended.
    pub(crate) async fn ended(&self) {
        while poll_fn(|context| self.runs().poll_join_next(context)).await.is_some() {}
    }

    /// Ends them where they next give way.
    pub(crate) fn abort(&self) {
        self.runs().abort_all();
    }

    fn runs(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
