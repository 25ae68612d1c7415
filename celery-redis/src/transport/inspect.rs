//! What an operator asks about the queues.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::connection::{Connection, TransportError};
use super::keys::{Keys, PRIORITY_STEPS};
use super::lease::Description;
use super::waiting_room;

/// The state of the queues at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Per queue, the messages that wait.
    pub queues: Vec<QueueStatus>,
    /// Our worker processes.
    pub workers: Vec<WorkerStatus>,
    /// Messages lent to any worker, Python's included.
    pub unacked: u64,
    /// Of these, lent to workers that are not ours.
    pub unacked_elsewhere: u64,
    /// Messages that wait for their instant.
    pub scheduled: u64,
    /// Messages whose tasks may not begin yet because of a limit.
    pub held_back: Vec<HeldBack>,
    /// Dead letters.
    pub dead_letters: u64,
}

/// One queue.
#[derive(Debug, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Messages in all its lists.
    pub waiting: u64,
    /// Per priority step.
    pub by_priority: BTreeMap<u8, u64>,
    /// Messages of it that our workers hold.
    pub unacked: u64,
}

/// Messages of one task from one queue that wait for the task's limits.
#[derive(Debug, Serialize)]
pub struct HeldBack {
    /// The queue.
    pub queue: String,
    /// The task.
    pub task: String,
    /// How many.
    pub waiting: u64,
}

/// One process of ours.
#[derive(Debug, Serialize)]
pub struct WorkerStatus {
    /// Identity of its lease.
    pub process: String,
    /// Whether its lease runs.
    pub alive: bool,
    /// What it says about itself; absent for one that is being reclaimed.
    #[serde(flatten)]
    pub description: Option<Description>,
    /// Messages that it holds, by queue.
    pub holds: BTreeMap<String, u64>,
}

/// Looks at `queues`, at every queue that a worker consumes, and at every queue bound in kombu.
pub async fn snapshot(
    connection: &Connection,
    keys: &Keys,
    queues: &[String],
) -> Result<Snapshot, TransportError> {
    let workers = workers(connection, keys).await?;
    let mut names: BTreeSet<String> = queues.iter().cloned().collect();
    for worker in &workers {
        names.extend(
            worker.description.iter().flat_map(|description| description.queues.iter().cloned()),
        );
        names.extend(worker.holds.keys().cloned());
    }
    names.extend(bound_queues(connection, keys).await?);
    let mut statuses = Vec::with_capacity(names.len());
    for name in names {
        let mut pipeline = redis::pipe();
        for list in keys.lists(&name) {
            pipeline.llen(list);
        }
        let lengths: Vec<u64> = connection.pipeline("count waiting messages", &pipeline).await?;
        statuses.push(QueueStatus {
            waiting: lengths.iter().sum(),
            by_priority: PRIORITY_STEPS.into_iter().zip(lengths).collect(),
            unacked: workers.iter().filter_map(|worker| worker.holds.get(&name)).sum(),
            name,
        });
    }
    let mut pipeline = redis::pipe();
    pipeline.hlen(keys.unacked()).zcard(keys.scheduled()).zcard(keys.dead());
    let (unacked, scheduled, dead_letters): (u64, u64, u64) =
        connection.pipeline("count messages", &pipeline).await?;
    let ours: u64 = workers.iter().flat_map(|worker| worker.holds.values()).sum();
    Ok(Snapshot {
        queues: statuses,
        workers,
        unacked,
        unacked_elsewhere: unacked.saturating_sub(ours),
        scheduled,
        held_back: held_back(connection, keys).await?,
        dead_letters,
    })
}

/// Who waits for a limit, the queue's and the task's name in order.
async fn held_back(connection: &Connection, keys: &Keys) -> Result<Vec<HeldBack>, TransportError> {
    let mut rooms = waiting_room::rooms(connection, keys).await?;
    rooms.sort();
    let mut held_back = Vec::with_capacity(rooms.len());
    for room in rooms {
        let mut length = redis::cmd("LLEN");
        length.arg(keys.waiting_room(&room.name()));
        let waiting = connection.query("count who waits", &length).await?;
        held_back.push(HeldBack { queue: room.queue, task: room.task, waiting });
    }
    held_back.retain(|room| room.waiting > 0);
    Ok(held_back)
}

/// Our worker processes, and what each holds.
pub async fn workers(
    connection: &Connection,
    keys: &Keys,
) -> Result<Vec<WorkerStatus>, TransportError> {
    let processes: HashMap<String, String> =
        connection.query("list processes", redis::cmd("HGETALL").arg(keys.processes())).await?;
    let mut workers = Vec::with_capacity(processes.len());
    for (process, description) in processes {
        let mut pipeline = redis::pipe();
        pipeline.exists(keys.alive(&process)).hvals(keys.held(&process));
        let (alive, lists): (bool, Vec<String>) =
            connection.pipeline("look at a process", &pipeline).await?;
        let mut holds = BTreeMap::new();
        for list in lists {
            *holds.entry(super::reclaim::queue_of_list(keys, &list)).or_insert(0) += 1;
        }
        workers.push(WorkerStatus {
            process,
            alive,
            description: serde_json::from_str(&description).ok(),
            holds,
        });
    }
    workers.sort_by(|a, b| a.process.cmp(&b.process));
    Ok(workers)
}

/// Queues that kombu has bound, without the reply queues and event queues of single clients.
async fn bound_queues(connection: &Connection, keys: &Keys) -> Result<Vec<String>, TransportError> {
    let (pattern, start) = keys.binding_pattern();
    let mut cursor = 0_u64;
    let mut exchanges = BTreeSet::new();
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
        let (next, found): (u64, Vec<String>) = connection.query("list queues", &command).await?;
        exchanges
            .extend(found.iter().filter_map(|key| key.strip_prefix(&start)).map(ToOwned::to_owned));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let private = |exchange: &str| exchange.contains("pidbox") || exchange.starts_with("celeryev");
    let mut queues = Vec::new();
    for exchange in exchanges.iter().filter(|exchange| !private(exchange)) {
        let members: Vec<String> = connection
            .query(
                "list the queues of an exchange",
                redis::cmd("SMEMBERS").arg(keys.binding(exchange)),
            )
            .await?;
        queues.extend(
            members.iter().filter_map(|member| Keys::bound_queue(member)).map(ToOwned::to_owned),
        );
    }
    Ok(queues)
}
