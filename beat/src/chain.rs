//! Errors with their causes.

use std::error::Error;
use std::fmt;

/// An error with what caused it, in one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors say what their source says.
            if !said.contains(&text) {
                write!(formatter, ": {text}")?;
                said = text;
            }
            source = error.source();
        }
        Ok(())
    }
}
