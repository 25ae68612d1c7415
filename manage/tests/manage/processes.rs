//! Several programs at once, as cron on several machines starts them; and what a process shows of
//! itself to others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::site::Site;

/// Starts `count` of the same command at once; their results.
fn at_once(site: &Site, count: usize, arguments: &[&str]) -> Vec<Value> {
    let line = [arguments, &["--json"]].concat();
    let running: Vec<_> = (0..count)
        .map(|_| {
            site.prepared(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    running
        .into_iter()
        .map(|child| {
            let done = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{}: {errors}", site.engine);
            serde_json::from_slice(&done.stdout).unwrap()
        })
        .collect()
}

#[test]
fn eight_processes_that_rotate_at_once_make_one_key_pair() {
    for site in Site::both() {
        for pairs in 1..=3 {
            let reports = at_once(&site, 8, &["rotate"]);
            let performed =
                reports.iter().filter(|report| report["action"] == "rotation_performed").count();
            assert_eq!(performed, 1, "{}: {reports:?}", site.engine);
            let status = site.json(&["status"]);
            assert_eq!(status["active_keypairs"].as_array().unwrap().len(), pairs);
            // The next one is due.
            site.execute(
                "UPDATE jwt_maintenance_key_state SET activated_at = '2026-01-01 00:00:00'",
            );
        }
    }
}

#[test]
fn eight_processes_that_begin_on_nothing_make_one_site() {
    for site in [Site::sqlite(), Site::postgres()] {
        let made: usize = at_once(&site, 8, &["migrate"])
            .iter()
            .map(|report| report["migrations"].as_array().unwrap().len())
            .sum();
        assert_eq!(made, 5, "{}", site.engine);
        at_once(&site, 8, &["init"]);
        let status = site.json(&["status"]);
        assert_eq!(status["active_keypairs"].as_array().unwrap().len(), 1, "{}", site.engine);
        assert_eq!(status["active_scopes"].as_array().unwrap().len(), 4, "{}", site.engine);
    }
}

#[test]
fn health_is_watched_until_somebody_ends_it() {
    for site in Site::both() {
        let mut child = site
            .prepared(&["health", "--watch", "0.05", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next =
            || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
        assert_eq!(next()["severity"], "critical");

        site.json(&["init"]);
        while next()["severity"] != "ok" {}
        // What cannot be looked at is told, and looked at again.
        site.execute("ALTER TABLE jwt_auth_jwtscope RENAME TO elsewhere");
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        while !errors.next().unwrap().unwrap().contains("jwt_auth_jwtscope") {}
        site.execute("ALTER TABLE elsewhere RENAME TO jwt_auth_jwtscope");
        assert_eq!(next()["severity"], "ok");

        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_process_leaves_no_core_file() {
    let [site, _] = Site::both();
    let mut child = site
        .prepared(&["health", "--watch", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();

    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
}
