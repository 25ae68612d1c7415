//! Base64, as which bodies travel in envelopes, by the widest instructions that the processor has.

use std::sync::LazyLock;

use base64::engine::general_purpose::PAD;
use base64::{DecodeError, DecodeSliceError, Engine};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Fastest = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Fastest = base64::engine::GeneralPurpose;

static BASE64: LazyLock<Fastest> = LazyLock::new(|| {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return base64::engine::Simd::standard(PAD);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, PAD);
});

/// A body as the text that stands for it.
pub(super) fn encode(body: impl AsRef<[u8]>) -> String {
    BASE64.encode(body)
}

/// Appends the text that stands for a body.
pub(super) fn encode_onto(body: &[u8], text: &mut String) {
    BASE64.encode_string(body, text);
}

/// Characters that are decoded at once, in whole fours.
const PIECE: usize = 24 << 10;

/// The body that a text stands for.
///
/// A long one is decoded piece by piece into a small buffer: whoever decodes it at once has to have
/// all of its memory zeroed before, page by page by the system.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if text.len() <= PIECE {
        return BASE64.decode(text);
    }
    let mut body = Vec::with_capacity(text.len().div_ceil(4) * 3);
    let mut buffer = [0; PIECE / 4 * 3];
    let mut pieces = text.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let length = BASE64.decode_slice(piece, &mut buffer).map_err(|error| match error {
            DecodeSliceError::DecodeError(error) => error,
            // There is room for as many bytes as a piece can stand for.
            DecodeSliceError::OutputSliceTooSmall => DecodeError::InvalidPadding,
        })?;
        if pieces.peek().is_some() && length < buffer.len() {
            return Err(DecodeError::InvalidPadding);
        }
        body.extend_from_slice(&buffer[..length]);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_are_decoded_like_short_ones() {
        for length in [0, 1, PIECE / 4 * 3, PIECE / 4 * 3 + 1, PIECE, 100_000, 100_001, 100_002] {
            let body: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            assert_eq!(decode(encode(&body).as_bytes()).unwrap(), body);
        }
    }

    #[test]
    fn what_is_no_base64_is_none_wherever_it_stands() {
        let text = encode(vec![0; PIECE * 2]);
        for at in [0, PIECE - 1, PIECE, text.len() / 2, text.len() - 1] {
            let mut broken = text.clone();
            broken.replace_range(at..=at, "!");
            assert!(decode(broken.as_bytes()).is_err(), "{at}");
        }
        let mut padded = text.clone();
        padded.replace_range(PIECE - 2..PIECE, "==");
        assert!(decode(padded.as_bytes()).is_err());
        assert!(decode(&text.as_bytes()[1..]).is_err());
    }
}
