//! Starting over: the same command line in this process's place.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces the process, its threads with it, by a new one of the same id; why that failed.
///
/// What it still holds comes back when its lease runs out.
pub(crate) fn begin_anew() -> String {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    log::warn!("beginning anew in the same process");
    let error = Command::new(&program).args(arguments).exec();
    format!("{} cannot be run again: {error}", program.display())
}
