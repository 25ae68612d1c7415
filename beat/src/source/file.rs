//! `beat.toml`: entries in a file.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use crate::built_in::built_in;
use crate::entry::{Call, CatchUp, Entry, Misfire};
use crate::schedule::{Schedule, duration};

/// How many missed slots `misfire = "all"` sends where nothing else is said, and the most.
const DEFAULT_LIMIT: u32 = 100;
const MOST_LIMIT: u32 = 1000;
/// A longer file is read in parts.
const PART: usize = 64 * 1024;
/// As many slots are looked at to tell whether a jitter fits between them.
const SLOTS_COMPARED: usize = 100;

/// Why a file of entries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("beat file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("beat file {}:{line}:{column}: {message}", path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// The line of the mistake, counted from 1.
        line: usize,
        /// The column, in characters counted from 1.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    timezone: Option<Spanned<String>>,
    #[serde(default)]
    queue: Option<Spanned<String>>,
    #[serde(default)]
    built_in: Option<bool>,
    #[serde(default)]
    entries: BTreeMap<Spanned<String>, FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    task: Option<Spanned<String>>,
    args: Option<Spanned<Vec<toml::Value>>>,
    kwargs: Option<Spanned<toml::Table>>,
    queue: Option<Spanned<String>>,
    priority: Option<Spanned<i64>>,
    expires: Option<Spanned<Length>>,
    headers: Option<Spanned<toml::Table>>,
    schedule: Option<Spanned<String>>,
    timezone: Option<Spanned<String>>,
    misfire: Option<Spanned<String>>,
    misfire_limit: Option<Spanned<i64>>,
    deadline: Option<Spanned<Length>>,
    jitter: Option<Spanned<Length>>,
    enabled: Option<bool>,
}

/// A length of time: `"15m"`, or a number of seconds.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a length of time: \"90s\", \"15m\" or a number of seconds")]
enum Length {
    Text(String),
    Whole(i64),
    Seconds(f64),
}

/// A mistake at some bytes of the text.
struct Mistake {
    span: Range<usize>,
    message: String,
}

impl Mistake {
    fn at<T>(place: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { span: place.span(), message: message.into() }
    }
}

/// Reads the entries of the file at `path`, over the built-in ones; those that name no queue go to
/// `queue`.
///
/// # Errors
///
/// [`FileError`] with line and column.
pub(super) fn read(path: &Path, queue: &str) -> Result<Vec<Entry>, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(path, &text, queue)
}

/// As [`read`], of what is in the file.
///
/// # Errors
///
/// [`FileError::Mistake`] with line and column.
pub fn parse(path: &Path, text: &str, queue: &str) -> Result<Vec<Entry>, FileError> {
    let mistake = |span: Range<usize>, message: String| {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FileError::Mistake {
            path: path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
            message,
        }
    };
    if let Some(entries) = in_parts(text, queue) {
        return Ok(entries);
    }
    let file: File = toml::from_str(text)
        .map_err(|error| mistake(error.span().unwrap_or(0..0), error.message().to_owned()))?;
    whole(file, queue).map_err(|error| mistake(error.span, error.message))
}

fn whole(file: File, queue: &str) -> Result<Vec<Entry>, Mistake> {
    let mut reading = Reading::begin(&file, queue)?;
    for (name, described) in file.entries {
        reading.add(&name, described)?;
    }
    Ok(reading.finish())
}

/// Reads a large file in parts, each of which ends before the table of an entry: as a whole it
/// takes many times its length of memory. `None` where that cannot be done, or where something is
/// wrong: then the whole has to be read, which also says what.
fn in_parts(text: &str, queue: &str) -> Option<Vec<Entry>> {
    if text.len() <= PART {
        return None;
    }
    let (first, mut rest) = text.split_at(end_of_part(text));
    let file: File = toml::from_str(first).ok()?;
    let mut reading = Reading::begin(&file, queue).ok()?;
    reading.entries.reserve_exact(text.matches("\n[entries.").count());
    let mut names = HashSet::new();
    let mut entries = file.entries;
    loop {
        for (name, described) in entries {
            if !names.insert(name.get_ref().clone()) {
                return None;
            }
            reading.add(&name, described).ok()?;
        }
        if rest.is_empty() {
            return Some(reading.finish());
        }
        let (part, more) = rest.split_at(end_of_part(rest));
        entries = toml::from_str::<File>(part).ok()?.entries;
        rest = more;
    }
}

