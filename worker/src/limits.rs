//! How often tasks may begin and how long they may take, as it can be changed while the worker runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use celery_redis::wire::message::Headers;
use celery_task::{Rate, Registry};

use crate::config::RateLimits;

/// How late a token may be taken without slowing the next one down: timers are that inexact.
const TOLERANCE: Duration = Duration::from_millis(20);

/// The limits of every task of this process, by name.
#[derive(Debug)]
pub(crate) struct Limits {
    tasks: BTreeMap<&'static str, Mutex<TaskLimits>>,
    rates: RateLimits,
}

#[derive(Debug)]
struct TaskLimits {
    rate: Option<Rate>,
    times: TimeLimits,
    /// When the next run may begin; `None` before the first.
    next: Option<Instant>,
}

/// How long one run may take, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TimeLimits {
    pub(crate) soft: Option<f64>,
    pub(crate) hard: Option<f64>,
}

/// Whether a run may begin, as far as this process's rate limit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// It may: a token was taken, or there is no limit.
    Taken,
    /// Not before that long from now.
    In(Duration),
}

impl Limits {
    /// As the tasks' options say.
    pub(crate) fn new(registry: &Registry, rates: RateLimits) -> Self {
        let limits = |options: &celery_task::TaskOptions| TaskLimits {
            rate: options.rate_limit,
            times: TimeLimits { soft: options.soft_time_limit, hard: options.time_limit },
            next: None,
        };
        Self {
            tasks: registry
                .tasks()
                .map(|task| (task.name, Mutex::new(limits(&task.options))))
                .collect(),
            rates,
        }
    }

    /// Whether runs of `task` may have to wait for a token.
    pub(crate) fn holds_back(&self, task: &str) -> bool {
        self.rates == RateLimits::Enabled && self.rate(task).is_some()
    }

    /// Changes how often runs of `task` may begin in this process; `None` is without limit.
    pub(crate) fn set_rate(&self, task: &str, rate: Option<Rate>) {
        if let Some(mut limits) = self.of(task) {
            limits.rate = rate;
            limits.next = None;
        }
    }

    /// How often runs of `task` may begin in this process.
    pub(crate) fn rate(&self, task: &str) -> Option<Rate> {
        self.of(task).and_then(|limits| limits.rate)
    }

    /// Changes how long runs of `task` may take that begin from now on, in seconds.
    pub(crate) fn set_times(&self, task: &str, soft: Option<f64>, hard: Option<f64>) {
        if let Some(mut limits) = self.of(task) {
            limits.times = TimeLimits { soft, hard };
        }
    }

    /// How long a run of `task` may take: as its message says, else as the task does. Zero is
    /// without limit.
    pub(crate) fn times(&self, task: &str, headers: &Headers) -> TimeLimits {
        let own = self.of(task).map(|limits| limits.times).unwrap_or_default();
        let first = |message: Option<f64>, task: Option<f64>| {
            message.filter(|seconds| *seconds > 0.0).or(task).filter(|seconds| *seconds > 0.0)
        };
        TimeLimits {
            soft: first(headers.soft_time_limit, own.soft),
            hard: first(headers.time_limit, own.hard),
        }
    }

    /// Takes a token for one run of `task` at `now`: a bucket of one token, as Celery's
    /// (`kombu.utils.limits.TokenBucket` with capacity 1).
    pub(crate) fn take_token(&self, task: &str, now: Instant) -> Token {
        if self.rates == RateLimits::Disabled {
            return Token::Taken;
        }
        let Some(mut limits) = self.of(task) else { return Token::Taken };
        let Some(rate) = limits.rate else { return Token::Taken };
        let next = limits.next.unwrap_or(now);
        if next > now {
            return Token::In(next - now);
        }
        let due = now.checked_sub(TOLERANCE).map_or(next, |late| next.max(late));
        limits.next = Some(due + rate.interval());
        Token::Taken
    }

    /// Gives back a token whose run did not begin.
    pub(crate) fn return_token(&self, task: &str) {
        let Some(mut limits) = self.of(task) else { return };
        if let (Some(rate), Some(next)) = (limits.rate, limits.next) {
            limits.next = next.checked_sub(rate.interval());
        }
    }

    fn of(&self, task: &str) -> Option<MutexGuard<'_, TaskLimits>> {
        self.tasks.get(task).map(|limits| limits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: Option<Rate>) -> Limits {
        let times = TimeLimits { soft: Some(1.0), hard: Some(2.0) };
        let limits = TaskLimits { rate, times, next: None };
        let tasks = BTreeMap::from([("t.add", Mutex::new(limits))]);
        Limits { tasks, rates: RateLimits::Enabled }
    }

    #[test]
    fn tokens_come_at_their_rate_and_do_not_gather() {
        let limits = limits(Some(Rate::per_second(2.0)));
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(limits.take_token("t.add", at(0)), Token::Taken);
        assert_eq!(limits.take_token("t.add", at(100)), Token::In(Duration::from_millis(400)));
        assert_eq!(limits.take_token("t.add", at(500)), Token::Taken);
        // Ten idle seconds are worth one token.
        assert_eq!(limits.take_token("t.add", at(10_500)), Token::Taken);
        assert!(matches!(limits.take_token("t.add", at(10_600)), Token::In(_)));
    }

    #[test]
    fn a_token_that_was_returned_can_be_taken() {
        let limits = limits(Some(Rate::per_minute(1.0)));
        let now = Instant::now();
        assert_eq!(limits.take_token("t.add", now), Token::Taken);
        limits.return_token("t.add");
        assert_eq!(limits.take_token("t.add", now), Token::Taken);
        assert!(matches!(limits.take_token("t.add", now), Token::In(_)));
    }

    #[test]
    fn without_a_rate_there_is_always_a_token() {
        let limits = limits(Some(Rate::per_hour(1.0)));
        let now = Instant::now();
        limits.set_rate("t.add", None);
        for _ in 0..3 {
            assert_eq!(limits.take_token("t.add", now), Token::Taken);
        }
    }

    #[test]
    fn no_rate_counts_where_they_are_disabled() {
        let limits = Limits { rates: RateLimits::Disabled, ..limits(Some(Rate::per_hour(1.0))) };
        limits.set_rate("t.add", Some(Rate::per_hour(2.0)));
        let now = Instant::now();
        assert!(!limits.holds_back("t.add"));
        for _ in 0..3 {
            assert_eq!(limits.take_token("t.add", now), Token::Taken);
        }
    }

    #[test]
    fn the_message_says_how_long_before_the_task_does() {
        let limits = limits(None);
        let headers = |time_limit, soft_time_limit| Headers {
            time_limit,
            soft_time_limit,
            ..Headers::default()
        };
        for (hard, soft, expected) in [
            (None, None, (Some(2.0), Some(1.0))),
            (Some(5.5), None, (Some(5.5), Some(1.0))),
            (Some(0.0), Some(0.25), (Some(2.0), Some(0.25))),
        ] {
            let times = limits.times("t.add", &headers(hard, soft));
            assert_eq!((times.hard, times.soft), expected);
        }
    }
}
