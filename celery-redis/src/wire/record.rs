//! The bytes in which a record is stored: JSON, or compressed JSON that says so itself
//! (`celery.backends.base`, `compress_payload`, since Celery 5.7).

use std::borrow::Cow;
use std::io;

use super::compression::{Compression, DecompressError};
use super::result::State;

const MAGIC: &[u8] = b"\0celery-compressed\0";
/// No string in Redis is longer.
const LONGEST: usize = 512 << 20;

/// Why the bytes of a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It names a compression that nobody knows.
    #[error("its compression is unknown")]
    Compression,
    /// It is not of the compression that it names.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// A record, compressed.
///
/// A SUCCESS names its compression by kombu's short name where any other state has the MIME type:
/// Python reads both, and a script in Redis, which cannot decompress, can tell which record must
/// not be overwritten.
pub fn compress(record: &[u8], state: &State, compression: Compression) -> io::Result<Vec<u8>> {
    let name = match state {
        State::Success => compression.names().first().copied().unwrap_or_default(),
        _ => compression.mime_type(),
    };
    let compressed = compression.compress(record)?;
    Ok([MAGIC, name.as_bytes(), b"\0", &compressed].concat())
}

/// Whether a record, of which this is the beginning, is a SUCCESS: the answer that `settle.lua`
/// gives itself.
pub fn has_succeeded(start: &[u8]) -> bool {
    if let Some(named) = start.strip_prefix(MAGIC) {
        let name = named.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        return name > 0 && named.get(name) == Some(&0);
    }
    let text = String::from_utf8_lossy(start);
    text.match_indices(r#""status":"#)
        .any(|(at, key)| text[at + key.len()..].trim_start().starts_with(r#""SUCCESS""#))
}

/// The JSON of a record, compressed or not.
pub fn decompress(record: &[u8]) -> Result<Cow<'_, [u8]>, RecordError> {
    let Some(named) = record.strip_prefix(MAGIC) else { return Ok(record.into()) };
    let end = named.iter().position(|byte| *byte == 0).ok_or(RecordError::Compression)?;
    let compression = std::str::from_utf8(&named[..end])
        .ok()
        .and_then(Compression::from_name)
        .ok_or(RecordError::Compression)?;
    Ok(compression.decompress(&named[end + 1..], LONGEST)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_record_is_read_again_and_a_plain_one_stays() {
        let plain = r#"{"status": "SUCCESS"}"#;
        assert_eq!(*decompress(plain.as_bytes()).unwrap(), *plain.as_bytes());
        for compression in Compression::ALL {
            for state in [State::Success, State::Retry] {
                let record = compress(plain.as_bytes(), &state, compression).unwrap();
                assert_eq!(*decompress(&record).unwrap(), *plain.as_bytes());
                assert_eq!(has_succeeded(&record[..32]), state == State::Success);
            }
        }
    }

    #[test]
    fn what_says_that_it_is_compressed_and_is_not_is_an_error() {
        for record in [&b"\0celery-compressed\0"[..], b"\0celery-compressed\0lz4\0x"] {
            assert!(matches!(decompress(record), Err(RecordError::Compression)));
        }
        let cut = decompress(b"\0celery-compressed\0gzip\0x");
        assert!(matches!(cut, Err(RecordError::Decompress(_))));
    }
}
