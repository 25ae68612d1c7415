//! A site with UUID keys, and without the columns that some sites lack.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::ops::ControlFlow;

use site::{Backend, Site, day, start};
use tasks::cleanup_expired_tokens::clean_up;
use tasks::cleanup_inactive_keypairs::delete_inactive;
use tasks::generate_jwt_health_report::report;
use tasks::jwt::jwks;
use tasks::token::{Target, revoke};
use tasks::{Caller, Mode, create_keypair};

on_both!(every_task_does_its_work);

fn every_task_does_its_work(backend: Backend) {
    let site = Site::with_uuid_keys(backend);
    let caller = Caller::Operator("ada");
    let made = create_keypair::init(&site.jwt, start(), caller, Mode::Apply).unwrap();
    let id = made.keypair.new_keypair_id.unwrap();
    assert_eq!(id.len(), 36, "as Python's str(): {id}");
    let stored = if backend == Backend::Sqlite { id.replace('-', "") } else { id };
    for (number, expires_at, revoked) in
        [(1, "2026-01-05", false), (2, "2026-09-09", false), (3, "2025-01-01", true)]
    {
        site.execute(&format!(
            "INSERT INTO jwt_auth_jwttoken (id, token_id, expires_at, is_revoked, key_pair_id) \
             VALUES ('0000000000000000000000000000000{number}', '{number}', \
             '{expires_at} 00:00:00', {revoked}, '{stored}')"
        ));
    }
    let health = report(&site.jwt, start()).unwrap();
    assert_eq!(health.health_status, "warning", "one revoked token is too old");
    assert_eq!((health.tokens.total, health.tokens.active, health.tokens.recent_24h), (3, 2, 0));

    let mut goes_on = |_| ControlFlow::Continue(());
    let cleaned = clean_up(&site.jwt, day(10), Mode::Apply, &mut goes_on).unwrap();
    assert_eq!((cleaned.expired_tokens_revoked, cleaned.old_tokens_deleted), (1, 1));

    // The first one still has a token, so the maximum takes the ones after it.
    for days in [40, 80, 120] {
        assert_eq!(site.rotate(day(days)).action, "rotation_performed");
    }
    let published = jwks(&site.jwt, day(120)).unwrap();
    let kids: Vec<_> =
        published.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect();
    assert!(
        kids.contains(&made.keypair.new_kid.unwrap()),
        "the thumbprint, where there is no name"
    );
    let lost = Target::Jti("2");
    let revoked = |now| revoke(&site.jwt, now, lost, "lost", caller, Mode::Apply).unwrap();
    let first = revoked(day(121));
    assert!(first.revoked && first.token.is_revoked && first.token.revoked_at.is_none());
    assert!(!revoked(day(122)).revoked);
    let deleted = delete_inactive(&site.jwt, day(300), caller, Mode::Apply).unwrap();
    assert_eq!(deleted.keypairs_deleted, 1);
    let health = report(&site.jwt, day(121)).unwrap();
    assert_eq!((health.keypairs.total, health.tokens.revoked), (3, 2));
}
