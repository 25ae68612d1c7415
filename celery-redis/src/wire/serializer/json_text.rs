//! JSON text that grows value by value, as Python's kombu writes it, within a limit.

use std::ops::Range;

use super::SerializerError;
use crate::wire::python_json;
use crate::wire::typed_json::TypedValue;

/// How deep lists and mappings may be nested. `serde_json` reads a little more than this.
pub const MAX_DEPTH: usize = 100;

pub(super) struct JsonText {
    text: Vec<u8>,
    limit: usize,
    open: Vec<Container>,
}

/// A list or a mapping that is not closed yet.
enum Container {
    List { items: usize },
    Mapping { keys: usize, key_is_next: bool },
}

/// Where a value stands.
#[derive(PartialEq, Eq)]
enum Place {
    Key,
    Value,
}

impl JsonText {
    pub(super) fn new(limit: usize) -> Self {
        Self { text: Vec::new(), limit, open: Vec::new() }
    }

    /// The whole text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn null(&mut self) -> Result<(), SerializerError> {
        self.word("null")
    }

    pub(super) fn bool(&mut self, value: bool) -> Result<(), SerializerError> {
        self.word(if value { "true" } else { "false" })
    }

    /// An integer in decimal digits, of any length.
    pub(super) fn integer(&mut self, digits: &str) -> Result<(), SerializerError> {
        self.word(digits)
    }

    /// A float; Python writes those that are not finite as words that are no JSON.
    pub(super) fn float(&mut self, value: f64) -> Result<(), SerializerError> {
        if !value.is_finite() {
            return Err(SerializerError::NotPlain { what: format!("the float {value}") });
        }
        self.word(&python_json::float_repr(value))
    }

    pub(super) fn text(&mut self, value: &str) -> Result<(), SerializerError> {
        self.separate()?;
        self.quoted(value)?;
        self.end_of_value();
        Ok(())
    }

    pub(super) fn typed(&mut self, value: &TypedValue) -> Result<(), SerializerError> {
        if self.separate()? == Place::Key {
            return Err(not_a_key(value.type_name()));
        }
        let text = python_json::to_string(value)
            .map_err(|error| SerializerError::NotPlain { what: error.to_string() })?;
        self.push(&text)?;
        self.end_of_value();
        Ok(())
    }

    pub(super) fn begin_list(&mut self) -> Result<(), SerializerError> {
        self.begin("[", Container::List { items: 0 }, "a list")
    }

    pub(super) fn begin_mapping(&mut self) -> Result<(), SerializerError> {
        self.begin("{", Container::Mapping { keys: 0, key_is_next: true }, "a mapping")
    }

    /// Ends the list or the mapping that was begun last.
    pub(super) fn end(&mut self) -> Result<(), SerializerError> {
        match self.open.pop() {
            Some(Container::List { .. }) => self.push("]")?,
            Some(Container::Mapping { .. }) => self.push("}")?,
            None => {}
        }
        self.end_of_value();
        Ok(())
    }

    /// Where a value would begin that is written now, behind whatever separates it.
    pub(super) fn mark(&self) -> usize {
        self.text.len() + self.separator().len()
    }

    /// A value that was written before, once more.
    pub(super) fn copy(&mut self, range: Range<usize>) -> Result<(), SerializerError> {
        if self.separate()? == Place::Key && self.text.get(range.start) != Some(&b'"') {
            return Err(not_a_key("an alias"));
        }
        self.fits(range.len())?;
        self.text.extend_from_within(range);
        self.end_of_value();
        Ok(())
    }

    /// A value without quotes; Python puts them around a key.
    fn word(&mut self, word: &str) -> Result<(), SerializerError> {
        match self.separate()? {
            Place::Key => {
                self.push("\"")?;
                self.push(word)?;
                self.push("\"")?;
            }
            Place::Value => self.push(word)?,
        }
        self.end_of_value();
        Ok(())
    }

    fn quoted(&mut self, value: &str) -> Result<(), SerializerError> {
        self.fits(value.len())?;
        let text = python_json::to_string(value)
            .map_err(|error| SerializerError::NotPlain { what: error.to_string() })?;
        self.push(&text)
    }

    fn begin(
        &mut self,
        bracket: &str,
        container: Container,
        what: &str,
    ) -> Result<(), SerializerError> {
        if self.separate()? == Place::Key {
            return Err(not_a_key(what));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(SerializerError::TooDeep);
        }
        self.open.push(container);
        self.push(bracket)
    }

    fn separator(&self) -> &'static str {
        match self.open.last() {
            None | Some(Container::List { items: 0 } | Container::Mapping { keys: 0, .. }) => "",
            Some(Container::Mapping { key_is_next: false, .. }) => ": ",
            Some(Container::List { .. } | Container::Mapping { .. }) => ", ",
        }
    }

    fn separate(&mut self) -> Result<Place, SerializerError> {
        let separator = self.separator();
        self.push(separator)?;
        Ok(match self.open.last() {
            Some(Container::Mapping { key_is_next: true, .. }) => Place::Key,
            _ => Place::Value,
        })
    }

    fn end_of_value(&mut self) {
        match self.open.last_mut() {
            None => {}
            Some(Container::List { items }) => *items += 1,
            Some(Container::Mapping { keys, key_is_next }) => {
                *keys += usize::from(*key_is_next);
                *key_is_next = !*key_is_next;
            }
        }
    }

    fn push(&mut self, text: &str) -> Result<(), SerializerError> {
        self.fits(text.len())?;
        self.text.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn fits(&self, more: usize) -> Result<(), SerializerError> {
        if self.text.len().saturating_add(more) > self.limit {
            return Err(SerializerError::TooLong { limit: self.limit });
        }
        Ok(())
    }
}

fn not_a_key(what: &str) -> SerializerError {
    SerializerError::NotPlain { what: format!("{what} as the key of a mapping") }
}
