//! Commands that show how this worker does.

use celery_redis::transport::connection::ConnectionSettings;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::{Panel, Refusal, RemoteControl};

/// Ticks of the processes' clock in a second; the same on every Linux.
const TICKS: f64 = 100.0;

impl Panel {
    pub(super) fn stats(&self) -> Value {
        let consumer = &self.consumer;
        let state = &consumer.state;
        let (slots, processed) = (consumer.slots.count(), state.processed());
        let mut stats = json!({
            "total": state.totals(),
            "pid": std::process::id(),
            "clock": consumer.clock.now().to_string(),
            "uptime": state.uptime().as_secs(),
            "pool": {
                "implementation": "worker:slots",
                "max-concurrency": slots,
                "processes": [std::process::id()],
                "max-tasks-per-child": "N/A",
                "put-guarded-by-semaphore": true,
                "timeouts": [0, 0],
                "writes": {
                    "total": processed,
                    "avg": "1.00",
                    "all": "1.00",
                    "raw": processed.to_string(),
                    "strategy": "fair",
                    "inqueues": {"total": slots, "active": state.active()},
                },
            },
            "broker": broker(consumer.broker.connection().settings()),
            "prefetch_count": slots,
            "rusage": resource_usage(),
        });
        if let Some(range) = consumer.slots.autoscale() {
            stats["autoscaler"] = json!({
                "max": range.max, "min": range.min, "current": slots, "qty": state.active(),
            });
        }
        stats
    }

    /// What a Python worker wants to know when it starts (`celery.worker.consumer.mingle`).
    pub(super) async fn hello(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["from_node"])?;
        let consumer = &self.consumer;
        let from = it.text("from_node")?.unwrap_or_default();
        if *from == *consumer.config.node {
            return Ok(Value::Null);
        }
        if consumer.config.remote_control == RemoteControl::Full {
            // Ids, or up to Celery 5.6 a mapping from ids to times.
            let ids = match it.value("revoked") {
                Some(Value::Object(times)) => times.keys().cloned().collect(),
                _ => it.texts("revoked")?,
            };
            consumer.revoked.add_unknown(&consumer.broker, &ids).await?;
        }
        log::info!("sync with {from}");
        Ok(json!({"revoked": consumer.revoked.ids(), "clock": consumer.clock.forward()}))
    }

    pub(super) fn memory_sample(&self) -> Value {
        resident().map_or(Value::Null, Value::from)
    }

    pub(super) fn memory_dump(&self) -> Value {
        match resident() {
            Some(now) => format!("- rss (sample):\n-    > {now},\n- rss (end): {now}.\n").into(),
            None => "- rss: (the system does not tell).\n".into(),
        }
    }
}

/// As kombu describes a connection (`Connection.info`).
fn broker(settings: &ConnectionSettings) -> Value {
    let url = settings.to_string();
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", &url));
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let server = address.split(['/', '?']).next().unwrap_or_default();
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let host = if port.is_some() {
        server.rsplit_once(':').map_or(server, |(host, _)| host)
    } else {
        address
    };
    json!({
        "hostname": host,
        "userid": null,
        "virtual_host": settings.database().to_string(),
        "port": port,
        "insist": false,
        "ssl": scheme == "rediss",
        "transport": if scheme == "sentinel" { "sentinel" } else { "redis" },
        "connect_timeout": 4,
        "transport_options": {},
        "login_method": null,
        "uri_prefix": null,
        "heartbeat": 0.0,
        "failover_strategy": "round-robin",
        "alternates": [],
        "credential_provider": null,
    })
}

/// Resident memory as people read it.
fn resident() -> Option<String> {
    let kilobytes = status_field("VmRSS:")?;
    #[allow(clippy::cast_precision_loss)]
    let megabytes = kilobytes as f64 / 1024.0;
    Some(format!("{megabytes:.3}MB"))
}

/// What `getrusage` says, as far as `/proc` says it.
fn resource_usage() -> Value {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return "N/A".into() };
    // The name of the program may hold spaces and stands in brackets.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> =
        after_name.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    #[allow(clippy::cast_precision_loss)]
    let seconds = |number| field(number) as f64 / TICKS;
    json!({
        "utime": seconds(14),
        "stime": seconds(15),
        "maxrss": status_field("VmHWM:").unwrap_or(0),
        "ixrss": 0,
        "idrss": 0,
        "isrss": 0,
        "minflt": field(10),
        "majflt": field(12),
        "nswap": 0,
        "inblock": 0,
        "oublock": 0,
        "msgsnd": 0,
        "msgrcv": 0,
        "nsignals": 0,
        "nvcsw": status_field("voluntary_ctxt_switches:").unwrap_or(0),
        "nivcsw": status_field("nonvoluntary_ctxt_switches:").unwrap_or(0),
    })
}

fn status_field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_described_without_its_password() {
        let described = |url: &str| broker(&ConnectionSettings::parse(url).unwrap());
        let plain = described("redis://user:hunter2@redis.internal:6380/3");
        assert_eq!(plain["hostname"], "redis.internal");
        assert_eq!((&plain["port"], &plain["virtual_host"]), (&json!(6380), &json!("3")));
        assert!(!plain.to_string().contains("hunter2"));
        assert_eq!(described("unix:///run/redis.sock?db=2")["port"], Value::Null);
    }

    #[test]
    fn the_system_tells_of_this_process() {
        assert!(resident().unwrap().ends_with("MB"));
        assert!(resource_usage()["maxrss"].as_u64().unwrap() > 0);
    }
}
