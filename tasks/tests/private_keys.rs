//! Private keys at rest.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use secrecy::{ExposeSecret, SecretString};
use shared_models::AuditEvent;
use site::{Backend, Site, day, start};
use tasks::convert_keys::{Form, convert};
use tasks::generate_jwt_health_report::{Severity, report};
use tasks::jwt::{Algorithm, SigningKey};
use tasks::rotate_jwt_keypairs::{Older, Request, Trigger, rotate};
use tasks::{Caller, JwtError, Mode};

on_both!(
    new_private_keys_are_encrypted_where_there_is_a_password,
    private_keys_are_converted_there_and_back,
    without_the_right_password_a_site_is_critical,
    no_rotation_makes_a_key_pair_that_the_site_cannot_open,
);

fn stored(site: &Site) -> Vec<SecretString> {
    let connection = &mut site.connection();
    site.key_pairs().iter().map(|pair| pair.private_key_pem(connection).unwrap()).collect()
}

fn password(text: &str) -> Option<SecretString> {
    Some(SecretString::from(text))
}

fn new_private_keys_are_encrypted_where_there_is_a_password(backend: Backend) {
    let site = Site::with(backend, |settings| settings.private_key_password = password("geheim"));
    site.rotate(start());
    let pem = &stored(&site)[0];
    assert!(pem.expose_secret().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert!(SigningKey::from_pem(pem.expose_secret(), password("geheim").as_ref()).is_ok());
}

fn private_keys_are_converted_there_and_back(backend: Backend) {
    let mut site = Site::new(backend);
    site.key_pair(start(), true);
    site.key_pair_of(Algorithm::Rs256, day(1), false);
    site.insert_key_pair("broken", "no key", "no key", day(2), false);
    let caller = Caller::Operator("ada");
    let refused = convert(&site.jwt, day(3), Form::Encrypted, caller, Mode::Apply);
    assert!(matches!(refused, Err(JwtError::NoPassword)));

    site.jwt.settings.private_key_password = password("geheim");
    let convert = |form, mode| convert(&site.jwt, day(3), form, caller, mode).unwrap();
    let before = stored(&site).iter().map(|pem| pem.expose_secret().to_owned()).collect::<Vec<_>>();
    assert_eq!(convert(Form::Encrypted, Mode::DryRun).converted.len(), 2);
    assert_eq!(stored(&site)[1].expose_secret(), before[1]);

    let report = convert(Form::Encrypted, Mode::Apply);
    assert!(!report.success);
    assert_eq!((report.converted.len(), report.failed.len()), (2, 1));
    assert_eq!(report.failed[0].kid, "broken");
    assert!(stored(&site)[1..].iter().all(|pem| SigningKey::is_encrypted(pem.expose_secret())));
    let again = convert(Form::Encrypted, Mode::Apply);
    assert_eq!((again.converted.len(), again.unchanged), (0, 2));

    assert_eq!(convert(Form::Plain, Mode::Apply).converted.len(), 2);
    let after: Vec<_> = stored(&site).iter().map(|pem| pem.expose_secret().to_owned()).collect();
    assert_eq!(after, before);
    let events = AuditEvent::newest(&mut site.connection(), 9).unwrap();
    assert_eq!(events.iter().filter(|event| event.action.contains("encrypted")).count(), 2);
}

fn without_the_right_password_a_site_is_critical(backend: Backend) {
    let mut site = Site::with(backend, |settings| settings.private_key_password = password("a"));
    site.rotate(start());
    for (wrong, words) in
        [(password("b"), "cannot be decrypted"), (None, "JWT_PRIVATE_KEY_PASSWORD is not set")]
    {
        site.jwt.settings.private_key_password = wrong;
        let report = report(&site.jwt, start()).unwrap();
        assert_eq!(report.severity, Severity::Critical);
        assert!(report.reasons[0].message.contains(words), "{:?}", report.reasons);
    }
}

fn no_rotation_makes_a_key_pair_that_the_site_cannot_open(backend: Backend) {
    let mut site = Site::with(backend, |settings| settings.private_key_password = password("a"));
    site.rotate(start());
    let caller = Caller::Task("weekly");
    for wrong in [password("b"), None] {
        site.jwt.settings.private_key_password = wrong;
        for trigger in [Trigger::IfDue, Trigger::Forced, Trigger::Added] {
            let request = Request { trigger, older: Older::Keep, caller };
            let refused = rotate(&site.jwt, day(40), request, Mode::Apply);
            assert!(matches!(refused, Err(JwtError::KeyPair { .. })), "{refused:?}");
        }
        assert_eq!(site.key_pairs().len(), 1);
        // What is not due needs no password.
        assert_eq!(site.rotate(day(1)).action, "rotation_not_needed");
    }
    // Whoever has lost the password begins anew.
    site.jwt.settings.private_key_password = password("b");
    site.call(day(40), Trigger::Forced, Older::RetireNow, caller);
    assert_eq!(report(&site.jwt, day(40)).unwrap().keypairs.active, 1);
    assert!(!stored(&site)[0].expose_secret().is_empty());
}
