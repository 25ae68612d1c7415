//! `beat import-redbeat`: celery-redbeat's entries as a beat file.

use std::path::Path;

use beat::source::parse;
use celery_redis::transport::beat_state::BeatState;
use celery_redis::transport::redbeat;
use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Table;

use super::ImportRedbeat;
use crate::failure::Failure;
use crate::report::{Report, good, warning};

/// Where entries go that name no queue.
const QUEUE: &str = "celery";

/// What redbeat's JSON says of an entry.
#[derive(Deserialize)]
struct Definition {
    name: String,
    task: String,
    args: Option<Vec<Value>>,
    kwargs: Option<Map<String, Value>>,
    options: Option<Map<String, Value>>,
    schedule: Map<String, Value>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Meta {
    last_run_at: Option<Map<String, Value>>,
}

/// What became of redbeat's entries.
#[derive(Default)]
struct Imported {
    entries: Table,
    tasks: Vec<String>,
    last_runs: Vec<(String, DateTime<Utc>)>,
    /// What cannot be taken over, and why.
    left_out: Vec<String>,
}

pub(super) async fn run(state: &BeatState, arguments: &ImportRedbeat) -> Result<Report, Failure> {
    let stored = redbeat::entries(state.connection(), &arguments.prefix).await?;
    let mut imported = Imported::default();
    for (key, entry) in &stored {
        if let Err(reason) = imported.take(&entry.definition, entry.meta.as_deref()) {
            imported.left_out.push(format!("{key}: {reason}"));
        }
    }
    let text = imported.file(arguments.timezone)?;
    let mut lines: Vec<String> = Vec::new();
    match &arguments.write {
        None => lines.extend(text.lines().map(ToOwned::to_owned)),
        Some(path) => {
            write(path, &text)?;
            let last_runs: Vec<_> =
                imported.last_runs.iter().map(|(name, at)| (name.as_str(), *at)).collect();
            state.introduce(&last_runs).await?;
            let number = imported.entries.len();
            lines.push(good(format!("{number} entries written to {}", path.display())));
        }
    }
    lines.extend(imported.left_out.iter().map(|reason| warning(format!("left out: {reason}"))));
    let data = json!({
        "entries": imported.entries.len(),
        "left_out": imported.left_out,
        "file": text,
    });
    Ok(Report::new(data, lines))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::File { path: path.to_owned(), source })
}

impl Imported {
    fn take(&mut self, definition: &str, meta: Option<&str>) -> Result<(), String> {
        let definition: Definition =
            serde_json::from_str(definition).map_err(|error| error.to_string())?;
        let mut entry = Table::new();
        entry.insert("task".to_owned(), definition.task.clone().into());
        entry.insert("schedule".to_owned(), schedule(&definition.schedule)?.into());
        if let Some(args) = definition.args.filter(|args| !args.is_empty()) {
            entry.insert("args".to_owned(), toml(&Value::Array(args))?);
        }
        if let Some(kwargs) = definition.kwargs.filter(|kwargs| !kwargs.is_empty()) {
            entry.insert("kwargs".to_owned(), toml(&Value::Object(kwargs))?);
        }
        for (option, value) in definition.options.unwrap_or_default() {
            match option.as_str() {
                _ if value.is_null() => {}
                "queue" | "priority" | "expires" | "headers" => {
                    entry.insert(option, toml(&value)?);
                }
                _ => return Err(format!("its option {option:?} cannot be taken over")),
            }
        }
        if definition.enabled == Some(false) {
            entry.insert("enabled".to_owned(), false.into());
        }
        // Read as beat will read it, so that one mistake costs one entry.
        let alone = Table::from_iter([(definition.name.clone(), entry.clone().into())]);
        parsed(&alone, Tz::UTC)?;
        let meta = meta.and_then(|meta| serde_json::from_str::<Meta>(meta).ok());
        let last_run = meta.and_then(|meta| instant(&meta.last_run_at?));
        self.last_runs.extend(last_run.map(|at| (definition.name.clone(), at)));
        self.tasks.push(definition.task);
        self.entries.insert(definition.name, entry.into());
        Ok(())
    }

    /// The file. A task that redbeat sends is not sent by a built-in entry as well.
    fn file(&self, zone: Tz) -> Result<String, Failure> {
        let mut entries = self.entries.clone();
        let built_in = beat::built_in(QUEUE).unwrap_or_default();
        for entry in built_in.iter().filter(|entry| self.tasks.contains(&entry.call.task)) {
            let off = Table::from_iter([("enabled".to_owned(), false.into())]);
            entries.entry(entry.name.clone()).or_insert_with(|| off.into());
        }
        parsed(&entries, zone).map_err(failure)
    }
}

