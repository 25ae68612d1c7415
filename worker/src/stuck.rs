//! Runs that nothing can stop, and the slots that they keep.
//!
//! A thread cannot be killed. A task that blocks its thread, or an async one that never gives way,
//! goes on after its time limit: its caller has been told, its message is settled, but its slot is
//! lost until it ends by itself. When too many slots are lost, the process finishes what else it
//! runs and begins anew in its own place.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::request::Request;
use crate::shutdown::{Shutdown, Stage};
use crate::task_threads::Run;

/// How long a run that was ended may take to notice.
const GRACE: Duration = Duration::from_secs(1);

/// The slots of this process that are lost to such runs.
#[derive(Debug)]
pub(crate) struct StuckSlots {
    runs: Mutex<JoinSet<()>>,
    count: watch::Sender<usize>,
    /// So many are too many; `None` where no number is.
    too_many: Option<usize>,
}

impl StuckSlots {
    pub(crate) fn new(too_many: Option<usize>) -> Self {
        Self { runs: Mutex::default(), count: watch::Sender::new(0), too_many }
    }

    /// Keeps `slot` taken, and `request` in the books, until `rest` ends by itself.
    pub(crate) fn hold(&self, mut rest: Run, slot: OwnedSemaphorePermit, request: Box<Request>) {
        let count = self.count.clone();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        while runs.try_join_next().is_some() {}
        runs.spawn(async move {
            let mut end = pin!(rest.end());
            if tokio::time::timeout(GRACE, &mut end).await.is_err() {
                log::error!("{} goes on blocking its slot, although it was ended", request.label());
                count.send_modify(|count| *count += 1);
                // How it ends is of no interest to anybody.
                let _ = end.await;
                log::warn!("{} has ended at last; its slot is free", request.label());
                count.send_modify(|count| *count -= 1);
            }
            drop(slot);
        });
    }

    /// Begins the shutdown when too many slots are stuck, unless one has begun; ends then.
    pub(crate) async fn give_up(&self, shutdown: &Shutdown) {
        let Some(too_many) = self.too_many else { return std::future::pending().await };
        let mut count = self.count.subscribe();
        // The sender lives as long as `self`.
        if count.wait_for(|count| *count >= too_many).await.is_err()
            || shutdown.stage() != Stage::Running
        {
            return std::future::pending().await;
        }
        log::error!(
            "{too_many} slots are stuck in runs that were ended: this process finishes the others and begins anew"
        );
        shutdown.begin(Stage::Warm);
    }
}

/// How a worker's work is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// As it was asked to.
    Asked,
    /// It gave up its stuck slots: the process should begin anew.
    BeginAnew,
}
