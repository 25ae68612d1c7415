//! The thread of those parts that have to go on however busy the tasks keep the others.

use std::future::Future;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task;

/// A thread with a runtime of its own, ended by its owner.
#[derive(Debug)]
pub(crate) struct SideThread {
    runtime: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SideThread {
    /// Starts it, with nothing to do yet.
    ///
    /// # Errors
    ///
    /// Where the system has no thread left.
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("side".to_owned()).spawn(move || {
            // An owner that is gone wants it ended, too.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { runtime: handle, stop, thread })
    }

    /// The runtime of this thread.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Has it do `work`, at most until it is stopped.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> task::JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Ends it and waits until it has ended.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the thread of the lease, of remote control and events has panicked");
        }
    }
}
