//! What callers of the tasks get.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::sync::Arc;
use std::time::Duration;

use celery_redis::Client;
use celery_task::{Call, Ended, Exception, MaxRetries, Registry, RetryTime, TaskApp};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use shared_models::Database;
use site::{Backend, Site};
use tasks::{JwtAuth, register};
use test_servers::{Postgres, RedisServer};

/// A worker's registry and what its tasks need, without a worker.
struct Tasks {
    registry: Registry,
    app: TaskApp,
    _redis: RedisServer,
}

impl Tasks {
    async fn of(jwt: &JwtAuth) -> Self {
        let redis = RedisServer::start();
        let client = Client::connect(&redis.url()).await.unwrap();
        let app = TaskApp::build("test", client).await.unwrap();
        let mut registry = Registry::new();
        registry.state(Arc::new(jwt.clone()));
        register(&mut registry);
        Self { registry, app, _redis: redis }
    }

    async fn run(&self, name: &str, kwargs: Value, retries: u32) -> Ended {
        let Value::Object(kwargs) = kwargs else { panic!("kwargs are an object") };
        let name = format!("jwt_auth.tasks.{name}");
        let call = Call {
            task: name.as_str().into(),
            id: "6b1f0c5e-0000-4000-8000-000000000001".into(),
            kwargs,
            retries,
            ..Call::default()
        };
        let task = self.registry.get(&name).unwrap();
        let running = task.start(call, self.registry.states(), &self.app).ended;
        running.await
    }

    async fn returned(&self, name: &str, kwargs: Value) -> Value {
        match self.run(name, kwargs, 0).await {
            Ended::Returned(json) => serde_json::from_str(json.get()).unwrap(),
            other => panic!("{name} ended in {other:?}"),
        }
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(Map::keys).unwrap().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_returns_the_dictionary_that_python_reads() {
    let site = Site::new(Backend::Sqlite);
    let tasks = Tasks::of(&site.jwt).await;

    let scopes = tasks.returned("initialize_jwt_scopes", json!({})).await;
    assert_eq!(
        keys(&scopes),
        ["success", "created_scopes", "total_active_scopes", "initialization_time"]
    );
    let rotated = tasks.returned("rotate_jwt_keypairs", json!({})).await;
    assert_eq!(
        keys(&rotated)[..5],
        ["success", "action", "new_keypair_id", "active_keypairs_count", "rotation_time"]
    );
    let checked = tasks.returned("rotate_jwt_keypairs", json!({"force": false})).await;
    assert_eq!(keys(&checked)[..4], ["success", "action", "active_keypairs_count", "check_time"]);
    let cleaned = tasks.returned("cleanup_expired_tokens", json!({})).await;
    assert_eq!(
        keys(&cleaned),
        ["success", "expired_tokens_revoked", "old_tokens_deleted", "cleanup_time"]
    );
    let deleted = tasks.returned("cleanup_inactive_keypairs", json!({})).await;
    assert_eq!(keys(&deleted)[..3], ["success", "keypairs_deleted", "cleanup_time"]);
    let health = tasks.returned("generate_jwt_health_report", json!({})).await;
    assert_eq!(health["health_status"], "healthy", "{health}");
    assert_eq!(keys(&health)[..5], ["timestamp", "tokens", "keypairs", "scopes", "health_status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_rotation_is_done_once_for_its_task_id() {
    let site = Site::new(Backend::Sqlite);
    let tasks = Tasks::of(&site.jwt).await;
    let forced = json!({"force": true, "retire_now": true});
    let first = tasks.returned("rotate_jwt_keypairs", forced.clone()).await;
    let again = tasks.returned("rotate_jwt_keypairs", forced).await;
    assert_eq!(first["new_keypair_id"], again["new_keypair_id"]);
    assert_eq!(site.key_pairs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_lasts_is_raised_and_for_older_callers_returned() {
    let mut site = Site::new(Backend::Sqlite);
    site.execute("ALTER TABLE jwt_auth_jwtscope DROP COLUMN description");
    let tasks = Tasks::of(&site.jwt).await;
    let Ended::Raised { exception, .. } = tasks.run("initialize_jwt_scopes", json!({}), 0).await
    else {
        panic!("an error")
    };
    assert_eq!(exception.exc_module, "django.db.utils");
    assert!(exception.traceback_line().contains("description"), "{exception:?}");

    site.jwt.settings.legacy_error_results = true;
    let tasks = Tasks::of(&site.jwt).await;
    let answer = tasks.returned("initialize_jwt_scopes", json!({})).await;
    assert_eq!(keys(&answer), ["success", "error", "initialization_time"]);
    assert_eq!(answer["success"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_asked_again_three_times() {
    let cluster = Postgres::start();
    let url = SecretString::from(cluster.create_database());
    let database = Database::connect(&url, 2).unwrap();
    database.migrate().unwrap();
    let jwt = JwtAuth { database, settings: Default::default() };
    let tasks = Tasks::of(&jwt).await;
    tasks.returned("initialize_jwt_scopes", json!({})).await;

    cluster.stop();
    let is_operational =
        |error: &Exception| error.traceback_line().starts_with("django.db.utils.OperationalError");
    let Ended::Retries(retry) = tasks.run("initialize_jwt_scopes", json!({}), 0).await else {
        panic!("a retry")
    };
    assert!(retry.error.as_ref().is_some_and(is_operational), "{:?}", retry.error);
    assert_eq!(retry.when, Some(RetryTime::Countdown(Duration::from_secs(10))));
    assert_eq!(retry.max_retries, Some(MaxRetries::AtMost(3)));
    let Ended::Raised { exception, .. } = tasks.run("initialize_jwt_scopes", json!({}), 3).await
    else {
        panic!("no fourth retry")
    };
    assert!(is_operational(&exception), "{exception:?}");

    cluster.start_again();
    tasks.returned("initialize_jwt_scopes", json!({})).await;
}
