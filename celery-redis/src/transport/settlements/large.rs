//! Settling with large results, which pass through no script.

use redis::Value;

use super::{Settlement, attempt_by_script, names};
use crate::transport::connection::{Backoff, Connection, TransportError};
use crate::transport::keys::Keys;
use crate::transport::operation::{Operation, Reply, StoredResult};
use crate::transport::scripts;
use crate::transport::transaction::Transaction;
use crate::wire::record;

/// Large settlements that are on their way at the same time, each over a connection of its own.
pub(super) const AT_ONCE: usize = 4;
/// How long an upload would live without the script that is in its transaction.
const UPLOAD_SECONDS: u64 = 60;

/// Waits until a large delivery is settled, through any outage.
pub(super) async fn settle(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Reply, TransportError> {
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(connection, keys, settlement).await {
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

/// Settles once, in a transaction or, where Redis does not let us, by a script.
pub(super) async fn attempt(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Reply, TransportError> {
    if let Some(reply) = attempt_in_transaction(connection, keys, settlement).await? {
        return Ok(reply);
    }
    attempt_by_script(connection, keys, settlement).await
}

/// Settles with its large results by plain commands, in one transaction with the script that does
/// the rest: what a script reads, Redis copies and hashes byte by byte. `None` where Redis lets us
/// have no such transaction; then nothing was done.
///
/// What is published cannot be taken back by a script. So whether the delivery is ours is asked
/// before; that it was lost between this question and the transaction does not store anything,
/// but a caller may hear the result of the run that was lost, and later that of the next one.
async fn attempt_in_transaction(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Option<Reply>, TransportError> {
    let results: Vec<&StoredResult> =
        settlement.operations.iter().filter_map(Operation::large_result).collect();
    let mut questions = redis::pipe();
    questions.cmd("HEXISTS").arg(keys.unacked()).arg(&*settlement.tag);
    for result in &results {
        questions.cmd("GETRANGE").arg(&result.key).arg(0).arg(31);
    }
    let answers: Result<Vec<Value>, _> =
        connection.pipeline("look for a delivery", &questions).await;
    let Some(mut answers) = unless_refused(answers)?.map(Vec::into_iter) else { return Ok(None) };
    if answers.next() == Some(Value::Int(0)) && !settlement.tag.is_empty() {
        return Ok(Some(Reply::Lost));
    }
    let uploads: Vec<String> = results.iter().map(|_| keys.upload()).collect();
    let mut script = scripts::whole(scripts::SETTLE_IN_TRANSACTION, &names(keys, &settlement.held));
    script.arg(1).arg(&*settlement.tag).arg(settlement.operations.len());
    let mut uploaded = uploads.iter();
    for operation in &settlement.operations {
        match operation.large_result().and(uploaded.next()) {
            Some(upload) => operation.add_uploaded(&mut script, upload),
            None => operation.add_to(&mut script, keys),
        }
    }
    let seconds = UPLOAD_SECONDS.to_string();
    let mut transaction = Transaction::default();
    for (result, upload) in results.iter().zip(&uploads) {
        let (key, record) = (upload.as_bytes(), &result.record[..]);
        transaction.command([b"SET", key, record, b"EX", seconds.as_bytes()]);
    }
    transaction.add(&script);
    for (result, stored) in results.iter().zip(answers) {
        let succeeded = matches!(stored, Value::BulkString(start) if record::has_succeeded(&start));
        if !succeeded {
            transaction.command([b"PUBLISH", result.key.as_bytes(), &result.record]);
        }
    }
    let replies = connection.transaction("settle a delivery", &transaction).await;
    let Some(replies) = unless_refused(replies)? else { return Ok(None) };
    Ok(match replies.into_iter().nth(uploads.len()) {
        Some(Value::Array(settled)) => {
            Some(settled.into_iter().next().map_or(Reply::Settled, Reply::read))
        }
        _ => Some(Reply::Settled),
    })
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
