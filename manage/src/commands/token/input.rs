//! A token from a file or from standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use settings::SecretString;

use crate::cli::TokenFile;
use crate::failure::Failure;

/// No token of a site is as long; a wrong file may well be.
const LONGEST: u64 = 64 * 1024;

/// The token, without what people copy along with it.
pub(super) fn read(from: &TokenFile) -> Result<SecretString, Failure> {
    let unreadable = |source| Failure::TokenFile { path: from.file.clone(), source };
    let text = if from.file.as_os_str() == "-" {
        from_standard_input().map_err(unreadable)?
    } else {
        let mut text = String::new();
        let file = File::open(&from.file).map_err(unreadable)?;
        file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
        text
    };
    let token = text.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
    if token.is_empty() {
        return Err(Failure::NoToken);
    }
    Ok(SecretString::from(token))
}

/// From a terminal one line, so that nobody has to know how an input is ended.
fn from_standard_input() -> io::Result<String> {
    let input = io::stdin().lock();
    let mut text = String::new();
    if input.is_terminal() {
        let mut output = anstream::stderr().lock();
        write!(output, "Token: ")?;
        output.flush()?;
        BufReader::new(input.take(LONGEST)).read_line(&mut text)?;
    } else {
        input.take(LONGEST).read_to_string(&mut text)?;
    }
    Ok(text)
}
