//! Instants as Python's `datetime.isoformat()` writes them.

use chrono::{DateTime, NaiveDateTime, Utc};

/// An `eta` or `expires` that is not ISO 8601.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an ISO 8601 date and time such as 2026-11-23T03:00:00+00:00")]
pub struct InvalidInstant {
    value: String,
}

/// Reads what Celery's producers send; a time without an offset is UTC (`celery.utils.time`).
///
/// A leap second is refused, as Python does: its `datetime` has none.
pub fn parse(text: &str) -> Result<DateTime<Utc>, InvalidInstant> {
    read(text)
        .filter(|time| time.timestamp_subsec_nanos() < 1_000_000_000)
        .ok_or_else(|| InvalidInstant { value: text.to_owned() })
}

fn read(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(aware) = DateTime::parse_from_rfc3339(text) {
        return Some(aware.to_utc());
    }
    const AWARE: [&str; 4] = [
        "%Y-%m-%dT%H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%Y-%m-%dT%H:%M%#z",
        "%Y%m%dT%H%M%S%#z",
    ];
    const NAIVE: [&str; 4] =
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S"];
    AWARE
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok().map(|time| time.to_utc()))
        .or_else(|| {
            NAIVE
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .map(|naive| naive.and_utc())
        })
}

/// Writes an aware UTC time: microseconds present unless zero, offset `+00:00`.
pub fn format(time: DateTime<Utc>) -> String {
    let micros = time.timestamp_subsec_micros();
    let seconds = time.format("%Y-%m-%dT%H:%M:%S");
    if micros == 0 { format!("{seconds}+00:00") } else { format!("{seconds}.{micros:06}+00:00") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_instant_whatever_the_offset() {
        let expected = "2031-05-06T07:08:09.123456+00:00";
        for text in [
            "2031-05-06T07:08:09.123456+00:00",
            "2031-05-06T07:08:09.123456Z",
            "2031-05-06T12:38:09.123456+05:30",
            "2031-05-06T07:08:09.123456",
            "2031-05-06 07:08:09.123456",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn whole_seconds_are_written_without_a_fraction() {
        assert_eq!(
            parse("2031-05-06T07:08:09").map(format).as_deref(),
            Ok("2031-05-06T07:08:09+00:00")
        );
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        assert!(parse("2016-12-31T23:59:60Z").is_err());
        let error = parse("not-a-date").unwrap_err().to_string();
        assert!(error.starts_with("\"not-a-date\" is not an ISO 8601"), "{error}");
    }
}
