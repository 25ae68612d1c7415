//! The body of a task message: args, kwargs and embed.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::long_strings::Skeleton;
use super::raw_list::RawList;
use super::raw_map::RawMap;
use super::typed_json::TypedJsonError;
use super::{json_scan, typed_json};

/// `[args, kwargs, embed]` of protocol 2 (`celery.app.amqp`, `as_task_v2`).
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// What happens after the task.
    pub embed: Embed,
}

const SIGNATURES: &str = "a list of signatures";

/// What happens after the task: signatures, kept as the bytes they arrived in.
#[derive(Debug, Clone, Default)]
pub struct Embed {
    /// Sent when it succeeds.
    pub callbacks: Option<Vec<Box<RawValue>>>,
    /// Sent when it fails.
    pub errbacks: Option<Vec<Box<RawValue>>>,
    /// The rest of its chain, last element next.
    pub chain: Option<RawList>,
    /// The body of the chord whose header it belongs to.
    pub chord: Option<Box<RawValue>>,
}

impl Embed {
    fn of(parts: &RawMap<'_>) -> Result<Self, BodyError> {
        parts.iter().try_for_each(|(_, part)| check_typed(part))?;
        let part = |name: &str| parts.get(name).filter(|value| value.get() != "null");
        let list =
            |name: &str| part(name).map(|value| element(name, SIGNATURES, value)).transpose();
        let chain = part("chain").map(|chain| RawList::new(chain).ok_or_else(no_chain));
        Ok(Self {
            callbacks: list("callbacks")?,
            errbacks: list("errbacks")?,
            chain: chain.transpose()?,
            chord: part("chord").map(ToOwned::to_owned),
        })
    }

    /// Whether nothing follows the task.
    pub fn is_empty(&self) -> bool {
        self.callbacks.as_ref().is_none_or(Vec::is_empty)
            && self.errbacks.as_ref().is_none_or(Vec::is_empty)
            && self.chain.as_ref().is_none_or(RawList::is_empty)
            && self.chord.is_none()
    }
}

/// Why a body is not one of a task message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON at all.
    #[error("the body is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// A float that JSON cannot hold, though Python writes it.
    #[error("the body is no JSON: NaN and Infinity are words of Python's")]
    NotFinite(#[source] serde_json::Error),
    /// An integer that would be read as another one.
    #[error("an integer in {0} has more than 64 bits; send it as text or as a Decimal")]
    Integer(&'static str),
    /// Typed JSON that kombu could not read either.
    #[error("the body's typed JSON cannot be read: {0}")]
    Typed(#[from] TypedJsonError),
    /// JSON of another shape.
    #[error("the body must be [args, kwargs, embed]: {0}")]
    Shape(String),
}

/// The three parts, in one pass over the bytes.
#[derive(Deserialize)]
struct Parts<'a>(
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] Option<RawMap<'a>>,
);

impl Body {
    /// Reads a protocol 2 body. Null is an embed in which nothing follows.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        if let Some(body) = Skeleton::of(bytes).and_then(|skeleton| Self::restored(&skeleton)) {
            return Ok(body);
        }
        let Ok(Parts(args, kwargs, embed)) = serde_json::from_slice(bytes) else {
            return Err(complaint(bytes));
        };
        Ok(Self {
            args: arguments(args)?,
            kwargs: keywords(kwargs)?,
            embed: Embed::of(&embed.unwrap_or_default())?,
        })
    }

    /// The same from what is left without the long strings, if all of these are in arguments.
    fn restored(skeleton: &Skeleton<'_>) -> Option<Self> {
        let Parts(args, kwargs, embed) = serde_json::from_str(&skeleton.text).ok()?;
        let embed = embed.unwrap_or_default();
        if !embed.iter().all(|(_, part)| Skeleton::is_whole(part.get())) {
            return None;
        }
        let (mut args, mut kwargs) = (list(args).ok()?, mapping(kwargs).ok()?);
        args.iter_mut().chain(kwargs.values_mut()).try_for_each(|value| skeleton.restore(value))?;
        args.iter().chain(kwargs.values()).try_for_each(typed_json::check).ok()?;
        Some(Self { args, kwargs, embed: Embed::of(&embed).ok()? })
    }
}

/// What is the matter with a body that has not the three parts.
fn complaint(bytes: &[u8]) -> BodyError {
    let found = || {
        let parts: &RawValue = json(bytes)?;
        let parts: Vec<&RawValue> = serde_json::from_str(parts.get())
            .map_err(|_| BodyError::Shape("it is no list".to_owned()))?;
        let [args, kwargs, embed] = parts.as_slice() else {
            return Err(BodyError::Shape(format!("it has {} elements", parts.len())));
        };
        arguments(args)?;
        keywords(kwargs)?;
        element::<Option<RawMap<'_>>>("embed", "a mapping of signatures", embed)
    };
    let shape = || BodyError::Shape("it is something else".to_owned());
    found().err().unwrap_or_else(shape)
}

