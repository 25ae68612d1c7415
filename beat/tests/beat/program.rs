//! The program, as an operator runs it.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::broker::{TestBroker, eventually};

fn beat(broker_url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beat"));
    command
        .args(arguments)
        .env_clear()
        .env("CELERY_BROKER_URL", broker_url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(broker_url: &str, arguments: &[&str]) -> Output {
    beat(broker_url, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A beat that runs; killed with the test.
struct Running(Option<Child>);

impl Running {
    fn start(broker_url: &str) -> Self {
        Self(Some(beat(broker_url, &["--node", "beat@test"]).spawn().unwrap()))
    }

    fn end(mut self, signal: &str) -> Output {
        let child = self.0.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        child.wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[tokio::test]
async fn a_running_beat_is_alive_and_one_that_was_told_to_end_is_not() {
    let broker = TestBroker::start();
    let url = broker.server.url();
    let check = || run(&url, &["--check", "--node", "beat@test"]);
    assert_eq!(check().status.code(), Some(1));

    for signal in ["-TERM", "-INT"] {
        let running = Running::start(&url);
        eventually("beat is alive", || check().status.success()).await;
        let other = run(&url, &["--check", "--node", "beat@other"]);
        assert_eq!(other.status.code(), Some(1), "another beat is not this one");

        let ended = running.end(signal);

        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        let answer = check();
        assert_eq!(answer.status.code(), Some(1));
        assert!(text(&answer.stdout).starts_with("beat@test: has not ticked"));
    }
}

#[tokio::test]
async fn beat_waits_for_a_broker_that_is_not_there_yet() {
    let broker = TestBroker::start();
    let url = broker.server.url();
    broker.server.stop();

    let running = Running::start(&url);
    let unreachable = run(&url, &["--check", "--node", "beat@test"]);
    assert_eq!(unreachable.status.code(), Some(69));
    broker.server.restart();
    eventually("beat is alive", || run(&url, &["--check", "--node", "beat@test"]).status.success())
        .await;

    let log = text(&running.end("-TERM").stderr);
    assert!(log.contains("waiting for it"), "{log}");
}

#[test]
fn the_list_shows_entries_with_their_last_and_next_runs() {
    let broker = TestBroker::start();
    let url = broker.server.url();
    let seen = "2026-01-01T00:00:00+00:00";
    let key = "_celery_redis.beat.last_runs";
    broker.query::<()>(&["HSET", key, "health-report", seen, "cleanup-expired-tokens", seen]);
    broker.query::<()>(&["HSET", "_celery_redis.beat.run_counts", "health-report", "3"]);

    let shown = run(&url, &["--list", "--queue", "night"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let table = text(&shown.stdout);
    for task in ["cleanup_expired_tokens", "rotate_jwt_keypairs", "initialize_jwt_scopes"] {
        assert!(table.contains(task), "{table}");
    }
    assert!(table.contains("2026-01-01T06:00:00Z (overdue)"), "{table}");
    assert!(table.contains("no beat is running"), "{table}");

    let listed: Value =
        serde_json::from_slice(&run(&url, &["--list", "--json", "-q", "night"]).stdout).unwrap();
    let entries = listed["entries"].as_array().unwrap();
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(entries.len(), 5);
    assert_eq!(entry("health-report")["last_run"], "2026-01-01T00:00:00Z");
    assert_eq!(entry("health-report")["run_count"], 3);
    assert_eq!(entry("cleanup-expired-tokens")["last_run"], Value::Null);
    assert_eq!(entry("cleanup-expired-tokens")["next_run"], "2026-01-01T03:00:00Z");
    assert_eq!(entry("rotate-keypairs")["overdue"], false);
    assert_eq!(entry("rotate-keypairs")["schedule"], "0 2 * * sun UTC");
    assert_eq!(entry("rotate-keypairs")["queue"], "night");
    // Looking changes nothing.
    assert_eq!(broker.query::<u64>(&["HLEN", key]), 2);
}

#[test]
fn mistakes_have_their_own_exit_status_and_name_the_setting() {
    let wrong_broker = run("amqp://user:hunter2@host", &["--list"]);
    assert_eq!(wrong_broker.status.code(), Some(78));
    let message = text(&wrong_broker.stderr);
    assert!(message.contains("CELERY_BROKER_URL"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");

    assert_eq!(run("redis://127.0.0.1", &["--no-such-option"]).status.code(), Some(64));
    assert_eq!(run("redis://127.0.0.1", &["--json"]).status.code(), Some(64));
    assert_eq!(run("redis://127.0.0.1", &["--help"]).status.code(), Some(0));
}
