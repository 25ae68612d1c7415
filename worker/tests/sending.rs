//! Sending from Rust: calls, chains, groups and chords through a client, to a worker of this
//! process.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use celery_redis::{Canvas, Client, GetError, Signature};
use celery_task::{Exception, Registry, TaskOptions};
use serde_json::{Value, json};
use settings::Env;
use test_servers::RedisServer;
use tokio::task::JoinHandle;
use worker::{Shutdown, Stage, Worker, WorkerConfig};

const SOON: Duration = Duration::from_secs(30);

struct Site {
    _redis: RedisServer,
    client: Client,
    stage: tokio::sync::watch::Sender<Stage>,
    worker: JoinHandle<()>,
}

impl Site {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let env = Env::from_pairs([("CELERY_BROKER_URL", redis.url())]);
        let queues = vec!["celery".to_owned(), "mails".to_owned()];
        let config = WorkerConfig::from_env(&env, "test@here".to_owned(), queues, 4).unwrap();
        let worker = Worker::new(config, registry()).unwrap();
        let (stage, shutdown) = Shutdown::channel();
        let worker = tokio::spawn(async move {
            worker.run(shutdown).await.unwrap();
        });
        let client = Client::connect(&redis.url()).await.unwrap();
        Self { _redis: redis, client, stage, worker }
    }

    async fn result(&self, canvas: impl Into<Canvas>) -> Result<Value, GetError> {
        self.client.apply(canvas).await.unwrap().get(SOON).await
    }

    async fn stop(self) {
        self.stage.send(Stage::Warm).unwrap();
        self.worker.await.unwrap();
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register_function(
        "t.sum",
        &[],
        TaskOptions::default(),
        |call, context, _| async move {
            let sum: i64 = call.args.iter().filter_map(Value::as_i64).sum();
            match call.args.iter().find(|arg| arg.is_string()) {
                None => Ok(json!(sum)),
                Some(_) => Err(context.fail(Exception::builtin("TypeError", "no number"))),
            }
        },
    );
    registry.register_function("t.list", &[], TaskOptions::default(), |call, _, _| async move {
        Ok(call.args.first().cloned().unwrap_or_default())
    });
    registry.register_function("t.where", &[], TaskOptions::default(), |call, _, _| async move {
        Ok(json!([call.queue, call.priority, call.retries, call.reply_to.is_some()]))
    });
    registry.register_builtins();
    registry
}

fn sum(args: &[i64]) -> Signature {
    args.iter().fold(Signature::new("t.sum"), |sum, arg| sum.arg(*arg))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canvas_gives_its_result_to_rust() {
    let site = Site::start().await;
    let list = || Signature::new("t.list");

    let chain = Canvas::chain([sum(&[1, 2]), sum(&[3]), sum(&[4])]);
    assert_eq!(site.result(chain).await.unwrap(), json!(10));

    let group = Canvas::group([sum(&[1]), sum(&[2]), sum(&[3])]);
    assert_eq!(site.result(group).await.unwrap(), json!([1, 2, 3]));

    let chord = Canvas::chord([sum(&[1]), sum(&[2])], list());
    assert_eq!(site.result(chord.clone().then(list())).await.unwrap(), json!([1, 2]));

    let nested = Canvas::chord([chord, sum(&[5]).into()], list());
    assert_eq!(site.result(nested).await.unwrap(), json!([[1, 2], 5]));

    let in_a_chain: [Canvas; 3] =
        [sum(&[1]).into(), Canvas::group([sum(&[1]), sum(&[2])]), list().into()];
    assert_eq!(site.result(Canvas::chain(in_a_chain)).await.unwrap(), json!([2, 3]));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_to_rust() {
    let site = Site::start().await;
    let failing = || Signature::new("t.sum").arg("one");

    let chain = Canvas::chain([failing(), sum(&[1])]);
    let Err(GetError::Failed(error)) = site.result(chain).await else { panic!("it failed") };
    assert_eq!(error, Exception::builtin("TypeError", "no number"));

    let chord = Canvas::chord([sum(&[1]), failing()], Signature::new("t.list"));
    let Err(GetError::Failed(error)) = site.result(chord).await else { panic!("it failed") };
    assert_eq!(error.exc_type, "ChordError");
    assert!(error.traceback_line().ends_with("raised TypeError('no number')"), "{error:?}");

    let Err(GetError::Failed(error)) = site.result(Signature::new("no.such")).await else {
        panic!("nobody knows it")
    };
    assert_eq!(error.exc_type, "NotRegistered");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_where_it_says() {
    let site = Site::start().await;

    let call = Signature::new("t.where").queue("mails").priority(6);
    assert_eq!(site.result(call).await.unwrap(), json!(["mails", 6, 0, true]));

    let elsewhere = site.client.apply(Signature::new("t.where").queue("nobody")).await.unwrap();
    let none = elsewhere.get(Duration::from_millis(50)).await;
    assert!(matches!(none, Err(GetError::TimedOut { .. })), "{none:?}");
    site.stop().await;
}
