//! When a key pair is made, and which ones go.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::thread;

use chrono::TimeDelta;
use secrecy::ExposeSecret;
use shared_models::{AuditEvent, KeyPair, KeyState};
use site::{Backend, Site, day, start};
use tasks::convert_keys::{Form, convert};
use tasks::generate_jwt_health_report::report as report_health;
use tasks::jwt::{Algorithm, AlgorithmChoice, VerificationKey, jwks};
use tasks::rotate_jwt_keypairs::{Older, Request, Trigger, rotate};
use tasks::{Caller, Mode, RetiredPrivateKeys, create_keypair, isoformat};

on_both!(
    a_site_without_a_key_pair_gets_one,
    a_young_key_pair_is_kept_and_an_old_one_rotated,
    a_weekly_run_that_begins_a_second_early_still_rotates,
    eight_rotations_at_once_make_one_key_pair,
    a_forced_rotation_that_is_delivered_twice_rotates_once,
    a_forced_rotation_over_the_maximum_says_so_again,
    eight_forced_rotations_of_one_task_at_once_rotate_once,
    only_what_no_token_needs_is_retired,
    forced_rotations_exceed_the_maximum_for_a_while,
    a_maximum_of_one_wins_and_says_what_it_costs,
    retire_now_withdraws_every_older_key_pair,
    a_key_pair_is_published_before_it_signs,
    a_broken_pending_key_pair_is_passed_over,
    created_at_is_never_changed_and_the_new_one_is_the_newest,
    the_algorithm_of_a_site_is_kept,
    a_dry_run_changes_nothing,
    a_created_key_pair_signs_and_deactivates_none,
    init_makes_what_is_missing_once,
    every_change_leaves_a_trail,
    a_trail_that_takes_nothing_stops_no_work,
    retired_private_keys_are_wiped_where_that_is_wanted,
    a_deactivated_newest_key_pair_is_not_taken_for_a_pending_one,
);

fn a_site_without_a_key_pair_gets_one(backend: Backend) {
    let site = Site::new(backend);
    let report = site.rotate(start());
    assert_eq!(report.action, "rotation_performed");
    assert_eq!(report.active_keypairs_count, 1);
    let [pair] = &site.key_pairs()[..] else { panic!("one key pair") };
    assert_eq!(report.new_keypair_id, Some(pair.id.to_string()));
    let key = VerificationKey::from_pem(&pair.public_key_pem).unwrap();
    assert_eq!(key.algorithm(), Algorithm::Es256);
    assert_eq!(pair.name, key.kid().unwrap());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["success"], true);
    assert_eq!(json["rotation_time"], isoformat(start()));
    assert!(json["new_keypair_id"].is_string() && json.get("check_time").is_none());
}

fn a_young_key_pair_is_kept_and_an_old_one_rotated(backend: Backend) {
    let site = Site::new(backend);
    let first = site.key_pair(start(), true);
    let report = site.rotate(day(29));
    assert_eq!(report.action, "rotation_not_needed");
    assert_eq!(report.active_keypairs_count, 1);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["check_time"], isoformat(day(29)));
    assert!(json.get("new_keypair_id").is_none() && json.get("rotation_time").is_none());

    let report = site.rotate(day(31));
    assert_eq!(report.action, "rotation_performed");
    assert_eq!(report.active_keypairs_count, 2);
    assert_eq!(site.active_ids()[1], first);
    // What an ORM version gets wrong: the old one is still active, and still old.
    assert_eq!(site.rotate(day(38)).action, "rotation_not_needed");
}

fn a_weekly_run_that_begins_a_second_early_still_rotates(backend: Backend) {
    let site = Site::with(backend, |settings| settings.rotation_period = TimeDelta::days(28));
    site.rotate(start());
    assert_eq!(site.rotate(day(28) - TimeDelta::seconds(1)).action, "rotation_performed");
}

