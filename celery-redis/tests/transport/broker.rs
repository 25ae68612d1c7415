//! A Redis of its own for one test, and workers' ends of it.

use std::sync::Arc;
use std::time::Duration;

use celery_redis::transport::broker::{Broker, BrokerOptions, Claim};
use celery_redis::transport::connection::{Connection, ConnectionSettings};
use celery_redis::transport::delivery::Delivery;
use celery_redis::transport::keys::Keys;
use celery_redis::transport::lease::Description;
use redis::{FromRedisValue, ToRedisArgs};
use serde_json::{Value, json};
use test_servers::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Nothing in these tests takes as long, unless it never ends.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A broker's Redis.
pub(crate) struct TestRedis {
    pub(crate) server: RedisServer,
    pub(crate) keys: Keys,
    client: redis::Client,
}

/// A process that consumes.
pub(crate) struct TestProcess {
    pub(crate) broker: Arc<Broker>,
    pub(crate) id: String,
    _parts: JoinSet<()>,
}

impl TestRedis {
    pub(crate) fn start() -> Self {
        let server = RedisServer::start();
        let client = redis::Client::open(server.url()).unwrap();
        Self { server, keys: Keys::new(""), client }
    }

    /// A process with the default options of these tests.
    pub(crate) async fn process(&self) -> TestProcess {
        self.process_with(|_| {}).await
    }

    pub(crate) async fn process_with(
        &self,
        change: impl FnOnce(&mut BrokerOptions),
    ) -> TestProcess {
        self.process_of(DEADLINE, change).await
    }

    /// A process that soon takes a Redis that does not answer for one that is away.
    pub(crate) async fn impatient_process(&self) -> TestProcess {
        self.process_of(Duration::from_millis(300), |_| {}).await
    }

    async fn process_of(
        &self,
        longest_reply: Duration,
        change: impl FnOnce(&mut BrokerOptions),
    ) -> TestProcess {
        let settings = ConnectionSettings::parse(&self.server.url())
            .unwrap()
            .timeouts(DEADLINE, longest_reply);
        let mut options = BrokerOptions {
            queues: vec!["celery".to_owned()],
            global_keyprefix: String::new(),
            // Longer than any test: here a lease ends when a test says so.
            lease: Duration::from_secs(600),
            max_deliveries: 3,
            dead_letters_kept: 100,
            description: Description {
                node: "worker@test".to_owned(),
                pid: 1,
                queues: vec!["celery".to_owned()],
                concurrency: 1,
                started: 0,
            },
        };
        change(&mut options);
        let before: Vec<String> = self.query("HKEYS", self.keys.processes());
        let connection = Arc::new(Connection::new(settings));
        let broker = Broker::new(Arc::clone(&connection), connection, options);
        broker.register().await.unwrap();
        let after: Vec<String> = self.query("HKEYS", self.keys.processes());
        let id = after.into_iter().find(|id| !before.contains(id)).unwrap();
        let mut parts = JoinSet::new();
        let settlements = Arc::clone(&broker);
        parts.spawn(async move { settlements.send_settlements().await });
        TestProcess { broker, id, _parts: parts }
    }

    /// One command with its arguments.
    pub(crate) fn query<T: FromRedisValue>(&self, name: &str, arguments: impl ToRedisArgs) -> T {
        let mut connection = self.client.get_connection().unwrap();
        redis::cmd(name).arg(arguments).query(&mut connection).unwrap()
    }

    /// Puts a message behind all others.
    pub(crate) fn push(&self, list: &str, message: &str) {
        let _: i64 = self.query("LPUSH", &[list, message]);
    }

    /// The messages of a list, the next one first.
    pub(crate) fn waiting(&self, list: &str) -> Vec<String> {
        let mut messages: Vec<String> = self.query("LRANGE", &[list, "0", "-1"]);
        messages.reverse();
        messages
    }

    pub(crate) fn ids(&self, list: &str) -> Vec<String> {
        self.waiting(list).iter().map(|message| id(message.as_bytes())).collect()
    }

    /// Number of messages that are lent, if index and hash agree on it.
    pub(crate) fn unacked(&self) -> usize {
        let unacked: usize = self.query("HLEN", self.keys.unacked());
        let index: usize = self.query("ZCARD", self.keys.unacked_index());
        assert_eq!(unacked, index);
        unacked
    }

    /// The lease of a process runs out, and a reaper may look again at once.
    pub(crate) fn end_lease(&self, process: &str) {
        let ended: i64 = self.query("DEL", self.keys.alive(process));
        assert_eq!(ended, 1, "{process} had no lease");
        let _: i64 = self.query("DEL", self.keys.reaper());
    }
}

impl TestProcess {
    pub(crate) async fn claim(&self, limit: usize) -> Vec<Delivery> {
        match self.broker.claim(limit).await.unwrap() {
            Claim::Deliveries(deliveries) => deliveries,
            Claim::LeaseGone => panic!("the lease is gone"),
        }
    }

    pub(crate) async fn claim_one(&self) -> Delivery {
        self.claim(1).await.pop().expect("a message is waiting")
    }
}

/// A task message that has what the transport looks at.
pub(crate) fn message(id: &str) -> String {
    json!({
        "body": "W10=",
        "headers": {"task": "t.add", "id": id},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "celery"}},
    })
    .to_string()
}

pub(crate) fn id(message: &[u8]) -> String {
    let message: Value = serde_json::from_slice(message).unwrap();
    message["headers"]["id"].as_str().unwrap().to_owned()
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| id(delivery.message())).collect()
}

/// Waits for a condition that something else brings about.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