/// Where a part may end: before the first line after [`PART`] that begins the table of an entry.
fn end_of_part(text: &str) -> usize {
    let mut from = text.len().min(PART);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    while let Some(found) = text[from..].find("\n[entries.") {
        let line = from + found + 1;
        let header = text[line..].lines().next().unwrap_or_default();
        if header.matches('.').count() == 1 && header.ends_with(']') {
            return line;
        }
        from = line;
    }
    text.len()
}

/// The entries of a file while it is read.
struct Reading {
    zone: Tz,
    queue: String,
    /// The built-in ones that the file has not changed.
    built_in: Vec<Entry>,
    entries: Vec<Entry>,
}

impl Reading {
    /// Begins with what a file says before its entries.
    fn begin(file: &File, queue: &str) -> Result<Self, Mistake> {
        let queue = match &file.queue {
            Some(queue) => text(queue)?,
            None => queue.to_owned(),
        };
        let built_in = match file.built_in {
            Some(false) => Vec::new(),
            _ => built_in(&queue)
                .map_err(|error| Mistake { span: 0..0, message: error.to_string() })?,
        };
        Ok(Self {
            zone: file.timezone.as_ref().map(zone).transpose()?.unwrap_or(Tz::UTC),
            queue,
            built_in,
            entries: Vec::new(),
        })
    }

    fn add(&mut self, name: &Spanned<String>, described: FileEntry) -> Result<(), Mistake> {
        let known = self.built_in.iter().position(|entry| entry.name == *name.get_ref());
        let base = known.map(|position| self.built_in.remove(position));
        self.entries.push(described.entry(name, base.as_ref(), self.zone, &self.queue)?);
        Ok(())
    }

    fn finish(mut self) -> Vec<Entry> {
        self.entries.append(&mut self.built_in);
        self.entries
    }
}

impl FileEntry {
    /// The entry `name`; what it does not say is as in `base`.
    fn entry(
        self,
        name: &Spanned<String>,
        base: Option<&Entry>,
        zone_of_file: Tz,
        queue: &str,
    ) -> Result<Entry, Mistake> {
        text(name)?;
        let missing = |field: &str| {
            let entry = name.get_ref();
            Mistake::at(name, format!("the entry {entry:?} has no {field}"))
        };
        let zone = match &self.timezone {
            Some(named) => zone(named)?,
            None => base.map_or(zone_of_file, |base| base.schedule.zone()),
        };
        let schedule = match (&self.schedule, base) {
            (Some(written), _) => Schedule::parse(written.get_ref(), zone)
                .map_err(|error| Mistake::at(written, error.to_string()))?,
            (None, Some(base)) => Schedule::parse(&base.schedule.text(), zone)
                .map_err(|error| Mistake::at(name, error.to_string()))?,
            (None, None) => return Err(missing("schedule")),
        };
        let call = base.map(|base| base.call.clone());
        let mut entry = Entry::new(name.get_ref(), call.unwrap_or_default(), schedule);
        match &self.task {
            Some(task) => entry.call.task = text(task)?,
            None if base.is_none() => return Err(missing("task")),
            None => {}
        }
        match &self.queue {
            Some(queue) => entry.call.queue = text(queue)?,
            None if base.is_none() => entry.call.queue = queue.to_owned(),
            None => {}
        }
        self.call(&mut entry.call)?;
        entry.catch_up = self.catch_up()?;
        entry.jitter = self.jitter(&entry)?;
        entry.enabled = self.enabled.unwrap_or(true);
        Ok(entry)
    }

