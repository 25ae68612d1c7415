//! The serialisers that kombu knows (`kombu.serialization`).
//!
//! Whatever a body was serialised with, it becomes the JSON text that Python would have written
//! for the same values: tuples are lists, and a datetime, a decimal or bytes are kombu's typed
//! JSON. What Python could not write as JSON either is refused, and so is anything that is no
//! plain data.

mod json_text;
mod msgpack;
mod pickle;
mod yaml;

pub use json_text::MAX_DEPTH;

/// A serialiser of message bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serializer {
    /// kombu's typed JSON.
    Json,
    /// YAML 1.1 as `PyYAML` writes and reads it.
    Yaml,
    /// `MessagePack` without extension types.
    Msgpack,
    /// Python's pickle, plain data only: nothing that a pickle names is ever executed.
    Pickle,
}

/// Why a body cannot become JSON.
#[derive(Debug, thiserror::Error)]
pub enum SerializerError {
    /// The bytes are not of the serialiser.
    #[error("the body is not {}: {detail}", .serializer.name())]
    Malformed {
        /// What it should be.
        serializer: Serializer,
        /// Where, and what is wrong.
        detail: String,
    },
    /// A value that Python has, and JSON has not.
    #[error("the body holds {what}, which is no plain data that JSON could hold")]
    NotPlain {
        /// The value's kind.
        what: String,
    },
    /// A pickle that wants something imported or called.
    #[error("the pickle names {name}, and only plain data is read from a pickle")]
    Forbidden {
        /// Module and name, or the opcode.
        name: String,
    },
    /// Lists in lists without end.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than there is memory for.
    #[error("the body has more than the {most} values that are accepted here")]
    TooManyValues {
        /// The most that are accepted.
        most: usize,
    },
    /// More YAML than its parser has the memory for.
    #[error("the body is longer than the {limit} bytes of YAML that are accepted here")]
    TooMuchYaml {
        /// The most that is accepted.
        limit: usize,
    },
    /// A few bytes that stand for too much.
    #[error("the body is longer than the {limit} bytes of JSON that are accepted here")]
    TooLong {
        /// The most that is accepted.
        limit: usize,
    },
}

impl Serializer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Yaml, Self::Msgpack, Self::Pickle];

    /// The serialiser of a setting, by kombu's name or its content type.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name || known.content_type() == name)
    }

    /// The serialiser of a message's content type.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.content_type() == content_type)
    }

    /// kombu's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Msgpack => "msgpack",
            Self::Pickle => "pickle",
        }
    }

    /// kombu's content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/x-yaml",
            Self::Msgpack => "application/x-msgpack",
            Self::Pickle => "application/x-python-serialize",
        }
    }

    /// The body as JSON text of at most `limit` bytes; JSON itself stays as it is.
    pub fn to_json(self, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, SerializerError> {
        match self {
            Self::Json => Ok(body),
            Self::Yaml => yaml::to_json(&body, limit),
            Self::Msgpack => msgpack::to_json(&body, limit),
            Self::Pickle => pickle::to_json(&body, limit),
        }
    }
}
