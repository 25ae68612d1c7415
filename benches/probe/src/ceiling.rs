//! The commands that a task owes Redis, sent without waiting for any reply.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::Failure;
use crate::redis::{RedisError, command, connect};
use crate::template::Template;

/// Bytes for one write.
const AT_ONCE: usize = 1 << 18;
const SECONDS_KEPT: &[u8] = b"86400";

/// What is done for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dues {
    /// Taken, recorded as unacked, its result stored and published, acknowledged
    Result,
    /// Taken, recorded as unacked, acknowledged
    IgnoredResult,
    /// Taken, its result stored: the bytes alone, without safety
    Transfer,
}

impl Dues {
    fn commands(self) -> u64 {
        match self {
            Self::Result => 7,
            Self::IgnoredResult => 5,
            Self::Transfer => 2,
        }
    }
}

/// The seconds that Redis takes for all of it.
pub(crate) fn measure(
    port: u16,
    template: &Template,
    list: &str,
    count: u64,
    dues: Dues,
) -> Result<Value, Failure> {
    let (writer, mut replies) = connect(port)?;
    let (template, list) = (template.clone(), list.to_owned());
    let began = Instant::now();
    let writing = thread::spawn(move || write(writer, template, &list, count, dues));
    let read = replies.skip(count * dues.commands());
    let seconds = began.elapsed().as_secs_f64();
    read?;
    writing.join().map_err(|_| Failure::Writer)??;
    Ok(json!({ "tasks": count, "seconds": seconds }))
}

fn write(
    mut writer: TcpStream,
    mut template: Template,
    list: &str,
    count: u64,
    dues: Dues,
) -> Result<(), RedisError> {
    let list = list.as_bytes();
    let (mut buffer, mut key, mut unacked) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        template.number(number);
        template.result_key(&mut key);
        command(&mut buffer, &[b"RPOP", list]);
        if dues != Dues::Transfer {
            template.unacked(&mut unacked);
            command(&mut buffer, &[b"HSET", b"unacked", template.id(), &unacked]);
            command(&mut buffer, &[b"ZADD", b"unacked_index", b"1764000000.123456", template.id()]);
        }
        if dues != Dues::IgnoredResult {
            command(&mut buffer, &[b"SETEX", &key, SECONDS_KEPT, template.record()]);
        }
        if dues == Dues::Result {
            command(&mut buffer, &[b"PUBLISH", &key, template.record()]);
        }
        if dues != Dues::Transfer {
            command(&mut buffer, &[b"HDEL", b"unacked", template.id()]);
            command(&mut buffer, &[b"ZREM", b"unacked_index", template.id()]);
        }
        if buffer.len() >= AT_ONCE || number == count - 1 {
            writer.write_all(&buffer)?;
            buffer.clear();
        }
    }
    Ok(())
}