/// The text of a file with these entries, after it was read as beat will.
fn parsed(entries: &Table, zone: Tz) -> Result<String, String> {
    let file = Table::from_iter([
        ("timezone".to_owned(), zone.name().into()),
        ("entries".to_owned(), entries.clone().into()),
    ]);
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    match parse(Path::new("beat.toml"), &text, QUEUE) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

fn failure(message: String) -> Failure {
    Failure::Work { action: "making the beat file", message }
}

fn schedule(schedule: &Map<String, Value>) -> Result<String, String> {
    match schedule.get("__type__").and_then(Value::as_str) {
        Some("interval") => {
            let every = schedule.get("every").and_then(Value::as_f64).unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation, reason = "a float saturates")]
            let milliseconds = (every * 1000.0).round() as i64;
            Ok(format!("every {milliseconds}ms"))
        }
        Some("crontab") => {
            let fields = ["minute", "hour", "day_of_month", "month_of_year", "day_of_week"];
            Ok(fields.map(|field| crontab_field(schedule.get(field))).join(" "))
        }
        other => Err(format!("a schedule of type {other:?} cannot be taken over")),
    }
}

/// A field as Celery's `crontab` accepts it: text, a number, or a list of either.
fn crontab_field(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "*".to_owned(),
        Some(Value::String(text)) => text.split_whitespace().collect(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| crontab_field(Some(value))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// redbeat's form of a `datetime`: its parts, and a zone by name or in seconds from UTC.
fn instant(parts: &Map<String, Value>) -> Option<DateTime<Utc>> {
    let part = |name| parts.get(name).and_then(Value::as_i64);
    let small = |name| u32::try_from(part(name)?).ok();
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(part("year")?).ok()?,
        small("month")?,
        small("day")?,
    )?;
    let local = date.and_hms_micro_opt(
        small("hour")?,
        small("minute")?,
        small("second")?,
        small("microsecond").unwrap_or(0),
    )?;
    match parts.get("timezone") {
        Some(Value::String(name)) => {
            let zone: Tz = name.parse().ok()?;
            Some(local.and_local_timezone(zone).earliest()?.to_utc())
        }
        Some(Value::Number(seconds)) => {
            #[allow(clippy::cast_possible_truncation, reason = "whole seconds of an offset")]
            let offset = FixedOffset::east_opt(seconds.as_f64()? as i32)?;
            Some(local.and_local_timezone(offset).earliest()?.to_utc())
        }
        _ => Some(local.and_utc()),
    }
}

fn toml(value: &Value) -> Result<toml::Value, String> {
    toml::Value::try_from(value)
        .map_err(|error| format!("{value} cannot be written as TOML: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crontabs_and_intervals_are_taken_over_and_rules_are_not() {
        let read = |text: &str| schedule(&serde_json::from_str(text).unwrap());

        let crontab = r#"{"__type__": "crontab", "minute": "*/5", "hour": 3, "day_of_week": "*",
                          "day_of_month": [1, 15], "month_of_year": "1, 7"}"#;
        assert_eq!(read(crontab).unwrap(), "*/5 3 1,15 1,7 *");
        let interval = r#"{"__type__": "interval", "every": 2.5, "relative": false}"#;
        assert_eq!(read(interval).unwrap(), "every 2500ms");
        assert!(read(r#"{"__type__": "rrule"}"#).is_err());
    }

    #[test]
    fn a_last_run_is_read_in_its_zone() {
        let read = |zone: Value| {
            let parts = json!({"year": 2026, "month": 11, "day": 23, "hour": 3, "minute": 38,
                               "second": 57, "microsecond": 100_314, "timezone": zone});
            instant(parts.as_object().unwrap()).map(|at| at.to_rfc3339())
        };

        let utc = "2026-11-23T03:38:57.100314+00:00";
        assert_eq!(read(json!("UTC")).as_deref(), Some(utc));
        assert_eq!(
            read(json!("Europe/Berlin")).as_deref(),
            Some("2026-11-23T02:38:57.100314+00:00")
        );
        assert_eq!(read(json!(3600)).as_deref(), Some("2026-11-23T02:38:57.100314+00:00"));
        assert_eq!(read(Value::Null).as_deref(), Some(utc));
    }
}
