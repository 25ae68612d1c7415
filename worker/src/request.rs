//! A message as this worker understands it: decoded, and its task found.

use std::sync::Arc;

use bytes::Bytes;
use celery_redis::transport::delivery::Delivery;
use celery_redis::wire::call_record::CallRecord;
use celery_redis::wire::exception::Exception;
use celery_redis::wire::message::{Message, Undecodable};
use celery_redis::wire::result::{Outcome, State};
use celery_task::{Call, Registry, TaskDefinition};
use serde_json::{Value, json};

use crate::config::{ResultDetail, WorkerConfig};
use crate::limits::TimeLimits;
use crate::state::{Reservation, WorkerState};

/// A message that can be executed here.
pub(crate) struct Request {
    pub(crate) message: Message,
    pub(crate) task: TaskDefinition,
    /// Queue that it came from.
    pub(crate) queue: Arc<str>,
    /// The bytes that it was read from, for sending it once more.
    pub(crate) envelope: Bytes,
    /// The call for the result's record, where results are extended.
    pub(crate) call_record: Option<CallRecord>,
    /// Its entry in this process's books.
    pub(crate) reservation: Reservation,
    /// Why it cannot be run here.
    pub(crate) refusal: Option<Exception>,
    /// What its run has sent, for the result.
    pub(crate) children: Vec<Value>,
}

/// A message that cannot.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// Somebody waits for this id.
    Answer { id: String, exception: Exception },
    /// Nobody can be told.
    Bury { detail: String },
}

impl Request {
    /// Reads a delivery and looks its task up.
    pub(crate) fn decode(
        delivery: &Delivery,
        registry: &Registry,
        config: &WorkerConfig,
        state: &Arc<WorkerState>,
    ) -> Result<Box<Self>, Rejection> {
        let message = Message::decode_accepted(delivery.message(), &config.accept)?;
        let known = registry.get(&message.task).cloned();
        let refusal = known.is_none().then(|| {
            log::error!(
                "no task {:?} is registered here; message {} is answered with NotRegistered",
                message.task,
                message.id
            );
            Exception::celery("NotRegistered", &*message.task)
        });
        let (queue, envelope) = (delivery.queue(), delivery.message());
        let call_record = match config.result_detail {
            ResultDetail::Plain => None,
            ResultDetail::WithCall => CallRecord::new(&message, &config.node, queue).ok(),
        };
        Ok(Box::new(Self {
            reservation: state.reserve(&message.task, &message.id, envelope),
            message,
            task: known.unwrap_or_else(TaskDefinition::unknown),
            call_record,
            queue: Arc::clone(queue),
            envelope: envelope.clone(),
            refusal,
            children: Vec::new(),
        }))
    }

    /// The name, or the one that the caller wants shown, and the id, as Celery logs them.
    pub(crate) fn label(&self) -> String {
        let name = self.message.headers.shadow.as_ref().unwrap_or(&self.message.task);
        format!("{name}[{}]", self.message.id)
    }

    /// Whether its outcome is not to be stored: as the caller says, else as the task does. A
    /// failure may have to be stored all the same.
    pub(crate) fn drops(&self, outcome: &Outcome) -> bool {
        let options = &self.task.options;
        let ignores = self.message.headers.ignore_result.or(options.ignore_result);
        let is_error = matches!(outcome.state, State::Failure | State::Revoked);
        let keeps_errors = options.store_errors_even_if_ignored.unwrap_or(false);
        ignores.unwrap_or(false) && !(is_error && keeps_errors)
    }

    /// First task of its workflow.
    pub(crate) fn root_id(&self) -> &str {
        self.message.headers.root_id.as_deref().unwrap_or(&self.message.id)
    }

    /// Signature of the body of the chord whose header it belongs to.
    pub(crate) fn chord(&self) -> Option<Value> {
        let chord = self.message.body.embed.chord.as_ref()?;
        serde_json::from_str(chord.get()).ok()
    }

    /// What an errback is told of it.
    pub(crate) fn described(&self, node: &str) -> Value {
        let headers = &self.message.headers;
        json!({
            "id": self.message.id,
            "task": self.message.task,
            "root_id": headers.root_id,
            "parent_id": headers.parent_id,
            "group": headers.group,
            "retries": headers.retries,
            "hostname": node,
            "delivery_info": {"routing_key": self.queue, "priority": self.message.priority},
        })
    }

    /// The call for the task; its arguments leave the request.
    pub(crate) fn take_call(&mut self, node: &Arc<str>, limits: TimeLimits) -> Call {
        let chord = self.chord();
        let headers = &self.message.headers;
        Call {
            task: Arc::clone(&self.message.task),
            id: Arc::clone(&self.message.id),
            args: std::mem::take(&mut self.message.body.args),
            kwargs: std::mem::take(&mut self.message.body.kwargs),
            retries: headers.retries,
            root_id: headers.root_id.clone(),
            parent_id: headers.parent_id.clone(),
            group: headers.group.clone(),
            group_index: headers.group_index,
            chord,
            eta: headers.eta,
            expires: headers.expires,
            origin: headers.origin.clone(),
            reply_to: self.message.reply_to.clone(),
            hostname: Arc::clone(node),
            queue: Arc::clone(&self.queue),
            redelivered: headers.redelivered,
            priority: self.message.priority,
            replaced_task_nesting: headers.replaced_task_nesting,
            time_limit: limits.hard,
            soft_time_limit: limits.soft,
            envelope: self.envelope.clone(),
        }
    }
}

impl From<Undecodable> for Rejection {
    fn from(undecodable: Undecodable) -> Self {
        let detail = undecodable.to_string();
        match undecodable.id {
            Some(id) => {
                log::error!("{detail}; its caller is told");
                Self::Answer { id, exception: undecodable.error.exception() }
            }
            None => Self::Bury { detail },
        }
    }
}
