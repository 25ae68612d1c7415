//! The thread of those parts that have to answer however busy the tasks keep the others.

use std::future::Future;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A thread with a runtime of its own, ended by its owner.
#[derive(Debug)]
pub(crate) struct SideThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SideThread {
    /// Runs `work` beside everything else.
    ///
    /// # Errors
    ///
    /// Where the system has no thread left.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("remote-control".to_owned()).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // An owner that is gone wants it ended, too.
                        _ = stopped => {}
                        () = work => {}
                    }
                });
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends it and waits until it has ended.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the thread of remote control and events has panicked");
        }
    }
}