    fn call(&self, call: &mut Call) -> Result<(), Mistake> {
        if let Some(args) = &self.args {
            let json = args.get_ref().iter().map(json).collect::<Result<_, _>>();
            call.args = json.map_err(|message| Mistake::at(args, message))?;
        }
        if let Some(kwargs) = &self.kwargs {
            call.kwargs = object(kwargs)?;
        }
        if let Some(headers) = &self.headers {
            call.headers = object(headers)?;
        }
        if let Some(priority) = &self.priority {
            call.priority = *priority.get_ref();
            if !(0..=255).contains(&call.priority) {
                return Err(Mistake::at(priority, "the priority must be from 0 to 255"));
            }
        }
        if let Some(expires) = &self.expires {
            call.expires = Some(length(expires)?.as_seconds_f64());
        }
        Ok(())
    }

    fn catch_up(&self) -> Result<CatchUp, Mistake> {
        let limit = match &self.misfire_limit {
            None => DEFAULT_LIMIT,
            Some(limit) => u32::try_from(*limit.get_ref())
                .ok()
                .filter(|limit| (1..=MOST_LIMIT).contains(limit))
                .ok_or_else(|| {
                    Mistake::at(limit, format!("misfire_limit must be from 1 to {MOST_LIMIT}"))
                })?,
        };
        let misfire = match self.misfire.as_ref().map(|misfire| misfire.get_ref().as_str()) {
            None | Some("once") => Misfire::Once,
            Some("skip") => Misfire::Skip,
            Some("all") => Misfire::All { limit },
            Some(other) => {
                let message = format!("misfire is {other:?}: it must be once, skip or all");
                return Err(Mistake { span: span(self.misfire.as_ref()), message });
            }
        };
        if let (Some(limit), false) = (&self.misfire_limit, matches!(misfire, Misfire::All { .. }))
        {
            return Err(Mistake::at(limit, "misfire_limit needs misfire = \"all\""));
        }
        Ok(CatchUp { misfire, deadline: self.deadline.as_ref().map(length).transpose()? })
    }

    fn jitter(&self, entry: &Entry) -> Result<TimeDelta, Mistake> {
        let Some(written) = &self.jitter else { return Ok(TimeDelta::zero()) };
        let jitter = length(written)?;
        match shortest_gap(&entry.schedule) {
            Some(gap) if jitter > gap => {
                let gap = duration::format(gap);
                let message = format!(
                    "the jitter must not be longer than {gap}, the time between \
                                       two slots of {:?}",
                    entry.schedule.text()
                );
                Err(Mistake::at(written, message))
            }
            _ => Ok(jitter),
        }
    }
}

/// The shortest time between two of the first slots of a schedule.
fn shortest_gap(schedule: &Schedule) -> Option<TimeDelta> {
    let mut slot = schedule.next_after(chrono::DateTime::UNIX_EPOCH)?;
    let mut shortest: Option<TimeDelta> = None;
    for _ in 0..SLOTS_COMPARED {
        let Some(next) = schedule.next_after(slot) else { break };
        shortest = Some(shortest.map_or(next - slot, |gap| gap.min(next - slot)));
        slot = next;
    }
    shortest
}

fn span<T>(place: Option<&Spanned<T>>) -> Range<usize> {
    place.map_or(0..0, Spanned::span)
}

fn text(written: &Spanned<String>) -> Result<String, Mistake> {
    let text = written.get_ref();
    if text.trim().is_empty() || text.trim().len() < text.len() {
        return Err(Mistake::at(written, "it must be a name, without spaces around it"));
    }
    Ok(text.clone())
}

fn zone(written: &Spanned<String>) -> Result<Tz, Mistake> {
    let name = written.get_ref();
    name.parse().map_err(|_| {
        let message = format!("{name:?} is no time zone: it must be one such as Europe/Berlin");
        Mistake::at(written, message)
    })
}

