//! The settings file: flat TOML with the names of the environment variables.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;

/// One line of the settings file.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// Reads the settings of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::SettingsFile { path: path.to_owned(), source })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::SettingsSyntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_at(text, span.start)),
        message: error.message().to_owned(),
    })?;
    let mut settings = Vec::new();
    for (name, value) in table.into_inner() {
        let line = line_at(text, name.span().start);
        let name = name.into_inner().into_owned();
        let value = match value.into_inner() {
            DeValue::String(text) => text.into_owned(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(truth) => truth.to_string(),
            other => {
                return Err(ConfigError::SettingsType {
                    path: path.to_owned(),
                    line,
                    name,
                    found: described(&other),
                });
            }
        };
        settings.push(Setting { name, value, line });
    }
    Ok(settings)
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
        DeValue::Datetime(_) => "a date",
        _ => "a plain value",
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String, usize)>, String> {
        parse(Path::new("settings.toml"), text)
            .map(|settings| settings.into_iter().map(|s| (s.name, s.value, s.line)).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn plain_values_become_text_with_their_lines() {
        let settings = parsed("# ours\nA = \"x\"\nB = 30\n\nC = true\nD = 0.5\n").unwrap();

        let expected = [("A", "x", 2), ("B", "30", 3), ("C", "true", 5), ("D", "0.5", 6)];
        assert_eq!(settings, expected.map(|(n, v, l)| (n.to_owned(), v.to_owned(), l)));
    }

    #[test]
    fn a_table_is_refused_with_its_line() {
        assert_eq!(
            parsed("A = 1\n[worker]\nB = 2\n").unwrap_err(),
            "settings file settings.toml:2: worker is a table: \
             it must be a string, a number or a boolean"
        );
    }

    #[test]
    fn a_syntax_error_names_file_and_line() {
        let error = parsed("A = 1\nB = \n").unwrap_err();

        assert!(error.starts_with("settings file settings.toml:2 is not TOML: "), "{error}");
    }
}
