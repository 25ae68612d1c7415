//! What is wrong with a setting, in the words of the person who has to correct it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The environment of the process.
    Environment,
    /// A line of the settings file, counted from 1.
    File {
        /// The settings file, as it was named to the program.
        path: PathBuf,
        /// The line of the name.
        line: usize,
    },
    /// Given by the program itself.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => formatter.write_str("the environment"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Program => formatter.write_str("the program"),
        }
    }
}

/// A setting that the program cannot start with. The value of a secret is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value is not one of those allowed.
    #[error("{name}={value:?} (from {origin}) is not valid: it must be {allowed}")]
    Invalid {
        /// The variable.
        name: String,
        /// What it was set to.
        value: String,
        /// What it may be.
        allowed: String,
        /// Where it was set.
        origin: Origin,
    },
    /// As [`ConfigError::Invalid`], of a variable whose value is not to be shown.
    #[error("the value of {name} (from {origin}) is not valid: it must be {allowed}")]
    InvalidSecret {
        /// The variable.
        name: String,
        /// What it may be.
        allowed: String,
        /// Where it was set.
        origin: Origin,
    },
    /// A variable without which the program has nothing to do.
    #[error("{name} is not set: it must be {allowed}")]
    Missing {
        /// The variable.
        name: String,
        /// What it may be.
        allowed: String,
    },
    /// The environment holds bytes that are no text.
    #[error("{name} (from the environment) is not valid: it must be UTF-8 text")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A secret is given twice, and the two may differ.
    #[error("{name} and {name}_FILE are both set: set one of them")]
    SecretTwice {
        /// The variable, without `_FILE`.
        name: String,
    },
    /// The file of a secret cannot be read.
    #[error("{name}_FILE names {}, which cannot be read", path.display())]
    SecretFile {
        /// The variable, without `_FILE`.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of a secret has nothing in it: most often a secret that was not mounted.
    #[error("{name}_FILE names {}, which is empty: it must hold the secret", path.display())]
    SecretFileEmpty {
        /// The variable, without `_FILE`.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The settings file cannot be read.
    #[error("settings file {} cannot be read", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The settings file is not TOML.
    #[error("settings file {}:{line} is not TOML: {message}", path.display())]
    SettingsSyntax {
        /// The file.
        path: PathBuf,
        /// The line of the mistake, counted from 1.
        line: usize,
        /// What the parser found.
        message: String,
    },
    /// The settings file is not flat: names and plain values only.
    #[error(
        "settings file {}:{line}: {name} is {found}: it must be a string, a number or a boolean",
        path.display()
    )]
    SettingsType {
        /// The file.
        path: PathBuf,
        /// The line of the name, counted from 1.
        line: usize,
        /// The variable.
        name: String,
        /// The TOML type that was found.
        found: &'static str,
    },
}
