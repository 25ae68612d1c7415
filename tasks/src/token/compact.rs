//! The compact form of a signed token (RFC 7515, section 7.1), taken apart without trusting it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Refusal;
use crate::jwt::VerificationKey;

/// The parts of a token. Nothing of it is proved.
#[derive(Clone)]
pub(super) struct Compact<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart, as PyJWT does.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed;
        let (signed, signature) =
            token.rsplit_once('.').ok_or(malformed("it has no three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(malformed("it has no three parts"))?;
        let header = object(header).ok_or(malformed("its header is no JSON object"))?;
        let claims = object(claims).ok_or(malformed("its claims are no JSON object"))?;
        let signature = unpadded(signature)
            .filter(|text| URL_SAFE_NO_PAD.decode(text).is_ok())
            .ok_or(malformed("its signature is no base64url"))?;
        let compact = Self { header, claims, signed, signature };
        compact.check_critical()?;
        Ok(compact)
    }

    /// `b64` is the one extension that is understood, and only with the value that changes
    /// nothing: whoever knows the others must not be told that a token is good.
    fn check_critical(&self) -> Result<(), Refusal> {
        if self.header.get("b64") == Some(&Value::Bool(false)) {
            return Err(Refusal::Malformed("it does not carry its claims (b64)"));
        }
        match self.header.get("crit") {
            None => Ok(()),
            Some(Value::Array(names)) if !names.is_empty() => {
                names.iter().all(|name| name == "b64").then_some(()).ok_or(Refusal::Critical)
            }
            Some(_) => Err(Refusal::Critical),
        }
    }

    /// The name of the key that the token claims to be signed with.
    pub(super) fn kid(&self) -> Result<&str, Refusal> {
        match self.header.get("kid") {
            Some(Value::String(kid)) if !kid.is_empty() => Ok(kid),
            Some(Value::String(_)) | None => Err(Refusal::NoKid),
            Some(_) => Err(Refusal::Malformed("its kid is no text")),
        }
    }

    /// Whether `key` signed it. The algorithm is the key's; one that the header names otherwise is
    /// refused before anything is computed.
    pub(super) fn check_signature(&self, key: &VerificationKey) -> Result<(), Refusal> {
        let expected = key.algorithm().name();
        let claimed = self.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        if claimed != expected {
            // Printed, and not ours.
            let claimed = claimed.chars().filter(char::is_ascii_graphic).take(20).collect();
            return Err(Refusal::WrongAlgorithm { claimed, expected });
        }
        if key.accepts(self.signature, self.signed) { Ok(()) } else { Err(Refusal::BadSignature) }
    }
}

fn object(segment: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(unpadded(segment)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Some issuers pad to a multiple of four.
fn unpadded(segment: &str) -> Option<&str> {
    let text = segment.trim_end_matches('=');
    let padding = segment.len() - text.len();
    (padding == 0 || (padding <= 2 && segment.len().is_multiple_of(4))).then_some(text)
}
