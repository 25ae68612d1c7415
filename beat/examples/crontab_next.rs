//! Answers what the crontab parser makes of expressions: lets another implementation compare.
//!
//! Each line of standard input is a JSON array `[expression, zone, instant]`; each line of output
//! is the first slot after the instant, or `error: …`.

use std::error::Error;
use std::io::{BufRead, Write};

use beat::schedule::Crontab;
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no input")]
    Input(#[from] std::io::Error),
    #[error("not a JSON array of three strings")]
    Question(#[from] serde_json::Error),
}

fn main() -> Result<(), Failure> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let (expression, zone, last): (String, String, String) = serde_json::from_str(&line?)?;
        writeln!(output, "{}", answer(&expression, &zone, &last))?;
    }
    Ok(output.flush()?)
}

fn answer(expression: &str, zone: &str, last: &str) -> String {
    let error = |error: &dyn Error| format!("error: {error}");
    let crontab: Crontab = match expression.parse() {
        Ok(crontab) => crontab,
        Err(mistake) => return error(&mistake),
    };
    let zone: Tz = match zone.parse() {
        Ok(zone) => zone,
        Err(mistake) => return error(&mistake),
    };
    let last: DateTime<Utc> = match last.parse() {
        Ok(last) => last,
        Err(mistake) => return error(&mistake),
    };
    crontab
        .next_after(last, zone)
        .map_or_else(|| "never".to_owned(), |next| next.to_rfc3339_opts(SecondsFormat::Secs, true))
}
