//! What stands in a pickle behind its opcodes: lengths, lines, numbers and texts.

use super::{Integer, malformed};
use crate::wire::serializer::SerializerError;

type Result<T, E = SerializerError> = std::result::Result<T, E>;

/// The rest of a pickle.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { rest: pickle }
    }

    pub(super) fn line_bytes(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut_off)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line)
    }

    pub(super) fn line(&mut self) -> Result<&'a str> {
        let line = self.line_bytes()?;
        std::str::from_utf8(line).map_err(|_| malformed("a line is not UTF-8"))
    }

    pub(super) fn utf8(&mut self, length: usize) -> Result<Box<str>> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Into::into).map_err(|_| malformed("a string is not UTF-8"))
    }

    pub(super) fn length1(&mut self) -> Result<usize> {
        self.array().map(|[length]: [u8; 1]| length.into())
    }

    pub(super) fn length4(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    pub(super) fn length8(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn cut_off() -> SerializerError {
    malformed("it ends before its end")
}

/// Two's complement, as Python writes long integers.
pub(super) fn little_endian(bytes: &[u8]) -> Result<Integer> {
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let filler = if is_negative { 0xff } else { 0 };
    let too_long =
        || SerializerError::NotPlain { what: format!("an integer of {} bytes", bytes.len()) };
    let mut wide = [filler; 17];
    let (low, high) = bytes.split_at(bytes.len().min(wide.len()));
    if high.iter().any(|byte| *byte != filler) {
        return Err(too_long());
    }
    wide[..low.len()].copy_from_slice(low);
    let [low @ .., sign] = wide;
    if sign != filler {
        return Err(too_long());
    }
    let low = u128::from_le_bytes(low);
    // The magnitude of the smallest negative number of 128 bits and its sign has 129 bits.
    let magnitude = if is_negative { (!low).checked_add(1).ok_or_else(too_long)? } else { low };
    Ok(Integer { is_negative, magnitude })
}

pub(super) fn decimal(text: &str) -> Result<Integer> {
    let (is_negative, digits) =
        text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("a line is no integer"));
    }
    let magnitude = digits.parse().map_err(|_| SerializerError::NotPlain {
        what: format!("an integer of {} digits", digits.len()),
    })?;
    Ok(Integer { is_negative, magnitude })
}

/// Python's codec `raw-unicode-escape`, as protocol 0 writes text: Latin-1 with `\uXXXX` and
/// `\UXXXXXXXX`.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Result<Box<str>> {
    let no_text = || malformed("a line is no text");
    let line: String = line.iter().map(|byte| char::from(*byte)).collect();
    let line = line.as_str();
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let length = match escape.chars().next() {
            Some('u') => 4,
            Some('U') => 8,
            _ => {
                text.push('\\');
                rest = escape;
                continue;
            }
        };
        let digits = escape.get(1..=length).ok_or_else(no_text)?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| no_text())?;
        text.push(char::from_u32(code).ok_or_else(no_text)?);
        rest = &escape[length + 1..];
    }
    text.push_str(rest);
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_integers_are_twos_complement() {
        for (bytes, is_negative, magnitude) in [
            (&b""[..], false, 0),
            (b"\xff", true, 1),
            (b"\xff\x00", false, 255),
            (b"\x00\x80", true, 32768),
            (&[0xff; 30], true, 1),
        ] {
            assert_eq!(little_endian(bytes).unwrap(), Integer { is_negative, magnitude });
        }
        let largest = [&[0xff; 16][..], &[0]].concat();
        assert_eq!(little_endian(&largest).unwrap().magnitude, u128::MAX);
        assert!(little_endian(&[&[0; 16][..], &[1]].concat()).is_err());
        assert!(little_endian(&[&[0; 16][..], &[0xff]].concat()).is_err());
    }

    #[test]
    fn text_of_protocol_0_is_unescaped() {
        let text = raw_unicode_escape(b"\xe9\\u00e9\\U0001f600\\x").unwrap();
        assert_eq!(&*text, "\u{e9}\u{e9}\u{1f600}\\x");
        assert!(raw_unicode_escape(br"\ud800").is_err());
        assert!(raw_unicode_escape(br"\u00").is_err());
    }
}
