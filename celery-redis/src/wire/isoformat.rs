//! Instants as Python's `datetime.isoformat()` writes them.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};

/// An `eta` or `expires` that is not ISO 8601.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an ISO 8601 date and time such as 2026-11-23T03:00:00+00:00")]
pub struct InvalidInstant {
    value: String,
}

/// A date and time as clocks show it somewhere; naive where it does not say where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime {
    /// What the clocks show.
    pub local: NaiveDateTime,
    /// How far they are ahead of UTC.
    pub offset: Option<UtcOffset>,
}

/// How far clocks are ahead of UTC: less than a day, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcOffset(TimeDelta);

impl UtcOffset {
    /// `None` for a day or more, which Python refuses too.
    pub fn new(ahead: TimeDelta) -> Option<Self> {
        (ahead.abs() < TimeDelta::days(1)).then_some(Self(ahead))
    }
}

/// `+05:30`, with seconds and microseconds where there are any.
impl fmt::Display for UtcOffset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < TimeDelta::zero() { '-' } else { '+' };
        let (seconds, micros) = (self.0.abs().num_seconds(), self.0.abs().subsec_micros());
        write!(formatter, "{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60)?;
        if seconds % 60 != 0 || micros != 0 {
            write!(formatter, ":{:02}", seconds % 60)?;
        }
        if micros != 0 { write!(formatter, ".{micros:06}") } else { Ok(()) }
    }
}

impl WallTime {
    /// The instant, if it is one of Python's years; a naive time is UTC (`celery.utils.time`).
    pub fn instant(self) -> Option<DateTime<Utc>> {
        let ahead = self.offset.map_or_else(TimeDelta::zero, |offset| offset.0);
        let utc = self.local.checked_sub_signed(ahead)?;
        (1..=9999).contains(&utc.year()).then(|| utc.and_utc())
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}T{}", self.local.date(), time(self.local.time()))?;
        self.offset.map_or(Ok(()), |offset| offset.fmt(formatter))
    }
}

/// Reads what Celery's producers send; a time without an offset is UTC (`celery.utils.time`).
///
/// A leap second is refused, as Python does: its `datetime` has none.
pub fn parse(text: &str) -> Result<DateTime<Utc>, InvalidInstant> {
    read(text).and_then(WallTime::instant).ok_or_else(|| InvalidInstant { value: text.to_owned() })
}

/// Reads a calendar date, and a time behind it if there is one; midnight otherwise.
pub fn read(text: &str) -> Option<WallTime> {
    let mut digits = Digits(text.as_bytes());
    let year = digits.take(4)?;
    let extended = digits.skip(b"-");
    let month = digits.take(2)?;
    if digits.skip(b"-") != extended {
        return None;
    }
    let day = digits.take(2)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
        .filter(|date| (1..=9999).contains(&date.year()))?;
    let Some((separator, rest)) = digits.0.split_first() else {
        return Some(WallTime { local: date.and_time(NaiveTime::MIN), offset: None });
    };
    if !matches!(separator, b'T' | b't' | b' ' | b'_') {
        return None;
    }
    let (time, offset) = read_clock(rest)?;
    Some(WallTime { local: date.and_time(time), offset })
}

/// Reads a time of day with or without an offset.
pub fn read_time(text: &str) -> Option<(NaiveTime, Option<UtcOffset>)> {
    read_clock(text.as_bytes())
}

fn read_clock(text: &[u8]) -> Option<(NaiveTime, Option<UtcOffset>)> {
    let at = text.iter().position(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    let (clock, offset) = text.split_at(at.unwrap_or(text.len()));
    let [hour, minute, second, micros] = read_units(clock)?;
    let time = NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?;
    let offset = match offset.split_first() {
        None => return Some((time, None)),
        Some((b'Z' | b'z', [])) => TimeDelta::zero(),
        Some((sign, units)) if matches!(sign, b'+' | b'-') => {
            let [hours, minutes, seconds, micros] = read_units(units)?;
            if minutes > 59 || seconds > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60 + seconds);
            let ahead = TimeDelta::seconds(seconds) + TimeDelta::microseconds(micros.into());
            if *sign == b'-' { -ahead } else { ahead }
        }
        Some(_) => return None,
    };
    Some((time, Some(UtcOffset::new(offset)?)))
}

