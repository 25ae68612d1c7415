//! What a scalar stands for: the types that `PyYAML`'s resolver finds in plain text.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{NaiveDate, NaiveTime, TimeDelta};

use crate::wire::isoformat::{UtcOffset, WallTime};

#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// Decimal digits with their sign, without leading zeros.
    Integer(String),
    Float(f64),
    /// The text itself.
    Text,
    Bytes(Vec<u8>),
    DateTime(WallTime),
    Date(NaiveDate),
    /// `<<`, which merges mappings.
    Merge,
}

/// The value of a plain scalar; `None` for one that looks like a date and is none.
pub(super) fn resolve(text: &str) -> Option<Scalar> {
    match text.bytes().next() {
        None => Some(Scalar::Null),
        Some(b'~' | b'n' | b'N' | b'y' | b'Y' | b't' | b'T' | b'f' | b'F' | b'o' | b'O') => {
            Some(null(text).or_else(|| boolean(text)).unwrap_or(Scalar::Text))
        }
        Some(b'<') if text == "<<" => Some(Scalar::Merge),
        Some(b'-' | b'+' | b'.' | b'0'..=b'9') => {
            if let Some(number) = integer(text).or_else(|| float(text)) {
                return Some(number);
            }
            match Timestamp::split(text) {
                Some(timestamp) => timestamp.value(),
                None => Some(Scalar::Text),
            }
        }
        Some(_) => Some(Scalar::Text),
    }
}

/// The value of a scalar with one of YAML's own tags; `None` where it is of another type.
pub(super) fn tagged(name: &str, text: &str) -> Option<Scalar> {
    match name {
        "null" => Some(Scalar::Null),
        "bool" => boolean(text),
        "int" => integer(text),
        "float" => float(text).or_else(|| match integer(text)? {
            Scalar::Integer(digits) => digits.parse().ok().map(Scalar::Float),
            _ => None,
        }),
        "binary" => {
            let text: String = text.split_ascii_whitespace().collect();
            STANDARD.decode(text).ok().map(Scalar::Bytes)
        }
        "timestamp" => Timestamp::split(text)?.value(),
        _ => None,
    }
}

fn null(text: &str) -> Option<Scalar> {
    matches!(text, "~" | "null" | "Null" | "NULL").then_some(Scalar::Null)
}

fn boolean(text: &str) -> Option<Scalar> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Scalar::Bool(true))
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Scalar::Bool(false))
        }
        _ => None,
    }
}

/// Decimal, octal with a zero in front, `0x`, `0b`, and base 60 with colons; underscores anywhere
/// behind the first digit.
fn integer(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let without = |digits: &str| digits.replace('_', "");
    let magnitude = if unsigned == "0" {
        "0".to_owned()
    } else if let Some(digits) = unsigned.strip_prefix("0b") {
        u128::from_str_radix(&without(digits), 2).ok()?.to_string()
    } else if let Some(digits) = unsigned.strip_prefix("0x") {
        u128::from_str_radix(&without(digits), 16).ok()?.to_string()
    } else if let Some(digits) = unsigned.strip_prefix('0') {
        u128::from_str_radix(&without(digits), 8).ok()?.to_string()
    } else if unsigned.contains(':') {
        base_60(unsigned)?.to_string()
    } else {
        let is_number = unsigned.starts_with(|first: char| first.is_ascii_digit())
            && unsigned.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        is_number.then(|| without(unsigned))?
    };
    // Signs inside, which `from_str_radix` takes, are none of YAML's.
    if unsigned.contains(['+', '-']) {
        return None;
    }
    Some(Scalar::Integer(if magnitude == "0" { magnitude } else { format!("{sign}{magnitude}") }))
}

/// `1:30:00` is 5400; each part behind the first is below sixty.
fn base_60(text: &str) -> Option<u128> {
    let mut parts = text.split(':');
    let first = parts.next().filter(|first| !first.is_empty() && !first.starts_with('_'))?;
    let first: u128 = first.replace('_', "").parse().ok()?;
    parts.try_fold(first, |value, part| {
        let part = sixtieth(part)?;
        value.checked_mul(60)?.checked_add(part.into())
    })
}

fn sixtieth(part: &str) -> Option<u8> {
    let digits = part.len() <= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| part.parse().ok()).flatten().filter(|part| *part < 60)
}

/// With a point always; the exponent has a sign.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(Scalar::Float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if unsigned == text => return Some(Scalar::Float(f64::NAN)),
        _ => {}
    }
    let (whole, rest) = unsigned.split_once('.')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if let Some((sixties, last)) = whole.rsplit_once(':') {
        if !is_digits(rest) {
            return None;
        }
        let fraction: f64 = format!("0.{}0", rest.replace('_', "")).parse().ok()?;
        let whole = format!("{sixties}:{last}");
        #[allow(clippy::cast_precision_loss, reason = "as Python's float of each part")]
        return base_60(&whole).map(|whole| Scalar::Float(sign * (whole as f64 + fraction)));
    }
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let is_exponent = |text: &str| {
        text.strip_prefix(['+', '-']).is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let begins_with_a_digit = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let is_float = is_digits(whole)
        && is_digits(fraction)
        && exponent.is_none_or(is_exponent)
        && (begins_with_a_digit(whole)
            || (whole.is_empty() && unsigned == text && begins_with_a_digit(fraction)));
    let number: Cow<'_, str> = unsigned.replace('_', "").into();
    is_float.then(|| number.parse().ok().map(|value: f64| Scalar::Float(sign * value))).flatten()
}

