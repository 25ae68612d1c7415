//! Crontab schedules: five fields, in Celery's dialect and with Celery's answers.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, FieldError, HOUR, MINUTE, MONTH, Values};
use super::local_time::{instant_of, put_back_between, repeated_instant_of};

/// Days of each month in a leap year, January first.
const DAYS_IN_MONTH: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Weekdays and leap years together repeat after 28 years, or 40 across a year like 2100 that is
/// no leap year: what has no match within them has none at all.
const DAYS_SEARCHED: i64 = 41 * 366;

const HOURS_OF_A_DAY: u32 = 24;

/// Minute, hour, day of month, month, day of week (Sunday 0). A day has to match in all three of
/// its fields: unlike in cron(8), day of month **and** day of week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crontab {
    text: String,
    minutes: Values,
    hours: Values,
    days_of_month: Values,
    months: Values,
    days_of_week: Values,
}

/// Why a text is no crontab expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("crontab {expression:?}, column {column}: {message}")]
pub struct CrontabError {
    /// The whole text.
    pub expression: String,
    /// Where the mistake begins, in characters counted from 1.
    pub column: usize,
    /// What would be right.
    pub message: String,
}

impl FromStr for Crontab {
    type Err = CrontabError;

    fn from_str(text: &str) -> Result<Self, CrontabError> {
        let error = |offset: usize, message: String| CrontabError {
            expression: text.to_owned(),
            column: 1 + text.get(..offset).map_or(offset, |before| before.chars().count()),
            message,
        };
        let fields = fields_with_offsets(text);
        let [minute, hour, day_of_month, month, day_of_week] = fields.as_slice() else {
            let message = format!(
                "{} fields: there must be five, minute hour day-of-month month day-of-week",
                fields.len()
            );
            return Err(error(fields.get(5).map_or(text.len(), |(offset, _)| *offset), message));
        };
        let parse = |field: Field, (start, text): &(usize, &str)| {
            field
                .parse(text)
                .map_err(|FieldError { offset, message }| error(start + offset, message))
        };
        let crontab = Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            minutes: parse(MINUTE, minute)?,
            hours: parse(HOUR, hour)?,
            days_of_month: parse(DAY_OF_MONTH, day_of_month)?,
            months: parse(MONTH, month)?,
            days_of_week: parse(DAY_OF_WEEK, day_of_week)?,
        };
        if !crontab.has_a_date() {
            let message = format!("no month {:?} has a day {:?}", month.1, day_of_month.1);
            return Err(error(day_of_month.0, message));
        }
        Ok(crontab)
    }
}

impl fmt::Display for Crontab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Crontab {
    /// The first slot after `last`, on the clocks of `zone`; `None` at the end of the calendar.
    ///
    /// Slots are whole minutes on those clocks: within the minute of `last` there is no other. In
    /// the hour that a clock shows twice, each slot comes once, the first time; but a schedule of
    /// every hour of the day means elapsed time, and goes on in the second one too. Celery's
    /// pauses there for an hour.
    pub fn next_after(&self, last: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let next = self.next_of_clock(last, zone)?;
        if self.hours.len() < HOURS_OF_A_DAY {
            return Some(next);
        }
        Some(self.repeated_between(last, next, zone).unwrap_or(next))
    }

    /// The first slot after `last` that a clock shows for the second time, where it is put back
    /// between `last` and `next`.
    fn repeated_between(
        &self,
        last: DateTime<Utc>,
        next: DateTime<Utc>,
        zone: Tz,
    ) -> Option<DateTime<Utc>> {
        let put_back = put_back_between(last, next, zone)?;
        let slot = self.local_slot_from(put_back.with_timezone(&zone).naive_local())?;
        repeated_instant_of(slot, zone).filter(|again| *again > last && *again < next)
    }

    fn next_of_clock(&self, last: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let local = minute_of(last.with_timezone(&zone).naive_local())?;
        let mut from = local.checked_add_signed(TimeDelta::minutes(1))?;
        loop {
            let slot = self.local_slot_from(from)?;
            let instant = instant_of(slot, zone);
            if instant > last {
                return Some(instant);
            }
            if let Some(repeated) = repeated_instant_of(slot, zone).filter(|again| *again > last) {
                return Some(repeated);
            }
            from = slot.checked_add_signed(TimeDelta::minutes(1))?;
        }
    }

