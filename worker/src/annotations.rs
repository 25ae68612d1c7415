//! Options that the worker's settings lay over those of its tasks (Celery's `task_annotations`).

use std::collections::BTreeMap;
use std::time::Duration;

use celery_task::{AckPolicy, MaxRetries, Rate, TaskOptions};
use serde::Deserialize;
use serde_json::Value;

/// Options by the names of tasks; `*` is all tasks.
#[derive(Debug, Clone, Default)]
pub struct Annotations(BTreeMap<String, Annotation>);

/// Why annotations cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a JSON object from task names, or \"*\", to their options; {0}")]
pub struct InvalidAnnotations(String);

/// What is said of one task. `null` takes a limit away that the task has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    #[serde(default, deserialize_with = "given")]
    rate_limit: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    fleet_rate_limit: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    fleet_concurrency: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    soft_time_limit: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    time_limit: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    max_retries: Option<Option<u32>>,
    default_retry_delay: Option<f64>,
    acks_late: Option<bool>,
    acks_on_failure: Option<bool>,
    acks_on_timeout: Option<bool>,
    acks_on_failure_or_timeout: Option<bool>,
    reject_on_worker_lost: Option<bool>,
    retry_on_worker_lost: Option<bool>,
    ignore_result: Option<bool>,
    store_errors_even_if_ignored: Option<bool>,
    track_started: Option<bool>,
}

/// `Some` also where it is `null`.
fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl Annotations {
    /// Reads them from JSON.
    pub fn parse(json: &str) -> Result<Self, InvalidAnnotations> {
        let annotations: BTreeMap<String, Value> =
            serde_json::from_str(json).map_err(|error| InvalidAnnotations(error.to_string()))?;
        let read = annotations.into_iter().map(|(task, value)| {
            let invalid = |error: String| InvalidAnnotations(format!("{task:?}: {error}"));
            let annotation: Annotation =
                serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
            annotation.laid_over(TaskOptions::default()).map_err(invalid)?;
            Ok((task, annotation))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// The options of `task` with what is said of it, and over that what is said of all tasks: the
    /// order in which Celery sets them (`celery.app.annotations`, `resolve_all`).
    pub(crate) fn laid_over(&self, task: &str, options: TaskOptions) -> TaskOptions {
        let said = [self.0.get(task), self.0.get("*")];
        said.into_iter().flatten().fold(options, |options, annotation| {
            // What cannot be laid over was refused when it was read.
            annotation.laid_over(options.clone()).unwrap_or(options)
        })
    }
}

impl Annotation {
    fn laid_over(&self, mut options: TaskOptions) -> Result<TaskOptions, String> {
        if let Some(limit) = &self.rate_limit {
            options.rate_limit = rate(limit)?;
        }
        if let Some(limit) = &self.fleet_rate_limit {
            options.fleet_rate_limit = rate(limit)?;
        }
        if let Some(limit) = self.fleet_concurrency {
            options.fleet_concurrency = limit.filter(|most| *most > 0);
        }
        for (limit, option) in [
            (self.soft_time_limit, &mut options.soft_time_limit),
            (self.time_limit, &mut options.time_limit),
        ] {
            if let Some(limit) = limit {
                *option = limit.map(|limit| seconds(limit).map(|_| limit)).transpose()?;
            }
        }
        if let Some(most) = self.max_retries {
            options.max_retries = Some(most.map_or(MaxRetries::Unlimited, MaxRetries::AtMost));
        }
        if let Some(delay) = self.default_retry_delay {
            options.default_retry_delay = Some(seconds(delay)?);
        }
        if let Some(late) = self.acks_late {
            options.acks = Some(if late { AckPolicy::Late } else { AckPolicy::Early });
        }
        let either = self.acks_on_failure_or_timeout;
        for (flag, option) in [
            (self.acks_on_failure.or(either), &mut options.acks_on_failure),
            (self.acks_on_timeout.or(either), &mut options.acks_on_timeout),
            (self.reject_on_worker_lost, &mut options.reject_on_worker_lost),
            (self.retry_on_worker_lost, &mut options.retry_on_worker_lost),
            (self.ignore_result, &mut options.ignore_result),
            (self.store_errors_even_if_ignored, &mut options.store_errors_even_if_ignored),
            (self.track_started, &mut options.track_started),
        ] {
            *option = flag.or(*option);
        }
        Ok(options)
    }
}

/// `"10/s"`, or a number of runs in a second; `null` and zero are no limit.
fn rate(value: &Value) -> Result<Option<Rate>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(format!("{value} is no rate; write 100/m, or 0 for none")),
    };
    Rate::parse(&text).map_err(|error| error.to_string())
}

fn seconds(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| format!("{seconds} is no number of seconds from 0 on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_over(json: &str, task: &str) -> TaskOptions {
        let options = TaskOptions {
            rate_limit: Some(Rate::per_second(1.0)),
            time_limit: Some(7.0),
            max_retries: Some(MaxRetries::AtMost(3)),
            ..TaskOptions::default()
        };
        Annotations::parse(json).unwrap().laid_over(task, options)
    }

    #[test]
    fn what_is_said_of_a_task_comes_before_what_it_says() {
        let json = r#"{"t.add": {"rate_limit": "10/m", "time_limit": 2.5, "acks_late": false}}"#;
        let options = laid_over(json, "t.add");
        assert_eq!(options.rate_limit, Some(Rate::per_minute(10.0)));
        assert_eq!(options.time_limit, Some(2.5));
        assert_eq!(options.acks, Some(AckPolicy::Early));
        assert_eq!(options.max_retries, Some(MaxRetries::AtMost(3)));
        let options = laid_over(json, "t.other");
        assert_eq!(options.time_limit, Some(7.0));
    }

    #[test]
    fn what_is_said_of_all_tasks_comes_last_as_in_celery() {
        let json =
            r#"{"*": {"rate_limit": "10/s"}, "t.add": {"rate_limit": "5/m", "time_limit": 3}}"#;
        let options = laid_over(json, "t.add");
        assert_eq!(options.rate_limit, Some(Rate::per_second(10.0)));
        assert_eq!(options.time_limit, Some(3.0));
    }

    #[test]
    fn null_takes_a_limit_away() {
        let json = r#"{"t.add": {"rate_limit": null, "time_limit": null, "max_retries": null}}"#;
        let options = laid_over(json, "t.add");
        assert_eq!((options.rate_limit, options.time_limit), (None, None));
        assert_eq!(options.max_retries, Some(MaxRetries::Unlimited));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (json, named) in [
            ("[]", "JSON object"),
            (r#"{"t.add": {"rate": "1/s"}}"#, "unknown field `rate`"),
            (r#"{"t.add": {"rate_limit": "often"}}"#, "often"),
            (r#"{"t.add": {"time_limit": -1}}"#, "-1"),
            (r#"{"t.add": {"acks_late": "yes"}}"#, "t.add"),
        ] {
            let error = Annotations::parse(json).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
