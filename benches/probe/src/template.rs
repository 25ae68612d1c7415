//! One message of a real Celery producer, of which copies are made that differ in their ids.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

/// Copies whose results `Load` times have an id that begins like this.
pub(crate) const SAMPLED: &str = "5a5a5a5a";
const OTHERS: &str = "00000000";

#[derive(Deserialize)]
struct Source {
    message: String,
    id: String,
    delivery_tag: String,
    /// What the result backend keeps of the task, with the same id.
    record: String,
}

/// Why the file is no template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("the ids are no UUIDs")]
    Ids,
}

/// A text in which every id and delivery tag can be replaced in place: all have one length.
#[derive(Clone)]
struct Text {
    bytes: Vec<u8>,
    ids: Vec<Range<usize>>,
}

impl Text {
    fn new(text: &str, ids: &[&str]) -> Self {
        let mut places = Vec::new();
        for id in ids {
            places.extend(text.match_indices(id).map(|(at, _)| at..at + id.len()));
        }
        Self { bytes: text.as_bytes().to_vec(), ids: places }
    }

    fn with(&mut self, id: &[u8]) -> &[u8] {
        for place in &self.ids {
            self.bytes[place.clone()].copy_from_slice(id);
        }
        &self.bytes
    }
}

/// Makes the copies.
#[derive(Clone)]
pub(crate) struct Template {
    message: Text,
    record: Text,
    id: Vec<u8>,
}

impl Template {
    pub(crate) fn read(path: &Path) -> Result<Self, TemplateError> {
        let source: Source = serde_json::from_str(&fs::read_to_string(path)?)?;
        if [&source.id, &source.delivery_tag].iter().any(|id| id.len() != 36) {
            return Err(TemplateError::Ids);
        }
        Ok(Self {
            message: Text::new(&source.message, &[&source.id, &source.delivery_tag]),
            record: Text::new(&source.record, &[&source.id]),
            id: Vec::with_capacity(36),
        })
    }

    /// Makes the copies from here on those of this number.
    pub(crate) fn number(&mut self, number: u64) {
        self.identify(OTHERS, number);
    }

    /// Like `number`, for a copy that is timed.
    pub(crate) fn number_sampled(&mut self, number: u64) {
        self.identify(SAMPLED, number);
    }

    fn identify(&mut self, kind: &str, number: u64) {
        self.id.clear();
        // Writing to memory does not fail.
        let _ = write!(self.id, "{kind}-0000-4000-8000-{number:012x}");
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(crate) fn message(&mut self) -> &[u8] {
        self.message.with(&self.id)
    }

    /// The message as kombu keeps it while it is lent.
    pub(crate) fn unacked(&mut self, into: &mut Vec<u8>) {
        into.clear();
        into.push(b'[');
        into.extend_from_slice(self.message.with(&self.id));
        into.extend_from_slice(br#", "", "celery"]"#);
    }

    pub(crate) fn record(&mut self) -> &[u8] {
        self.record.with(&self.id)
    }

    /// The key of the result, and the channel that it is published on.
    pub(crate) fn result_key(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(b"celery-task-meta-");
        into.extend_from_slice(&self.id);
    }
}