/// Makes every transaction that stores a key pair so long that others begin meanwhile, and has the
/// site prefer transactions that see nothing of what others do.
fn slow_down(site: &Site, backend: Backend) {
    if backend == Backend::Postgres {
        site.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$; \
             CREATE TRIGGER slow AFTER INSERT ON jwt_auth_jwtkeypair \
             FOR EACH ROW EXECUTE FUNCTION slow(); \
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I \
             SET default_transaction_isolation = ''repeatable read''', current_database()); END $$",
        );
    }
}

fn eight_rotations_at_once_make_one_key_pair(backend: Backend) {
    let site = Site::new(backend);
    slow_down(&site, backend);
    site.key_pair(start(), true);
    let performed = thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| site.rotate(day(40)))).collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap())
            .filter(|report| report.action == "rotation_performed")
            .count()
    });
    assert_eq!(performed, 1);
    assert_eq!(site.key_pairs().len(), 2);
}

fn a_forced_rotation_that_is_delivered_twice_rotates_once(backend: Backend) {
    let site = Site::new(backend);
    site.rotate(start());
    let force = |now, task| site.call(now, Trigger::Forced, Older::Keep, Caller::Task(task));
    let first = force(day(1), "a");
    let again = force(day(2), "a");
    assert_eq!(again.action, "rotation_performed");
    assert_eq!(again.new_keypair_id, first.new_keypair_id);
    assert_eq!(again.rotation_time, first.rotation_time);
    assert_eq!(site.key_pairs().len(), 2);
    assert_ne!(force(day(2), "b").new_keypair_id, first.new_keypair_id);
    assert_eq!(site.key_pairs().len(), 3);
}

fn a_forced_rotation_over_the_maximum_says_so_again(backend: Backend) {
    let site = Site::new(backend);
    let force = |now, task| site.call(now, Trigger::Forced, Older::Keep, Caller::Task(task));
    let said = |task| [day(1), day(2)].map(|now| force(now, task).cap_exceeded);
    assert_eq!(["a", "b", "c", "d"].map(said), [[false; 2], [false; 2], [false; 2], [true; 2]]);
}

fn eight_forced_rotations_of_one_task_at_once_rotate_once(backend: Backend) {
    let site = Site::new(backend);
    site.rotate(start());
    slow_down(&site, backend);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                site.call(day(1), Trigger::Forced, Older::Keep, Caller::Task("same"));
            });
        }
    });
    assert_eq!(site.key_pairs().len(), 2);
}

fn only_what_no_token_needs_is_retired(backend: Backend) {
    let site = Site::new(backend);
    let oldest = site.key_pair(day(0), true);
    let needed = site.key_pair(day(30), true);
    let third = site.key_pair(day(60), true);
    site.token("alive", needed, day(200));
    site.token("expired", oldest, day(50));
    let report = site.rotate(day(91));
    assert_eq!(report.retired_keypairs.len(), 1);
    assert!(!report.cap_exceeded);
    assert_eq!(site.active_ids()[1..], [third, needed]);

    // Next time the second one goes as little as its token does; the third one goes in its place.
    let report = site.rotate(day(122));
    assert_eq!(site.active_ids()[2], needed, "{report:?}");
    assert_eq!(report.active_keypairs_count, 3);
}

fn forced_rotations_exceed_the_maximum_for_a_while(backend: Backend) {
    let site = Site::new(backend);
    site.rotate(start());
    let reports: Vec<_> = (1..=4).map(|days| site.force(day(days))).collect();
    assert_eq!(
        reports.iter().map(|report| report.cap_exceeded).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    assert_eq!(site.active_ids().len(), 5);
    assert!(reports.iter().all(|report| report.retired_keypairs.is_empty()));

    // The first was superseded on day 1, and its longest token life ends with day 8.
    let report = site.rotate(day(8));
    assert_eq!((report.retired_keypairs.len(), report.cap_exceeded), (0, true));
    let report = site.rotate(day(9));
    assert_eq!((report.retired_keypairs.len(), report.cap_exceeded), (1, true));
    let report = site.rotate(day(12));
    assert_eq!(report.action, "rotation_not_needed");
    assert_eq!((report.active_keypairs_count, report.cap_exceeded), (3, false));
}

fn a_maximum_of_one_wins_and_says_what_it_costs(backend: Backend) {
    let site = Site::with(backend, |settings| settings.max_active = 1);
    let first = site.key_pair(start(), true);
    site.token("alive", first, day(33));
    site.token("revoked later", first, day(33));
    site.token("expired", first, day(3));
    let report = site.rotate(day(31));
    assert_eq!(report.orphaned_tokens, 2);
    assert_eq!(report.active_keypairs_count, 1);
    assert_eq!(report.new_keypair_id, Some(site.active_ids()[0].to_string()));
    assert_ne!(site.active_ids()[0], first);
}

fn retire_now_withdraws_every_older_key_pair(backend: Backend) {
    let site = Site::with(backend, |settings| settings.prepublish = Some(TimeDelta::days(2)));
    let leaked = site.key_pair(start(), true);
    site.key_pair(day(1), true);
    site.token("stolen", leaked, day(40));
    // Published ahead, and in the same database as what leaked.
    assert!(site.rotate(day(30)).published_keypair_id.is_some());
    let report = site.call(day(30), Trigger::Forced, Older::RetireNow, Caller::Operator("ada"));
    assert_eq!(report.retired_keypairs.len(), 2);
    assert_eq!(report.orphaned_tokens, 1);
    assert_eq!(report.active_keypairs_count, 1);
    let keys = jwks(&site.jwt, day(30)).unwrap().keys;
    assert_eq!(keys.len(), 1, "only the new key pair may verify anything");
    assert_eq!(keys[0].common.key_id, report.new_kid);
}

fn a_key_pair_is_published_before_it_signs(backend: Backend) {
    let site = Site::with(backend, |settings| settings.prepublish = Some(TimeDelta::hours(48)));
    let first = site.key_pair(start(), true);
    assert_eq!(site.rotate(day(27)).published_keypair_id, None);
    let report = site.rotate(day(28));
    assert_eq!(report.action, "rotation_not_needed");
    let published = report.published_keypair_id.unwrap();
    assert_eq!(site.active_ids(), [first]);
    assert_eq!(jwks(&site.jwt, day(28)).unwrap().keys.len(), 2);
    assert_eq!(site.rotate(day(29)).published_keypair_id, None);

    let report = site.rotate(day(30));
    assert_eq!(report.action, "rotation_performed");
    assert_eq!(report.new_keypair_id, Some(published));
    assert_eq!(site.active_ids().len(), 2);
    // Its age counts from then on: one rotation for each period.
    assert_eq!(site.rotate(day(57)).published_keypair_id, None);
    assert!(site.rotate(day(58)).published_keypair_id.is_some());

    // With rare runs the publication comes late, and the rotation after it.
    let report = site.rotate(day(90));
    assert_eq!(report.action, "rotation_performed");
    let report = site.rotate(day(130));
    assert_eq!(report.action, "rotation_not_needed");
    assert!(report.published_keypair_id.is_some());
    assert_eq!(site.rotate(day(131)).action, "rotation_not_needed");
    assert_eq!(site.rotate(day(132)).action, "rotation_performed");
}

fn a_broken_pending_key_pair_is_passed_over(backend: Backend) {
    let site = Site::with(backend, |settings| settings.prepublish = Some(TimeDelta::hours(48)));
    site.key_pair(start(), true);
    let published = site.rotate(day(28)).published_keypair_id.unwrap();
    site.execute(&format!(
        "UPDATE jwt_auth_jwtkeypair SET private_key_pem = 'lost' WHERE id = {published}"
    ));
    let report = site.rotate(day(30));
    assert_eq!(report.action, "rotation_performed");
    assert_ne!(report.new_keypair_id, Some(published));
}

fn created_at_is_never_changed_and_the_new_one_is_the_newest(backend: Backend) {
    let site = Site::new(backend);
    // Made by a machine whose clock was ahead.
    let first = site.key_pair(day(3), true);
    let report = site.force(day(2));
    let pairs = site.key_pairs();
    assert_eq!(pairs[0].id.to_string(), report.new_keypair_id.unwrap());
    assert_eq!((pairs[1].id, pairs[1].created_at), (first, day(3).into()));
    site.force(day(4));
    assert!(site.key_pairs().iter().any(|pair| pair.created_at == day(3).into()));
}

fn the_algorithm_of_a_site_is_kept(backend: Backend) {
    for (of_the_site, choice, expected) in [
        (Some(Algorithm::Rs256), AlgorithmChoice::Auto, Algorithm::Rs256),
        (Some(Algorithm::Es384), AlgorithmChoice::Auto, Algorithm::Es384),
        (Some(Algorithm::Rs256), AlgorithmChoice::Fixed(Algorithm::Es256), Algorithm::Es256),
        (None, AlgorithmChoice::Fixed(Algorithm::Rs256), Algorithm::Rs256),
    ] {
        let site = Site::with(backend, |settings| settings.algorithm = choice);
        if let Some(algorithm) = of_the_site {
            site.key_pair_of(algorithm, start(), true);
        }
        site.rotate(day(31));
        let key = VerificationKey::from_pem(&site.key_pairs()[0].public_key_pem).unwrap();
        assert_eq!(key.algorithm(), expected);
    }
}

fn a_dry_run_changes_nothing(backend: Backend) {
    let site = Site::new(backend);
    for days in [0, 30, 60] {
        site.key_pair(day(days), true);
    }
    let before = site.key_pairs();
    let request =
        Request { trigger: Trigger::IfDue, older: Older::Keep, caller: Caller::Operator("ada") };
    let report = rotate(&site.jwt, day(100), request, Mode::DryRun).unwrap();
    assert!(report.dry_run);
    assert_eq!(report.action, "rotation_performed");
    assert_eq!((report.retired_keypairs.len(), report.active_keypairs_count), (1, 3));
    assert_eq!(report.new_keypair_id, None);
    assert_eq!(site.key_pairs(), before);
    assert_eq!(AuditEvent::newest(&mut site.connection(), 9).unwrap(), []);
}

fn a_created_key_pair_signs_and_deactivates_none(backend: Backend) {
    let site = Site::with(backend, |settings| settings.max_active = 1);
    let first = site.key_pair(start(), true);
    let caller = Caller::Operator("ada");
    let report = create_keypair::create(&site.jwt, day(1), caller, Mode::Apply).unwrap();
    assert_eq!(report.active_keypairs_count, 2);
    assert_eq!(report.keypair_id, Some(site.active_ids()[0].to_string()));
    assert_eq!(site.active_ids()[1], first);
}

fn init_makes_what_is_missing_once(backend: Backend) {
    let site = Site::new(backend);
    let init =
        || create_keypair::init(&site.jwt, start(), Caller::Operator("ada"), Mode::Apply).unwrap();
    let report = init();
    assert_eq!(report.scopes.created_scopes.len(), 4);
    assert_eq!(report.keypair.action, "rotation_performed");
    let report = init();
    assert_eq!(report.scopes.created_scopes.len(), 0);
    assert_eq!(report.keypair.action, "rotation_not_needed");
}

fn every_change_leaves_a_trail(backend: Backend) {
    let site = Site::new(backend);
    site.rotate(start());
    let caller = Caller::Task("0f-11");
    site.call(day(1), Trigger::Forced, Older::RetireNow, caller);
    let events = AuditEvent::newest(&mut site.connection(), 20).unwrap();
    let told: Vec<_> =
        events.iter().map(|event| (event.action.as_str(), event.actor.as_str())).collect();
    assert_eq!(
        told,
        [
            ("forced rotation", "task 0f-11"),
            ("withdrawn", "task 0f-11"),
            ("activated", "task 0f-11"),
            ("created", "task 0f-11"),
            ("activated", "task weekly"),
            ("created", "task weekly"),
        ]
    );
    let states = KeyState::all(&mut site.connection()).unwrap();
    let old = states.iter().find(|state| state.retired_at.is_some()).unwrap();
    assert_eq!(old.superseded_at, Some(day(1).into()));
    assert!(old.is_withdrawn);
}

fn a_deactivated_newest_key_pair_is_not_taken_for_a_pending_one(backend: Backend) {
    let site = Site::new(backend);
    let first = site.key_pair(start(), true);
    let leaked = site.key_pair(day(1), true);
    KeyPair::set_active(leaked, false, &mut site.connection()).unwrap();
    let report = site.rotate(day(40));
    assert_eq!(report.action, "rotation_performed");
    assert_ne!(report.new_keypair_id, Some(leaked.to_string()));
    assert_eq!(site.active_ids()[1..], [first]);
}

fn a_trail_that_takes_nothing_stops_no_work(backend: Backend) {
    let site = Site::new(backend);
    site.rotate(start());
    match backend {
        Backend::Sqlite => site.execute(
            "CREATE TRIGGER full BEFORE INSERT ON jwt_maintenance_audit_event \
             BEGIN SELECT raise(ABORT, 'no more'); END",
        ),
        Backend::Postgres => {
            site.execute("ALTER TABLE jwt_maintenance_audit_event ADD CHECK (id < 0) NOT VALID");
        }
    }
    let report = site.force(day(1));
    assert_eq!(report.action, "rotation_performed");
    assert_eq!(report.new_keypair_id, Some(site.active_ids()[0].to_string()));
    assert_eq!(AuditEvent::newest(&mut site.connection(), 9).unwrap().len(), 2);
}

/// Somebody repairs the audit table, and holds its lock.
#[test]
fn a_trail_that_is_locked_stops_no_work() {
    use diesel::connection::SimpleConnection;
    let site = Site::new(Backend::Postgres);
    let holder = &mut site.connection();
    holder.batch_execute("BEGIN; LOCK TABLE jwt_maintenance_audit_event").unwrap();
    assert_eq!(site.rotate(start()).action, "rotation_performed");
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(site.active_ids().len(), 1);
}

fn retired_private_keys_are_wiped_where_that_is_wanted(backend: Backend) {
    let mut site = Site::with(backend, |settings| settings.max_active = 2);
    let private = |site: &Site, id| {
        let connection = &mut site.connection();
        let pair = site.key_pairs().into_iter().find(|pair| pair.id == id).unwrap();
        pair.private_key_pem(connection).unwrap().expose_secret().to_owned()
    };
    let [before, after, second] = [0, 30, 60].map(|days| site.key_pair(day(days), true));
    let by_hand = site.key_pair(day(1), false);
    assert_eq!(site.rotate(day(75)).retired_keypairs.len(), 1);
    assert!(private(&site, before).contains("PRIVATE KEY"), "kept where nobody asked");

    site.jwt.settings.retired_private_keys = RetiredPrivateKeys::Wipe;
    let report = site.rotate(day(106));
    assert_eq!(report.retired_keypairs.len(), 1);
    assert_eq!(report.wiped_keypairs.len(), 2, "also what was retired before: {report:?}");
    for id in [before, after] {
        assert_eq!(private(&site, id), "");
    }
    for id in [by_hand, second] {
        assert!(private(&site, id).contains("PRIVATE KEY"), "that is not ours to wipe");
    }
    let events = AuditEvent::newest(&mut site.connection(), 20).unwrap();
    assert_eq!(events.iter().filter(|event| event.action == "private key wiped").count(), 2);
    assert_eq!(site.rotate(day(107)).wiped_keypairs.len(), 0);
    // Its public half still verifies, and converting goes past it.
    site.jwt.settings.private_key_password = Some("geheim".into());
    let caller = Caller::Operator("ada");
    let converted = convert(&site.jwt, day(108), Form::Encrypted, caller, Mode::Apply).unwrap();
    assert!(converted.success, "{converted:?}");
    assert_eq!(private(&site, before), "");

    // Made active again by hand, it is told what is wrong with it.
    KeyPair::set_active(before, true, &mut site.connection()).unwrap();
    let health = report_health(&site.jwt, day(108)).unwrap();
    let wiped = health.reasons.iter().find(|reason| reason.code == "keypair_unusable").unwrap();
    assert!(wiped.message.contains("was wiped"), "{}", wiped.message);
}

/// What SQLite frees in its file stays readable in it unless it is overwritten.
#[test]
fn a_wiped_private_key_is_not_left_in_the_file() {
    let mut site = Site::new(Backend::Sqlite);
    site.jwt.settings.retired_private_keys = RetiredPrivateKeys::Wipe;
    let old = site.key_pair(start(), true);
    let connection = &mut site.connection();
    let pem = site.key_pairs()[0].private_key_pem(connection).unwrap();
    let secret = pem.expose_secret().lines().nth(1).unwrap().to_owned();
    let in_file = |site: &Site| {
        site.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        let path = site.url.trim_start_matches("sqlite://");
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    assert!(in_file(&site));
    site.call(day(1), Trigger::Forced, Older::RetireNow, Caller::Operator("ada"));
    assert!(site.active_ids()[0] != old);
    assert!(!in_file(&site));
}