/// The parts of what looks like a date, with or without a time.
struct Timestamp<'a> {
    date: [&'a str; 3],
    clock: Option<Clock<'a>>,
}

struct Clock<'a> {
    units: [&'a str; 3],
    fraction: &'a str,
    zone: &'a str,
}

impl<'a> Timestamp<'a> {
    /// `2020-01-02`, or with one or two digits and a time behind `T` or blanks.
    fn split(text: &'a str) -> Option<Self> {
        let (year, rest) = text.split_once('-')?;
        let (month, rest) = rest.split_once('-')?;
        let (day, rest) = digits(rest, 2)?;
        let is_number = |text: &str, lengths: [usize; 2]| {
            lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(year, [4, 4]) || !is_number(month, [1, 2]) {
            return None;
        }
        let date = [year, month, day];
        if rest.is_empty() {
            let is_date = month.len() == 2 && day.len() == 2;
            return is_date.then_some(Self { date, clock: None });
        }
        let time = match rest.strip_prefix(['T', 't']) {
            Some(time) => time,
            None => rest.strip_prefix([' ', '\t'])?.trim_start_matches([' ', '\t']),
        };
        Some(Self { date, clock: Some(Clock::split(time)?) })
    }

    fn value(&self) -> Option<Scalar> {
        let [year, month, day] = self.date;
        let date = NaiveDate::from_ymd_opt(
            year.parse().ok().filter(|year| *year > 0)?,
            month.parse().ok()?,
            day.parse().ok()?,
        )?;
        let Some(clock) = &self.clock else { return Some(Scalar::Date(date)) };
        let [hour, minute, second] = clock.units;
        let micros: String = clock.fraction.chars().chain("000000".chars()).take(6).collect();
        let time = NaiveTime::from_hms_micro_opt(
            hour.parse().ok()?,
            minute.parse().ok()?,
            second.parse().ok()?,
            micros.parse().ok()?,
        )?;
        let offset = match clock.zone {
            "" => None,
            zone => Some(offset(zone)?),
        };
        Some(Scalar::DateTime(WallTime { local: date.and_time(time), offset }))
    }
}

impl<'a> Clock<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let (hour, rest) = digits(text, 2)?;
        let (minute, rest) = rest.strip_prefix(':')?.split_at_checked(2)?;
        let (second, rest) = rest.strip_prefix(':')?.split_at_checked(2)?;
        let both = [minute, second].concat();
        if !both.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest
                .split_at(rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let zone = rest.trim_start_matches([' ', '\t']);
        // Blanks are part of a zone only.
        if zone.is_empty() && !rest.is_empty() {
            return None;
        }
        let is_zone = zone.is_empty() || zone == "Z" || zone_units(zone).is_some();
        is_zone.then_some(Self { units: [hour, minute, second], fraction, zone })
    }
}

/// One to `most` digits, and what follows them.
fn digits(text: &str, most: usize) -> Option<(&str, &str)> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (count > 0).then(|| text.split_at(count))
}

/// Sign, hours and minutes of a zone.
fn zone_units(zone: &str) -> Option<(i64, i64, i64)> {
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits(zone.strip_prefix(['+', '-'])?, 2)?;
    let minutes = match rest {
        "" => 0,
        rest => {
            let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
            (minutes.len() == 2 && rest.is_empty()).then(|| minutes.parse().ok()).flatten()?
        }
    };
    Some((sign, hours.parse().ok()?, minutes))
}

fn offset(zone: &str) -> Option<UtcOffset> {
    if zone == "Z" {
        return UtcOffset::new(TimeDelta::zero());
    }
    let (sign, hours, minutes) = zone_units(zone)?;
    UtcOffset::new(TimeDelta::minutes(sign * (hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_yaml_1_1() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("+12", "12"),
            ("-1_000", "-1000"),
            ("010", "8"),
            ("0x_1F", "31"),
            ("0b1_01", "5"),
            ("-1:30:00", "-5400"),
            (
                "123456789012345678901234567890123456789012",
                "123456789012345678901234567890123456789012",
            ),
        ] {
            assert_eq!(resolve(text), Some(Scalar::Integer(expected.to_owned())), "{text}");
        }
        for (text, expected) in [
            ("1.", 1.0),
            ("-.inf", f64::NEG_INFINITY),
            (".5", 0.5),
            ("1.0e+16", 1e16),
            ("-1_0.5e-1", -1.05),
            ("1:30.5", 90.5),
        ] {
            assert_eq!(resolve(text), Some(Scalar::Float(expected)), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_something_is_text() {
        for text in [
            "09",
            "1e5",
            "1.0e5",
            "-.5",
            "+.nan",
            "1:60",
            "0x",
            "-",
            "+",
            ".",
            "1-2",
            "y",
            "nope",
            "2020-1-2",
            "2020-01-02T03",
            "2020-01-02 03:04:05 ",
            "1__",
            "0b2",
            "0x-1",
            "_1",
            "=",
            "2020-01-02 03:04:05+5:3",
            "1:",
            "::",
            "-+1",
        ] {
            let expected =
                if text == "1__" { Scalar::Integer("1".to_owned()) } else { Scalar::Text };
            assert_eq!(resolve(text), Some(expected), "{text}");
        }
        assert_eq!(resolve("2020-13-02"), None);
    }
}
