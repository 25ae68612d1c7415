//! Asking the others at the start what they know (`celery.worker.consumer.mingle`): a Python worker
//! keeps what was revoked in its memory only.

use std::time::Duration;

use celery_redis::transport::connection::TransportError;
use celery_redis::transport::mailbox::Inquiry;
use celery_redis::wire::control::ReplyTo;
use celery_redis::wire::hello::{Hello, Neighbour};
use chrono::Utc;
use tokio::time::Instant;
use uuid::Uuid;

use super::Panel;

/// How long the slowest may take to reply, as with Celery.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most ids that are told, Celery's own limit.
const TOLD: usize = 50_000;
/// When replies that came too late are dropped.
const LATE: Duration = Duration::from_secs(5);

impl Panel {
    /// Takes over what the others know, and moves on as soon as all who listen have replied; a
    /// worker that is alone waits for nobody. `None` where they cannot be asked.
    pub(super) async fn mingle(&self) -> Option<Inquiry> {
        let (beside, keys) = (self.consumer.broker.beside(), self.consumer.broker.keys());
        let node = &self.consumer.config.node;
        let mut inquiry = match Inquiry::open(beside, keys, node, PATIENCE).await {
            Ok(inquiry) => inquiry,
            Err(error) => {
                log::debug!("no neighbour could be asked: {error}");
                return None;
            }
        };
        let heard = self.hear(&mut inquiry).await;
        match heard.and(inquiry.close().await) {
            Ok(()) => Some(inquiry),
            Err(error) => {
                log::debug!("asking the neighbours was interrupted: {error}");
                None
            }
        }
    }

    /// Drops what has come after all, and then rests. Never ends.
    pub(super) async fn tidy(&self, inquiry: Option<Inquiry>) {
        if let Some(mut inquiry) = inquiry {
            tokio::time::sleep(LATE).await;
            if let Err(error) = inquiry.close().await {
                log::debug!("late replies of neighbours are left behind: {error}");
            }
        }
        std::future::pending::<()>().await;
    }

    async fn hear(&self, inquiry: &mut Inquiry) -> Result<(), TransportError> {
        let consumer = &self.consumer;
        let node = &*consumer.config.node;
        let revoked = consumer.revoked.ids();
        let ticket = Uuid::new_v4().to_string();
        let reply_to: ReplyTo = inquiry.reply_to().clone();
        #[allow(clippy::cast_precision_loss)]
        let now = Utc::now().timestamp_micros() as f64 / 1e6;
        let hello = Hello {
            from_node: node,
            revoked: &revoked[revoked.len().saturating_sub(TOLD)..],
            ticket: &ticket,
            reply_to: &reply_to,
            clock: consumer.clock.forward(),
            expires: now + PATIENCE.as_secs_f64(),
        };
        let question = match hello.encode() {
            Ok(question) => question,
            Err(error) => {
                log::error!("the question to the neighbours is no JSON: {error}");
                return Ok(());
            }
        };
        let deadline = Instant::now() + PATIENCE;
        // We listen, too, and reply to ourselves.
        let listeners = inquiry.ask(&question).await?;
        let (mut replies, mut neighbours) = (0, 0);
        while replies < listeners {
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                break;
            }
            let Some(reply) = inquiry.reply(time).await? else { break };
            let Some(nodes) = hello.decode_reply(&reply) else { continue };
            replies += 1;
            for neighbour in nodes.iter().filter(|neighbour| neighbour.node != node) {
                neighbours += 1;
                self.learn(neighbour).await?;
            }
        }
        match neighbours {
            0 => log::info!("mingle: all alone"),
            count => log::info!("mingle: sync with {count} nodes"),
        }
        Ok(())
    }

    async fn learn(&self, neighbour: &Neighbour) -> Result<(), TransportError> {
        let consumer = &self.consumer;
        if let Some(clock) = neighbour.clock {
            consumer.clock.adjust(clock);
        }
        let learnt = consumer.revoked.add_unknown(&consumer.broker, &neighbour.revoked).await?;
        if learnt > 0 {
            log::info!("{} told of {learnt} revoked tasks", neighbour.node);
        }
        Ok(())
    }
}
