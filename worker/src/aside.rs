//! Work of the line's own that may take long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes from which on reading or writing takes longer than having another thread go on.
pub(crate) const LONG: usize = 32 << 10;
/// The same for bytes that are only copied.
pub(crate) const LONG_TO_COPY: usize = 1 << 20;

/// Does it here, while another thread goes on with the line.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        // Who runs a worker on one thread only has no other.
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}
