//! Names and their values, and the reading of one value as what it has to be.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{ConfigError, Origin};
use crate::file;

/// The variable that names the settings file when the command line does not.
const SETTINGS_FILE: &str = "SETTINGS_FILE";

struct Entry {
    /// `None` where the environment holds bytes that are no text.
    value: Option<SecretString>,
    origin: Origin,
}

/// Settings by name. An empty value counts as not set everywhere.
#[derive(Default)]
pub struct Env {
    entries: BTreeMap<String, Entry>,
}

impl fmt::Debug for Env {
    /// Names and origins only: any value may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_map()
            .entries(self.entries.iter().map(|(name, entry)| (name, &entry.origin)))
            .finish()
    }
}

impl Env {
    /// The environment of this process over the settings file, which is `settings_file` or else
    /// the one that the variable `SETTINGS_FILE` names.
    ///
    /// # Errors
    ///
    /// Where the settings file cannot be read or is not flat TOML.
    pub fn load(settings_file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::layered(settings_file, process_environment())
    }

    /// Settings given by the program: for tests.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let entries = pairs.into_iter().map(|(name, value)| {
            let value = Some(SecretString::from(value.into()));
            (name.into(), Entry { value, origin: Origin::Program })
        });
        Self { entries: entries.collect() }
    }

    fn layered(
        settings_file: Option<&Path>,
        environment: BTreeMap<String, Entry>,
    ) -> Result<Self, ConfigError> {
        let mut env = Self { entries: environment };
        let settings_file = match settings_file {
            Some(path) => Some(path.to_owned()),
            None => env.text(SETTINGS_FILE)?.map(PathBuf::from),
        };
        if let Some(path) = settings_file {
            for setting in file::read(&path)? {
                if env.is_set(&setting.name) {
                    continue;
                }
                let entry = Entry {
                    value: Some(SecretString::from(setting.value)),
                    origin: Origin::File { path: path.clone(), line: setting.line },
                };
                env.entries.insert(setting.name, entry);
            }
        }
        Ok(env)
    }

    fn is_set(&self, name: &str) -> bool {
        self.entries
            .get(name)
            .is_some_and(|entry| entry.value.as_ref().is_none_or(|v| !v.expose_secret().is_empty()))
    }

    fn entry(&self, name: &str) -> Result<Option<(&str, &Origin)>, ConfigError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        match &entry.value {
            None => Err(ConfigError::NotText { name: name.to_owned() }),
            Some(value) if value.expose_secret().is_empty() => Ok(None),
            Some(value) => Ok(Some((value.expose_secret(), &entry.origin))),
        }
    }

    fn parsed<T>(
        &self,
        name: &str,
        allowed: impl FnOnce() -> String,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((value, origin)) = self.entry(name)? else { return Ok(None) };
        parse(value.trim()).map(Some).ok_or_else(|| ConfigError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            allowed: allowed(),
            origin: origin.clone(),
        })
    }

    /// The value as it is.
    ///
    /// # Errors
    ///
    /// Where it is not text.
    pub fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.entry(name)?.map(|(value, _)| value.to_owned()))
    }

    /// A whole number within `allowed`.
    ///
    /// # Errors
    ///
    /// Where it is none, or outside of `allowed`.
    pub fn integer(
        &self,
        name: &str,
        allowed: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ConfigError> {
        let described = || match (*allowed.start(), *allowed.end()) {
            (least, i64::MAX) => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let parse = |value: &str| value.parse().ok().filter(|number| allowed.contains(number));
        self.parsed(name, described, parse)
    }

    /// Yes or no: `true`, `yes`, `on`, `1` or `false`, `no`, `off`, `0`, in any case.
    ///
    /// # Errors
    ///
    /// Where it is anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        let described = || "true, yes, on, 1, false, no, off or 0".to_owned();
        self.parsed(name, described, |value| match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        })
    }

    /// A length of time, written as a number of seconds within `allowed`.
    ///
    /// # Errors
    ///
    /// Where it is no number, or outside of `allowed`.
    pub fn seconds(
        &self,
        name: &str,
        allowed: RangeInclusive<f64>,
    ) -> Result<Option<Duration>, ConfigError> {
        let described = || match (*allowed.start(), *allowed.end()) {
            (least, most) if most == f64::MAX => format!("a number of at least {least} seconds"),
            (least, most) => format!("a number from {least} to {most}, in seconds"),
        };
        self.parsed(name, described, |value| {
            let number: f64 = value.parse().ok().filter(|number| allowed.contains(number))?;
            Duration::try_from_secs_f64(number).ok()
        })
    }

    /// One of the given words, in any case, as what it stands for.
    ///
    /// # Errors
    ///
    /// Where it is another word.
    pub fn one_of<T: Clone>(
        &self,
        name: &str,
        allowed: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let described = || {
            let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
            match words.as_slice() {
                [head @ .., last] if !head.is_empty() => {
                    format!("{} or {last}", head.join(", "))
                }
                words => words.concat(),
            }
        };
        self.parsed(name, described, |value| {
            let found = allowed.iter().find(|(word, _)| word.eq_ignore_ascii_case(value))?;
            Some(found.1.clone())
        })
    }

    /// A secret: the value of `name`, or what is in the file that `name` with `_FILE` at its end
    /// names, without the line end after it.
    ///
    /// # Errors
    ///
    /// Where both are set, or the file cannot be read or is empty.
    pub fn secret(&self, name: &str) -> Result<Option<SecretString>, ConfigError> {
        let value = self.entry(name)?.map(|(value, _)| SecretString::from(value));
        match (value, self.text(&format!("{name}_FILE"))?) {
            (Some(_), Some(_)) => Err(ConfigError::SecretTwice { name: name.to_owned() }),
            (Some(value), None) => Ok(Some(value)),
            (None, None) => Ok(None),
            (None, Some(path)) => secret_file(name, Path::new(&path)).map(Some),
        }
    }

    /// The error for the value of `name`, where the caller alone can judge it.
    pub fn invalid(&self, name: &str, allowed: impl Into<String>) -> ConfigError {
        match self.entry(name) {
            Ok(Some((value, origin))) => ConfigError::Invalid {
                name: name.to_owned(),
                value: value.to_owned(),
                allowed: allowed.into(),
                origin: origin.clone(),
            },
            Ok(None) => ConfigError::Missing { name: name.to_owned(), allowed: allowed.into() },
            Err(error) => error,
        }
    }

    /// As [`Env::invalid`], of a secret: the value stays out of the error.
    pub fn invalid_secret(&self, name: &str, allowed: impl Into<String>) -> ConfigError {
        let file = format!("{name}_FILE");
        let (name, entry) = match self.entry(name) {
            Ok(None) => (file.as_str(), self.entry(&file)),
            found => (name, found),
        };
        match entry {
            Ok(Some((_, origin))) => ConfigError::InvalidSecret {
                name: name.to_owned(),
                allowed: allowed.into(),
                origin: origin.clone(),
            },
            Ok(None) => ConfigError::Missing { name: name.to_owned(), allowed: allowed.into() },
            Err(error) => error,
        }
    }
}

