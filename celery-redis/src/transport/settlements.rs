//! Settling in batches: whatever is ready when the connection is free goes in one step.

mod large;

use std::sync::Arc;

use redis::Value;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::connection::{Backoff, Connection, TransportError};
use super::keys::Keys;
use super::operation::{Completed, Operation, Reply};
use super::scripts::{self, Call};

/// Deliveries that may wait to be settled; more wait to be accepted.
const CAPACITY: usize = 1024;
/// Most deliveries in one script, so that Redis serves others in between.
const BATCH: usize = 128;
/// Bytes after which a script takes no more: it has to be sent within the time of a command.
const BATCH_BYTES: usize = 4 << 20;

/// What is to be done with one delivery.
#[derive(Debug)]
pub(super) struct Settlement {
    /// Empty where nothing is lent.
    pub(super) tag: Arc<str>,
    pub(super) held: Arc<str>,
    pub(super) operations: Vec<Operation>,
}

impl Settlement {
    fn is_large(&self) -> bool {
        self.operations.iter().any(|operation| operation.large_result().is_some())
    }

    fn size(&self) -> usize {
        self.operations.iter().map(Operation::size).sum()
    }
}

type Sender = oneshot::Sender<Result<Reply, TransportError>>;

#[derive(Debug)]
pub(super) struct Settlements {
    sender: mpsc::Sender<(Settlement, Sender)>,
    receiver: Mutex<mpsc::Receiver<(Settlement, Sender)>>,
    large: Semaphore,
}

impl Settlements {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(receiver), large: Semaphore::new(large::AT_ONCE) }
    }

    /// Waits until the delivery is settled, through any outage.
    pub(super) async fn settle(
        &self,
        connection: &Connection,
        keys: &Keys,
        settlement: Settlement,
    ) -> Result<Reply, TransportError> {
        if settlement.is_large() {
            // Never closed.
            let _permit = self.large.acquire().await.ok();
            // Boxed, because few are: this future is part of every message's.
            return Box::pin(large::settle(connection, keys, &settlement)).await;
        }
        let (reply, settled) = oneshot::channel();
        // The receiver lives as long as `self`.
        let _ = self.sender.send((settlement, reply)).await;
        // No answer means that the sender of settlements was stopped: this process is ending, and
        // whoever reclaims its deliveries finds this one.
        settled.await.unwrap_or(Ok(Reply::Lost))
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

/// Does what follows from a message that is acknowledged already, or from none: through any
/// outage, and in one step.
pub(super) async fn perform(
    connection: &Connection,
    keys: &Keys,
    operations: Vec<Operation>,
) -> Result<Completed, TransportError> {
    let mut backoff = Backoff::default();
    let settlement = Settlement { tag: Arc::default(), held: Arc::default(), operations };
    loop {
        match attempt(connection, keys, &settlement).await {
            Err(error) if error.is_outage() => backoff.wait().await,
            reply => return reply,
        }
    }
}

/// The same once: after an outage error it may have been done or not.
pub(super) async fn perform_once(
    connection: &Connection,
    keys: &Keys,
    operations: Vec<Operation>,
) -> Result<Completed, TransportError> {
    let settlement = Settlement { tag: Arc::default(), held: Arc::default(), operations };
    attempt(connection, keys, &settlement).await
}

async fn attempt(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Completed, TransportError> {
    let reply = if settlement.is_large() {
        large::attempt(connection, keys, settlement).await?
    } else {
        attempt_by_script(connection, keys, settlement).await?
    };
    Ok(match reply {
        Reply::Completes(completed) => completed,
        _ => Completed::default(),
    })
}

/// The settlements, which are of one process, as one call.
fn call(keys: &Keys, batch: &[&Settlement]) -> Call {
    let held = batch.first().map_or("", |settlement| &*settlement.held);
    let mut call = Call::new(&scripts::SETTLE, &names(keys, held));
    call.command.arg(batch.len());
    for settlement in batch {
        call.command.arg(&*settlement.tag);
    }
    for settlement in batch {
        call.command.arg(settlement.operations.len());
        for operation in &settlement.operations {
            operation.add_to(&mut call.command, keys);
        }
    }
    call
}

fn names(keys: &Keys, held: &str) -> [String; 7] {
    [
        keys.unacked(),
        keys.unacked_index(),
        held.to_owned(),
        keys.dead(),
        keys.dead_records(),
        keys.dead_messages(),
        keys.apart(""),
    ]
}

async fn attempt_by_script(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Reply, TransportError> {
    let call = call(keys, &[settlement]);
    let replies: Vec<Value> = connection.call("settle a delivery", &call).await?;
    Ok(replies.into_iter().next().map_or(Reply::Settled, Reply::read))
}

/// How many of the batch go into one script: one at least, and only those of one process.
fn fitting(batch: &[(Settlement, Sender)]) -> usize {
    let mut bytes = 0;
    let held = batch.first().map(|(settlement, _)| &settlement.held);
    let count = batch.iter().take_while(|(settlement, _)| {
        let fits = bytes < BATCH_BYTES && Some(&settlement.held) == held;
        bytes += settlement.size();
        fits
    });
    count.count().max(1)
}

async fn send(connection: &Connection, keys: &Keys, batch: Vec<(Settlement, Sender)>) {
    let settlements: Vec<_> = batch.iter().map(|(settlement, _)| settlement).collect();
    let call = call(keys, &settlements);
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    let replies: Vec<Value> = loop {
        attempts += 1;
        match connection.call("settle deliveries", &call).await {
            Ok(replies) => break replies,
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
    for ((_, sender), reply) in batch.into_iter().zip(replies) {
        let reply = match Reply::read(reply) {
            // A tag that is gone after a lost reply was settled by the attempt that it answered.
            Reply::Lost if attempts > 1 => Reply::Settled,
            reply => reply,
        };
        // A caller that went away needs no answer.
        let _ = sender.send(Ok(reply));
    }
}
