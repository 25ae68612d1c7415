//! Signs or verifies one token as a Rust service of the site would, with the key pairs as they are
//! in the table. Reads a request as JSON from standard input and writes the token or its claims.

use std::io::{self, Write};
use std::process::ExitCode;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use tasks::jwt::{self, KeyError, SigningKey, VerificationKey};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Sign { private_key_pem: String, password: Option<String>, kid: String, claims: Value },
    Verify { public_key_pem: String, token: String },
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the request cannot be read: {0}")]
    Request(#[source] serde_json::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("the answer cannot be written: {0}")]
    Output(#[from] io::Error),
}

fn main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done where even this cannot be written.
            let _ = writeln!(io::stderr(), "interop-tokens: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<(), Failure> {
    let answer = match serde_json::from_reader(io::stdin().lock()).map_err(Failure::Request)? {
        Request::Sign { private_key_pem, password, kid, claims } => {
            let password = password.map(SecretString::from);
            let key = SigningKey::from_pem(&private_key_pem, password.as_ref())?;
            sign(&key, kid, &claims)?
        }
        Request::Verify { public_key_pem, token } => {
            verify(&VerificationKey::from_pem(&public_key_pem)?, &public_key_pem, &token)?
                .to_string()
        }
    };
    writeln!(io::stdout(), "{answer}")?;
    Ok(())
}

fn sign(key: &SigningKey, kid: String, claims: &Value) -> Result<String, Failure> {
    let algorithm = in_jsonwebtoken(key.algorithm());
    let pem = key.to_pem(None)?;
    let signing_key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes())?,
        _ => EncodingKey::from_ec_pem(pem.as_bytes())?,
    };
    let header = Header { kid: Some(kid), ..Header::new(algorithm) };
    Ok(jsonwebtoken::encode(&header, claims, &signing_key)?)
}

fn verify(key: &VerificationKey, pem: &str, token: &str) -> Result<Value, Failure> {
    let algorithm = in_jsonwebtoken(key.algorithm());
    let decoding_key = match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes())?,
        _ => DecodingKey::from_ec_pem(pem.as_bytes())?,
    };
    Ok(jsonwebtoken::decode(token, &decoding_key, &Validation::new(algorithm))?.claims)
}

fn in_jsonwebtoken(algorithm: jwt::Algorithm) -> Algorithm {
    match algorithm {
        jwt::Algorithm::Rs256 => Algorithm::RS256,
        jwt::Algorithm::Es256 => Algorithm::ES256,
        jwt::Algorithm::Es384 => Algorithm::ES384,
    }
}
