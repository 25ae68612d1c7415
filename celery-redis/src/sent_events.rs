//! Telling monitors of what a client sends (Celery's `task_send_sent_event`).

use std::sync::Arc;

use chrono::Local;

use crate::clock::Clock;
use crate::transport::publisher::Publisher;
use crate::wire::event::{Happened, Sender, Stamp};
use crate::wire::signature::{Encoded, Producer};

/// Who tells of it.
#[derive(Debug, Clone)]
pub(crate) struct SentEvents {
    sender: Sender,
    clock: Arc<Clock>,
}

impl SentEvents {
    /// Events of `producer`, as Celery's clients send them.
    pub(crate) fn new(producer: &Producer, clock: Arc<Clock>) -> Self {
        let sender = Sender { node: producer.origin.clone(), pid: std::process::id() };
        Self { sender, clock }
    }

    /// Tells that `messages` were sent. They are: an event that is lost is no error.
    pub(crate) async fn tell(&self, publisher: &Publisher, messages: &[Encoded]) {
        for event in messages.iter().filter_map(Happened::sent) {
            let stamp = Stamp::at(Local::now(), self.clock.forward());
            let told = match self.sender.task(&event, stamp) {
                Ok(announcement) => publisher.announce(&announcement).await,
                Err(error) => {
                    log::error!("the event of a sent task is no JSON: {error}");
                    continue;
                }
            };
            if let Err(error) = told {
                log::debug!("nobody was told that {} was sent: {error}", event.uuid);
            }
        }
    }
}
