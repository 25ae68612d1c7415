//! `jwks`: the public keys that tokens may have to be verified with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::cli::Jwks;
use crate::failure::Failure;
use crate::report::{self, Report, counted, good};
use crate::session::Session;

pub(crate) fn run(
    session: &Session,
    arguments: &Jwks,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let keys = tasks::jwt::jwks(&session.jwt()?, now)?;
    let number = keys.keys.len();
    let keys = report::json(&keys)?;
    let Some(path) = &arguments.write else {
        let text = format!("{keys:#}");
        return Ok(Report::new(keys, vec![text]));
    };
    replace(path, format!("{keys:#}\n").as_bytes())
        .map_err(|source| Failure::File { path: path.clone(), source })?;
    let line = good(format!("{} written to {}", counted(number as u64, "key"), path.display()));
    Ok(Report::new(json!({ "file": path, "keys": number }), vec![line]))
}

/// Whoever reads the file meets the old content or the new one, whole. A link stays a link, and
/// what is no file, such as a device, is written to and not replaced.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path)?,
        Ok(_) => return OpenOptions::new().write(true).open(path)?.write_all(content),
        Err(_) => path.to_owned(),
    };
    let beside = beside(&path);
    let written = write_new(&beside, content).and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        // The error to tell of is the one before.
        fs::remove_file(&beside).ok();
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
