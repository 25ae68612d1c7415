//! Base64, as which bodies travel in envelopes, by the widest instructions that the processor has.

use std::sync::LazyLock;

use base64::engine::general_purpose::PAD;
use base64::{DecodeError, Engine};

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

/// The body that a text stands for.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(text)
}
