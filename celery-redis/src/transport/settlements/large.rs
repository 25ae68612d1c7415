//! Settling with large results, which pass through no script.

use redis::Value;

use super::{Settlement, attempt_by_script, names};
use crate::transport::audience::Announcing;
use crate::transport::connection::{Backoff, Begun, Connection, TransportError};
use crate::transport::keys::Keys;
use crate::transport::operation::{Operation, Reply, StoredResult};
use crate::transport::scripts;
use crate::transport::transaction::Transaction;
use crate::wire::record;

/// Large settlements that are on their way at the same time, each over a connection of its own.
pub(super) const AT_ONCE: usize = 4;
/// How long an upload would live without the script that is in its transaction.
const UPLOAD_SECONDS: u64 = 60;
/// What Redis is asked for, in errors.
const ACTION: &str = "settle a delivery";

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
async fn attempt_in_transaction(
    connection: &Connection,
    keys: &Keys,
    settlement: &Settlement,
) -> Result<Option<Reply>, TransportError> {
    let large = Large::new(keys, settlement);
    let begun = large.begin(connection).await;
    let Some((found, begun)) = unless_refused(begun)? else { return Ok(None) };
    if found.is_lost {
        return Ok(Some(Reply::Lost));
    }
    unless_refused(large.end(begun, &found).await)
}

/// A settlement whose large results go to keys of their own first.
struct Large<'a> {
    keys: &'a Keys,
    settlement: &'a Settlement,
    results: Vec<&'a StoredResult>,
    uploads: Vec<String>,
    upload_seconds: String,
}

/// What Redis said while the results were on their way.
///
/// What is published cannot be taken back by a script. So whether the delivery is ours is asked
/// before; that it was lost between this question and the end of the transaction does not store
/// anything, but a caller may hear the result of the run that was lost, and later that of the next
/// one. Where nobody listened when that was asked, the script publishes to who does by now.
#[derive(Debug)]
struct Found {
    is_lost: bool,
    /// Of each result, whether there is one already that may not be overwritten.
    succeeded: Vec<bool>,
    announcing: Announcing,
}

impl<'a> Large<'a> {
    fn new(keys: &'a Keys, settlement: &'a Settlement) -> Self {
        let results: Vec<_> =
            settlement.operations.iter().filter_map(Operation::large_result).collect();
        let uploads = results.iter().map(|_| keys.upload()).collect();
        Self { keys, settlement, results, uploads, upload_seconds: UPLOAD_SECONDS.to_string() }
    }

    async fn begin<'b>(
        &'b self,
        connection: &'b Connection,
    ) -> Result<(Found, Begun<'b>), TransportError> {
        let tag = &*self.settlement.tag;
        let mut questions = redis::pipe();
        questions.cmd("HEXISTS").arg(self.keys.unacked()).arg(tag);
        for result in &self.results {
            questions.cmd("GETRANGE").arg(&result.key).arg(0).arg(31);
        }
        let channels: Vec<&str> = self.results.iter().map(|result| &*result.key).collect();
        connection.audience.ask(&mut questions, &channels);
        let mut uploading = Transaction::default();
        for (result, upload) in self.results.iter().zip(&self.uploads) {
            let (key, seconds) = (upload.as_bytes(), self.upload_seconds.as_bytes());
            uploading.command([b"SET", key, &result.record, b"EX", seconds]);
        }
        let (mut answers, begun) = connection.begin(ACTION, questions, uploading).await?;
        let announcing = connection.audience.answered(&answers.split_off(1 + self.results.len()));
        let mut answers = answers.into_iter();
        let exists = answers.next().transpose().map_err(|error| connection.error(ACTION, error))?;
        let is_lost = exists == Some(Value::Int(0)) && !tag.is_empty();
        let succeeded = answers.map(|stored| match stored {
            Ok(Value::BulkString(start)) => Ok(record::has_succeeded(&start)),
            Ok(_) => Ok(false),
            Err(error) => Err(connection.error(ACTION, error)),
        });
        Ok((Found { is_lost, succeeded: succeeded.collect::<Result<_, _>>()?, announcing }, begun))
    }

    async fn end(&self, begun: Begun<'_>, found: &Found) -> Result<Reply, TransportError> {
        let held = names(self.keys, &self.settlement.held);
        let mut script = scripts::whole(scripts::SETTLE_IN_TRANSACTION, &held);
        script.arg(1).arg(&*self.settlement.tag).arg(self.settlement.operations.len());
        let mut uploaded = self.uploads.iter();
        for operation in &self.settlement.operations {
            match operation.large_result().and(uploaded.next()) {
                Some(upload) => operation.add_uploaded(&mut script, upload, found.announcing),
                None => operation.add_to(&mut script, self.keys),
            }
        }
        let mut rest = Transaction::default();
        rest.add(&script);
        for (result, succeeded) in self.results.iter().zip(&found.succeeded) {
            if found.announcing == Announcing::ToSomebody && !succeeded {
                rest.command([b"PUBLISH", result.key.as_bytes(), &result.record]);
            }
        }
        let replies = begun.end(&rest).await?;
        Ok(match replies.into_iter().nth(self.uploads.len()) {
            Some(Value::Array(settled)) => {
                settled.into_iter().next().map_or(Reply::Settled, Reply::read)
            }
            _ => Reply::Settled,
        })
    }
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
            let settlement = storing(&record);
            let large = Large::new(&keys, &settlement);
            let (found, begun) = large.begin(&connection).await.unwrap();
            assert_eq!(found.announcing, Announcing::ToNewcomers);
            if by_pattern {
                channel.psubscribe("res*").unwrap();
            } else {
                channel.subscribe("result").unwrap();
            }

            let settled = large.end(begun, &found).await;

            assert!(matches!(settled, Ok(Reply::Settled)), "{settled:?}");
            let heard: Vec<u8> = channel.get_message().unwrap().get_payload().unwrap();
            assert_eq!(heard, record);
            let (found, begun) = large.begin(&connection).await.unwrap();
            assert_eq!(found.announcing, Announcing::ToSomebody);
            drop(begun);
            let keys_left = server.command("DBSIZE");
            assert!(keys_left.starts_with(":1\r\n"), "what is given up is gone: {keys_left}");
            channel.unsubscribe("result").unwrap();
        }
    }
}
