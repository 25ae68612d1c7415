//! How a task is run, beyond what `#[celery::task(…)]` can say.

use std::time::Duration;

use celery::task::Task;
use celery_redis::wire::exception::Exception;

use crate::failure::{Ended, Retry};
use crate::hooks::Hook;
use crate::rate::Rate;

/// When a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPolicy {
    /// Before the task runs: a worker that dies with it loses it.
    Early,
    /// Together with its result: a worker that dies with it has it run again.
    Late,
}

/// How often a task may ask to be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxRetries {
    /// So often; zero is never.
    AtMost(u32),
    /// For ever (`max_retries=None` in Celery).
    Unlimited,
}

impl MaxRetries {
    /// Whether a run that was retried `retries` times may be retried once more.
    pub fn allow(self, retries: u32) -> bool {
        match self {
            Self::AtMost(most) => retries < most,
            Self::Unlimited => true,
        }
    }
}

/// A task's options, under Celery's names. What is `None` is as the worker's settings say, and
/// where those say nothing as in Celery, but for acknowledgement, which is late.
///
/// ```ignore
/// registry.register_with::<send_mail>(TaskOptions {
///     rate_limit: Some(Rate::per_minute(100.0)),
///     soft_time_limit: Some(2.5),
///     autoretry: Some(Autoretry::on(&["ConnectionError"])),
///     ..TaskOptions::default()
/// });
/// ```
#[derive(Debug, Clone, Default)]
pub struct TaskOptions {
    /// When its messages are acknowledged (`acks_late`).
    pub acks: Option<AckPolicy>,
    /// Whether the message of a late-acknowledged run that failed is acknowledged; else it becomes
    /// a dead letter, beside its FAILURE. True unless said.
    pub acks_on_failure: Option<bool>,
    /// Whether the message of a late-acknowledged run that met its hard time limit is acknowledged;
    /// else it goes back to its queue, beside its FAILURE. True unless said.
    pub acks_on_timeout: Option<bool>,
    /// Whether a message comes back whose process died while it ran. True unless said, unlike in
    /// Celery; false answers it with `WorkerLostError` instead of running it a second time.
    pub reject_on_worker_lost: Option<bool>,
    /// Whether a message whose process died while it ran is retried instead of running again at
    /// once: after `default_retry_delay`, `max_retries` times, and then it fails. Comes before
    /// `reject_on_worker_lost`. False unless said.
    pub retry_on_worker_lost: Option<bool>,
    /// Soft time limit in seconds; the message's comes first. See
    /// [`TaskContext::soft_time_limit`](crate::TaskContext::soft_time_limit).
    pub soft_time_limit: Option<f64>,
    /// Hard time limit in seconds; the message's comes first.
    pub time_limit: Option<f64>,
    /// Whether its results are dropped where the caller does not say.
    pub ignore_result: Option<bool>,
    /// Whether its FAILURE is stored even where its results are dropped.
    pub store_errors_even_if_ignored: Option<bool>,
    /// Whether STARTED is stored when it begins.
    pub track_started: Option<bool>,
    /// Runs that each worker process may begin in a time.
    pub rate_limit: Option<Rate>,
    /// Runs that all workers together may begin in a time. Not in Celery.
    pub fleet_rate_limit: Option<Rate>,
    /// Runs that may go on at the same time on all workers together; its messages are then always
    /// acknowledged late. Not in Celery.
    pub fleet_concurrency: Option<u32>,
    /// How often it may be retried: three times unless said.
    pub max_retries: Option<MaxRetries>,
    /// How long until it is retried where the retry does not say: 180 seconds unless said.
    pub default_retry_delay: Option<Duration>,
    /// Errors after which it is retried without asking for it.
    pub autoretry: Option<Autoretry>,
    /// Called with a retry that will be sent (`on_retry`).
    pub on_retry: Option<Hook>,
    /// Called when it has returned or failed, the latter when no retry follows, and after
    /// `on_success` and `on_failure` (`after_return`).
    pub after_return: Option<Hook>,
}