fn secret_file(name: &str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::SecretFile {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let text = SecretString::from(text);
    let secret = text.expose_secret().trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(ConfigError::SecretFileEmpty { name: name.to_owned(), path: path.to_owned() });
    }
    Ok(SecretString::from(secret))
}

fn process_environment() -> BTreeMap<String, Entry> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let value = value.into_string().ok().map(SecretString::from);
            Some((name, Entry { value, origin: Origin::Environment }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_is_refused_with_its_name_its_value_and_what_is_allowed() {
        let env = Env::from_pairs([("JWT_MAX_ACTIVE_KEYPAIRS", "0")]);

        assert_eq!(
            env.integer("JWT_MAX_ACTIVE_KEYPAIRS", 1..=i64::MAX).unwrap_err().to_string(),
            "JWT_MAX_ACTIVE_KEYPAIRS=\"0\" (from the program) is not valid: \
             it must be a whole number of at least 1"
        );
    }

    #[test]
    fn an_empty_value_is_not_set() {
        let env = Env::from_pairs([("A", ""), ("B", ""), ("B_FILE", "")]);

        assert_eq!(env.text("A").unwrap(), None);
        assert_eq!(env.integer("A", 0..=9).unwrap(), None);
        assert!(env.secret("B").unwrap().is_none());
    }

    #[test]
    fn words_and_booleans_are_read_in_any_case() {
        let env = Env::from_pairs([("A", "es256"), ("B", "Off"), ("C", "maybe")]);

        assert_eq!(env.one_of("A", &[("auto", 0), ("ES256", 1)]).unwrap(), Some(1));
        assert_eq!(env.boolean("B").unwrap(), Some(false));
        assert_eq!(
            env.one_of("C", &[("auto", 0), ("ES256", 1), ("RS256", 2)]).unwrap_err().to_string(),
            "C=\"maybe\" (from the program) is not valid: it must be auto, ES256 or RS256"
        );
        assert!(env.boolean("C").is_err());
    }

    #[test]
    fn seconds_may_have_a_fraction_and_are_never_negative_or_infinite() {
        let env = Env::from_pairs([("A", "0.25"), ("B", "-1"), ("C", "inf"), ("D", "NaN")]);

        assert_eq!(env.seconds("A", 0.0..=9.0).unwrap(), Some(Duration::from_millis(250)));
        for name in ["B", "C", "D"] {
            assert!(env.seconds(name, 0.0..=f64::MAX).is_err(), "{name}");
            assert!(env.seconds(name, f64::MIN..=f64::INFINITY).is_err(), "{name}");
        }
    }

    #[test]
    fn a_secret_comes_from_its_variable_or_its_file_but_not_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "from the file\n").unwrap();
        let path = file.to_str().unwrap();

        let env = Env::from_pairs([("A_FILE", path), ("B", "direct"), ("B_FILE", path)]);

        assert_eq!(env.secret("A").unwrap().unwrap().expose_secret(), "from the file");
        assert_eq!(
            env.secret("B").unwrap_err().to_string(),
            "B and B_FILE are both set: set one of them"
        );
    }

    #[test]
    fn an_empty_or_missing_secret_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "\n").unwrap();

        let env = Env::from_pairs([
            ("A_FILE", file.to_str().unwrap()),
            ("B_FILE", folder.path().join("nowhere").to_str().unwrap()),
        ]);

        assert!(matches!(env.secret("A"), Err(ConfigError::SecretFileEmpty { .. })));
        assert!(matches!(env.secret("B"), Err(ConfigError::SecretFile { .. })));
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let env = Env::from_pairs([("DATABASE_URL", "mysql://u:hunter2@h/d")]);

        let error = env.invalid_secret("DATABASE_URL", "postgres://… or sqlite://…");

        assert!(!format!("{env:?} {error} {error:?}").contains("hunter2"));
        assert!(error.to_string().contains("DATABASE_URL"));
    }

    #[test]
    fn the_environment_wins_over_the_settings_file_unless_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, "A = 1\nB = 2\nC = 'x'\n").unwrap();
        let environment =
            Env::from_pairs([("A", "7"), ("B", ""), ("SETTINGS_FILE", file.to_str().unwrap())]);

        let env = Env::layered(None, environment.entries).unwrap();

        assert_eq!(env.integer("A", 0..=9).unwrap(), Some(7));
        assert_eq!(env.integer("B", 0..=9).unwrap(), Some(2));
        assert_eq!(
            env.integer("C", 0..=9).unwrap_err().to_string(),
            format!(
                "C=\"x\" (from {}:3) is not valid: it must be a whole number from 0 to 9",
                file.display()
            )
        );
    }

    #[test]
    fn a_missing_settings_file_is_an_error() {
        let error = Env::layered(Some(Path::new("/nowhere/settings.toml")), BTreeMap::new());

        assert!(matches!(error, Err(ConfigError::SettingsFile { .. })));
    }
}