/// Hours, minutes, seconds and microseconds, with colons or without; from the minutes on each may
/// be missing.
fn read_units(text: &[u8]) -> Option<[u32; 4]> {
    let mut digits = Digits(text);
    let mut units = [digits.take(2)?, 0, 0, 0];
    let extended = digits.0.first() == Some(&b':');
    for unit in &mut units[1..3] {
        if digits.0.is_empty() {
            return Some(units);
        }
        if digits.skip(b":") != extended {
            return None;
        }
        *unit = digits.take(2)?;
    }
    if digits.skip(b".,") {
        let places = digits.0.len().min(6);
        if places == 0 || !digits.0.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Python leaves out what is finer than a microsecond.
        units[3] = digits.take(places)? * 10_u32.pow(6 - u32::try_from(places).ok()?);
        return Some(units);
    }
    digits.0.is_empty().then_some(units)
}

/// What is left of a text of digits and what stands between them.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    /// The number that the next `count` characters are; at most nine.
    fn take(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
        })
    }

    /// Whether one of `characters` came next; it is behind us then.
    fn skip(&mut self, characters: &[u8]) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if characters.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }
}

/// Writes a time of day: microseconds present unless zero.
pub fn time(time: NaiveTime) -> String {
    let micros = time.format("%6f").to_string();
    let seconds = time.format("%H:%M:%S");
    if micros == "000000" { seconds.to_string() } else { format!("{seconds}.{micros}") }
}

/// Writes an aware UTC time: microseconds present unless zero, offset `+00:00`.
pub fn format(time: DateTime<Utc>) -> String {
    let year = time.year();
    let mut text = String::with_capacity("2031-05-06T07:08:09.123456+00:00".len());
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => push_number(&mut text, year, 4),
        // With a sign, as years of another length have it.
        _ => text.push_str(&time.format("%Y").to_string()),
    }
    for (before, part) in [
        ('-', time.month()),
        ('-', time.day()),
        ('T', time.hour()),
        (':', time.minute()),
        (':', time.second()),
    ] {
        text.push(before);
        push_number(&mut text, part, 2);
    }
    let micros = time.timestamp_subsec_micros();
    if micros != 0 {
        text.push('.');
        push_number(&mut text, micros, 6);
    }
    text.push_str("+00:00");
    text
}

/// A date is written for every result; chrono's formats are read anew each time, which takes longer
/// than all the rest of it.
fn push_number(text: &mut String, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        text.push(char::from_digit(number / 10_u32.pow(place) % 10, 10).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_as_its_format_says() {
        for seconds in (-100_000_000_000..400_000_000_000_i64).step_by(12_345_678_911) {
            for micros in [0, 1, 123_456, 999_999] {
                let time = DateTime::from_timestamp(seconds, micros * 1000).unwrap();
                let date = time.format("%Y-%m-%dT%H:%M:%S");
                let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
                assert_eq!(format(time), format!("{date}{fraction}+00:00"));
            }
        }
    }

    #[test]
    fn a_time_keeps_its_instant_whatever_the_offset() {
        let expected = "2031-05-06T07:08:09.123456+00:00";
        for text in [
            "2031-05-06T07:08:09.123456+00:00",
            "2031-05-06T07:08:09.123456Z",
            "2031-05-06T12:38:09.123456+05:30",
            "2031-05-06T12:38:09.123456+0530",
            "2031-05-06T08:08:09.123456+01",
            "2031-05-06T06:14:41.123456-00:53:28",
            "2031-05-05T07:08:10.123456-23:59:59.000000",
            "2031-05-06T07:08:09.123456",
            "2031-05-06T07:08:09.123456789",
            "2031-05-06 07:08:09.123456",
            "20310506T070809,123456Z",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_zero() {
        for (text, expected) in [
            ("2031-05-06T07:08:09", "2031-05-06T07:08:09+00:00"),
            ("2031-05-06T07:08", "2031-05-06T07:08:00+00:00"),
            ("2031-05-06T07", "2031-05-06T07:00:00+00:00"),
            ("2031-05-06", "2031-05-06T00:00:00+00:00"),
            ("20310506", "2031-05-06T00:00:00+00:00"),
            ("2031-05-06T07:08:09.5", "2031-05-06T07:08:09.500000+00:00"),
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31T24:00:01",
            "2016-13-31",
            "2016-1231",
            "2016-12-31T",
            "2016-12-31T23:5",
            "2016-12-31T23:59:59.",
            "2016-12-31T23:59:59Zulu",
            "2016-12-31T23:59:59+24:00",
            "2016-12-31T23:59:59+01:60",
            "0000-12-31T23:59:59",
            "0001-01-01T00:00:00+00:01",
            "\u{661}\u{662}",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("not-a-date").unwrap_err().to_string();
        assert!(error.starts_with("\"not-a-date\" is not an ISO 8601"), "{error}");
    }
}
