//! Encrypts the private keys that a site has, or decrypts them.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::Serialize;
use shared_models::AnyConnection;

use crate::audit::{Action, Trail};
use crate::jwt::{KeyError, KeyRing, Record, SigningKey, VerificationKey};
use crate::{Caller, JwtAuth, JwtError, Mode, is_false};

/// The form that private keys are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Encrypted with `JWT_PRIVATE_KEY_PASSWORD`.
    Encrypted,
    /// Readable by everyone who reads the table.
    Plain,
}

/// What was converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversionReport {
    /// Whether all have the form now.
    pub success: bool,
    /// The `kid`s of those that were converted.
    pub converted: Vec<String>,
    /// How many had the form already.
    pub unchanged: usize,
    /// Those that could not be converted, and stay as they are.
    pub failed: Vec<FailedConversion>,
    /// Whether nothing was changed.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// A key pair that could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedConversion {
    /// Its `kid`.
    pub kid: String,
    /// Why.
    pub error: String,
}

/// Converts every private key to `form`, each in a transaction of its own: a run that was ended
/// can be repeated. What is stored is read back and proved before it replaces anything.
///
/// # Errors
///
/// [`JwtError::NoPassword`], and those of the database.
pub fn convert(
    jwt: &JwtAuth,
    now: DateTime<Utc>,
    form: Form,
    caller: Caller<'_>,
    mode: Mode,
) -> Result<ConversionReport, JwtError> {
    if jwt.settings.private_key_password.is_none() {
        return Err(JwtError::NoPassword);
    }
    let connection = &mut jwt.database.get()?;
    let layout = connection.layout;
    let ring = KeyRing::load(connection, &layout)?;
    let mut report = ConversionReport {
        success: true,
        converted: Vec::new(),
        unchanged: 0,
        failed: Vec::new(),
        dry_run: mode.is_dry_run(),
    };
    for record in &ring.records {
        let mut trail = Trail::new(caller, now);
        let converted = connection.exclusive_transaction(|connection| {
            convert_one(jwt, connection, record, form, mode, &mut trail)
        })?;
        trail.log();
        match converted {
            Ok(true) => report.converted.push(record.kid.clone()),
            Ok(false) => report.unchanged += 1,
            Err(error) => {
                report.success = false;
                let error = format!("the private key {error}");
                report.failed.push(FailedConversion { kid: record.kid.clone(), error });
            }
        }
    }
    Ok(report)
}

fn convert_one(
    jwt: &JwtAuth,
    connection: &mut AnyConnection,
    record: &Record,
    form: Form,
    mode: Mode,
    trail: &mut Trail<'_>,
) -> Result<Result<bool, KeyError>, JwtError> {
    let stored = record.pair.private_key_pem(connection)?;
    let before = stored.expose_secret();
    // A wiped one has every form.
    if before.is_empty() || SigningKey::is_encrypted(before) == (form == Form::Encrypted) {
        return Ok(Ok(false));
    }
    let password = jwt.settings.private_key_password.as_ref();
    let convert = || -> Result<_, KeyError> {
        let public = VerificationKey::from_pem(&record.pair.public_key_pem)?;
        let key = SigningKey::from_pem(before, password)?;
        key.prove(&public)?;
        let after = key.to_pem(password.filter(|_| form == Form::Encrypted))?;
        SigningKey::from_pem(&after, password)?.prove(&public)?;
        Ok(after)
    };
    let after = match convert() {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    if mode == Mode::Apply {
        record.pair.replace_private_key_pem(connection, before, &after)?;
        let action = match form {
            Form::Encrypted => Action::Encrypted,
            Form::Plain => Action::Decrypted,
        };
        trail.add(connection, action, &record.id(), &record.kid, "asked for");
    }
    Ok(Ok(true))
}
