//! One field of a crontab expression, in Celery's dialect.
//!
//! `expr ("," expr)*`, where `expr` is a number, a range or `*`, the last two with an optional
//! step. Ranges wrap around (`22-2`, `fri-mon`), steps count from the first value of the range
//! (`*/10` of the days is 1, 11, 21, 31), and numbers may be the names of months and weekdays, of
//! which the first three letters count. As in Celery, a step after a single number is refused.

/// Which of the five fields, with its bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// As an error message names it.
    pub(crate) name: &'static str,
    pub(crate) least: u8,
    pub(crate) most: u8,
}

pub(crate) const MINUTE: Field = Field { name: "minute", least: 0, most: 59 };
pub(crate) const HOUR: Field = Field { name: "hour", least: 0, most: 23 };
pub(crate) const DAY_OF_MONTH: Field = Field { name: "day of month", least: 1, most: 31 };
pub(crate) const MONTH: Field = Field { name: "month", least: 1, most: 12 };
/// Sunday is 0; 7 is refused, as Celery does.
pub(crate) const DAY_OF_WEEK: Field = Field { name: "day of week", least: 0, most: 6 };

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The values of a field, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Values(u64);

impl Values {
    pub(crate) fn contains(self, value: u32) -> bool {
        value < 64 && self.0 & (1 << value) != 0
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// In ascending order.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..64).filter(move |value| self.contains(*value))
    }

    fn insert(&mut self, value: u8) {
        self.0 |= 1 << value;
    }
}

/// A mistake in a field: where it begins, as an offset in bytes into the field, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

impl Field {
    /// Reads the values of this field from `text`.
    pub(crate) fn parse(self, text: &str) -> Result<Values, FieldError> {
        let mut values = Values::default();
        let mut offset = 0;
        for part in text.split(',') {
            let found = self.part(part).map_err(|error| FieldError {
                offset: offset + error.offset,
                message: error.message,
            })?;
            for value in found {
                values.insert(value);
            }
            offset += part.len() + 1;
        }
        Ok(values)
    }

    fn part(self, part: &str) -> Result<Vec<u8>, FieldError> {
        if part.is_empty() {
            let message = format!("a {} is missing here", self.name);
            return Err(FieldError { offset: 0, message });
        }
        let Some((range, step)) = part.split_once('/') else { return self.range(part) };
        if range != "*" && !range.contains('-') {
            return Err(FieldError {
                offset: range.len(),
                message: format!("a step needs a range or * before it, not {range:?}"),
            });
        }
        let values = self.range(range)?;
        let step = step.parse().ok().filter(|step| *step > 0).ok_or_else(|| FieldError {
            offset: range.len() + 1,
            message: format!("the step is {step:?}: it must be a whole number of at least 1"),
        })?;
        Ok(values.into_iter().step_by(step).collect())
    }

    fn range(self, range: &str) -> Result<Vec<u8>, FieldError> {
        if range == "*" {
            return Ok((self.least..=self.most).collect());
        }
        // A minus sign in front belongs to the number, and is refused there.
        let Some((first, last)) = range.split_once('-').filter(|(first, _)| !first.is_empty())
        else {
            return Ok(vec![self.number(range.trim(), 0)?]);
        };
        let (first, last) = (self.number(first, 0)?, self.number(last, first.len() + 1)?);
        if first <= last {
            return Ok((first..=last).collect());
        }
        Ok((first..=self.most).chain(self.least..=last).collect())
    }

    fn number(self, text: &str, offset: usize) -> Result<u8, FieldError> {
        let Self { name, least, most } = self;
        let number = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse::<u64>().ok()
        } else {
            named(text)
        };
        let number = number.and_then(|number| u8::try_from(number).ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| FieldError {
            offset,
            message: format!("{name} {text:?} is not from {least} to {most}"),
        })
    }
}

/// Names of months come before those of weekdays, in every field: Celery's rule.
fn named(text: &str) -> Option<u64> {
    let short = text.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == short);
    let weekday = WEEKDAYS.iter().zip(0..).find(|(name, _)| **name == short);
    month.or(weekday).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(field: Field, text: &str) -> Vec<u32> {
        field.parse(text).unwrap().iter().collect()
    }

    /// What Celery 5.7 makes of each field text: copied from its parser's answers.
    const CELERY: &str = include_str!("../../tests/crontab-semantics.json");

    #[test]
    fn fields_mean_what_they_mean_to_celery() {
        let golden: serde_json::Value = serde_json::from_str(CELERY).unwrap();
        let mut compared = 0;
        for (case, expected) in golden["parser"].as_object().unwrap() {
            let (field, text) = case.split_once(' ').unwrap();
            let field = match field {
                "minute" => MINUTE,
                "hour" => HOUR,
                "dom" => DAY_OF_MONTH,
                "month" => MONTH,
                "dow" => DAY_OF_WEEK,
                other => panic!("unknown field {other}"),
            };
            let ours = field.parse(text.trim_matches('\''));
            match expected.as_array() {
                Some(values) => {
                    let ours: Vec<u64> = ours.unwrap().iter().map(u64::from).collect();
                    let theirs: Vec<u64> = values.iter().map(|v| v.as_u64().unwrap()).collect();
                    assert_eq!(ours, theirs, "{case}");
                }
                None => assert!(ours.is_err(), "{case}: Celery refuses it: {expected}"),
            }
            compared += 1;
        }
        assert!(compared > 30, "only {compared} cases compared");
    }

    #[test]
    fn names_count_by_their_first_three_letters() {
        assert_eq!(parsed(DAY_OF_WEEK, "Sunday,WEDnesday"), [0, 3]);
        assert_eq!(parsed(MONTH, "january-march"), [1, 2, 3]);
    }

    #[test]
    fn what_follows_a_complete_range_is_refused() {
        // Celery reads each of these as if it ended before the rest.
        for text in ["1-5-7", "1-5/2/3", "*/2-5", "1-5 /2"] {
            assert!(MINUTE.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_located() {
        assert_eq!(
            MINUTE.parse("1,20-60").unwrap_err(),
            FieldError { offset: 5, message: "minute \"60\" is not from 0 to 59".to_owned() }
        );
        assert_eq!(MINUTE.parse("1,,2").unwrap_err().offset, 2);
        assert_eq!(MINUTE.parse("*/0").unwrap_err().offset, 2);
    }
}
