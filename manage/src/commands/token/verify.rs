//! `token verify`: whether a token is accepted, and why not.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use settings::ExposeSecret;
use tasks::token::{Examination, Refusal, examine};

use super::input;
use crate::cli::TokenVerify;
use crate::failure::{Failure, exit};
use crate::report::{Report, bad, good};
use crate::session::Session;

/// Claims are told of a good token only: those of another are anybody's words.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    reasons: &'a [Refusal],
    kid: Option<&'a str>,
    claims: Option<Value>,
}

pub(super) fn run(
    session: &Session,
    arguments: &TokenVerify,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let token = input::read(&arguments.token)?;
    let examined = examine(&session.jwt()?, now, token.expose_secret(), &arguments.scopes)?;
    let verdict = Verdict {
        valid: examined.valid,
        reasons: &examined.reasons,
        kid: examined.keypair.as_ref().map(|keypair| keypair.kid.as_str()),
        claims: examined.claims.clone().filter(|_| examined.valid).map(Value::Object),
    };
    let mut report = Report::of(&verdict, lines(&examined))?;
    report.exit = if examined.valid { 0 } else { exit::REFUSED };
    Ok(report)
}

/// The verdict in words, each reason in a line.
pub(super) fn lines(examined: &Examination) -> Vec<String> {
    if examined.valid {
        return vec![good("valid") + &granted(examined)];
    }
    let mut lines = vec![bad("refused")];
    lines.extend(examined.reasons.iter().map(|reason| format!("  {reason} [{}]", reason.code())));
    lines
}

/// Whose a good token is, and what it permits.
fn granted(examined: &Examination) -> String {
    let claims = examined.claims.as_ref();
    let text = |name: &str| claims.and_then(|claims| claims.get(name)).map(Value::to_string);
    let (subject, scopes) = (text("sub"), text("scopes"));
    let subject = subject.map(|subject| format!(": subject {subject}")).unwrap_or_default();
    subject + &scopes.map(|scopes| format!(", scopes {scopes}")).unwrap_or_default()
}
