//! Settling in batches: whatever is ready when the connection is free goes in one step.

use redis::{Cmd, Value};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::connection::{Backoff, Connection, TransportError};
use super::keys::Keys;
use super::operation::{Completed, Operation, Reply, StoredResult};
use super::scripts::{self, Call};
use crate::wire::record;

/// Deliveries that may wait to be settled; more wait to be accepted.
const CAPACITY: usize = 1024;
/// Most deliveries in one script, so that Redis serves others in between.
const BATCH: usize = 128;
/// Bytes after which a script takes no more: it has to be sent within the time of a command.
const BATCH_BYTES: usize = 4 << 20;
/// Large settlements that are on their way at the same time: each is in memory more than once.
const LARGE_AT_ONCE: usize = 4;
/// How long an upload would live without the script that is in its transaction.
const UPLOAD_SECONDS: u64 = 60;

/// What is to be done with one delivery.
#[derive(Debug)]
pub(super) struct Settlement {
    /// Empty where nothing is lent.
    pub(super) tag: String,
    pub(super) held: String,
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
        Self { sender, receiver: Mutex::new(receiver), large: Semaphore::new(LARGE_AT_ONCE) }
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
            return settle_large(connection, keys, &settlement).await;
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
    let settlement = Settlement { tag: String::new(), held: String::new(), operations };
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
    let settlement = Settlement { tag: String::new(), held: String::new(), operations };
    attempt(connection, keys, &settlement).await
}

async fn attempt(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Completed, TransportError> {
    let reply = if settlement.is_large() {
        attempt_either_way(connection, keys, settlement).await?
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
    let held = batch.first().map_or("", |settlement| settlement.held.as_str());
    let mut call = Call::new(&scripts::SETTLE, &names(keys, held));
    call.command.arg(batch.len());
    for settlement in batch {
        call.command.arg(&settlement.tag);
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

/// Waits until a large delivery is settled, through any outage.
async fn settle_large(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Reply, TransportError> {
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt_either_way(connection, keys, settlement).await {
            Err(error) if error.is_outage() => backoff.wait().await,
            Err(error) => {
                log::error!("a delivery stays unsettled until this process ends: {error}");
                return Ok(Reply::Lost);
            }
            // A tag that is gone after a lost reply was settled by the attempt that it answered.
            Ok(Reply::Lost) if attempts > 1 => return Ok(Reply::Settled),
            Ok(reply) => return Ok(reply),
        }
    }
}

async fn attempt_either_way(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Reply, TransportError> {
    if let Some(reply) = attempt_large(connection, keys, settlement).await? {
        return Ok(reply);
    }
    attempt_by_script(connection, keys, settlement).await
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

/// Settles with its large results by plain commands, in one transaction with the script that does
/// the rest: what a script reads, Redis copies and hashes byte by byte. `None` where Redis lets us
/// have no such transaction; then nothing was done.
///
/// What is published cannot be taken back by a script. So whether the delivery is ours is asked
/// before; that it was lost between this question and the transaction does not store anything,
/// but a caller may hear the result of the run that was lost, and later that of the next one.
async fn attempt_large(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Option<Reply>, TransportError> {
    let results: Vec<&StoredResult> =
        settlement.operations.iter().filter_map(Operation::large_result).collect();
    let mut questions = redis::pipe();
    questions.cmd("HEXISTS").arg(keys.unacked()).arg(&settlement.tag);
    for result in &results {
        questions.cmd("GETRANGE").arg(&result.key).arg(0).arg(31);
    }
    let answers: Result<Vec<Value>, _> =
        connection.pipeline("look for a delivery", &questions).await;
    let Some(mut answers) = unless_refused(answers)?.map(Vec::into_iter) else { return Ok(None) };
    if answers.next() == Some(Value::Int(0)) && !settlement.tag.is_empty() {
        return Ok(Some(Reply::Lost));
    }
    let mut transaction = redis::pipe();
    transaction.atomic();
    let mut uploads = Vec::with_capacity(results.len());
    for result in &results {
        let upload = keys.upload();
        let mut set = large_command("SET", result);
        set.arg(&upload).arg(&result.record).arg("EX").arg(UPLOAD_SECONDS);
        transaction.add_command(set);
        uploads.push(upload);
    }
    let mut script = scripts::whole(scripts::SETTLE_IN_TRANSACTION, &names(keys, &settlement.held));
    script.arg(1).arg(&settlement.tag).arg(settlement.operations.len());
    let mut uploaded = uploads.iter();
    for operation in &settlement.operations {
        match operation.large_result().and(uploaded.next()) {
            Some(upload) => operation.add_uploaded(&mut script, upload),
            None => operation.add_to(&mut script, keys),
        }
    }
    transaction.add_command(script);
    for (result, stored) in results.iter().zip(answers) {
        let succeeded = matches!(stored, Value::BulkString(start) if record::has_succeeded(&start));
        if !succeeded {
            let mut publish = large_command("PUBLISH", result);
            publish.arg(&result.key).arg(&result.record);
            transaction.add_command(publish);
        }
    }
    let replies: Result<Vec<Value>, _> =
        connection.pipeline("settle a delivery", &transaction).await;
    let Some(replies) = unless_refused(replies)? else { return Ok(None) };
    Ok(match replies.into_iter().nth(uploads.len()) {
        Some(Value::Array(settled)) => {
            Some(settled.into_iter().next().map_or(Reply::Settled, Reply::read))
        }
        _ => Some(Reply::Settled),
    })
}

/// A command that is about to be given a result's record; it is copied once.
fn large_command(name: &str, result: &StoredResult) -> Cmd {
    let mut command = Cmd::with_capacity(5, result.record.len() + 256);
    command.arg(name);
    command
}

fn unless_refused<T>(reply: Result<T, TransportError>) -> Result<Option<T>, TransportError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_outage() => Err(error),
        Err(error) => {
            log::debug!("a large result goes the slow way: {error}");
            Ok(None)
        }
    }
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