/// Retries without the task asking for them (`celery.app.autoretry`).
#[derive(Debug, Clone)]
pub struct Autoretry {
    /// Classes of errors, as `ValueError` or `package.module.Class`; `Exception` is all of them.
    pub on: Vec<String>,
    /// Classes after which it is not retried all the same (`dont_autoretry_for`).
    pub not_on: Vec<String>,
    /// Growing delays; the task's `default_retry_delay` otherwise.
    pub backoff: Option<RetryBackoff>,
}

/// Delays that double with each retry (`retry_backoff`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBackoff {
    /// The first delay, seconds; one at least.
    pub factor: u32,
    /// The longest delay, seconds (`retry_backoff_max`).
    pub longest: u32,
    /// Whether each delay is a random one up to that (`retry_jitter`).
    pub jitter: bool,
}

impl Default for RetryBackoff {
    /// Celery's: one second, doubling up to ten minutes, with jitter.
    fn default() -> Self {
        Self { factor: 1, longest: 600, jitter: true }
    }
}

impl RetryBackoff {
    /// The delay after `retries` retries (`celery.utils.time.get_exponential_backoff_interval`).
    /// `chance`, from 0 up to but not including 1, decides where there is jitter.
    pub fn delay(&self, retries: u32, chance: f64) -> Duration {
        let doubled = u64::from(self.factor.max(1))
            .saturating_mul(2_u64.checked_pow(retries).unwrap_or(u64::MAX));
        let ceiling = doubled.min(u64::from(self.longest));
        if !self.jitter {
            return Duration::from_secs(ceiling);
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let seconds = (chance * (ceiling + 1) as f64) as u64;
        Duration::from_secs(seconds.min(ceiling))
    }
}

impl Autoretry {
    /// After errors of these classes, with Celery's delays between.
    pub fn on(classes: &[&str]) -> Self {
        Self {
            on: classes.iter().map(|class| (*class).to_owned()).collect(),
            not_on: Vec::new(),
            backoff: None,
        }
    }

    /// The same with delays that grow.
    pub fn backoff(self, backoff: RetryBackoff) -> Self {
        Self { backoff: Some(backoff), ..self }
    }

