//! The log: one line per event on standard error, with UTC time stamps.

use env_logger::{Builder, Target, TimestampPrecision};
use log::LevelFilter;

/// Starts the log of this process. `RUST_LOG` decides what is shown; without it, `level` does,
/// and without that `info`. Later calls change nothing.
pub fn init(level: Option<&str>) {
    let parsed = level.map(parse_level);
    let level = match parsed {
        Some(Ok(level)) => level,
        _ => LevelFilter::Info,
    };
    init_with(level.as_str());
    if let Some(Err(message)) = parsed {
        log::warn!("{message}; using info");
    }
}

/// As [`init`], with filters in the form of `RUST_LOG` in place of a level:
/// `warn,celery_redis=off`.
pub fn init_with(filters: &str) {
    let mut builder = Builder::new();
    // Not both: what the filters switch off, RUST_LOG could not switch on again.
    if std::env::var_os("RUST_LOG").is_none_or(|own| own.is_empty()) {
        builder.parse_filters(filters);
    }
    builder
        .parse_env("RUST_LOG")
        .format_timestamp(Some(TimestampPrecision::Millis))
        .target(Target::Stderr);
    if builder.try_init().is_err() {
        log::debug!("the log was started before");
    }
}

/// A level by its name in Rust or in Celery, in any case: for the command line to refuse another.
///
/// # Errors
///
/// A sentence that names the levels there are.
pub fn parse_level(name: &str) -> Result<LevelFilter, String> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::Off),
        "critical" | "fatal" | "error" => Ok(LevelFilter::Error),
        "warning" | "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err(format!(
            "{name:?} is not a log level: it must be error, warning, info, debug, trace or off"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celerys_names_of_levels_are_known() {
        assert_eq!(parse_level("WARNING"), Ok(LevelFilter::Warn));
        assert_eq!(parse_level("critical"), Ok(LevelFilter::Error));
        assert!(parse_level("loud").is_err());
    }
}
