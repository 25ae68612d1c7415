//! What is called with the end of a run, beside rusty-celery's `on_success` and `on_failure`.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use crate::context::TaskContext;
use crate::failure::{Ended, Retry};
use crate::options::TaskOptions;

type Call =
    dyn for<'a> Fn(&'a Ended) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send + Sync;

/// Called with the end of a run and within it: [`TaskContext::current`] is the run's. Whatever it
/// does, it changes nothing about that end, and the end is settled when it has returned.
#[derive(Clone)]
pub struct Hook(Arc<Call>);

impl Hook {
    /// `Hook::new(|ended| Box::pin(async move { … }))`
    pub fn new<F>(call: F) -> Self
    where
        F: for<'a> Fn(&'a Ended) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
        F: Send + Sync + 'static,
    {
        Self(Arc::new(call))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hook")
    }
}

/// Whether a retry is one too many: the run has then failed.
pub(crate) fn gives_up(retry: &Retry, context: &TaskContext, options: &TaskOptions) -> bool {
    let most = retry.max_retries.unwrap_or(options.max_retries());
    !most.allow(context.retries())
}

/// Calls the hook that is for such an end, if there is one.
pub(crate) async fn call(ended: &Ended, context: &TaskContext, options: &TaskOptions) {
    let hook = match ended {
        Ended::Retries(retry) if !gives_up(retry, context, options) => &options.on_retry,
        Ended::Returned(_) | Ended::Raised { .. } | Ended::Retries(_) => &options.after_return,
        // As after Celery's `Ignore` and `Reject`.
        Ended::Ignored | Ended::Rejected { .. } | Ended::Replaced(_) => return,
    };
    if let Some(Hook(hook)) = hook {
        // The hook itself may panic, before there is a future.
        let called = context.clone().scope(async { hook(ended).await });
        harmless(context, called).await;
    }
}

/// Lets a hook panic, which says nothing about the task.
pub(crate) async fn harmless(context: &TaskContext, hook: impl Future<Output = ()>) {
    if futures_util::FutureExt::catch_unwind(AssertUnwindSafe(hook)).await.is_err() {
        log::error!("a hook of {}[{}] panicked", context.call().task, context.task_id());
    }
}
