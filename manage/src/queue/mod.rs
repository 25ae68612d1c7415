//! What an operator asks about the queues.

pub(crate) mod dead;
pub(crate) mod status;