    /// The latest slot after `last` and until `now`: the one to run at `now`, however many slots
    /// before it were missed.
    pub fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let first = self.next_after(last, zone).filter(|first| *first <= now)?;
        let mut slot = self.slot_shortly_before(now, zone).unwrap_or(first).max(first);
        while let Some(next) = self.next_after(slot, zone).filter(|next| *next <= now) {
            slot = next;
        }
        Some(slot)
    }

    /// A slot near `now` and not after it. Where clocks are put back or forward it need not be
    /// the latest one.
    fn slot_shortly_before(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let mut until = minute_of(now.with_timezone(&zone).naive_local())?;
        loop {
            let slot = self.local_slot_until(until)?;
            let instant = instant_of(slot, zone);
            if instant <= now {
                return Some(instant);
            }
            until = slot.checked_sub_signed(TimeDelta::minutes(1))?;
        }
    }

    /// The first local slot at `from` or later.
    fn local_slot_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let today = self.times().find(|time| *time >= from.time());
        if let Some(time) = today.filter(|_| self.matches(from.date())) {
            return Some(from.date().and_time(time));
        }
        let tomorrow = from.date().succ_opt()?;
        let first = self.times().next()?;
        let mut days = (0..DAYS_SEARCHED).map_while(|day| tomorrow.checked_add_signed(days(day)));
        days.find(|date| self.matches(*date)).map(|date| date.and_time(first))
    }

    /// The last local slot at `until` or before.
    fn local_slot_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
        let today = self.times().rfind(|time| *time <= until.time());
        if let Some(time) = today.filter(|_| self.matches(until.date())) {
            return Some(until.date().and_time(time));
        }
        let yesterday = until.date().pred_opt()?;
        let last = self.times().next_back()?;
        let mut days = (0..DAYS_SEARCHED).map_while(|day| yesterday.checked_sub_signed(days(day)));
        days.find(|date| self.matches(*date)).map(|date| date.and_time(last))
    }

    fn times(&self) -> impl DoubleEndedIterator<Item = NaiveTime> {
        let minutes = self.minutes;
        self.hours.iter().flat_map(move |hour| {
            minutes.iter().filter_map(move |minute| NaiveTime::from_hms_opt(hour, minute, 0))
        })
    }

    fn matches(&self, date: NaiveDate) -> bool {
        self.months.contains(date.month())
            && self.days_of_month.contains(date.day())
            && self.days_of_week.contains(date.weekday().num_days_from_sunday())
    }

    fn has_a_date(&self) -> bool {
        let first_day = self.days_of_month.iter().next();
        let mut lengths = DAYS_IN_MONTH.iter().zip(1..);
        lengths.any(|(length, month)| {
            self.months.contains(month) && first_day.is_some_and(|day| day <= *length)
        })
    }
}

fn days(number: i64) -> TimeDelta {
    TimeDelta::days(number)
}

fn minute_of(local: NaiveDateTime) -> Option<NaiveDateTime> {
    local.with_nanosecond(0)?.with_second(0)
}

