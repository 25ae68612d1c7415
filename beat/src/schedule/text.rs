//! Schedules as they are written in files: `0 3 * * *`, `every 15m`, `at 2026-12-01T03:00:00`.

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;

use super::crontab::CrontabError;
use super::local_time::instant_of;
use super::{Interval, Schedule, duration};

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schedule {text:?}, column {column}: {message}")]
pub struct ScheduleError {
    /// The whole text.
    pub text: String,
    /// Where the mistake begins, in characters counted from 1.
    pub column: usize,
    /// What would be right.
    pub message: String,
}

impl From<CrontabError> for ScheduleError {
    fn from(error: CrontabError) -> Self {
        Self { text: error.expression, column: error.column, message: error.message }
    }
}

impl Schedule {
    /// Reads a schedule: a crontab on the clocks of `zone`, `every` and a length of time, or `at`
    /// and a date and time, which without an offset is one of `zone`.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] with the column of the mistake.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let error = |offset: usize, message: String| ScheduleError {
            text: text.to_owned(),
            column: 1 + text.get(..offset).map_or(offset, |before| before.chars().count()),
            message,
        };
        let after = |word: &str| {
            let rest = text.strip_prefix(word)?.strip_prefix(char::is_whitespace)?;
            let rest = rest.trim_start();
            Some((text.len() - rest.len(), rest.trim_end()))
        };
        if let Some((offset, rest)) = after("every") {
            let every = duration::parse(rest)
                .map_err(|mistake| error(offset + mistake.offset, mistake.message))?;
            let interval = Interval::new(every)
                .filter(|_| every >= Interval::LEAST)
                .ok_or_else(|| error(offset, "it must be at least 10ms".to_owned()))?;
            return Ok(Self::Interval(interval));
        }
        if let Some((offset, rest)) = after("at") {
            let instant = instant(rest, zone).ok_or_else(|| {
                error(offset, "it must be a date and time such as 2026-12-01T03:00:00".to_owned())
            })?;
            return Ok(Self::At(instant));
        }
        if text.starts_with(char::is_alphabetic) && !text.contains(char::is_whitespace) {
            let message = "it must be a crontab such as \"0 3 * * *\", \"every 15m\" or \
                           \"at 2026-12-01T03:00:00\"";
            return Err(error(0, message.to_owned()));
        }
        Ok(Self::Crontab { crontab: text.parse()?, zone })
    }

    /// What [`Schedule::parse`] reads.
    pub fn text(&self) -> String {
        match self {
            Self::Crontab { crontab, .. } => crontab.to_string(),
            Self::Interval(interval) => format!("every {}", duration::format(interval.every())),
            Self::At(at) => format!("at {}", super::shown(*at)),
        }
    }

    /// The time zone of its clocks.
    pub fn zone(&self) -> Tz {
        match self {
            Self::Crontab { zone, .. } => *zone,
            Self::Interval(_) | Self::At(_) => Tz::UTC,
        }
    }
}

fn instant(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    if let Ok(aware) = DateTime::parse_from_rfc3339(text) {
        return Some(aware.to_utc());
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|local| instant_of(local, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Schedule::parse(text, Tz::UTC).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["*/5 0-6 * jan *", "every 1h30m", "at 2026-12-01T02:00:00Z"] {
            let schedule = Schedule::parse(text, Tz::Europe__Berlin).unwrap();
            assert_eq!(schedule.text(), text);
            assert_eq!(Schedule::parse(&schedule.text(), schedule.zone()).unwrap(), schedule);
        }
    }

    #[test]
    fn a_date_without_an_offset_is_one_of_the_zone() {
        let at = |text| Schedule::parse(text, Tz::Europe__Berlin).unwrap().text();

        assert_eq!(at("at 2026-12-01T03:00:00"), "at 2026-12-01T02:00:00Z");
        assert_eq!(at("at 2026-07-01 03:00"), "at 2026-07-01T01:00:00Z");
        assert_eq!(at("at 2026-12-01T03:00:00-05:00"), "at 2026-12-01T08:00:00Z");
    }

    #[test]
    fn a_mistake_names_its_column_in_the_whole_text() {
        assert!(error("every 5 minutes").contains("column 8: "), "{}", error("every 5 minutes"));
        assert!(error("every 0s").contains("column 7: it must be at least"));
        assert!(error("at noon").contains("column 4: it must be a date"));
        assert!(error("0 3,25 * * *").contains("column 5: hour \"25\""));
        assert!(error("daily").contains("column 1: it must be a crontab"));
        assert!(error("").contains("0 fields"));
    }
}
