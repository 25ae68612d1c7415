//! A Redis of its own for one test, and what a test asks of it.

use std::time::{Duration, Instant};

use celery_redis::transport::beat_state::BeatState;
use celery_redis::transport::connection::{Connection, ConnectionSettings};
use redis::FromRedisValue;
use serde_json::Value;
use test_servers::RedisServer;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct TestBroker {
    pub(crate) server: RedisServer,
}

impl TestBroker {
    pub(crate) fn start() -> Self {
        Self { server: RedisServer::start() }
    }

    /// Nothing that was acknowledged is lost by ending it.
    pub(crate) fn start_durable() -> Self {
        let options = ["--appendonly", "yes", "--appendfsync", "always"];
        Self { server: RedisServer::builder().args(options).start() }
    }

    pub(crate) fn settings(&self) -> ConnectionSettings {
        ConnectionSettings::parse(&self.server.url()).unwrap()
    }

    pub(crate) fn state(&self) -> BeatState {
        BeatState::new(Connection::new(self.settings()), "")
    }

    pub(crate) fn query<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match redis::cmd(command[0]).arg(&command[1..]).query(&mut connection) {
                // Started again, and still reading its file.
                Err(error) if is_loading(&error) && Instant::now() < deadline => {}
                answer => return answer.unwrap(),
            }
        }
    }

    /// The messages of a queue, first sent first.
    pub(crate) fn messages(&self, queue: &str) -> Vec<Value> {
        let mut messages: Vec<String> = self.query(&["LRANGE", queue, "0", "-1"]);
        messages.reverse();
        messages.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
    }

    pub(crate) fn ids(&self, queue: &str) -> Vec<String> {
        let id = |message: &Value| message["headers"]["id"].as_str().unwrap().to_owned();
        self.messages(queue).iter().map(id).collect()
    }
}

fn is_loading(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading)
}

/// Waits for a condition that something else brings about.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
