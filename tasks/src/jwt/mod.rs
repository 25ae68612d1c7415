//! Key pairs: making, reading, checking and publishing them.

mod algorithm;
mod check;
mod core_dump;
mod encryption;
mod error;
mod fresh;
mod jwks;
mod key_ring;
mod signing_key;
mod verification_key;

pub use algorithm::{Algorithm, AlgorithmChoice};
pub(crate) use check::check_pair;
pub use core_dump::forbid_core_dumps;
pub use error::KeyError;
pub(crate) use fresh::Fresh;
pub use jwks::{Jwks, jwks};
pub(crate) use key_ring::{KeyRing, Record};
pub use signing_key::SigningKey;
pub use verification_key::VerificationKey;
