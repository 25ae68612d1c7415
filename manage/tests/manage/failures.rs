//! What goes wrong has an exit status of its kind, and an error that helps.

use test_servers::RedisServer;

use crate::site::Site;

#[test]
fn a_wrong_command_line_is_64() {
    let site = Site::sqlite();
    for line in [&["rotate", "--retire-now"][..], &["no-such-command"], &[], &["status", "--queue"]]
    {
        assert_eq!(site.run(line).status(), 64, "{line:?}");
    }
    let help = site.run(&["--help"]);
    assert_eq!(help.status(), 0);
    assert!(help.text().contains("69  Redis cannot be reached"), "{}", help.text());
}

#[test]
fn a_wrong_setting_is_78_and_named_without_its_secrets() {
    let mut site = Site::sqlite();
    site.set("JWT_MAX_ACTIVE_KEYPAIRS", "0");
    let done = site.run(&["rotate"]);
    assert_eq!(done.status(), 78);
    assert!(done.errors().contains("JWT_MAX_ACTIVE_KEYPAIRS=\"0\""), "{}", done.errors());

    let mut site = Site::sqlite();
    site.set("DATABASE_URL", "mysql://u:hunter2@host/d");
    let done = site.run(&["status"]);
    assert_eq!(done.status(), 78);
    assert!(done.errors().contains("DATABASE_URL"), "{}", done.errors());
    assert!(!done.errors().contains("hunter2"), "{}", done.errors());
}

#[test]
fn a_settings_file_stands_behind_the_environment() {
    let site = Site::sqlite();
    let file = "# ours\nJWT_KEYPAIR_ROTATION_DAYS = 'monthly'\nDATABASE_URL = 'mysql://unused'\n";
    std::fs::write(site.folder().join("settings.toml"), file).unwrap();
    let line = ["status", "--settings", "settings.toml"];

    let done = site.run(&line);
    assert_eq!(done.status(), 78);
    let mistake = "JWT_KEYPAIR_ROTATION_DAYS=\"monthly\" (from settings.toml:2)";
    assert!(done.errors().contains(mistake), "{}", done.errors());

    let overridden = site.run_with(&line, &[("JWT_KEYPAIR_ROTATION_DAYS", "30")]);
    assert_eq!(overridden.status(), 70, "only the tables are missing: {}", overridden.errors());
}

#[test]
fn a_database_that_is_not_there_is_74() {
    let mut site = Site::sqlite();
    site.set("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d?connect_timeout=1");

    let done = site.run(&["status", "--json"]);

    assert_eq!(done.status(), 74);
    assert_eq!(done.text(), "", "an error is no result");
    assert!(
        done.errors().starts_with("error: cannot connect to the database"),
        "{}",
        done.errors()
    );
    assert!(done.errors().contains("look at DATABASE_URL"), "{}", done.errors());
    assert!(!done.errors().contains("hunter2"), "{}", done.errors());
}

#[test]
fn tables_that_are_missing_are_70_and_each_is_named() {
    let site = Site::sqlite();

    let done = site.run(&["check"]);

    assert_eq!(done.status(), 70);
    let table = "\n  table jwt_auth_jwttoken is missing: ";
    assert!(done.errors().contains(table), "{}", done.errors());
    assert!(done.errors().contains("jwt_manage migrate"), "{}", done.errors());
}

#[test]
fn a_broker_that_is_not_there_is_69() {
    let site = Site::sqlite();
    for line in [&["cleanup", "--queue"][..], &["queue", "status"]] {
        let done = site.run(line);

        assert_eq!(done.status(), 69, "{line:?}");
        assert!(done.errors().contains("redis://127.0.0.1:1/0"), "{}", done.errors());
        assert!(done.errors().contains("look at CELERY_BROKER_URL"), "{}", done.errors());
    }
}

#[test]
fn no_worker_is_75_and_the_task_stays_queued() {
    let redis = RedisServer::start();
    let mut site = Site::sqlite();
    site.set("CELERY_BROKER_URL", &redis.url());

    let done = site.run(&["cleanup", "--queue", "night", "--timeout", "0.2"]);

    assert_eq!(done.status(), 75);
    let errors = done.errors();
    assert!(errors.contains("no result of jwt_auth.tasks.cleanup_expired_tokens"), "{errors}");
    assert!(errors.contains("jwt_manage queue status"), "{errors}");
    assert_eq!(redis.command("LLEN night").lines().next(), Some(":1"));
}

#[test]
fn a_file_that_cannot_be_written_is_71() {
    let [site, _] = Site::both();

    let done = site.run(&["jwks", "--write", "/proc/jwks.json"]);

    assert_eq!(done.status(), 71);
    assert!(done.errors().contains("/proc/jwks.json cannot be written"), "{}", done.errors());
}