fn fields_with_offsets(text: &str) -> Vec<(usize, &str)> {
    text.split_whitespace()
        .map(|field| (field.as_ptr() as usize - text.as_ptr() as usize, field))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crontab(text: &str) -> Crontab {
        text.parse().unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn slots(text: &str, from: &str, zone: Tz, count: usize) -> Vec<String> {
        let schedule = crontab(text);
        let mut last = utc(from);
        let mut found = Vec::new();
        for _ in 0..count {
            last = schedule.next_after(last, zone).unwrap();
            found.push(last.with_timezone(&zone).to_rfc3339());
        }
        found
    }

    const NEW_YORK: Tz = Tz::America__New_York;
    /// What Celery 5.7 did, in New York, around both changes of the clocks of 2026.
    const CELERY: &str = include_str!("../../tests/crontab-semantics.json");

    #[test]
    fn clock_changes_are_met_as_celery_meets_them_but_for_the_hours_that_it_leaves_out() {
        let golden: serde_json::Value = serde_json::from_str(CELERY).unwrap();
        let mut compared = 0;
        for case in golden["dst"].as_array().unwrap() {
            let name = case["case"].as_str().unwrap();
            let text = match name {
                name if name.contains("daily 02:30") => "30 2 * * *",
                name if name.contains("daily 01:30") => "30 1 * * *",
                name if name.contains("daily 04:00") => "0 4 * * *",
                name if name.contains("hourly") => "0 * * * *",
                name if name.contains("*/30") => "*/30 * * * *",
                // Elapsed time knows no clocks.
                name if name.contains("interval") => continue,
                other => panic!("unknown case {other}"),
            };
            let fired: Vec<String> = case["fired_local"]
                .as_array()
                .unwrap()
                .iter()
                .map(|instant| instant.as_str().unwrap().to_owned())
                .collect();
            let left_out: &[&str] = match name {
                "fall-back hourly :00" => &["2026-11-01T01:00:00-05:00"],
                "fall-back */30" => &["2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00"],
                _ => &[],
            };
            let count = fired.len() - 1 + left_out.len();
            let mut ours = slots(text, &fired[0], NEW_YORK, count);
            ours.retain(|slot| !left_out.contains(&slot.as_str()));
            assert_eq!(ours, fired[1..], "{name}");
            compared += 1;
        }
        assert_eq!(compared, 6);
    }

    #[test]
    fn day_of_month_and_day_of_week_both_have_to_match() {
        let golden: serde_json::Value = serde_json::from_str(CELERY).unwrap();
        let expected = golden["dom13_and_fri_next4"].as_array().unwrap();

        assert_eq!(slots("0 0 13 * fri", "2026-01-01T00:00:00Z", NEW_YORK, 4), expected[..]);
    }

    #[test]
    fn a_slot_is_never_its_own_successor() {
        assert_eq!(
            slots("0 3 * * *", "2026-11-23T03:00:59.5Z", Tz::UTC, 1),
            ["2026-11-24T03:00:00+00:00"]
        );
        assert_eq!(
            slots("0 3 * * *", "2026-11-23T02:59:59.5Z", Tz::UTC, 1),
            ["2026-11-23T03:00:00+00:00"]
        );
    }

    #[test]
    fn rare_dates_are_found_and_impossible_ones_refused() {
        assert_eq!(
            slots("0 0 29 2 sun", "2088-03-01T00:00:00Z", Tz::UTC, 1),
            ["2128-02-29T00:00:00+00:00"]
        );
        assert!("0 0 30 2 *".parse::<Crontab>().is_err());
    }

    #[test]
    fn an_entry_seen_first_in_the_repeated_hour_does_not_run_in_the_past() {
        // 01:10 standard time, the second 01:10 of that night.
        assert_eq!(
            slots("*/30 * * * *", "2026-11-01T06:10:00Z", NEW_YORK, 2),
            ["2026-11-01T01:30:00-05:00", "2026-11-01T02:00:00-05:00"]
        );
    }

    #[test]
    fn many_missed_slots_are_due_as_the_latest_one() {
        let hourly = crontab("0 * * * *");

        assert_eq!(
            hourly.due(utc("2026-11-20T00:00:00Z"), utc("2026-11-23T05:59:00Z"), Tz::UTC),
            Some(utc("2026-11-23T05:00:00Z"))
        );
        assert_eq!(
            hourly.due(utc("2026-11-23T05:00:00Z"), utc("2026-11-23T05:59:59Z"), Tz::UTC),
            None
        );
    }

    #[test]
    fn the_latest_slot_is_found_across_both_changes_of_the_clocks() {
        let half_hourly = crontab("*/30 * * * *");
        // 01:10 standard time; 01:00 standard time was the last slot.
        assert_eq!(
            half_hourly.due(utc("2026-11-01T03:00:00Z"), utc("2026-11-01T06:10:00Z"), NEW_YORK),
            Some(utc("2026-11-01T06:00:00Z"))
        );
        // An hour that is not every hour comes once.
        assert_eq!(
            crontab("*/30 0-6 * * *").due(
                utc("2026-11-01T03:00:00Z"),
                utc("2026-11-01T06:10:00Z"),
                NEW_YORK
            ),
            Some(utc("2026-11-01T05:30:00Z"))
        );
        // 03:10 daylight time; 02:30 does not exist and comes at 03:30.
        assert_eq!(
            crontab("30 2 * * *").due(
                utc("2026-03-07T08:00:00Z"),
                utc("2026-03-08T07:10:00Z"),
                NEW_YORK
            ),
            None
        );
    }

    #[test]
    fn a_mistake_names_its_column() {
        let error = |text: &str| text.parse::<Crontab>().unwrap_err().to_string();

        assert_eq!(
            error("0 3,25 * * *"),
            "crontab \"0 3,25 * * *\", column 5: hour \"25\" is not from 0 to 23"
        );
        assert_eq!(
            error("0 0 30 2 *"),
            "crontab \"0 0 30 2 *\", column 5: no month \"2\" has a day \"30\""
        );
        assert_eq!(
            error("0 0 * *"),
            "crontab \"0 0 * *\", column 8: 4 fields: there must be five, \
             minute hour day-of-month month day-of-week"
        );
        assert!(error("0 0 * * 7").contains("column 9: day of week \"7\""));
    }
}
