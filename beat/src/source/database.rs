//! django-celery-beat's tables as the source of entries: what `DatabaseScheduler` is to Celery.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;
use shared_models::PeriodicTask;

use super::Loaded;
use crate::built_in::built_in;
use crate::entry::{Call, Entry};
use crate::schedule::{Interval, Schedule, ScheduleError};

/// The entries of the rows that are switched on, and the built-in ones whose tasks no row names.
/// A row that cannot be sent is left out, and told of.
pub(super) fn entries(rows: Vec<PeriodicTask>, queue: &str) -> Result<Loaded, ScheduleError> {
    let is_named = |entry: &Entry| {
        rows.iter().any(|row| row.task == entry.call.task || row.name == entry.name)
    };
    let mut entries: Vec<Entry> =
        built_in(queue)?.into_iter().filter(|entry| !is_named(entry)).collect();
    let mut unusable = Vec::new();
    for row in rows.into_iter().filter(|row| row.enabled) {
        let name = row.name.clone();
        match entry(row, queue) {
            Ok(entry) => entries.push(entry),
            Err(reason) => unusable.push(format!("periodic task {name:?} is not sent: {reason}")),
        }
    }
    Ok(Loaded { entries: entries.into(), unusable })
}

fn entry(row: PeriodicTask, queue: &str) -> Result<Entry, String> {
    let schedule = schedule(&row)?;
    let call = call(&row, queue)?;
    let changed: DateTime<Utc> = row.date_changed.into();
    let mut entry = Entry::new(row.name, call, schedule);
    entry.not_before = row.start_time.map(Into::into);
    entry.not_after = row.expires.map(Into::into);
    entry.one_off = row.one_off;
    entry.first_from = Some(match (row.last_run_at, entry.not_before, &entry.schedule) {
        (Some(last), ..) => last.into(),
        // The first slot of an interval is its start.
        (None, Some(start), Schedule::Interval(interval)) => start - interval.every(),
        (None, _, _) => changed,
    });
    Ok(entry)
}

fn call(row: &PeriodicTask, queue: &str) -> Result<Call, String> {
    let queue = match (&row.queue, &row.routing_key, &row.exchange) {
        (Some(queue), ..) => queue.clone(),
        (None, None, None) => queue.to_owned(),
        _ => return Err("it has an exchange or a routing key: name its queue instead".to_owned()),
    };
    let Value::Array(args) = json(&row.args, "args", "[]")? else {
        return Err(format!("args is {}: it must be a JSON array", row.args));
    };
    let Value::Object(kwargs) = json(&row.kwargs, "kwargs", "{}")? else {
        return Err(format!("kwargs is {}: it must be a JSON object", row.kwargs));
    };
    let headers = row.headers.as_deref().unwrap_or_default();
    let Value::Object(mut headers) = json(headers, "headers", "{}")? else {
        return Err(format!("headers is {headers}: it must be a JSON object"));
    };
    headers.insert("periodic_task_name".to_owned(), Value::from(row.name.as_str()));
    Ok(Call {
        task: row.task.clone(),
        args,
        kwargs,
        queue,
        priority: row.priority.unwrap_or(0).into(),
        expires: row.expire_seconds.map(f64::from),
        headers,
    })
}

fn json(text: &str, name: &str, default: &str) -> Result<Value, String> {
    let text = if text.trim().is_empty() { default } else { text };
    serde_json::from_str(text).map_err(|error| format!("{name} is no JSON: {error}"))
}

