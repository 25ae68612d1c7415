//! What a pickle stands for, as JSON.

use super::{Id, Node, SerializerError};
use crate::wire::serializer::json_text::JsonText;
use crate::wire::typed_json::TypedValue;

pub(super) fn to_json(nodes: &[Node], root: Id, limit: usize) -> Result<Vec<u8>, SerializerError> {
    let mut json = JsonText::new(limit);
    write(nodes, root, &mut json)?;
    Ok(json.into_bytes())
}

/// How deep is bounded by [`JsonText`], also where a value is inside itself.
fn write(nodes: &[Node], id: Id, json: &mut JsonText) -> Result<(), SerializerError> {
    let not_plain = |what: &str| Err(SerializerError::NotPlain { what: what.to_owned() });
    match &nodes[id as usize] {
        Node::None => json.null(),
        Node::Bool(value) => json.bool(*value),
        Node::Integer(value) => {
            let sign = if value.is_negative { "-" } else { "" };
            json.integer(&format!("{sign}{}", value.magnitude))
        }
        Node::Float(value) => json.float(*value),
        Node::Text(text) => json.text(text),
        Node::Bytes(bytes) => json.typed(&TypedValue::Bytes(bytes.to_vec())),
        Node::List(items) | Node::Tuple(items) => {
            json.begin_list()?;
            for item in items {
                write(nodes, *item, json)?;
            }
            json.end()
        }
        Node::Mapping(pairs) => {
            json.begin_mapping()?;
            for (key, value) in pairs {
                write(nodes, *key, json)?;
                write(nodes, *value, json)?;
            }
            json.end()
        }
        Node::Typed(value) => json.typed(value),
        Node::TimeDelta(_) => not_plain("a datetime.timedelta"),
        Node::TimeZone(_) => not_plain("a datetime.timezone"),
        Node::ZoneInfo(_) => not_plain("a zoneinfo.ZoneInfo"),
        Node::UuidToBe => not_plain("a uuid.UUID without its number"),
        Node::Global(global) => not_plain(&global.name()),
        Node::Foreign(what) => not_plain(what),
    }
}
