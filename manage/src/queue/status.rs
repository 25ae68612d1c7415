//! `queue status`: what waits, what is being worked on, and by whom.

use celery_redis::transport::beat_state::BeatState;
use celery_redis::transport::connection::Connection;
use celery_redis::transport::inspect::{Snapshot, WorkerStatus, snapshot};
use celery_redis::transport::keys::{Keys, PRIORITY_STEPS};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli::QueueStatus;
use crate::failure::Failure;
use crate::report::{Report, bad, counted, good, table, warning};
use crate::session::{Session, block_on};

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    queues: Snapshot,
    /// The beat process that sends the periodic tasks; null where none does.
    beat: Option<String>,
}

pub(crate) fn run(session: &Session, arguments: &QueueStatus) -> Result<Report, Failure> {
    let (broker, settings) = session.broker()?;
    let keys = Keys::new(&broker.global_keyprefix);
    let beats = BeatState::new(Connection::new(settings.clone()), &broker.global_keyprefix);
    let connection = Connection::new(settings);
    let status = block_on(async {
        Ok(Status {
            queues: snapshot(&connection, &keys, &arguments.queues).await?,
            beat: beats.leader().await?,
        })
    })?;
    let lines = lines(&status, Utc::now());
    Report::of(&status, lines)
}

fn lines(status: &Status, now: DateTime<Utc>) -> Vec<String> {
    let Status { queues: found, beat } = status;
    let mut lines = table(&queues(found));
    lines.push(String::new());
    lines.extend(workers(found, now));
    lines.push(match beat {
        Some(beat) => good(format!("beat: {beat}")),
        None => warning("No beat is running: no periodic task is sent."),
    });
    lines.push(String::new());
    lines.push(match found.unacked_elsewhere {
        0 => format!("{} being worked on", counted(found.unacked, "message")),
        elsewhere => format!(
            "{} being worked on, {elsewhere} of these by workers of another kind",
            counted(found.unacked, "message")
        ),
    });
    lines.push(format!("{} waiting for their time", counted(found.scheduled, "message")));
    lines.extend(found.held_back.iter().map(|room| {
        let waiting = counted(room.waiting, "message");
        format!("{waiting} of {} held back by its limits (queue {})", room.task, room.queue)
    }));
    let dead = counted(found.dead_letters, "dead letter");
    lines.push(if found.dead_letters == 0 { dead } else { warning(dead) });
    lines
}

fn queues(found: &Snapshot) -> Vec<Vec<String>> {
    let mut heading = vec!["QUEUE".to_owned(), "WAITING".to_owned()];
    heading.extend(PRIORITY_STEPS.iter().map(|step| format!("PRIORITY {step}")));
    heading.push("BEING WORKED ON".to_owned());
    let row = |queue: &celery_redis::transport::inspect::QueueStatus| {
        let mut row = vec![queue.name.clone(), queue.waiting.to_string()];
        let waiting = |step| queue.by_priority.get(step).copied().unwrap_or(0).to_string();
        row.extend(PRIORITY_STEPS.iter().map(waiting));
        row.push(queue.unacked.to_string());
        row
    };
    std::iter::once(heading).chain(found.queues.iter().map(row)).collect()
}

fn workers(found: &Snapshot, now: DateTime<Utc>) -> Vec<String> {
    if found.workers.is_empty() {
        return vec![warning("No worker of ours is known.")];
    }
    let alive = found.workers.iter().filter(|worker| worker.alive).count();
    let summary = format!("{} alive", counted(alive as u64, "worker"));
    let mut lines = vec![if alive == 0 { bad(summary) } else { good(summary) }];
    lines.extend(found.workers.iter().map(|worker| format!("  {}", described(worker, now))));
    lines
}

fn described(worker: &WorkerStatus, now: DateTime<Utc>) -> String {
    let held: u64 = worker.holds.values().sum();
    let works_on = if worker.holds.is_empty() {
        "works on nothing".to_owned()
    } else {
        let queues: Vec<String> =
            worker.holds.iter().map(|(queue, number)| format!("{queue} {number}")).collect();
        format!("works on {} ({})", counted(held, "message"), queues.join(", "))
    };
    let Some(process) = &worker.description else {
        return format!("{}: {works_on}; {}", worker.process, bad("dead, being taken over"));
    };
    let line = format!(
        "{} (pid {}, {}, up {}): {works_on}; consumes {}",
        process.node,
        process.pid,
        counted(process.concurrency as u64, "slot"),
        elapsed(process.started, now),
        process.queues.join(", "),
    );
    if worker.alive { line } else { format!("{line}; {}", bad("not alive")) }
}

fn elapsed(since: i64, now: DateTime<Utc>) -> String {
    match (now.timestamp() - since).max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use celery_redis::transport::inspect::{HeldBack, QueueStatus};
    use celery_redis::transport::lease::Description;

    use super::*;

    #[test]
    fn the_text_says_what_waits_and_who_works_on_what() {
        let queues = Snapshot {
            queues: vec![QueueStatus {
                name: "celery".to_owned(),
                waiting: 12,
                by_priority: BTreeMap::from([(0, 11), (3, 0), (6, 1), (9, 0)]),
                unacked: 3,
            }],
            workers: vec![
                WorkerStatus {
                    process: "a".to_owned(),
                    alive: true,
                    description: Some(Description {
                        node: "worker@one".to_owned(),
                        pid: 7,
                        queues: vec!["celery".to_owned()],
                        concurrency: 4,
                        started: 0,
                    }),
                    holds: BTreeMap::from([("celery".to_owned(), 3)]),
                },
                WorkerStatus {
                    process: "b".to_owned(),
                    alive: false,
                    description: None,
                    holds: BTreeMap::new(),
                },
            ],
            unacked: 5,
            unacked_elsewhere: 2,
            scheduled: 1,
            held_back: vec![HeldBack {
                queue: "celery".to_owned(),
                task: "t.mail".to_owned(),
                waiting: 40,
            }],
            dead_letters: 0,
        };
        let status = Status { queues, beat: Some("beat@one/7d0a".to_owned()) };

        let text = lines(&status, DateTime::from_timestamp(3 * 3600, 0).unwrap()).join("\n");
        let text = anstream::adapter::strip_str(&text).to_string();

        let expected = "\
QUEUE   WAITING  PRIORITY 0  PRIORITY 3  PRIORITY 6  PRIORITY 9  BEING WORKED ON
celery  12       11          0           1           0           3

1 worker alive
  worker@one (pid 7, 4 slots, up 3 h): works on 3 messages (celery 3); consumes celery
  b: works on nothing; dead, being taken over
beat: beat@one/7d0a

5 messages being worked on, 2 of these by workers of another kind
1 message waiting for their time
40 messages of t.mail held back by its limits (queue celery)
0 dead letters";
        assert_eq!(text, expected);
    }
}