fn length(written: &Spanned<Length>) -> Result<TimeDelta, Mistake> {
    let milliseconds = |seconds: f64| {
        #[allow(clippy::cast_possible_truncation, reason = "a float saturates, and is refused")]
        TimeDelta::try_milliseconds((seconds * 1000.0).round() as i64)
    };
    let length = match written.get_ref() {
        Length::Text(text) => duration::parse(text)
            .map_err(|error| Mistake::at(written, format!("{text:?}: {}", error.message)))
            .map(Some)?,
        Length::Whole(seconds) => TimeDelta::try_seconds(*seconds),
        Length::Seconds(seconds) => milliseconds(*seconds),
    };
    let century = TimeDelta::days(36_600);
    length
        .filter(|length| *length > TimeDelta::zero() && *length <= century)
        .ok_or_else(|| Mistake::at(written, "it must be longer than no time, and no century"))
}

fn object(table: &Spanned<toml::Table>) -> Result<Map<String, Value>, Mistake> {
    let pairs = table.get_ref().iter().map(|(name, value)| Ok((name.clone(), json(value)?)));
    pairs.collect::<Result<_, String>>().map_err(|message| Mistake::at(table, message))
}

fn json(value: &toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is no number in JSON"))?,
        toml::Value::Boolean(truth) => Value::from(*truth),
        toml::Value::Datetime(date) => {
            return Err(format!("{date} is a date, which JSON has not: write it as a string"));
        }
        toml::Value::Array(values) => {
            Value::Array(values.iter().map(json).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| Ok((name.clone(), json(value)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Entry> {
        parse(Path::new("beat.toml"), text, "celery").unwrap()
    }

    fn error(text: &str) -> String {
        parse(Path::new("beat.toml"), text, "celery").unwrap_err().to_string()
    }

    fn named<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    #[test]
    fn an_entry_says_everything_that_celerys_does() {
        let entries = parsed(
            r#"
            timezone = "Europe/Berlin"

            [entries.nightly]
            task = "reports.build"
            args = [1, "x", { deep = [true, 0.5] }]
            kwargs = { full = true }
            queue = "reports"
            priority = 3
            expires = "1h30m"
            headers = { origin = "beat" }
            schedule = "30 2 * * mon-fri"
            misfire = "all"
            misfire_limit = 5
            deadline = 7200
            jitter = "10m"
            enabled = false

            [entries.often]
            task = "ping"
            schedule = "every 15s"
            timezone = "Asia/Kolkata"
            "#,
        );

        let nightly = named(&entries, "nightly");
        assert_eq!(nightly.schedule.to_string(), "30 2 * * mon-fri Europe/Berlin");
        assert_eq!(
            nightly.call.args,
            serde_json::json!([1, "x", {"deep": [true, 0.5]}]).as_array().unwrap()[..]
        );
        assert_eq!(nightly.call.kwargs["full"], true);
        assert_eq!((nightly.call.queue.as_str(), nightly.call.priority), ("reports", 3));
        assert_eq!(nightly.call.expires, Some(5400.0));
        assert_eq!(nightly.call.headers["origin"], "beat");
        assert_eq!(nightly.catch_up.misfire, Misfire::All { limit: 5 });
        assert_eq!(nightly.catch_up.deadline, Some(TimeDelta::hours(2)));
        assert_eq!(nightly.jitter, TimeDelta::minutes(10));
        assert!(!nightly.enabled);
        assert_eq!(named(&entries, "often").call.queue, "celery");
        assert_eq!(entries.len(), 7, "the built-in ones are there too");
    }

    #[test]
    fn built_in_entries_can_be_changed_switched_off_and_left_out() {
        let entries = parsed(
            r#"
            queue = "jwt"
            [entries.rotate-keypairs]
            schedule = "0 2 * * *"
            timezone = "Europe/Berlin"
            [entries.health-report]
            enabled = false
            "#,
        );

        assert_eq!(entries.len(), 5);
        let rotate = named(&entries, "rotate-keypairs");
        assert_eq!(rotate.schedule.to_string(), "0 2 * * * Europe/Berlin");
        assert_eq!(rotate.call.task, "jwt_auth.tasks.rotate_jwt_keypairs");
        assert_eq!(rotate.call.queue, "jwt");
        assert!(!named(&entries, "health-report").enabled);
        assert_eq!(parsed("built_in = false").len(), 0);
    }

    #[test]
    fn a_large_file_is_read_as_a_small_one_is() {
        use std::fmt::Write;

        let mut text = "timezone = 'Asia/Tokyo'\nqueue = 'q'\n".to_owned();
        for number in 0..5000 {
            writeln!(text, "[entries.e{number}]\ntask = 't'\nschedule = '{} 3 * * *'", number % 60)
                .unwrap();
            if number % 3 == 0 {
                writeln!(text, "[entries.e{number}.kwargs]\nnumber = {number}").unwrap();
            }
        }
        text += "[entries.health-report]\nenabled = false\n";
        let in_parts = |text: &str| in_parts(text, "celery");
        let whole = |text: &str| whole(toml::from_str(text).unwrap(), "celery").map_err(|_| ());
        let sorted = |mut entries: Vec<Entry>| {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries
        };

        assert_eq!(sorted(in_parts(&text).unwrap()), sorted(whole(&text).unwrap()));
        assert_eq!(parsed(&text).len(), 5005);
        // What looks like the beginning of an entry, and is none.
        let padding = "x".repeat(PART);
        let quoted = format!(
            "[entries.a]\ntask = 't'\nschedule = 'every 5m'\nargs = ['{padding}', \"\"\"\n[entries.b]\n\"\"\"]\n"
        );
        assert_eq!(in_parts(&quoted), None);
        assert_eq!(parsed(&quoted).len(), 6);
        // Mistakes keep their lines.
        let twice = format!("{text}[entries.e7]\ntask = 't'\nschedule = 'every 5m'\n");
        let line = twice.lines().count() - 2;
        assert!(error(&twice).contains(&format!("beat.toml:{line}:")), "{}", error(&twice));
        let wrong = text.replace("'59 3 * * *'", "'61 3 * * *'");
        assert!(error(&wrong).contains("minute \"61\" is not from 0 to 59"));
    }

    #[test]
    fn a_mistake_names_its_place_and_what_would_be_right() {
        let entry = |line: &str| error(&format!("[entries.x]\ntask = 't'\n{line}\n"));

        assert_eq!(
            entry("schedule = '0 3,25 * * *'"),
            "beat file beat.toml:3:12: schedule \"0 3,25 * * *\", column 5: hour \"25\" is not \
             from 0 to 23"
        );
        assert!(entry("schedul = 'x'").contains("beat.toml:3:1: unknown field `schedul`"));
        assert!(entry("").contains("beat.toml:1:10: the entry \"x\" has no schedule"));
        let rest = [
            ("timezone = 'Berlin'", ":4:12: \"Berlin\" is no time zone"),
            ("misfire = 'never'", ":4:11: misfire is \"never\": it must be once, skip or all"),
            ("misfire_limit = 3", ":4:17: misfire_limit needs"),
            ("priority = 256", ":4:12: the priority must be from 0 to 255"),
            ("deadline = 'soon'", ":4:12: \"soon\": no number here"),
            ("expires = 0", ":4:11: it must be longer than no time"),
            ("expires = true", ":4:11: expected a length of time"),
            ("jitter = '2m'", ":4:10: the jitter must not be longer than 1m"),
            ("args = [2026-01-01]", ":4:8: 2026-01-01 is a date"),
            ("queue = ''", ":4:9: it must be a name"),
            ("args = 1", ":4:8: invalid type"),
        ];
        for (line, expected) in rest {
            let found = entry(&format!("schedule = '* * * * *'\n{line}"));
            assert!(found.contains(expected), "{line}: {found}");
        }
        assert!(error("[entries.x]\nschedule = 'every 5m'").contains("has no task"));
        assert!(error("[entries.x\n").contains("beat.toml:1:"));
    }
}