fn schedule(row: &PeriodicTask) -> Result<Schedule, String> {
    if let (Some(every), Some(period)) = (row.every, &row.period) {
        let every = i64::from(every);
        let every = match period.as_str() {
            "days" => TimeDelta::try_days(every),
            "hours" => TimeDelta::try_hours(every),
            "minutes" => TimeDelta::try_minutes(every),
            "seconds" => TimeDelta::try_seconds(every),
            "microseconds" => Some(TimeDelta::microseconds(every)),
            _ => None,
        };
        let interval = every.filter(|every| *every >= Interval::LEAST).and_then(Interval::new);
        return interval.map(Schedule::Interval).ok_or_else(|| {
            format!(
                "its interval is {} {period}: it must be at least 10 ms",
                row.every.unwrap_or(0)
            )
        });
    }
    if let Some(minute) = &row.minute {
        let field = |field: &Option<String>| {
            field.iter().flat_map(|text| text.split_whitespace()).collect::<String>()
        };
        let fields = [
            minute.split_whitespace().collect(),
            field(&row.hour),
            field(&row.day_of_month),
            field(&row.month_of_year),
            field(&row.day_of_week),
        ];
        let zone = row.timezone.as_deref().unwrap_or("UTC");
        let zone: Tz = zone.parse().map_err(|_| format!("{zone:?} is no time zone"))?;
        let fields = fields.map(|field| if field.is_empty() { "*".to_owned() } else { field });
        return Schedule::parse(&fields.join(" "), zone).map_err(|error| error.to_string());
    }
    match row.clocked_time {
        Some(at) => Ok(Schedule::At(at.into())),
        None => Err("its schedule is none of interval, crontab and clocked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> PeriodicTask {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap().into();
        PeriodicTask {
            name: name.to_owned(),
            task: "t.add".to_owned(),
            args: "[1, 2]".to_owned(),
            kwargs: String::new(),
            headers: Some(r#"{"h": 1}"#.to_owned()),
            queue: None,
            exchange: None,
            routing_key: None,
            priority: Some(3),
            expires: None,
            expire_seconds: Some(60),
            one_off: false,
            start_time: None,
            enabled: true,
            last_run_at: None,
            date_changed: at("2026-11-23T03:00:00Z"),
            every: Some(2),
            period: Some("minutes".to_owned()),
            minute: None,
            hour: None,
            day_of_month: None,
            month_of_year: None,
            day_of_week: None,
            timezone: None,
            clocked_time: None,
        }
    }

    fn only(row: PeriodicTask) -> Result<Entry, String> {
        entry(row, "celery")
    }

    #[test]
    fn a_row_becomes_the_entry_that_the_scheduler_of_celery_makes_of_it() {
        let entry = only(row("every two")).unwrap();

        assert_eq!(entry.schedule.text(), "every 2m");
        assert_eq!(entry.call.args, [1, 2].map(Value::from));
        assert_eq!((entry.call.priority, entry.call.expires), (3, Some(60.0)));
        let headers: Vec<_> = entry.call.headers.keys().collect();
        assert_eq!(headers, ["h", "periodic_task_name"]);
        assert_eq!(entry.first_from, Some("2026-11-23T03:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_crontab_keeps_its_zone_and_a_clocked_one_its_instant() {
        let mut crontab = row("cron");
        (crontab.every, crontab.period) = (None, None);
        crontab.minute = Some("0, 30".to_owned());
        crontab.hour = Some("3".to_owned());
        crontab.day_of_week = Some("mon-fri".to_owned());
        crontab.timezone = Some("Europe/Berlin".to_owned());
        assert_eq!(
            only(crontab.clone()).unwrap().schedule.to_string(),
            "0,30 3 * * mon-fri Europe/Berlin"
        );
        let mut clocked = crontab;
        clocked.minute = None;
        clocked.clocked_time = Some(clocked.date_changed);
        clocked.one_off = true;
        let entry = only(clocked.clone()).unwrap();
        assert_eq!(entry.schedule.text(), "at 2026-11-23T03:00:00Z");
        assert!(entry.one_off);
        clocked.clocked_time = None;
        assert!(only(clocked).unwrap_err().contains("none of interval, crontab and clocked"));
    }

    #[test]
    fn the_first_slot_of_an_interval_is_its_start() {
        let mut later = row("later");
        let start: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().unwrap();
        later.start_time = Some(start.into());

        let entry = only(later).unwrap();

        assert_eq!(crate::agenda::next_slot(&entry, entry.first_from.unwrap()), Some(start));
    }

    #[test]
    fn a_row_that_cannot_be_sent_is_told_of_and_the_others_are() {
        let mut broken = row("broken");
        broken.args = "[1,".to_owned();
        let mut routed = row("routed");
        routed.routing_key = Some("a.b".to_owned());
        let mut off = row("off");
        (off.enabled, off.args) = (false, "nothing".to_owned());
        let mut rotate = row("ours");
        rotate.task = "jwt_auth.tasks.rotate_jwt_keypairs".to_owned();
        rotate.enabled = false;

        let loaded = entries(vec![broken, off, row("good"), routed, rotate], "celery").unwrap();

        let names: Vec<_> = loaded.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert!(names.contains(&"good"));
        assert_eq!(names.len(), 5, "the built-in ones but the one that the site switched off");
        assert!(loaded.unusable[0].contains("\"broken\" is not sent: args is no JSON"));
        assert!(loaded.unusable[1].contains("\"routed\" is not sent: it has an exchange"));
    }
}
