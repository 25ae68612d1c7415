//! Settling with large results, which pass through no script.

use redis::Value;

use super::{Settlement, attempt_by_script, names};
use crate::transport::audience::Announcing;
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
/// Where nobody listened when that was asked, the script publishes to who does by now.
async fn attempt_in_transaction(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Option<Reply>, TransportError> {
    let results = large_results(settlement);
    let mut questions = redis::pipe();
    questions.cmd("HEXISTS").arg(keys.unacked()).arg(&*settlement.tag);
    for result in &results {
        questions.cmd("GETRANGE").arg(&result.key).arg(0).arg(31);
    }
    let channels: Vec<&str> = results.iter().map(|result| &*result.key).collect();
    let (answers, announcing) = tokio::join!(
        connection.pipeline::<Vec<Value>>("look for a delivery", &questions),
        connection.audience.ask(connection, &channels),
    );
    let Some(mut answers) = unless_refused(answers)?.map(Vec::into_iter) else { return Ok(None) };
    if answers.next() == Some(Value::Int(0)) && !settlement.tag.is_empty() {
        return Ok(Some(Reply::Lost));
    }
    let succeeded = answers
        .map(|stored| matches!(stored, Value::BulkString(start) if record::has_succeeded(&start)));
    transact(connection, keys, settlement, &succeeded.collect::<Vec<_>>(), announcing).await
}

/// Settles where the results of `succeeded` may not be overwritten.
async fn transact(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
    succeeded: &[bool],
    announcing: Announcing,
) -> Result<Option<Reply>, TransportError> {
    let results = large_results(settlement);
    let uploads: Vec<String> = results.iter().map(|_| keys.upload()).collect();
    let mut script = scripts::whole(scripts::SETTLE_IN_TRANSACTION, &names(keys, &settlement.held));
    script.arg(1).arg(&*settlement.tag).arg(settlement.operations.len());
    let mut uploaded = uploads.iter();
    for operation in &settlement.operations {
        match operation.large_result().and(uploaded.next()) {
            Some(upload) => operation.add_uploaded(&mut script, upload, announcing),
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
    for (result, succeeded) in results.iter().zip(succeeded) {
        if announcing == Announcing::ToSomebody && !succeeded {
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

fn large_results(settlement: &Settlement) -> Vec<&StoredResult> {
    settlement.operations.iter().filter_map(Operation::large_result).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use test_servers::RedisServer;

    use super::*;
    use crate::transport::connection::ConnectionSettings;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn storing(record: &[u8]) -> Settlement {
        let record = record.to_vec();
        let result = StoredResult { key: "result".into(), ttl_seconds: 60, record };
        let operations = vec![Operation::Store(result)];
        Settlement { tag: Arc::default(), held: Arc::default(), operations }
    }

    #[tokio::test]
    async fn who_begins_to_listen_after_redis_was_asked_hears_all_the_same() {
        let server = RedisServer::start();
        let connection = Connection::new(ConnectionSettings::parse(&server.url()).unwrap());
        let keys = Keys::default();
        let mut subscriber = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut channel = subscriber.as_pubsub();
        let record = b"x".repeat(64 << 10);
        for by_pattern in [false, true] {
            assert_eq!(
                connection.audience.ask(&connection, &["result"]).await,
                Announcing::ToNewcomers
            );
            if by_pattern {
                channel.psubscribe("res*").unwrap();
            } else {
                channel.subscribe("result").unwrap();
            }

            let settlement = storing(&record);
            let settled =
                transact(&connection, &keys, &settlement, &[false], Announcing::ToNewcomers).await;

            assert!(matches!(settled, Ok(Some(Reply::Settled))), "{settled:?}");
            let heard: Vec<u8> = channel.get_message().unwrap().get_payload().unwrap();
            assert_eq!(heard, record);
            assert_eq!(
                connection.audience.ask(&connection, &["other", "result"]).await,
                Announcing::ToSomebody
            );
            channel.unsubscribe("result").unwrap();
        }
    }
}
