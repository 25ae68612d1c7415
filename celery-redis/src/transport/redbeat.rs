//! What celery-redbeat keeps in Redis: read to take it over, never written.

use std::collections::BTreeMap;

use super::connection::{Connection, TransportError};

/// An entry of redbeat as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedbeatEntry {
    /// JSON: name, task, arguments, options, schedule.
    pub definition: String,
    /// JSON: when it ran last.
    pub meta: Option<String>,
}

/// Entries that are read at once.
const CHUNK: usize = 500;

/// Every entry under redbeat's key prefix (`redbeat_key_prefix`, by default `redbeat:`), by key.
///
/// # Errors
///
/// Where Redis does not answer.
pub async fn entries(
    connection: &Connection,
    key_prefix: &str,
) -> Result<BTreeMap<String, RedbeatEntry>, TransportError> {
    // The sorted set names those that are due ever again; disabled ones are in it too.
    let schedule = redis::cmd("ZRANGE").arg(format!("{key_prefix}:schedule")).arg(0).arg(-1).take();
    let keys: Vec<String> = connection.query("list redbeat's entries", &schedule).await?;
    let mut entries = BTreeMap::new();
    for keys in keys.chunks(CHUNK) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("HMGET").arg(key).arg("definition").arg("meta");
        }
        let found: Vec<(Option<String>, Option<String>)> =
            connection.pipeline("read redbeat's entries", &pipeline).await?;
        for (key, (definition, meta)) in keys.iter().zip(found) {
            if let Some(definition) = definition {
                entries.insert(key.clone(), RedbeatEntry { definition, meta });
            }
        }
    }
    Ok(entries)
}
