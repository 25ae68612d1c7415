//! Fills a list.

use std::io::Write;

use serde_json::{Value, json};

use crate::Failure;
use crate::redis::{RedisError, command, connect};
use crate::template::Template;

/// Bytes that are sent before their replies are read.
const AT_ONCE: usize = 1 << 18;

/// Pushes copies `first` .. `first + count` of the message onto the list.
pub(crate) fn fill(
    port: u16,
    template: &Template,
    list: &str,
    first: u64,
    count: u64,
) -> Result<Value, Failure> {
    let (mut writer, mut replies) = connect(port)?;
    let mut template = template.clone();
    let mut buffer = Vec::new();
    let mut unanswered = 0;
    for number in first..first + count {
        template.number(number);
        command(&mut buffer, &[b"LPUSH", list.as_bytes(), template.message()]);
        unanswered += 1;
        if buffer.len() >= AT_ONCE {
            writer.write_all(&buffer).map_err(RedisError::from)?;
            replies.skip(unanswered)?;
            buffer.clear();
            unanswered = 0;
        }
    }
    writer.write_all(&buffer).map_err(RedisError::from)?;
    replies.skip(unanswered)?;
    Ok(json!({ "filled": count }))
}
