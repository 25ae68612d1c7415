//! Every key and channel that we share with kombu and Celery, and our own.

/// kombu's separator between a queue's name and its priority.
pub(super) const SEPARATOR: &str = "\u{6}\u{16}";

/// Priority steps of a queue's lists, in the order they are served (kombu's `priority_steps`).
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// Names of the broker's keys under one `global_keyprefix`.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys under kombu's `global_keyprefix`, prepended as it is.
    pub fn new(global_keyprefix: &str) -> Self {
        Self { prefix: global_keyprefix.to_owned() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The list of `queue` for messages of `priority`.
    pub fn list(&self, queue: &str, priority: i64) -> String {
        match step(priority) {
            0 => self.key(queue),
            step => format!("{}{queue}{SEPARATOR}{step}", self.prefix),
        }
    }

    /// Every list of `queue`, in the order they are served.
    pub fn lists(&self, queue: &str) -> [String; 4] {
        PRIORITY_STEPS.map(|step| self.list(queue, i64::from(step)))
    }

    /// kombu's hash of delivered, unacknowledged messages.
    pub fn unacked(&self) -> String {
        self.key("unacked")
    }

    /// When each of them was delivered.
    pub fn unacked_index(&self) -> String {
        self.key("unacked_index")
    }

    /// The set of bindings of the direct exchange of a queue's name.
    pub fn binding(&self, exchange: &str) -> String {
        self.key(&format!("_kombu.binding.{exchange}"))
    }

    /// The same in kombu 5.7, which sweeps the other where nobody refreshes it.
    pub fn permanent_binding(&self, exchange: &str) -> String {
        self.key(&format!("_kombu.binding_permanent.{exchange}"))
    }

    /// The member that binds `queue` for messages with `routing_key`.
    pub fn direct_binding(queue: &str, routing_key: &str) -> String {
        format!("{routing_key}{SEPARATOR}{SEPARATOR}{queue}")
    }

    /// The queue in a binding's member.
    pub fn bound_queue(member: &str) -> Option<&str> {
        member.rsplit(SEPARATOR).next().filter(|queue| !queue.is_empty())
    }

    /// The channel of remote control; channels are not per database, so their names are.
    pub fn mailbox(&self, database: i64) -> String {
        self.key(&format!("/{database}.celery.pidbox"))
    }

    /// The channel of the events with this routing key.
    pub fn events(&self, database: i64, routing_key: &str) -> String {
        self.key(&format!("/{database}.{}/{routing_key}", crate::wire::event::EVENT_EXCHANGE))
    }

    /// Sorted set of revoked tasks: id → epoch seconds until which it is remembered.
    pub fn revoked(&self) -> String {
        self.key("_celery_redis.revoked")
    }

    /// Sorted set of revoked stamps: `["name", value]` → epoch seconds until which it is remembered.
    pub fn revoked_stamps(&self) -> String {
        self.key("_celery_redis.revoked_stamps")
    }

    /// Pattern of all bindings, and what precedes the exchange in a match.
    pub fn binding_pattern(&self) -> (String, String) {
        let start = self.key("_kombu.binding.");
        (format!("{}*", glob_escape(&start)), start)
    }

    /// Hash of our processes that hold or may hold deliveries: UUID → description.
    pub fn processes(&self) -> String {
        self.key("_celery_redis.processes")
    }

    /// Present while the process is alive.
    pub fn alive(&self, process: &str) -> String {
        self.key(&format!("_celery_redis.alive.{process}"))
    }

    /// Hash of what a process holds: delivery tag → list.
    pub fn held(&self, process: &str) -> String {
        self.key(&format!("_celery_redis.held.{process}"))
    }

    /// List of one, the message of a delivery that is kept apart; without a tag what all of these
    /// names begin with.
    pub fn apart(&self, tag: &str) -> String {
        self.key(&format!("_celery_redis.apart.{tag}"))
    }

    /// A large value on its way to where a script puts it in the same transaction.
    pub(super) fn upload(&self) -> String {
        self.key(&format!("_celery_redis.upload.{}", uuid::Uuid::new_v4()))
    }

    /// Held by the one worker that reaps just now.
    pub fn reaper(&self) -> String {
        self.key("_celery_redis.reaper")
    }

    /// Sorted set of messages that wait for their instant: tag → epoch seconds.
    pub fn scheduled(&self) -> String {
        self.key("_celery_redis.scheduled")
    }

    /// Their lists and bytes.
    pub fn scheduled_messages(&self) -> String {
        self.key("_celery_redis.scheduled_messages")
    }

    /// Set of the names of waiting rooms in which somebody may wait for a task's limits.
    pub fn waiting_rooms(&self) -> String {
        self.key("_celery_redis.waiting")
    }

    /// List of messages that wait for a task's limits, each with its list; the last one is next.
    pub fn waiting_room(&self, name: &str) -> String {
        self.key(&format!("_celery_redis.waiting.{name}"))
    }

    /// Microseconds since the epoch from which `task` may begin again anywhere.
    pub fn fleet_rate(&self, task: &str) -> String {
        self.key(&format!("_celery_redis.rate.{task}"))
    }

    /// Set of the tags of deliveries that have a place among the runs of `task`.
    pub fn fleet_places(&self, task: &str) -> String {
        self.key(&format!("_celery_redis.places.{task}"))
    }

    /// Sorted set of dead letters: tag → epoch seconds of burial.
    pub fn dead(&self) -> String {
        self.key("_celery_redis.dead")
    }

    /// Why each is dead.
    pub fn dead_records(&self) -> String {
        self.key("_celery_redis.dead_records")
    }

    /// Their original bytes.
    pub fn dead_messages(&self) -> String {
        self.key("_celery_redis.dead_messages")
    }
}

/// The record of a task's state, and the channel that announces it. Not under the broker's prefix.
pub fn task_meta(task_id: &str) -> String {
    format!("celery-task-meta-{task_id}")
}

/// The saved result of a group; with a suffix, the records of the chord whose header it is.
pub fn group_meta(group_id: &str) -> String {
    format!("{GROUP_META}{group_id}")
}

/// The group in such a key.
pub(super) fn group_of_meta(key: &str) -> &str {
    key.strip_prefix(GROUP_META).unwrap_or(key)
}

const GROUP_META: &str = "celery-taskset-meta-";

/// The list that a priority falls into (kombu's `_q_for_pri`).
fn step(priority: i64) -> u8 {
    PRIORITY_STEPS.into_iter().rev().find(|step| i64::from(*step) <= priority).unwrap_or(0)
}

pub(super) fn glob_escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_falls_into_the_list_of_its_step() {
        let keys = Keys::new("px:");
        for (priority, list) in [
            (-1, "px:q"),
            (0, "px:q"),
            (2, "px:q"),
            (3, "px:q\u{6}\u{16}3"),
            (8, "px:q\u{6}\u{16}6"),
            (9, "px:q\u{6}\u{16}9"),
            (255, "px:q\u{6}\u{16}9"),
        ] {
            assert_eq!(keys.list("q", priority), list);
        }
    }

    #[test]
    fn a_binding_names_its_queue() {
        assert_eq!(Keys::bound_queue(&Keys::direct_binding("mails", "mails")), Some("mails"));
    }
}