/// Reads JSON bytes, and says what is the matter with those that only Python takes for JSON.
pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BodyError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let is_pythons = std::str::from_utf8(bytes).is_ok_and(json_scan::has_words_for_floats);
        if is_pythons { BodyError::NotFinite(error) } else { BodyError::NotJson(error) }
    })
}

fn no_chain() -> BodyError {
    BodyError::Shape(format!("chain must be {SIGNATURES}"))
}

/// Positional arguments.
pub(super) fn arguments(args: &RawValue) -> Result<Vec<Value>, BodyError> {
    let args = list(args)?;
    args.iter().try_for_each(typed_json::check)?;
    Ok(args)
}

fn list(args: &RawValue) -> Result<Vec<Value>, BodyError> {
    check_integers("args", args)?;
    element("args", "a list", args)
}

/// Keyword arguments.
pub(super) fn keywords(kwargs: &RawValue) -> Result<Map<String, Value>, BodyError> {
    let kwargs = mapping(kwargs)?;
    kwargs.values().try_for_each(typed_json::check)?;
    Ok(kwargs)
}

fn mapping(kwargs: &RawValue) -> Result<Map<String, Value>, BodyError> {
    check_integers("kwargs", kwargs)?;
    element("kwargs", "a mapping", kwargs)
}

fn check_integers(part: &'static str, value: &RawValue) -> Result<(), BodyError> {
    if json_scan::has_too_large_integer(value.get()) {
        return Err(BodyError::Integer(part));
    }
    Ok(())
}

/// What is kept as it came holds no typed value that nobody could read later.
pub(super) fn check_typed(raw: &RawValue) -> Result<(), BodyError> {
    if !raw.get().contains("__type__") {
        return Ok(());
    }
    let value = serde_json::from_str(raw.get()).map_err(BodyError::NotJson)?;
    Ok(typed_json::check(&value)?)
}

pub(super) fn element<'a, T: Deserialize<'a>>(
    name: &str,
    expected: &str,
    value: &'a RawValue,
) -> Result<T, BodyError> {
    serde_json::from_str(value.get()).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => BodyError::Shape(format!("{name} must be {expected}")),
        _ => BodyError::NotJson(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_shape_is_named() {
        for (bytes, complaint) in [
            (&b"[[1], {}]"[..], "it has 2 elements"),
            (b"{}", "it is no list"),
            (b"[1, {}, {}]", "args must be a list"),
            (b"[[], [], {}]", "kwargs must be a mapping"),
            (b"[[], {}, []]", "embed must be a mapping of signatures"),
            (b"[[18446744073709551616], {}, {}]", "send it as text or as a Decimal"),
            (b"[[], {\"n\": [-9223372036854775809]}, {}]", "send it as text or as a Decimal"),
            (b"[[NaN], {}, {}]", "NaN and Infinity are words of Python's"),
            (br#"[[{"__type__": "moon", "__value__": 1}], {}, {}]"#, "bytes, base64"),
            (br#"[[], {}, {"chord": {"__type__": "moon", "__value__": 1}}]"#, "bytes, base64"),
        ] {
            let error = Body::decode(bytes).unwrap_err().to_string();
            assert!(error.ends_with(complaint), "{error}");
        }
        assert!(matches!(Body::decode(b""), Err(BodyError::NotJson(_))));
        assert!(matches!(Body::decode(b"[1,"), Err(BodyError::NotJson(_))));
    }

    #[test]
    fn a_long_body_is_read_like_a_short_one() {
        let long = "x".repeat(64 << 10);
        let chord = format!(r#"{{"task": "t", "args": ["{long}"]}}"#);
        for (json, chord) in [
            (format!(r#"[["{long}", 1], {{"a": {{"b": ["{long}"]}}}}, null]"#), None),
            (
                format!(r#"[["{long}", 1], {{"a": {{"b": ["{long}"]}}}}, {{"chord": {chord}}}]"#),
                Some(chord),
            ),
        ] {
            let body = Body::decode(json.as_bytes()).unwrap();
            assert_eq!(body.args, [Value::from(long.as_str()), 1.into()]);
            assert_eq!(body.kwargs["a"]["b"][0], long.as_str());
            assert_eq!(body.embed.chord.map(|chord| chord.get().to_owned()), chord);
        }
        for (json, complaint) in [
            (format!(r#"[["{long}", 18446744073709551616], {{}}, {{}}]"#), "as a Decimal"),
            (format!(r#"[[], {{"{long}": "{long}", "a": NaN}}, {{}}]"#), "words of Python's"),
            (format!(r#"[["{long}"], [], {{}}]"#), "kwargs must be a mapping"),
            (format!(r#"[[{{"__type__": "moon", "__value__": "{long}"}}], {{}}, {{}}]"#), "base64"),
        ] {
            let error = Body::decode(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_null_embed_is_an_empty_one() {
        assert!(Body::decode(b"[[], {}, null]").unwrap().embed.is_empty());
    }
}
