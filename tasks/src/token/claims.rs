//! What the claims of a token have to say, as the site's Python asks it of them.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Refusal;
use crate::{JwtSettings, isoformat};

/// Everything that is wrong with the claims at `now`.
pub(super) fn refusals(
    claims: &Map<String, Value>,
    settings: &JwtSettings,
    now: DateTime<Utc>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for name in ["exp", "iat", "jti", "sub"] {
        if !has(claims, name) {
            refusals.push(Refusal::Missing(name));
        }
    }
    for name in ["iat", "nbf"] {
        match time(claims, name) {
            Some(Ok(at)) if at > now => refusals.push(Refusal::NotYetValid(name, isoformat(at))),
            Some(Err(refusal)) => refusals.push(refusal),
            Some(Ok(_)) | None => {}
        }
    }
    match time(claims, "exp") {
        Some(Ok(at)) if at <= now => refusals.push(Refusal::Expired(isoformat(at))),
        Some(Err(refusal)) => refusals.push(refusal),
        Some(Ok(_)) | None => {}
    }
    refusals.extend(issuer(claims, settings));
    refusals.extend(audience(claims, settings));
    for name in ["sub", "jti"] {
        if has(claims, name) && !claims[name].is_string() {
            refusals.push(Refusal::WrongType(name, "a text"));
        }
    }
    refusals
}

/// What the token permits.
pub(super) fn scopes(claims: &Map<String, Value>) -> Vec<&str> {
    let scopes = claims.get("scopes").and_then(Value::as_array);
    scopes.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A claim that is a time; an error where it is none.
pub(super) fn time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Option<Result<DateTime<Utc>, Refusal>> {
    let value = claims.get(name).filter(|value| !value.is_null())?;
    let seconds = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(yes) => Some(i64::from(*yes)),
        _ => None,
    };
    Some(match seconds {
        // A time beyond the calendar is as far away as the calendar goes.
        Some(seconds) => Ok(DateTime::from_timestamp(seconds, 0).unwrap_or(if seconds < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })),
        None => Err(Refusal::WrongType(name, "a number of seconds")),
    })
}

#[allow(clippy::cast_possible_truncation, reason = "a float's `as` saturates, which is wanted")]
fn whole(seconds: f64) -> Option<i64> {
    seconds.is_finite().then_some(seconds.trunc() as i64)
}

fn issuer(claims: &Map<String, Value>, settings: &JwtSettings) -> Option<Refusal> {
    let ours = settings.issuer.as_deref()?;
    match claims.get("iss") {
        None | Some(Value::Null) => Some(Refusal::Missing("iss")),
        Some(Value::String(issuer)) if issuer == ours => None,
        Some(_) => Some(Refusal::WrongIssuer),
    }
}

fn audience(claims: &Map<String, Value>, settings: &JwtSettings) -> Option<Refusal> {
    let given = claims.get("aud").filter(|value| !is_empty(value));
    match (settings.audience.as_deref(), given) {
        (None, None) => None,
        (None, Some(_)) => Some(Refusal::UnexpectedAudience),
        (Some(_), None) => Some(Refusal::Missing("aud")),
        (Some(ours), Some(Value::String(one))) => (one != ours).then_some(Refusal::WrongAudience),
        (Some(ours), Some(Value::Array(many))) => {
            let fits = many.iter().all(Value::is_string) && many.iter().any(|one| one == ours);
            (!fits).then_some(Refusal::WrongAudience)
        }
        (Some(_), Some(_)) => Some(Refusal::WrongAudience),
    }
}

/// What Python takes for false.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn has(claims: &Map<String, Value>, name: &str) -> bool {
    claims.get(name).is_some_and(|value| !value.is_null())
}
