//! What a health report finds.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use chrono::TimeDelta;
use shared_models::{KeyPair, NewToken};
use site::{Backend, Site, day, new_token, start};
use tasks::generate_jwt_health_report::{HealthReport, Severity, report};
use tasks::initialize_jwt_scopes::initialize;
use tasks::jwt::{Algorithm, SigningKey};
use tasks::status::status;
use tasks::{Caller, JwtAuth, Mode, create_keypair, isoformat};

on_both!(
    a_site_in_order_is_healthy,
    a_site_that_cannot_sign_is_critical,
    each_thing_that_is_wrong_has_its_reason,
    a_bad_key_pair_is_found,
    a_task_that_does_not_run_is_missed,
    status_shows_what_is_active,
);

fn ready(backend: Backend) -> Site {
    let site = Site::new(backend);
    create_keypair::init(&site.jwt, start(), Caller::Operator("ada"), Mode::Apply).unwrap();
    site
}

fn look(jwt: &JwtAuth, days: i64) -> HealthReport {
    report(jwt, day(days)).unwrap()
}

fn codes(report: &HealthReport) -> Vec<&'static str> {
    report.reasons.iter().map(|reason| reason.code).collect()
}

fn a_site_in_order_is_healthy(backend: Backend) {
    let site = ready(backend);
    let pair = site.active_ids()[0];
    site.token("active", pair, day(1) + TimeDelta::hours(1));
    site.token("expired", pair, day(1) - TimeDelta::hours(1));
    site.insert(&NewToken { is_revoked: true, ..new_token("revoked", pair, day(3)) });
    let report = look(&site.jwt, 1);
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "timestamp": isoformat(day(1)),
            "tokens": {"total": 3, "active": 1, "expired": 1, "revoked": 1, "recent_24h": 3},
            "keypairs": {"active": 1, "inactive": 0, "total": 1},
            "scopes": {"active": 4},
            "health_status": "healthy",
            "severity": "ok",
            "reasons": [],
        })
    );
}

fn a_site_that_cannot_sign_is_critical(backend: Backend) {
    let site = ready(backend);
    KeyPair::set_active(site.active_ids()[0], false, &mut site.connection()).unwrap();
    let report = look(&site.jwt, 0);
    assert_eq!((report.health_status, report.severity), ("warning", Severity::Critical));
    assert_eq!(codes(&report), ["no_active_keypair"]);
}

fn each_thing_that_is_wrong_has_its_reason(backend: Backend) {
    let site = ready(backend);
    let inactive = site.key_pair(start() - TimeDelta::days(1), false);
    site.token("orphan", inactive, day(50));
    site.token("overdue", inactive, day(35));
    site.insert(&NewToken { is_revoked: true, ..new_token("undeleted", inactive, day(-60)) });
    site.execute("UPDATE jwt_auth_jwtscope SET is_active = false WHERE name = 'admin'");
    site.execute("DELETE FROM jwt_auth_jwtscope WHERE name = 'base'");
    site.execute("DELETE FROM jwt_maintenance_task_success");
    let report = look(&site.jwt, 38);
    assert_eq!((report.health_status, report.severity), ("warning", Severity::Warning));
    assert_eq!(
        codes(&report),
        [
            "rotation_overdue",
            "scope_missing",
            "scope_inactive",
            "tokens_on_inactive_keypair",
            "cleanup_overdue",
            "deletion_overdue",
        ]
    );
}

fn a_bad_key_pair_is_found(backend: Backend) {
    let site = ready(backend);
    let other = SigningKey::generate(Algorithm::Es256).unwrap().public_pem().unwrap();
    site.execute(&format!("UPDATE jwt_auth_jwtkeypair SET public_key_pem = '{other}'"));
    let report = look(&site.jwt, 0);
    assert_eq!(report.severity, Severity::Critical);
    assert_eq!(codes(&report), ["keypair_unusable"]);
    assert!(report.reasons[0].message.contains("does not match its public key"));

    for (column, words) in [("public", "is not a PEM text"), ("private", "is not a PEM text")] {
        site.execute(&format!("UPDATE jwt_auth_jwtkeypair SET {column}_key_pem = 'lost'"));
        let report = look(&site.jwt, 0);
        assert_eq!(
            (report.severity, codes(&report)),
            (Severity::Critical, vec!["keypair_unusable"])
        );
        assert!(report.reasons[0].message.contains(words), "{}", report.reasons[0].message);
    }

    // It still signs nothing, but another one does.
    site.force(day(1));
    assert_eq!(look(&site.jwt, 1).severity, Severity::Warning);
}

fn a_task_that_does_not_run_is_missed(backend: Backend) {
    let site = ready(backend);
    assert!(codes(&look(&site.jwt, 0)).is_empty());
    assert!(codes(&look(&site.jwt, 2)).is_empty());
    let report = look(&site.jwt, 3);
    assert_eq!(codes(&report), ["task_overdue"]);
    assert!(report.reasons[0].message.contains("cleanup_expired_tokens has never succeeded"));
    initialize(&site.jwt, day(14), Mode::Apply).unwrap();
    let late = look(&site.jwt, 15);
    assert!(late.reasons.iter().any(|reason| reason.message.contains("rotate_jwt_keypairs")));
    assert!(!late.reasons.iter().any(|reason| reason.message.contains("initialize_jwt_scopes")));
}

fn status_shows_what_is_active(backend: Backend) {
    let site = ready(backend);
    site.force(day(2));
    site.key_pair(start(), false);
    let status = status(&site.jwt, day(12)).unwrap();
    assert_eq!(status.inactive_keypairs_count, 1);
    let ages: Vec<_> =
        status.active_keypairs.iter().map(|pair| (pair.age_days, pair.signs)).collect();
    assert_eq!(ages, [(10, true), (12, false)]);
    assert_eq!(status.active_keypairs[0].algorithm, Some(Algorithm::Es256));
    assert_eq!(status.active_scopes.len(), 4);
}

#[test]
fn whoever_may_only_read_gets_a_report_too() {
    let site = ready(Backend::Postgres);
    site.execute(
        "CREATE ROLE monitor LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO monitor",
    );
    let database = site::connect(&site.url.replace("postgres@", "monitor@"));
    let jwt = JwtAuth { database, settings: Default::default() };
    assert_eq!(look(&jwt, 0).health_status, "healthy");
}
