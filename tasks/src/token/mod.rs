//! Issuing, checking and revoking single tokens, for support and for tests, by the same rules as
//! the site's Python.
//!
//! A token is a secret: none of this is ever logged or stored.

mod claims;
mod compact;
mod error;
mod examine;
mod issue;
mod refusal;
mod revoke;

pub use error::TokenError;
pub use examine::{Examination, Row, Signer, examine, find};
pub use issue::{Issued, Order, issue};
pub use refusal::Refusal;
pub use revoke::{Revocation, Target, revoke};
