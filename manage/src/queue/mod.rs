//! What an operator asks about the queues.

pub(crate) mod status;
