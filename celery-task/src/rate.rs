//! How often something may begin.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A rate as Celery writes it: `0.5/s`, `100/m`, `2/h` (`celery.utils.time.rate`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    count: f64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate; write a number above 0 with /s, /m or /h, such as 100/m")]
pub struct InvalidRate(String);

impl Rate {
    /// So many in a second; anything but a positive number counts as the slowest rate.
    pub fn per_second(count: f64) -> Self {
        Self { count, unit: Unit::Second }
    }

    /// So many in a minute.
    pub fn per_minute(count: f64) -> Self {
        Self { count, unit: Unit::Minute }
    }

    /// So many in an hour.
    pub fn per_hour(count: f64) -> Self {
        Self { count, unit: Unit::Hour }
    }

    /// The time between one beginning and the next, a year at most.
    pub fn interval(self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        let unit = match self.unit {
            Unit::Second => 1.0,
            Unit::Minute => 60.0,
            Unit::Hour => 3600.0,
        };
        Duration::try_from_secs_f64(unit / self.count).map_or(LONGEST, |time| time.min(LONGEST))
    }

    /// Reads a rate; `None` for the zero that means no limit.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidRate> {
        let invalid = || InvalidRate(text.to_owned());
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let unit = match unit.trim() {
            "s" | "" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(invalid()),
        };
        let count: f64 = count.trim().parse().map_err(|_| invalid())?;
        if !count.is_finite() || count < 0.0 {
            return Err(invalid());
        }
        Ok((count > 0.0).then_some(Self { count, unit }))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        Self::parse(text)?.ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(formatter, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_celery_reads_them() {
        for (text, interval) in
            [("10", 0.1), ("10/s", 0.1), ("0.5/s", 2.0), ("100/m", 0.6), ("2/h", 1800.0)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.interval(), Duration::from_secs_f64(interval), "{text}");
        }
        assert_eq!(Rate::parse("0"), Ok(None));
        assert_eq!(Rate::parse("0/m"), Ok(None));
    }

    #[test]
    fn what_is_no_rate_says_what_one_is() {
        for text in ["", "x", "-1/s", "10/d", "nan", "inf/s", "1/s/s"] {
            let error = Rate::parse(text).unwrap_err().to_string();
            assert!(error.ends_with("such as 100/m"), "{error}");
        }
    }

    #[test]
    fn a_rate_is_shown_as_it_was_written() {
        for text in ["100/m", "0.5/s", "2/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }
}
