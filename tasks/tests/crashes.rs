//! Everything that changes something, killed at each of its statements and done again: the end is
//! the same as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::ops::ControlFlow;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use shared_models::{AuditEvent, KeyState, NewToken, Scope};
use site::crash::{self, killed_after};
use site::{Backend, Site, day, new_token, start};
use tasks::cleanup_expired_tokens::clean_up;
use tasks::cleanup_inactive_keypairs::delete_inactive;
use tasks::convert_keys::{Form, convert};
use tasks::initialize_jwt_scopes::initialize;
use tasks::jwt::SigningKey;
use tasks::rotate_jwt_keypairs::{Older, Trigger};
use tasks::token::{Order, Target, issue, revoke};
use tasks::{Caller, JwtSettings, Mode, RetiredPrivateKeys};

on_both!(
    a_rotation_that_is_due,
    a_forced_rotation_that_retires_and_wipes,
    a_publication_ahead,
    the_activation_of_what_was_published,
    the_default_scopes,
    the_cleanup_of_tokens,
    the_cleanup_of_key_pairs,
    the_encryption_of_private_keys,
    issuing_and_revoking_a_token,
);

/// What can be seen of a site, without what is random in it.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Newest first: whether it is active, whether its private half is there and encrypted.
    key_pairs: Vec<(bool, bool, bool)>,
    created_at: Vec<DateTime<Utc>>,
    states: Vec<(bool, bool, bool, bool)>,
    tokens: Vec<(bool, Option<DateTime<Utc>>)>,
    scopes: usize,
    events: Vec<String>,
}

fn seen(site: &Site) -> Seen {
    let connection = &mut site.connection();
    let key_pairs = site.key_pairs();
    let pem = |pair: &shared_models::KeyPair, connection: &mut _| {
        let pem = pair.private_key_pem(connection).unwrap();
        (!pem.expose_secret().is_empty(), SigningKey::is_encrypted(pem.expose_secret()))
    };
    let mut states: Vec<_> = KeyState::all(connection)
        .unwrap()
        .into_iter()
        .map(|state| {
            (
                state.is_pending,
                state.is_withdrawn,
                state.superseded_at.is_some(),
                state.retired_at.is_some(),
            )
        })
        .collect();
    states.sort_unstable();
    Seen {
        created_at: key_pairs.iter().map(|pair| pair.created_at.into()).collect(),
        key_pairs: key_pairs
            .iter()
            .map(|pair| {
                let (there, encrypted) = pem(pair, &mut *connection);
                (pair.is_active, there, encrypted)
            })
            .collect(),
        states,
        tokens: site
            .tokens()
            .iter()
            .map(|token| (token.is_revoked, token.revoked_at.map(Into::into)))
            .collect(),
        scopes: Scope::all(connection).unwrap().len(),
        events: AuditEvent::newest(connection, 99)
            .unwrap()
            .into_iter()
            .map(|event| event.action)
            .collect(),
    }
}

/// How far `work` gets in one piece.
#[derive(Clone, Copy, PartialEq)]
enum Steps {
    /// All of it, or nothing.
    One,
    /// Each step stays done, and doing it again goes on from there.
    Many,
}

/// Kills `work` at every instant, and does it again.
fn at_every_instant(
    backend: Backend,
    steps: Steps,
    settings: impl Fn(&mut JwtSettings),
    prepare: impl Fn(&Site),
    work: impl Fn(&Site),
) {
    crash::install();
    let prepared = || {
        let site = Site::with(backend, &settings);
        prepare(&site);
        site
    };
    let whole = prepared();
    let before = seen(&whole);
    work(&whole);
    let after = seen(&whole);
    assert_ne!(before, after, "it changes something");

    let mut site = prepared();
    let mut kills = 0;
    for events in 0.. {
        if killed_after(events, || work(&site)).is_some() {
            break;
        }
        kills += 1;
        let left = seen(&site);
        assert!(
            before.key_pairs.iter().all(|(active, ..)| !active)
                || left.key_pairs.iter().any(|(active, ..)| *active),
            "no key pair is active after {events} events"
        );
        if steps == Steps::One && left == before {
            continue;
        }
        if steps == Steps::One {
            assert_eq!(left, after, "half done after {events} events");
        }
        work(&site);
        assert_eq!(seen(&site), after, "not the same end after {events} events");
        site = prepared();
    }
    assert!(kills > 10, "killed {kills} times only");
}

