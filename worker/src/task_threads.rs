//! Where tasks run: on the line's own thread as long as their turns are short, else on threads of
//! theirs.
//!
//! Handing a task to another thread, and its end back, wakes up two threads, which takes longer than
//! many a task does. But a task that keeps a thread holds up whatever else that thread has to do. So
//! each task begins on the tasks' threads. One whose turns (from one `await` to the next) are short on
//! average runs where its message was read; once they are no longer, its runs go back.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use celery_redis::wire::exception::Exception;
use celery_task::{Ended, Registry, RunFuture};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

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
        let threads = self.handle.clone();
        let turns = self.turns.get(task).map(Arc::clone).unwrap_or_default();
        let place = if turns.are_short() { Place::Line } else { Place::Threads };
        let turning = Turning { run: Some(run), turns, threads: threads.clone(), place };
        let task = match place {
            Place::Line => tokio::spawn(turning),
            Place::Threads => threads.spawn(turning),
        };
        Run { task, threads }
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

/// A run that has begun, wherever it is.
#[derive(Debug)]
pub(crate) struct Run {
    task: JoinHandle<Turned>,
    threads: Handle,
}

impl Run {
    /// Waits for its end, however it comes; not to be asked for again then.
    pub(crate) async fn end(&mut self) -> Ended {
        loop {
            match (&mut self.task).await {
                Ok(Turned::Ended(ended)) => return ended,
                Ok(Turned::Longer(turning)) => self.task = self.threads.spawn(turning),
                Err(error) => return without_result(&error),
            }
        }
    }

    /// Ends it where it next gives way.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

fn without_result(error: &JoinError) -> Ended {
    let exception =
        Exception::builtin("RuntimeError", format!("the run ended without a result: {error}"));
    Ended::Raised { exception, traceback: String::new() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Line,
    Threads,
}

/// How long the turns of one task take on average, in nanoseconds.
#[derive(Debug)]
struct Turns(AtomicU64);

impl Turns {
    fn are_short(&self) -> bool {
        Duration::from_nanos(self.0.load(Ordering::Relaxed)) <= SHORT
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

/// What became of a run, where it was.
#[derive(Debug)]
enum Turned {
    Ended(Ended),
    /// Its turns are too long for where it is.
    Longer(Turning),
}

/// A run that takes its turns.
struct Turning {
    run: Option<RunFuture>,
    turns: Arc<Turns>,
    threads: Handle,
    place: Place,
}

impl Future for Turning {
    type Output = Turned;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turned> {
        let this = &mut *self;
        let Some(run) = &mut this.run else { return Poll::Pending };
        // Whatever a task begins is on its threads, wherever it is itself.
        let inside = (this.place == Place::Line).then(|| this.threads.enter());
        let begun = Instant::now();
        let polled = run.as_mut().poll(context);
        this.turns.took(begun.elapsed());
        drop(inside);
        if polled.is_pending() && this.place == Place::Line && !this.turns.are_short() {
            let (turns, threads) = (Arc::clone(&this.turns), this.threads.clone());
            let run = this.run.take();
            return Poll::Ready(Turned::Longer(Self {
                run,
                turns,
                threads,
                place: Place::Threads,
            }));
        }
        Poll::Ready(Turned::Ended(ready!(polled)))
    }
}

impl fmt::Debug for Turning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turning").field("place", &self.place).finish_non_exhaustive()
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
