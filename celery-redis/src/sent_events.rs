//! Telling monitors of what is sent (Celery's `task_send_sent_event`).

use std::sync::Arc;

use chrono::Local;

use crate::clock::Clock;
use crate::transport::connection::Connection;
use crate::transport::event_dispatcher;
use crate::transport::keys::Keys;
use crate::wire::event::{Happened, Sender, Stamp};
use crate::wire::signature::{Encoded, Producer};

/// Who tells of it: `gen<pid>@<host>`, whichever program sends, as in Celery.
#[derive(Debug, Clone)]
pub struct SentEvents {
    sender: Sender,
    clock: Arc<Clock>,
    keys: Keys,
}

impl SentEvents {
    /// Events of `producer`, stamped with `clock`, to those who listen to the broker of `keys`.
    pub fn new(producer: &Producer, clock: Arc<Clock>, keys: Keys) -> Self {
        Self { sender: Sender::of_sendings(producer), clock, keys }
    }

    /// Tells that `messages` were sent, in one step. They are: an event that is lost is no error.
    pub async fn tell(
        &self,
        connection: &Connection,
        messages: impl IntoIterator<Item = &Encoded>,
    ) {
        let mut announcements = Vec::new();
        for event in messages.into_iter().filter_map(Happened::sent) {
            let stamp = Stamp::at(Local::now(), self.clock.forward());
            match self.sender.task(&event, stamp) {
                Ok(announcement) => announcements.push(announcement),
                Err(error) => log::error!("the event of a sent task is no JSON: {error}"),
            }
        }
        if announcements.is_empty() {
            return;
        }
        let told = event_dispatcher::announce(connection, &self.keys, &announcements).await;
        if let Err(error) = told {
            log::debug!("nobody was told of what was sent: {error}");
        }
    }
}