    /// Whether a run that raised `exception` is retried.
    pub fn is_for(&self, exception: &Exception) -> bool {
        let qualified = format!("{}.{}", exception.exc_module, exception.exc_type);
        let named = |classes: &[String]| {
            classes.iter().any(|class| {
                class == "Exception" || *class == exception.exc_type || *class == qualified
            })
        };
        named(&self.on) && !named(&self.not_on)
    }
}

impl TaskOptions {
    /// These, and where they say nothing what `others` say.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            acks: self.acks.or(others.acks),
            acks_on_failure: self.acks_on_failure.or(others.acks_on_failure),
            acks_on_timeout: self.acks_on_timeout.or(others.acks_on_timeout),
            reject_on_worker_lost: self.reject_on_worker_lost.or(others.reject_on_worker_lost),
            retry_on_worker_lost: self.retry_on_worker_lost.or(others.retry_on_worker_lost),
            soft_time_limit: self.soft_time_limit.or(others.soft_time_limit),
            time_limit: self.time_limit.or(others.time_limit),
            ignore_result: self.ignore_result.or(others.ignore_result),
            store_errors_even_if_ignored: self
                .store_errors_even_if_ignored
                .or(others.store_errors_even_if_ignored),
            track_started: self.track_started.or(others.track_started),
            rate_limit: self.rate_limit.or(others.rate_limit),
            fleet_rate_limit: self.fleet_rate_limit.or(others.fleet_rate_limit),
            fleet_concurrency: self.fleet_concurrency.or(others.fleet_concurrency),
            max_retries: self.max_retries.or(others.max_retries),
            default_retry_delay: self.default_retry_delay.or(others.default_retry_delay),
            autoretry: self.autoretry.or_else(|| others.autoretry.clone()),
            on_retry: self.on_retry.or_else(|| others.on_retry.clone()),
            after_return: self.after_return.or_else(|| others.after_return.clone()),
        }
    }

    /// When messages are acknowledged. A place in the fleet's concurrency is the record of the
    /// delivery itself, so such a task keeps it while it runs.
    pub fn acks(&self) -> AckPolicy {
        match self.fleet_concurrency {
            Some(_) => AckPolicy::Late,
            None => self.acks.unwrap_or(AckPolicy::Late),
        }
    }

    /// How often the task may be retried.
    pub fn max_retries(&self) -> MaxRetries {
        self.max_retries.unwrap_or(MaxRetries::AtMost(3))
    }

    /// How long until a retry that does not say.
    pub fn default_retry_delay(&self) -> Duration {
        self.default_retry_delay.unwrap_or(Duration::from_secs(180))
    }

    /// What a run that raised `exception` ends as: a retry where these options ask for one.
    pub fn after(&self, exception: Exception, retries: u32) -> Ended {
        let Some(autoretry) = self.autoretry.as_ref().filter(|it| it.is_for(&exception)) else {
            return Ended::raised(exception);
        };
        let retry = Retry::new().error(exception);
        Ended::Retries(Box::new(match autoretry.backoff {
            Some(backoff) => retry.countdown(backoff.delay(retries, chance())),
            None => retry,
        }))
    }

    /// What the attributes of `#[celery::task(…)]` say.
    ///
    /// `time_limit` and `hard_time_limit` are the hard limit, the lower of the two, as for
    /// rusty-celery's own worker. `retry_for_unexpected = true` is a retry after every error,
    /// with delays that double between `min_retry_delay` and `max_retry_delay`.
    pub(crate) fn of_macro<T: Task>() -> Self {
        let attributes = T::DEFAULTS;
        let limits = [attributes.time_limit, attributes.hard_time_limit];
        let autoretry = (attributes.retry_for_unexpected == Some(true)).then(|| {
            Autoretry::on(&["Exception"]).backoff(RetryBackoff {
                factor: attributes.min_retry_delay.unwrap_or(1),
                longest: attributes.max_retry_delay.unwrap_or(3600),
                jitter: false,
            })
        });
        Self {
            acks: attributes
                .acks_late
                .map(|late| if late { AckPolicy::Late } else { AckPolicy::Early }),
            time_limit: limits.into_iter().flatten().min().map(f64::from),
            max_retries: attributes.max_retries.map(MaxRetries::AtMost),
            default_retry_delay: attributes
                .min_retry_delay
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            autoretry,
            ..Self::default()
        }
    }
}

/// From 0 up to but not including 1.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = RetryBackoff { factor: 2, longest: 20, jitter: false };
        let delays: Vec<u64> =
            (0..5).map(|retries| backoff.delay(retries, 0.0).as_secs()).collect();
        assert_eq!(delays, [2, 4, 8, 16, 20]);
        assert_eq!(backoff.delay(u32::MAX, 0.0).as_secs(), 20);
    }

    #[test]
    fn jitter_takes_any_whole_delay_up_to_the_doubled_one() {
        let backoff = RetryBackoff { factor: 1, longest: 600, jitter: true };
        for (chance, seconds) in [(0.0, 0), (0.2, 1), (0.99, 4)] {
            assert_eq!(backoff.delay(2, chance).as_secs(), seconds);
        }
    }

    #[test]
    fn classes_are_named_with_or_without_their_module() {
        let error = Exception::new("Timeout", "requests.exceptions", Vec::new());
        for (on, not_on, expected) in [
            (vec!["Timeout"], vec![], true),
            (vec!["requests.exceptions.Timeout"], vec![], true),
            (vec!["other.Timeout"], vec![], false),
            (vec!["Exception"], vec![], true),
            (vec!["Exception"], vec!["Timeout"], false),
            (vec![], vec![], false),
        ] {
            let mut autoretry = Autoretry::on(&on);
            autoretry.not_on = not_on.into_iter().map(str::to_owned).collect();
            assert_eq!(autoretry.is_for(&error), expected, "{on:?}");
        }
    }
}
