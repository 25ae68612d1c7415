//! A JSON object whose values keep the bytes they arrived with.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::python_json;

/// Keys in their order of arrival, values untouched: what is not edited goes out as it came in.
///
/// Read from a text, it borrows from it.
#[derive(Debug, Clone, Default)]
pub struct RawMap<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl RawMap<'_> {
    /// The same without the text that it was read from.
    pub fn into_owned(self) -> RawMap<'static> {
        let owned = |(key, value): (Cow<'_, str>, Cow<'_, RawValue>)| {
            (Cow::Owned(key.into_owned()), Cow::Owned(value.into_owned()))
        };
        RawMap(self.0.into_iter().map(owned).collect())
    }

    /// The value's JSON text, if the key is present; the last one where it is there twice, as
    /// Python reads it.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// The value read as `T`; `None` where it is absent or of another type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        self.get(key).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Replaces a value where it stands, or appends it.
    pub fn set<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> serde_json::Result<()> {
        let raw = Cow::Owned(RawValue::from_string(python_json::to_string(value)?)?);
        match self.0.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, present)) => *present = raw,
            None => self.0.push((Cow::Owned(key.to_owned()), raw)),
        }
        Ok(())
    }

    /// Replaces a value where it stands, or puts it behind the key `before`.
    pub fn set_after<T: Serialize + ?Sized>(
        &mut self,
        before: &str,
        key: &str,
        value: &T,
    ) -> serde_json::Result<()> {
        let is_new = self.get(key).is_none();
        self.set(key, value)?;
        let place = self.0.iter().position(|(name, _)| name == before);
        if let Some(place) = place.filter(|_| is_new) {
            self.0[place + 1..].rotate_right(1);
        }
        Ok(())
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// Key and value pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawMap<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMap<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    if pairs.is_empty() {
                        // As many as the headers of a task have.
                        pairs.reserve(24);
                    }
                    pairs.push((key, Cow::Borrowed(value)));
                }
                Ok(RawMap(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl Serialize for RawMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key.as_ref(), value.as_ref())?;
        }
        map.end()
    }
}
