//! Tokens and key pairs that have had their time.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::ops::ControlFlow;

use chrono::TimeDelta;
use shared_models::{KeyPair, NewToken, RowId, Scope, Survey, Sweep, SweepWalk, TaskSuccess, Work};
use site::{Backend, Site, day, new_token, start};
use tasks::cleanup_expired_tokens::{TokenCleanupReport, clean_up};
use tasks::cleanup_inactive_keypairs::delete_inactive;
use tasks::initialize_jwt_scopes::{DEFAULT_SCOPES, initialize};
use tasks::rotate_jwt_keypairs::{Older, Trigger};
use tasks::{Caller, Mode, isoformat};

on_both!(
    the_bound_of_expiry_is_strict,
    what_is_valid_stays_so_among_what_has_expired,
    a_revoked_token_stays_until_it_has_expired_long_ago,
    many_tokens_go_in_batches_with_their_scopes,
    a_stopped_cleanup_is_gone_on_with,
    a_dry_run_of_the_cleanup_only_counts,
    only_missing_scopes_are_made,
    only_outlived_key_pairs_are_deleted,
    a_key_pair_put_aside_for_later_is_not_deleted,
    a_retired_key_pair_outlives_its_tokens,
);

fn clean(site: &Site, now: chrono::DateTime<chrono::Utc>) -> TokenCleanupReport {
    clean_up(&site.jwt, now, Mode::Apply, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn names(site: &Site) -> Vec<String> {
    site.tokens().into_iter().map(|token| token.token_id).collect()
}

fn the_bound_of_expiry_is_strict(backend: Backend) {
    let site = Site::new(backend);
    let pair = site.key_pair(start(), true);
    let now = day(10);
    site.token("past", pair, now - TimeDelta::microseconds(1));
    site.token("now", pair, now);
    site.token("future", pair, now + TimeDelta::microseconds(1));
    let report = clean(&site, now);
    assert_eq!((report.expired_tokens_revoked, report.old_tokens_deleted), (1, 0));
    let tokens = site.tokens();
    assert_eq!(
        tokens.iter().map(|token| token.is_revoked).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(tokens[0].revoked_at, Some(now.into()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "success": true,
            "expired_tokens_revoked": 1,
            "old_tokens_deleted": 0,
            "cleanup_time": isoformat(now),
        })
    );
    assert_eq!(clean(&site, now).expired_tokens_revoked, 0);
    let successes = TaskSuccess::all(&mut site.connection()).unwrap();
    assert_eq!(successes[0].task, "jwt_auth.tasks.cleanup_expired_tokens");
}

/// In the order of the keys and in that of expiry, in which batches walk.
fn what_is_valid_stays_so_among_what_has_expired(backend: Backend) {
    for indexed in [false, true] {
        let site = Site::new(backend);
        if indexed {
            site.jwt.database.create_cleanup_indexes().unwrap();
        }
        let pair = site.key_pair(start(), true);
        for (name, days) in [("expired 1", 1), ("valid 1", 20), ("expired 2", 9), ("valid 2", 11)] {
            site.token(name, pair, day(days));
        }
        for (name, days) in [("old 1", -91), ("young", -70), ("old 2", -95), ("younger", 5)] {
            let token = new_token(name, pair, day(days));
            site.insert(&NewToken { is_revoked: true, ..token });
        }
        site.token("expired 3", pair, day(2));
        let report = clean(&site, day(10));
        assert_eq!((report.expired_tokens_revoked, report.old_tokens_deleted), (3, 2));
        let valid: Vec<String> = site
            .tokens()
            .into_iter()
            .filter(|token| !token.is_revoked)
            .map(|token| token.token_id)
            .collect();
        assert_eq!(valid, ["valid 1", "valid 2"]);
        let left =
            ["expired 1", "valid 1", "expired 2", "valid 2", "young", "younger", "expired 3"];
        assert_eq!(names(&site), left);
    }
}

fn a_revoked_token_stays_until_it_has_expired_long_ago(backend: Backend) {
    for indexed in [false, true] {
        let site = Site::new(backend);
        if indexed {
            site.jwt.database.create_cleanup_indexes().unwrap();
        }
        old_ones_go_and_no_others(&site);
    }
}

fn old_ones_go_and_no_others(site: &Site) {
    let pair = site.key_pair(start(), true);
    let now = day(400);
    let bound = now - TimeDelta::days(90);
    let before = bound - TimeDelta::microseconds(1);
    let revoked = |name, expires_at, revoked_at: Option<chrono::DateTime<chrono::Utc>>| {
        site.insert(&NewToken {
            is_revoked: true,
            revoked_at: revoked_at.map(Into::into),
            ..new_token(name, pair, expires_at)
        })
    };
    revoked("revoked long ago, still valid", day(500), Some(day(1)));
    revoked("revoked long ago, just expired", day(399), Some(day(1)));
    revoked("expired long ago, just revoked", day(1), Some(day(399)));
    revoked("both long ago", before, Some(before));
    revoked("at the bound", bound, Some(bound));
    revoked("no time, expired long ago", before, None);
    revoked("no time, just expired", day(399), None);
    let report = clean(site, now);
    assert_eq!(report.old_tokens_deleted, 2);
    assert_eq!(
        names(site),
        [
            "revoked long ago, still valid",
            "revoked long ago, just expired",
            "expired long ago, just revoked",
            "at the bound",
            "no time, just expired",
        ]
    );
}

fn many_tokens_go_in_batches_with_their_scopes(backend: Backend) {
    for indexed in [false, true] {
        let site = Site::new(backend);
        if indexed {
            site.jwt.database.create_cleanup_indexes().unwrap();
        }
        let pair = site.key_pair(start(), true);
        initialize(&site.jwt, start(), Mode::Apply).unwrap();
        let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
        fill(&site, pair, scope, 5_000, backend);
        let mut last = 0;
        let report = clean_up(&site.jwt, day(10), Mode::Apply, &mut |progress| {
            assert!(progress.percent >= last && progress.percent <= 100);
            last = progress.percent;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(report.expired_tokens_revoked, 5_000);
        assert_eq!(last, 100);
        assert_eq!(clean(&site, day(110)).old_tokens_deleted, 5_000);
        assert_eq!(site.tokens(), []);
    }
}

/// Expired tokens with a scope each.
fn fill(site: &Site, pair: RowId, scope: RowId, count: u32, backend: Backend) {
    let numbers = match backend {
        Backend::Postgres => format!("generate_series(1, {count}) AS series(n)"),
        Backend::Sqlite => format!(
            "(WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series \
             WHERE n < {count}) SELECT n FROM series)"
        ),
    };
    site.execute(&format!(
        "INSERT INTO jwt_auth_jwttoken (token_id, created_at, issued_at, expires_at, is_revoked, \
         purpose, key_pair_id, user_id) SELECT 'jti' || n, '2026-01-01 00:00:00', \
         '2026-01-01 00:00:00', '2026-01-02 00:00:00', false, '', {pair}, 1 FROM {numbers}; \
         INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id) \
         SELECT id, {scope} FROM jwt_auth_jwttoken;"
    ));
}

fn a_stopped_cleanup_is_gone_on_with(backend: Backend) {
    let site = Site::new(backend);
    let pair = site.key_pair(start(), true);
    initialize(&site.jwt, start(), Mode::Apply).unwrap();
    let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
    fill(&site, pair, scope, 3_000, backend);
    let report =
        clean_up(&site.jwt, day(10), Mode::Apply, &mut |_| ControlFlow::Break(())).unwrap();
    assert!(report.stopped);
    assert!(report.expired_tokens_revoked > 0 && report.expired_tokens_revoked < 3_000);
    let rest = clean(&site, day(10));
    assert_eq!(report.expired_tokens_revoked + rest.expired_tokens_revoked, 3_000);
}

fn a_dry_run_of_the_cleanup_only_counts(backend: Backend) {
    let site = Site::new(backend);
    let pair = site.key_pair(start(), true);
    site.token("expired", pair, day(1));
    site.insert(&NewToken { is_revoked: true, ..new_token("old", pair, day(1)) });
    let before = site.tokens();
    let report =
        clean_up(&site.jwt, day(200), Mode::DryRun, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.dry_run);
    assert_eq!((report.expired_tokens_revoked, report.old_tokens_deleted), (1, 1));
    assert_eq!(site.tokens(), before);
}

fn only_missing_scopes_are_made(backend: Backend) {
    let site = Site::new(backend);
    site.execute(
        "INSERT INTO jwt_auth_jwtscope (name, description, is_active, created_at) \
         VALUES ('admin', 'Ours', false, '2026-01-01 00:00:00')",
    );
    let plan = initialize(&site.jwt, start(), Mode::DryRun).unwrap();
    assert_eq!(plan.created_scopes.len(), 3);
    let report = initialize(&site.jwt, start(), Mode::Apply).unwrap();
    assert_eq!(report.created_scopes, ["base", "image_upload", "event_management"]);
    assert_eq!(report.total_active_scopes, 3);
    let scopes = Scope::all(&mut site.connection()).unwrap();
    let admin = &scopes[0];
    assert_eq!((admin.description.as_str(), admin.is_active), ("Ours", false));
    for scope in &scopes[1..] {
        assert!(DEFAULT_SCOPES.contains(&(scope.name.as_str(), scope.description.as_str())));
    }
    let again = initialize(&site.jwt, start(), Mode::Apply).unwrap();
    assert!(again.created_scopes.is_empty());
}

fn only_outlived_key_pairs_are_deleted(backend: Backend) {
    let site = Site::new(backend);
    let outlived = site.key_pair(day(0), false);
    let referred = site.key_pair(day(1), false);
    site.token("old", referred, day(2));
    let young = site.key_pair(day(100), false);
    let active = site.key_pair(day(2), true);
    let newest = site.key_pair(day(101), true);
    let caller = Caller::Operator("ada");
    let now = day(190);
    let plan = delete_inactive(&site.jwt, now, caller, Mode::DryRun).unwrap();
    assert_eq!((plan.keypairs_deleted, site.key_pairs().len()), (1, 5));
    let report = delete_inactive(&site.jwt, now, caller, Mode::Apply).unwrap();
    assert_eq!(report.keypairs_deleted, 1);
    assert_eq!(report.cleanup_time, isoformat(now));
    let left: Vec<RowId> = site.key_pairs().iter().map(|pair| pair.id).collect();
    assert_eq!(left, [newest, young, active, referred]);
    assert!(!left.contains(&outlived));
}

fn a_key_pair_put_aside_for_later_is_not_deleted(backend: Backend) {
    let site = Site::new(backend);
    site.key_pair(day(0), true);
    let ahead = site.key_pair(day(1), false);
    delete_inactive(&site.jwt, day(900), Caller::Operator("ada"), Mode::Apply).unwrap();
    assert!(site.key_pairs().iter().any(|pair| pair.id == ahead));
}

fn a_retired_key_pair_outlives_its_tokens(backend: Backend) {
    let site = Site::new(backend);
    let old = site.key_pair(day(0), true);
    let caller = Caller::Operator("ada");
    site.call(day(200), Trigger::Forced, Older::RetireNow, caller);
    assert_eq!(site.active_ids().len(), 1);
    let deleted =
        |now| delete_inactive(&site.jwt, now, caller, Mode::Apply).unwrap().keypairs_deleted;
    assert_eq!(deleted(day(207)), 0);
    assert_eq!(deleted(day(208)), 1);
    assert!(!site.key_pairs().iter().any(|pair: &KeyPair| pair.id == old));
}

#[test]
fn a_cleanup_on_postgres_waits_for_nobody() {
    use diesel::connection::SimpleConnection;
    let site = Site::new(Backend::Postgres);
    let pair = site.key_pair(start(), true);
    site.token("held", pair, day(1));
    site.token("free", pair, day(1));
    let holder = &mut site.connection();
    holder
        .batch_execute("BEGIN; SELECT 1 FROM jwt_auth_jwttoken WHERE token_id = 'held' FOR UPDATE")
        .unwrap();
    assert_eq!(clean(&site, day(2)).expired_tokens_revoked, 1);
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(clean(&site, day(2)).expired_tokens_revoked, 1);
}

#[test]
fn what_was_held_is_taken_when_it_is_free() {
    use diesel::connection::SimpleConnection;
    let site = Site::new(Backend::Postgres);
    let pair = site.key_pair(start(), true);
    initialize(&site.jwt, start(), Mode::Apply).unwrap();
    let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
    for name in ["held", "free"] {
        let id = site.token(name, pair, day(1));
        site.execute(&format!(
            "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id) VALUES ({id}, {scope})"
        ));
    }
    let mut holder = site.connection();
    for now in [day(2), day(100)] {
        holder
            .batch_execute(
                "BEGIN; UPDATE jwt_auth_jwttoken SET purpose = 'x' WHERE token_id = 'held'",
            )
            .unwrap();
        let mut held = true;
        let report = clean_up(&site.jwt, now, Mode::Apply, &mut |_| {
            if std::mem::take(&mut held) {
                holder.batch_execute("COMMIT").unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(report.expired_tokens_revoked + report.old_tokens_deleted, 2, "{report:?}");
    }
    assert_eq!(site.tokens(), []);
}

#[test]
fn many_in_a_file_are_revoked_while_they_are_counted() {
    let site = Site::new(Backend::Sqlite);
    let pair = site.key_pair(start(), true);
    initialize(&site.jwt, start(), Mode::Apply).unwrap();
    let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
    fill(&site, pair, scope, 60_000, Backend::Sqlite);
    site.execute(
        "UPDATE jwt_auth_jwttoken SET is_revoked = true, revoked_at = '2026-01-02 00:00:00' \
         WHERE id % 3 = 0",
    );
    site.token("valid", pair, day(200));
    let (mut last, mut told) = (0, None);
    let report = clean_up(&site.jwt, day(110), Mode::Apply, &mut |progress| {
        assert!(progress.percent >= last && progress.percent <= 100, "{progress:?}");
        assert!([0, 60_000].contains(&progress.total), "{progress:?}");
        last = progress.percent;
        told = Some(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    let told = told.unwrap();
    assert_eq!(
        (told.total, told.revoked, told.deleted, told.percent),
        (60_000, 40_000, 20_000, 100)
    );
    assert_eq!((report.expired_tokens_revoked, report.old_tokens_deleted), (40_000, 20_000));
    assert_eq!(site.tokens().len(), 40_001);
    let again = clean(&site, day(110));
    assert_eq!((again.expired_tokens_revoked, again.old_tokens_deleted), (0, 0));
}

#[test]
fn a_batch_in_a_file_changes_no_more_than_it_may_wherever_the_tokens_are() {
    let site = Site::new(Backend::Sqlite);
    let pair = site.key_pair(start(), true);
    initialize(&site.jwt, start(), Mode::Apply).unwrap();
    let scope = Scope::all(&mut site.connection()).unwrap()[0].id;
    fill(&site, pair, scope, 60_000, Backend::Sqlite);
    // One in three, then none, then all.
    site.execute(
        "UPDATE jwt_auth_jwttoken SET is_revoked = true \
         WHERE id % 3 > 0 AND id <= 15000 OR id BETWEEN 15001 AND 30000",
    );
    let (now, before) = (day(2).into(), day(-1000).into());
    let connection = &mut *site.connection();
    let survey = Survey { now, before, layout: site.layout() };
    let (sweep, work) = survey.uncounted(connection).unwrap().unwrap();
    assert_eq!(sweep, Sweep::RevokeExpired { now });
    assert!(matches!(work, Work::Many { .. }), "{work:?}");
    let mut walk = SweepWalk::new(sweep, work, connection, &survey.layout);
    let mut batches = Vec::new();
    while let Some(tokens) = walk.batch(connection, 2_000).unwrap() {
        batches.push(tokens);
    }
    assert_eq!(batches.iter().sum::<u64>(), 35_000);
    assert!(batches.iter().all(|tokens| (1..=2_000).contains(tokens)), "{batches:?}");
}
