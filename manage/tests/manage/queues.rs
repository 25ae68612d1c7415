//! `queue status` on a real Redis.

use test_servers::RedisServer;

use crate::site::Site;

#[test]
fn the_messages_of_each_priority_are_counted() {
    let redis = RedisServer::start();
    let mut site = Site::sqlite();
    site.set("CELERY_BROKER_URL", &redis.url());
    // What waits is counted, whatever it is.
    redis.command("LPUSH celery a b c");
    redis.command("LPUSH celery\u{6}\u{16}9 d");
    redis.command("LPUSH mails e");

    let found = site.json(&["queue", "status"]);
    let both = site.json(&["queue", "status", "celery", "mails"]);
    let text = site.text(&["queue", "status"]);

    assert_eq!(found["queues"].as_array().unwrap().len(), 1);
    assert_eq!(found["queues"][0]["waiting"], 4);
    assert_eq!(found["queues"][0]["by_priority"]["0"], 3);
    assert_eq!(found["queues"][0]["by_priority"]["9"], 1);
    assert_eq!(both["queues"][1]["name"], "mails");
    assert_eq!(both["queues"][1]["waiting"], 1);
    assert!(text.contains("No worker of ours is known."), "{text}");
    assert!(text.contains("No beat is running"), "{text}");
}

#[test]
fn a_task_that_was_sent_is_seen_waiting() {
    let redis = RedisServer::start();
    let mut site = Site::sqlite();
    site.set("CELERY_BROKER_URL", &redis.url());

    site.run(&["health", "--queue", "--timeout", "0.1"]);

    assert_eq!(site.json(&["queue", "status"])["queues"][0]["waiting"], 1);
}

#[test]
fn the_beat_that_leads_is_named() {
    let redis = RedisServer::start();
    let mut site = Site::sqlite();
    site.set("CELERY_BROKER_URL", &redis.url());
    redis.command("SET _celery_redis.beat.leader 3:beat@one/7d0a");

    assert_eq!(site.json(&["queue", "status"])["beat"], "beat@one/7d0a");
}
