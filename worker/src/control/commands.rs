//! The table of commands.

use celery_redis::wire::control::Request;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::{Answer, Panel, Refusal, RemoteControl, ok};
use crate::shutdown::Stage;

impl Panel {
    /// Does what a command says.
    pub(super) async fn obey(&self, request: &Request) -> Result<Answer, Refusal> {
        let arguments = Arguments::of(request);
        if let Some(reply) = self.inspect(&request.method, arguments).await? {
            return Ok(Answer::Reply(reply));
        }
        if self.consumer.config.remote_control != RemoteControl::Full {
            return Err(Refusal(format!(
                "this worker obeys only commands that look (WORKER_REMOTE_CONTROL_CHANGES), not {}",
                request.method
            )));
        }
        if request.method == "shutdown" {
            log::warn!("shutdown asked for by remote control");
            self.shutdown.begin(Stage::Warm);
            return Ok(Answer::Silence);
        }
        let reply = self.change(&request.method, arguments).await?;
        reply.map(Answer::Reply).ok_or_else(|| Refusal::raised("KeyError", &request.method))
    }

    /// The commands of `celery inspect`; `None` for any other.
    async fn inspect(&self, method: &str, it: Arguments<'_>) -> Result<Option<Value>, Refusal> {
        Ok(Some(match method {
            "ping" => ok("pong"),
            "clock" => json!({"clock": self.consumer.clock.now()}),
            "active" | "dump_active" => self.active(it),
            "reserved" | "dump_reserved" => self.reserved(),
            "scheduled" | "dump_schedule" => self.scheduled().await?,
            "query_task" => self.query_task(it).await?,
            "registered" | "dump_tasks" => self.registered(it)?,
            "revoked" | "dump_revoked" => json!(self.consumer.revoked.ids()),
            "hello" => self.hello(it).await?,
            "active_queues" => self.active_queues(),
            "stats" => self.stats(),
            "conf" | "dump_conf" => self.conf(),
            "report" => self.report(),
            "memsample" => self.memory_sample(),
            "memdump" => self.memory_dump(),
            _ => return Ok(None),
        }))
    }

    /// The commands of `celery control`, but for shutdown; `None` for any other.
    async fn change(&self, method: &str, it: Arguments<'_>) -> Result<Option<Value>, Refusal> {
        Ok(Some(match method {
            "revoke" => self.revoke(it).await?,
            "terminate" => self.terminate(it).await?,
            "revoke_by_stamped_headers" => self.revoke_by_stamped_headers(it).await?,
            "rate_limit" => self.rate_limit(it)?,
            "time_limit" => self.time_limit(it)?,
            "enable_events" => self.enable_events(),
            "disable_events" => self.disable_events(),
            "heartbeat" => self.heartbeat(),
            "election" => {
                it.require(&["id", "topic"])?;
                Value::Null
            }
            "add_consumer" => self.add_consumer(it).await?,
            "cancel_consumer" => self.cancel_consumer(it).await?,
            "pool_grow" => self.pool_grow(it).await?,
            "pool_shrink" => self.pool_shrink(it).await?,
            "pool_restart" => {
                return Err(Refusal::raised("ValueError", "Pool restarts not enabled"));
            }
            "autoscale" => self.autoscale(it).await?,
            _ => return Ok(None),
        }))
    }
}
