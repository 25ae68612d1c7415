//! Fills a list.

use std::io::Write;

use serde_json::{Value, json};

use crate::Failure;
use crate::redis::{command, connect};
use crate::template::Template;

const AT_ONCE: u64 = 200;

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
    let last = first + count;
    let mut number = first;
    while number < last {
        let end = last.min(number + AT_ONCE);
        buffer.clear();
        for copy in number..end {
            template.number(copy);
            command(&mut buffer, &[b"LPUSH", list.as_bytes(), template.message()]);
        }
        writer.write_all(&buffer).map_err(crate::redis::RedisError::from)?;
        replies.skip(end - number)?;
        number = end;
    }
    Ok(json!({ "filled": count }))
}
