//! Where tasks run: on the line's own thread as long as their turns are short, else on threads of
//! theirs.
//!
//! Handing a task to another thread, and its end back, wakes up two threads, which takes longer than
//! many a task does. But a task that keeps a thread holds up whatever else that thread has to do. So
//! each task begins on the tasks' threads. One whose turns (from one `await` to the next) are short on
//! average runs where its message was read; once they are no longer, its runs go back.

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use celery_redis::wire::exception::Exception;
use celery_task::{Ended, Registry, RunFuture};
use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Longest average turn of a task that may run on the line's thread: some ten times what handing it
/// over costs.
const SHORT: Duration = Duration::from_micros(100);
/// How many turns the average is of. One turn of ten seconds keeps a task away for some 500.
const TURNS: u64 = 64;

/// The threads of this worker's tasks. A task that blocks one keeps it beyond their end.
pub(crate) struct TaskThreads {
    runtime: Option<Runtime>,
    handle: Handle,
    turns: HashMap<&'static str, Arc<Turns>>,
}

impl TaskThreads {
    /// As many threads as there are processors, or as `TOKIO_WORKER_THREADS` says.
    ///
    /// # Errors
    ///
    /// Where the system has no thread left.
    pub(crate) fn start(registry: &Registry) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("tasks").enable_all().build()?;
        let handle = runtime.handle().clone();
        let turns = registry.names().map(|name| (name, Arc::default())).collect();
        Ok(Self { runtime: Some(runtime), handle, turns })
    }

    /// The runtime of these threads.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Begins a run of `task`, here or there.
    pub(crate) fn begin(&self, task: &str, run: RunFuture) -> Run {
        let turns = self.turns.get(task).map(Arc::clone).unwrap_or_default();
        let threads = self.handle.clone();
        if turns.are_short() {
            return Run { place: Place::Line(OnLine { run, turns }), threads };
        }
        let task = threads.spawn(OnThreads { run, turns });
        Run { place: Place::Threads(task), threads }
    }
}

impl Drop for TaskThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A task that was put back may still occupy its thread; nobody waits for it.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for TaskThreads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TaskThreads").finish_non_exhaustive()
    }
}

/// A run that has begun, wherever it is. On the line, whoever waits for its end gives it its turns.
#[derive(Debug)]
pub(crate) struct Run {
    place: Place,
    threads: Handle,
}

#[derive(Debug)]
enum Place {
    Line(OnLine),
    Threads(JoinHandle<Ended>),
    /// Nothing of it is left.
    Nowhere,
}

impl Run {
    /// Waits for its end, however it comes; not to be asked for again then.
    pub(crate) async fn end(&mut self) -> Ended {
        loop {
            let run = match &mut self.place {
                Place::Threads(task) => return task.await.unwrap_or_else(without_result),
                Place::Nowhere => return without_result("it was ended"),
                Place::Line(run) => run,
            };
            let turn = AssertUnwindSafe(run.turns_here(&self.threads)).catch_unwind().await;
            match (turn, mem::replace(&mut self.place, Place::Nowhere)) {
                (Ok(Turned::Longer), Place::Line(OnLine { run, turns })) => {
                    self.place = Place::Threads(self.threads.spawn(OnThreads { run, turns }));
                }
                (Ok(Turned::Ended(ended)), _) => return ended,
                _ => return without_result("it panicked"),
            }
        }
    }

    /// Ends it where it next gives way.
    pub(crate) fn abort(&mut self) {
        match &self.place {
            Place::Threads(task) => task.abort(),
            _ => self.place = Place::Nowhere,
        }
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_over(&self) -> bool {
        match &self.place {
            Place::Line(_) => false,
            Place::Threads(task) => task.is_finished(),
            Place::Nowhere => true,
        }
    }
}

fn without_result(why: impl fmt::Display) -> Ended {
    let text = format!("the run ended without a result: {why}");
    Ended::Raised { exception: Exception::builtin("RuntimeError", text), traceback: String::new() }
}

/// How long the turns of one task take on average, in nanoseconds.
#[derive(Debug)]
struct Turns(AtomicU64);

impl Turns {
    fn are_short(&self) -> bool {
        Duration::from_nanos(self.0.load(Ordering::Relaxed)) <= SHORT
    }

    /// Gives a run one turn.
    fn time(
        &self,
        run: Pin<&mut (dyn Future<Output = Ended> + Send)>,
        context: &mut Context<'_>,
    ) -> Poll<Ended> {
        let begun = Instant::now();
        let polled = run.poll(context);
        self.took(begun.elapsed());
        polled
    }

