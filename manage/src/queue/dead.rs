//! `queue dead`: the messages that nobody can execute.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celery_redis::transport::connection::Connection;
use celery_redis::transport::dead_letters::{DeadLetters, NamedLetter};
use celery_redis::transport::keys::Keys;
use chrono::DateTime;
use serde_json::json;

use crate::cli::{DeadCommand, DeadList, DeadNames};
use crate::failure::Failure;
use crate::report::{self, Report, counted, good, heading, table};
use crate::session::{Session, block_on};

/// More than any broker keeps.
const EVERY: usize = usize::MAX >> 1;

/// What to do with the letters that are named.
#[derive(Clone, Copy)]
enum Fate {
    Retry,
    Drop,
}

pub(crate) fn run(session: &Session, command: &DeadCommand) -> Result<Report, Failure> {
    let (broker, settings) = session.broker()?;
    let keys = Keys::new(&broker.global_keyprefix);
    let connection = Connection::new(settings);
    let letters = DeadLetters::new(&connection, &keys);
    block_on(async {
        match command {
            DeadCommand::List(arguments) => list(&letters, arguments).await,
            DeadCommand::Show { name } => show(&letters, name).await,
            DeadCommand::Retry(names) => decide(&letters, names, Fate::Retry).await,
            DeadCommand::Drop(names) => decide(&letters, names, Fate::Drop).await,
        }
    })
}

async fn list(letters: &DeadLetters<'_>, arguments: &DeadList) -> Result<Report, Failure> {
    let found = letters.list(arguments.limit).await?;
    let all = letters.count().await?;
    let data = json!({ "dead_letters": report::json(&found)?, "total": all });
    if found.is_empty() {
        return Ok(Report::new(data, vec![good("There are no dead letters.")]));
    }
    let mut rows =
        vec![["NAME", "SINCE", "REASON", "QUEUE", "DEATHS", "DETAIL"].map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|NamedLetter { name, letter }| {
        vec![
            name.clone(),
            since(letter.time),
            letter.reason.as_str().to_owned(),
            letter.queue.clone(),
            letter.deliveries.to_string(),
            letter.detail.clone(),
        ]
    }));
    let mut lines = table(&rows);
    lines.push(format!("{} in all", counted(all, "dead letter")));
    Ok(Report::new(data, lines))
}

async fn show(letters: &DeadLetters<'_>, name: &str) -> Result<Report, Failure> {
    let message = letters.message(name).await?.unwrap_or_default();
    let Some(named) = letters.find(name).await? else {
        return Err(Failure::NoDeadLetter { name: name.to_owned() });
    };
    let text = String::from_utf8(message.clone()).ok();
    let mut data = report::json(&named)?;
    data["message"] = json!(text);
    data["message_base64"] = json!(STANDARD.encode(&message));
    let letter = &named.letter;
    let mut lines = vec![
        heading(&named.name),
        format!("reason   {}: {}", letter.reason.as_str(), letter.detail),
        format!("since    {}", since(letter.time)),
        format!("queue    {}", letter.queue),
        format!("deaths   {} processes died with it", letter.deliveries),
        format!("message  {} bytes", message.len()),
    ];
    lines.push(text.unwrap_or_else(|| format!("base64: {}", STANDARD.encode(&message))));
    Ok(Report::new(data, lines))
}

async fn decide(
    letters: &DeadLetters<'_>,
    names: &DeadNames,
    fate: Fate,
) -> Result<Report, Failure> {
    let mut done = Vec::new();
    for letter in chosen(letters, names).await? {
        let ended = match fate {
            Fate::Retry => letters.retry(&letter).await?,
            Fate::Drop => letters.drop(&letter).await?,
        };
        // Another operator may have been faster.
        if ended {
            done.push(letter.name);
        }
    }
    let number = counted(done.len() as u64, "dead letter");
    let (key, line) = match fate {
        Fate::Retry => ("retried", format!("{number} put back into the queue")),
        Fate::Drop => ("dropped", format!("{number} deleted")),
    };
    Ok(Report::new(json!({ key: done }), vec![good(line)]))
}

/// All letters that are meant, or the first name that none has: then nothing is done to any.
async fn chosen(letters: &DeadLetters<'_>, names: &DeadNames) -> Result<Vec<NamedLetter>, Failure> {
    if names.all {
        return Ok(letters.list(EVERY).await?);
    }
    let mut chosen = Vec::with_capacity(names.names.len());
    for name in &names.names {
        let found = letters.find(name).await?;
        chosen.push(found.ok_or_else(|| Failure::NoDeadLetter { name: name.clone() })?);
    }
    Ok(chosen)
}

fn since(epoch: i64) -> String {
    DateTime::from_timestamp(epoch, 0)
        .map_or_else(|| epoch.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
