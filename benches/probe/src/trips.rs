//! How long one message takes on an idle queue.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::redis::{RedisError, Replies, Reply, command, connect};
use crate::template::Template;

/// From before the LPUSH until the result is published, with a worker in between.
pub(crate) fn through_worker(
    port: u16,
    template: &Template,
    list: &str,
    first: u64,
    count: u64,
) -> Result<Value, Failure> {
    let (mut producer, mut pushed) = connect(port)?;
    let (mut subscriber, mut published) = connect(port)?;
    let mut buffer = Vec::new();
    command(&mut buffer, &[b"PSUBSCRIBE", b"celery-task-meta-*"]);
    subscriber.write_all(&buffer).map_err(RedisError::from)?;
    published.read()?;

    let mut template = template.clone();
    let mut times = Vec::new();
    for number in first..first + count {
        template.number(number);
        buffer.clear();
        command(&mut buffer, &[b"LPUSH", list.as_bytes(), template.message()]);
        let began = Instant::now();
        producer.write_all(&buffer).map_err(RedisError::from)?;
        while published_id(&mut published)? != template.id() {}
        times.push(began.elapsed());
        pushed.skip(1)?;
    }
    Ok(json!({ "microseconds": microseconds(&times) }))
}

/// The id of the task whose result is published next.
pub(crate) fn published_id(published: &mut Replies) -> Result<Vec<u8>, RedisError> {
    let reply = published.read()?;
    if let Reply::Array(parts) = &reply
        && let Some(Reply::Bulk(channel)) = parts.get(2)
    {
        return Ok(channel[channel.len().saturating_sub(36)..].to_vec());
    }
    Err(RedisError::Unexpected("instead of a published result".to_owned()))
}

/// The three commands of a trip, each sent when the one before was answered.
pub(crate) fn bare(
    port: u16,
    template: &Template,
    list: &str,
    count: u64,
) -> Result<Value, Failure> {
    let (mut writer, mut replies) = connect(port)?;
    let mut template = template.clone();
    let (mut buffer, mut key) = (Vec::new(), Vec::new());
    let mut times = Vec::new();
    for number in 0..count {
        template.number(number);
        template.result_key(&mut key);
        let mut ask = |arguments: &[&[u8]]| {
            buffer.clear();
            command(&mut buffer, arguments);
            writer.write_all(&buffer)?;
            replies.skip(1)
        };
        let began = Instant::now();
        ask(&[b"LPUSH", list.as_bytes(), template.message()])?;
        ask(&[b"RPOP", list.as_bytes()])?;
        ask(&[b"PUBLISH", &key, template.record()])?;
        times.push(began.elapsed());
    }
    Ok(json!({ "microseconds": microseconds(&times) }))
}

pub(crate) fn microseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e6).collect()
}
