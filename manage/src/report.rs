//! What a command has to say: one object for programs, the same in words for people.

use std::fmt::Display;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEADING: Style = Style::new().bold();

pub(crate) fn good(text: impl Display) -> String {
    format!("{GOOD}{text}{GOOD:#}")
}

pub(crate) fn warning(text: impl Display) -> String {
    format!("{WARNING}{text}{WARNING:#}")
}

pub(crate) fn bad(text: impl Display) -> String {
    format!("{BAD}{text}{BAD:#}")
}

pub(crate) fn heading(text: impl Display) -> String {
    format!("{HEADING}{text}{HEADING:#}")
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// One object in one line.
    Json,
    /// Lines for people.
    Text,
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Report {
    data: Value,
    lines: Vec<String>,
    /// 0 unless the command says something with its exit status.
    pub(crate) exit: u8,
}

impl Report {
    /// A report of `data`, which is a JSON object, told in `lines`.
    pub(crate) fn new(data: Value, lines: Vec<String>) -> Self {
        Self { data, lines, exit: 0 }
    }

    /// As [`Report::new`], of data that is not JSON yet.
    pub(crate) fn of(data: &impl Serialize, lines: Vec<String>) -> Result<Self, Failure> {
        Ok(Self::new(json(data)?, lines))
    }

    /// With a line above the others.
    pub(crate) fn headed(mut self, line: String) -> Self {
        self.lines.insert(0, line);
        self
    }

    /// Writes it to standard output; colours only where that is a terminal which wants them.
    pub(crate) fn write(&self, form: Output) -> Result<(), Failure> {
        let mut output = anstream::stdout().lock();
        if form == Output::Json {
            writeln!(output, "{}", self.data).map_err(Failure::Output)?;
        } else {
            for line in &self.lines {
                writeln!(output, "{line}").map_err(Failure::Output)?;
            }
        }
        output.flush().map_err(Failure::Output)
    }
}

/// A table whose first row is its heading; all columns but the first are numbers or short words.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if let Some(first) = lines.first_mut() {
        *first = heading(&first);
    }
    lines
}

/// `1 token`, `2 tokens`.
pub(crate) fn counted(number: impl Into<i128>, thing: &str) -> String {
    let number = number.into();
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Data as JSON.
pub(crate) fn json(data: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(data).map_err(|error| Failure::Output(error.into()))
}