const TASK: Caller<'_> = Caller::Task("0f-11");

fn a_rotation_that_is_due(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |_| {},
        |site| {
            for days in [0, 30, 60] {
                site.key_pair(day(days), true);
            }
        },
        |site| drop(site.call(day(91), Trigger::IfDue, Older::Keep, TASK)),
    );
}

fn a_forced_rotation_that_retires_and_wipes(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |settings| {
            settings.retired_private_keys = RetiredPrivateKeys::Wipe;
            settings.prepublish = Some(TimeDelta::days(2));
        },
        |site| {
            site.key_pair(day(0), true);
            site.key_pair(day(1), true);
            site.rotate(day(30));
        },
        |site| drop(site.call(day(30), Trigger::Forced, Older::RetireNow, TASK)),
    );
}

fn a_publication_ahead(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |settings| settings.prepublish = Some(TimeDelta::days(2)),
        |site| {
            site.key_pair(day(0), true);
        },
        |site| drop(site.rotate(day(28))),
    );
}

fn the_activation_of_what_was_published(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |settings| {
            settings.prepublish = Some(TimeDelta::days(2));
            settings.max_active = 1;
        },
        |site| {
            site.key_pair(day(0), true);
            site.rotate(day(28));
        },
        |site| drop(site.rotate(day(30))),
    );
}

fn the_default_scopes(backend: Backend) {
    let work = |site: &Site| drop(initialize(&site.jwt, start(), Mode::Apply).unwrap());
    at_every_instant(backend, Steps::One, |_| {}, |_| {}, work);
}

fn the_cleanup_of_tokens(backend: Backend) {
    at_every_instant(
        backend,
        Steps::Many,
        |_| {},
        |site| {
            initialize(&site.jwt, start(), Mode::Apply).unwrap();
            let pair = site.key_pair(start(), true);
            let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
            for number in 0..40 {
                let name = format!("expired {number}");
                let id = site.token(&name, pair, day(1));
                site.execute(&format!(
                    "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id) \
                     VALUES ({id}, {scope})"
                ));
                let name = format!("old {number}");
                site.insert(&NewToken { is_revoked: true, ..new_token(&name, pair, day(-9)) });
            }
            site.token("valid", pair, day(200));
        },
        |site| {
            let goes_on = &mut |_| ControlFlow::Continue(());
            drop(clean_up(&site.jwt, day(100), Mode::Apply, goes_on).unwrap());
        },
    );
}

fn the_cleanup_of_key_pairs(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |_| {},
        |site| {
            site.key_pair(day(0), false);
            site.key_pair(day(1), false);
            site.key_pair(day(2), true);
        },
        |site| drop(delete_inactive(&site.jwt, day(300), TASK, Mode::Apply).unwrap()),
    );
}

fn the_encryption_of_private_keys(backend: Backend) {
    at_every_instant(
        backend,
        Steps::Many,
        |settings| settings.private_key_password = Some(SecretString::from("geheim")),
        |site| {
            site.key_pair(day(0), false);
            site.key_pair(day(2), true);
        },
        |site| {
            let report = convert(&site.jwt, day(3), Form::Encrypted, TASK, Mode::Apply).unwrap();
            assert!(report.success);
        },
    );
}

fn issuing_and_revoking_a_token(backend: Backend) {
    at_every_instant(
        backend,
        Steps::One,
        |_| {},
        |site| {
            initialize(&site.jwt, start(), Mode::Apply).unwrap();
            site.key_pair(start(), true);
        },
        |site| {
            let scopes = ["base".to_owned(), "admin".to_owned()];
            let order = Order { user: "7", scopes: &scopes, life: None, purpose: "" };
            // A token that nobody has got is issued again; it is the same work, once more.
            if site.tokens().is_empty() {
                issue(&site.jwt, start(), order, TASK, Mode::Apply).unwrap();
            }
        },
    );
    at_every_instant(
        backend,
        Steps::One,
        |_| {},
        |site| {
            let pair = site.key_pair(start(), true);
            site.token("lost", pair, day(9));
        },
        |site| {
            let target = Target::Jti("lost");
            revoke(&site.jwt, start(), target, "lost", TASK, Mode::Apply).unwrap();
        },
    );
}
