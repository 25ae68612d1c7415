//! Settling in batches: whatever is ready when the connection is free goes in one step.

use tokio::sync::{Mutex, mpsc, oneshot};

use super::connection::{Backoff, Connection, TransportError};
use super::delivery::{Settled, StoredResult};
use super::keys::Keys;
use super::scripts;

/// Deliveries that may wait to be settled; more wait to be accepted.
const CAPACITY: usize = 1024;
/// Most deliveries in one script, so that Redis serves others in between.
const BATCH: usize = 64;
/// Bytes after which a script takes no more: it has to be sent within the time of a command.
const BATCH_BYTES: usize = 4 << 20;

/// What is to be done with one delivery.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) tag: String,
    pub(super) held: String,
    pub(super) messages: Vec<(String, Vec<u8>)>,
    pub(super) result: Option<StoredResult>,
}

impl Settlement {
    fn size(&self) -> usize {
        let messages: usize = self.messages.iter().map(|(_, message)| message.len()).sum();
        messages + self.result.as_ref().map_or(0, |result| result.record.len())
    }
}

type Reply = oneshot::Sender<Result<Settled, TransportError>>;

#[derive(Debug)]
pub(super) struct Settlements {
    sender: mpsc::Sender<(Settlement, Reply)>,
    receiver: Mutex<mpsc::Receiver<(Settlement, Reply)>>,
}

impl Settlements {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Waits until the delivery is settled, through any outage.
    pub(super) async fn settle(&self, settlement: Settlement) -> Result<Settled, TransportError> {
        let (reply, settled) = oneshot::channel();
        // The receiver lives as long as `self`.
        let _ = self.sender.send((settlement, reply)).await;
        // No answer means that the sender of settlements was stopped: this process is ending, and
        // whoever reclaims its deliveries finds this one.
        settled.await.unwrap_or(Ok(Settled::LeaseLost))
    }

    /// Sends settlements in batches; never ends.
    pub(super) async fn run(&self, connection: &Connection, keys: &Keys) {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if receiver.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            while !batch.is_empty() {
                let rest = batch.split_off(fitting(&batch));
                send(connection, keys, std::mem::replace(&mut batch, rest)).await;
            }
        }
    }
}

/// How many of the batch go into one script: one at least.
fn fitting(batch: &[(Settlement, Reply)]) -> usize {
    let mut bytes = 0;
    let count = batch.iter().take_while(|(settlement, _)| {
        let fits = bytes < BATCH_BYTES;
        bytes += settlement.size();
        fits
    });
    count.count().max(1)
}

async fn send(connection: &Connection, keys: &Keys, batch: Vec<(Settlement, Reply)>) {
    let mut script = scripts::SETTLE.prepare_invoke();
    script
        .key(keys.unacked())
        .key(keys.unacked_index())
        .key(keys.dead())
        .key(keys.dead_records())
        .key(keys.dead_messages());
    for (settlement, _) in &batch {
        script.arg(&settlement.tag).arg(&settlement.held).arg(settlement.messages.len());
        for (list, message) in &settlement.messages {
            script.arg(list).arg(message.as_slice());
        }
        script.arg(usize::from(settlement.result.is_some()));
        if let Some(result) = &settlement.result {
            script.arg(&result.key).arg(result.ttl_seconds).arg(&result.record);
        }
    }
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    let settled: Vec<bool> = loop {
        attempts += 1;
        match connection.script("settle deliveries", &script).await {
            Ok(settled) => break settled,
            Err(error) if error.is_outage() => backoff.wait().await,
            Err(error) => {
                let text = error.to_string();
                log::error!(
                    "{} deliveries stay unsettled until this process ends: {text}",
                    batch.len()
                );
                return;
            }
        }
    };
    for ((_, reply), ours) in batch.into_iter().zip(settled) {
        // A tag that is gone after a lost reply was settled by the attempt whose reply was lost.
        let settled = if ours || attempts > 1 { Settled::Done } else { Settled::LeaseLost };
        // A caller that went away needs no answer.
        let _ = reply.send(Ok(settled));
    }
}
