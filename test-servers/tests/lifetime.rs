//! Servers start, obey, and leave nothing behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use test_servers::{Postgres, RedisServer};

const CHILD: &str = "TEST_SERVERS_CHILD";

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 seconds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_servers_are_independent_and_answer() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    first.command("SET key first");
    assert!(first.command("GET key").contains("first"));
    assert!(!second.command("GET key").contains("first"));
    assert_ne!(first.port(), second.port());
}

#[test]
fn a_password_and_persistence_survive_a_restart_on_the_same_port() {
    let server = RedisServer::builder().password("pa55").args(["--appendonly", "yes"]).start();
    let stored = server.command("SET key value");
    assert_eq!(stored.matches("+OK").count(), 3, "AUTH, SET and QUIT: {stored}");
    let (port, pid) = (server.port(), server.pid());
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    let read = server.command("GET key");
    assert!(read.contains("value"), "{read}\n{}", server.log());
    assert!(server.url().starts_with("redis://:pa55@127.0.0.1:"));
}

#[test]
fn a_paused_server_can_be_resumed_and_killed() {
    let server = RedisServer::start();
    server.pause();
    let status = || std::fs::read_to_string(format!("/proc/{}/stat", server.pid()));
    eventually("the server is halted", || status().is_ok_and(|stat| stat.contains(") T ")));
    server.resume();
    assert!(server.command("PING").contains("PONG"));
    server.pause();
    server.kill();
    server.restart();
    assert!(server.command("PING").contains("PONG"));
}

#[test]
fn the_shared_cluster_makes_databases_and_survives_a_stop() {
    let cluster = Postgres::start();
    let (first, second) = (cluster.create_database(), cluster.create_database());
    assert_ne!(first, second);
    cluster.stop();
    cluster.start_again();
    cluster.create_database();
}

#[test]
fn dropping_a_server_removes_its_folder() {
    let server = RedisServer::start();
    let folder = server.folder().to_owned();
    assert!(folder.exists());
    drop(server);
    assert!(!folder.exists());
}

/// Starts servers for the test below, prints what it must look for, and stays.
#[test]
fn child_that_is_killed() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let server = RedisServer::start();
    let cluster = Postgres::shared();
    println!("\nredis {} {}", server.pid(), server.folder().display());
    println!("postgres {}", cluster.port());
    loop {
        thread::park();
    }
}

#[test]
fn servers_end_and_folders_go_when_the_test_process_is_killed() {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut process = None;
    let mut port = None;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["redis", pid, folder] => process = Some((pid.to_owned(), PathBuf::from(folder))),
            ["postgres", number] => port = Some(number.parse::<u16>().unwrap()),
            _ => {}
        }
        if port.is_some() {
            break;
        }
    }
    let (pid, folder) = process.unwrap();
    let port = port.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    eventually("redis-server has ended", || !Path::new("/proc").join(&pid).exists());
    eventually("the folder is gone", || !folder.exists());
    eventually("PostgreSQL has ended", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    });
}
