//! Private keys in the forms in which Python's `cryptography` writes them. The keys are made for
//! this test, and sign nothing else.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use secrecy::SecretString;
use tasks::jwt::{Algorithm, KeyError, SigningKey, VerificationKey};

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("keys_of_python/", $name, ".pem"))
    };
}

fn check(algorithm: Algorithm, private: &str, public: &str) {
    let password = SecretString::from("geheim");
    let key = SigningKey::from_pem(private, Some(&password)).unwrap();
    let public_key = VerificationKey::from_pem(public).unwrap();
    assert_eq!((key.algorithm(), public_key.algorithm()), (algorithm, algorithm));
    key.prove(&public_key).unwrap();
    assert_eq!(key.public_pem().unwrap(), public, "the same bytes as Python's");
}

#[test]
fn every_usual_form_is_read() {
    check(Algorithm::Es256, pem!("p256-pkcs8"), pem!("p256-public"));
    check(Algorithm::Es256, pem!("p256-traditional"), pem!("p256-public"));
    check(Algorithm::Es256, pem!("p256-encrypted"), pem!("p256-public"));
    check(Algorithm::Es384, pem!("p384-pkcs8"), pem!("p384-public"));
    check(Algorithm::Es384, pem!("p384-traditional"), pem!("p384-public"));
    check(Algorithm::Rs256, pem!("rsa2048-pkcs8"), pem!("rsa2048-public"));
    check(Algorithm::Rs256, pem!("rsa2048-traditional"), pem!("rsa2048-public"));
    check(Algorithm::Rs256, pem!("rsa2048-encrypted"), pem!("rsa2048-public"));
    check(Algorithm::Rs256, pem!("rsa4096-traditional"), pem!("rsa4096-public"));
}

#[test]
fn line_ends_of_other_systems_and_stray_blanks_are_read() {
    let private = format!("\n{}  \n", pem!("p256-pkcs8").replace('\n', "\r\n"));
    SigningKey::from_pem(&private, None).unwrap();
    VerificationKey::from_pem(&format!(" {}\n\n", pem!("rsa2048-public"))).unwrap();
}

#[test]
fn what_we_cannot_use_is_refused_with_its_reason() {
    let error = |pem| SigningKey::from_pem(pem, None).err();
    assert_eq!(error(pem!("p521-pkcs8")), Some(KeyError::PrivateContent));
    assert_eq!(error(pem!("p256-traditional-encrypted")), Some(KeyError::PrivateForm));
    assert_eq!(error(pem!("p256-encrypted")), Some(KeyError::PasswordMissing));
}
