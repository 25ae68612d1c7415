//! Memory that holds private keys stays in memory.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Has the kernel write no core file of this process, whatever ends it: its memory may hold a
/// private key at that moment.
pub fn forbid_core_dumps() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        log::warn!("core dumps cannot be switched off: {error}");
    }
}
