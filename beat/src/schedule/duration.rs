//! Lengths of time as a person writes them: `90s`, `15m`, `1h30m`, `1d`, `250ms`.

use chrono::TimeDelta;

/// Milliseconds of each unit, greatest first.
const UNITS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longer than any schedule means; far from where sums of instants end.
const MOST: i64 = 100 * 366 * 86_400_000;

/// What is wrong with a text that should be a length of time, and the byte where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DurationError {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

/// Reads `1h30m`.
pub(crate) fn parse(text: &str) -> Result<TimeDelta, DurationError> {
    let error = |offset: usize, message: &str| DurationError {
        offset,
        message: format!("{message}: a length of time is written 90s, 15m, 6h, 1d, 250ms or 1h30m"),
    };
    let mut total: i64 = 0;
    let mut offset = 0;
    if text.is_empty() {
        return Err(error(0, "a length of time is missing here"));
    }
    while offset < text.len() {
        let rest = &text[offset..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: i64 = rest[..digits].parse().map_err(|_| error(offset, "no number here"))?;
        let unit = &rest[digits..digits + letters];
        let (_, length) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| error(offset + digits, &format!("{unit:?} is no unit")))?;
        total = number
            .checked_mul(*length)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MOST)
            .ok_or_else(|| error(offset, "longer than a hundred years"))?;
        offset += digits + letters;
    }
    Ok(TimeDelta::milliseconds(total))
}

/// Writes what [`parse`] reads; what is below a millisecond is left out.
pub(crate) fn format(length: TimeDelta) -> String {
    let mut rest = length.num_milliseconds();
    let mut text = String::new();
    for (name, unit) in UNITS {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["90s", "1d", "1h30m", "250ms", "1m500ms"] {
            let length = parse(text).unwrap();
            assert_eq!(parse(&format(length)).unwrap(), length, "{text}");
        }
        assert_eq!(format(TimeDelta::seconds(90)), "1m30s");
        assert_eq!(parse("1h30m").unwrap(), TimeDelta::minutes(90));
    }

    #[test]
    fn a_mistake_is_located() {
        for (text, offset) in [("", 0), ("5", 1), ("x", 0), ("1h5", 3), ("1h5q", 3), ("1h 5m", 2)] {
            assert_eq!(parse(text).unwrap_err().offset, offset, "{text:?}");
        }
        assert!(parse("99999999999999999999s").is_err());
        assert!(parse("40000d").is_err());
    }
}