    /// Two that end at the same time may count as one.
    fn took(&self, turn: Duration) {
        let average = self.0.load(Ordering::Relaxed);
        self.0.store(average - average / TURNS + nanos(turn) / TURNS, Ordering::Relaxed);
    }
}

impl Default for Turns {
    /// So long that a new task shows itself for some 100 turns.
    fn default() -> Self {
        Self(AtomicU64::new(4 * nanos(SHORT)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A run that takes its turns on the line's thread.
struct OnLine {
    run: RunFuture,
    turns: Arc<Turns>,
}

/// What became of a run on the line's thread.
enum Turned {
    Ended(Ended),
    /// Its turns are too long for it to stay.
    Longer,
}

impl OnLine {
    /// Gives it its turns, until it has ended or they are too long.
    async fn turns_here(&mut self, threads: &Handle) -> Turned {
        poll_fn(|context| {
            // Whatever a task begins is on its threads, wherever it is itself.
            let inside = threads.enter();
            let polled = self.turns.time(self.run.as_mut(), context);
            drop(inside);
            match polled {
                Poll::Ready(ended) => Poll::Ready(Turned::Ended(ended)),
                Poll::Pending if self.turns.are_short() => Poll::Pending,
                Poll::Pending => Poll::Ready(Turned::Longer),
            }
        })
        .await
    }
}

impl fmt::Debug for OnLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OnLine").field("turns", &self.turns).finish_non_exhaustive()
    }
}

/// A run that takes its turns on a thread of its own kind.
struct OnThreads {
    run: RunFuture,
    turns: Arc<Turns>,
}

impl Future for OnThreads {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        this.turns.time(this.run.as_mut(), context)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use celery_task::TaskOptions;
    use serde_json::{Value, json};

    use super::*;

    fn threads() -> TaskThreads {
        let mut registry = Registry::new();
        registry.register_function("t", &[], TaskOptions::default(), |_, _, _| async {
            Ok(Value::Null)
        });
        TaskThreads::start(&registry).unwrap()
    }

    fn name_of_thread() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    fn ended(value: &Value) -> Ended {
        Ended::Returned(serde_json::value::to_raw_value(value).unwrap())
    }

    /// Runs `turns`, each after a pause, and tells the thread of each.
    async fn places(threads: &TaskThreads, turns: Vec<Duration>) -> Vec<String> {
        let run = Box::pin(async move {
            let mut places = Vec::new();
            for turn in turns {
                tokio::time::sleep(Duration::from_millis(1)).await;
                thread::sleep(turn);
                places.push(name_of_thread());
            }
            ended(&json!(places))
        });
        match threads.begin("t", run).end().await {
            Ended::Returned(places) => serde_json::from_str(places.get()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn show_short_turns(threads: &TaskThreads) {
        while !threads.turns["t"].are_short() {
            threads.begin("t", Box::pin(async { ended(&Value::Null) })).end().await;
        }
    }

    #[tokio::test]
    async fn a_task_comes_to_the_line_once_its_turns_are_short() {
        let (threads, line) = (threads(), name_of_thread());
        assert_eq!(places(&threads, vec![Duration::ZERO]).await, ["tasks"]);
        show_short_turns(&threads).await;
        assert_eq!(places(&threads, vec![Duration::ZERO]).await, [line]);
    }

    #[tokio::test]
    async fn one_that_keeps_the_line_goes_back_in_the_middle_of_its_run() {
        let (threads, line) = (threads(), name_of_thread());
        show_short_turns(&threads).await;
        let turns = vec![Duration::ZERO, Duration::from_millis(100), Duration::ZERO];
        assert_eq!(places(&threads, turns).await, [&line, &line, "tasks"]);
        assert_eq!(places(&threads, vec![Duration::ZERO]).await, ["tasks"]);
    }

    #[tokio::test]
    async fn what_a_task_begins_is_on_the_threads_wherever_it_is_itself() {
        let threads = threads();
        show_short_turns(&threads).await;
        let run = Box::pin(async {
            let begun = tokio::spawn(async { name_of_thread() }).await.unwrap();
            let blocking = tokio::task::spawn_blocking(name_of_thread).await.unwrap();
            ended(&json!([name_of_thread(), begun, blocking]))
        });
        match threads.begin("t", run).end().await {
            Ended::Returned(places) => {
                assert_eq!(places.get(), json!([name_of_thread(), "tasks", "tasks"]).to_string());
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_run_that_is_ended_is_over_wherever_it_is() {
        let threads = threads();
        for _ in 0..2 {
            let mut run = threads.begin("t", Box::pin(std::future::pending()));
            run.abort();
            assert!(matches!(run.end().await, Ended::Raised { .. }));
            assert!(run.is_over());
            show_short_turns(&threads).await;
        }
    }
}
