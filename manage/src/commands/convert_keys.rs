//! `encrypt-keys` and `decrypt-keys`: how private keys are stored.

use chrono::{DateTime, Utc};
use tasks::Caller;
use tasks::convert_keys::{ConversionReport, Form, convert};

use super::{mode, would};
use crate::cli::DryRun;
use crate::failure::{Failure, exit};
use crate::report::{Report, bad, counted, good};
use crate::session::Session;

pub(crate) fn run(
    session: &Session,
    form: Form,
    arguments: &DryRun,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let operator = session.operator()?;
    let mode = mode(arguments.dry_run);
    let done = convert(&session.jwt()?, now, form, Caller::Operator(&operator), mode)?;
    let mut report = Report::of(&done, lines(&done, form))?;
    if !done.success {
        report.exit = exit::WORK;
    }
    Ok(report)
}

fn lines(done: &ConversionReport, form: Form) -> Vec<String> {
    let (converted, state) = match form {
        Form::Encrypted => (would(done.dry_run, "Encrypted", "Would encrypt"), "encrypted"),
        Form::Plain => (would(done.dry_run, "Decrypted", "Would decrypt"), "not encrypted"),
    };
    let number = counted(done.converted.len() as u64, "private key");
    let mut lines = vec![
        good(format!("{converted} {number}")) + &format!("; {} {state} already", done.unchanged),
    ];
    lines.extend(done.converted.iter().map(|kid| format!("  {kid}")));
    lines.extend(done.failed.iter().map(|failed| {
        format!("{}: {}, and stays as it is", bad(format!("key pair {}", failed.kid)), failed.error)
    }));
    lines
}
