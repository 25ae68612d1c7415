//! Fetching: from a queue's lists into this process's hands, in one step.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::watch;

use super::apart::Apart;
use super::arrival::Arrivals;
use super::connection::{Connection, TransportError};
use super::delivery::{Delivery, Origin};
use super::keys::Keys;
use super::lease::{Description, News, Process};
use super::reclaim::sequence;
use super::scripts::Call;
use super::settlements::Settlements;
use super::{apart, reclaim, scripts};
use crate::wire::envelope::{Redelivery, envelope_of_unacked, mark_redelivered, unacked_suffix};

/// Bytes after which one claim takes no more: its reply has to arrive within the time of a command.
pub(super) const CLAIM_BYTES: usize = 4 << 20;

/// How a worker consumes.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Queues, served in this order within each priority.
    pub queues: Vec<String>,
    /// kombu's `global_keyprefix`.
    pub global_keyprefix: String,
    /// How long a process may be silent before others take what it holds.
    pub lease: Duration,
    /// How often a message is delivered to processes that die with it before it is a dead letter.
    pub max_deliveries: u32,
    /// Dead letters kept; beyond it the oldest are dropped.
    pub dead_letters_kept: usize,
    /// What to tell people about this process.
    pub description: Description,
}

/// The consuming side of the queues, shared by all parts of one worker.
#[derive(Debug)]
pub struct Broker {
    connection: Arc<Connection>,
    /// For the lease, and for what people ask and say: nothing that tasks do holds it up.
    beside: Arc<Connection>,
    keys: Keys,
    options: BrokerOptions,
    consumed: RwLock<Arc<Consumed>>,
    process: RwLock<Arc<Process>>,
    /// Slots, as people are told.
    pub(super) concurrency: AtomicUsize,
    sequence: AtomicU64,
    /// Deliveries numbered below this, and not live, are settled, or their claim failed. One that
    /// failed may still be under way, and be executed at any time.
    concluded: AtomicU64,
    /// Held by the one claim that is under way.
    claiming: tokio::sync::Mutex<()>,
    live: Mutex<HashSet<Arc<str>>>,
    pub(super) apart: Apart,
    arrivals: Arrivals,
    pub(super) settlements: Settlements,
    pub(super) deferred: tokio::sync::Notify,
    pub(super) news: watch::Sender<Option<News>>,
    /// Microseconds that Redis's clock is ahead of ours.
    pub(super) clock_ahead: AtomicI64,
}

/// The queues that are consumed now.
#[derive(Debug)]
pub(super) struct Consumed {
    queues: Vec<String>,
    /// Every list of theirs, in the order they are served.
    pub(super) lists: Vec<List>,
}

impl Consumed {
    fn new(queues: Vec<String>, keys: &Keys) -> Self {
        let lists = (0..4)
            .flat_map(|step| queues.iter().map(move |queue| (step, queue)))
            .map(|(step, queue)| List {
                key: keys.lists(queue)[step].as_str().into(),
                queue: queue.as_str().into(),
                suffix: unacked_suffix(queue),
            })
            .collect();
        Self { queues, lists }
    }

    fn keys(&self) -> Vec<String> {
        self.lists.iter().map(|list| list.key.to_string()).collect()
    }
}

/// One list of a queue.
#[derive(Debug)]
pub(super) struct List {
    pub(super) key: Arc<str>,
    pub(super) queue: Arc<str>,
    pub(super) suffix: String,
}

/// What a claim found.
#[derive(Debug)]
pub enum Claim {
    /// Messages, each recorded as this process's.
    Deliveries(Vec<Delivery>),
    /// The lease is gone; renew before the next claim.
    LeaseGone,
}

/// A claim that is under way; when it is dropped, what it took is live, or was lost on its way.
pub(super) struct Claiming<'a> {
    broker: &'a Broker,
    first: u64,
    count: u64,
    _lock: tokio::sync::MutexGuard<'a, ()>,
}

impl Claiming<'_> {
    /// The tag of its delivery number `index`.
    pub(super) fn tag(&self, process: &Process, index: u64) -> String {
        // What differs comes first: Redis compares tags.
        format!("{}.{}", self.first + index, process.id)
    }

    /// The same for one that is kept apart; `settle.lua` knows it by its tag.
    pub(super) fn tag_apart(&self, process: &Process, index: u64) -> String {
        format!("{}.apart", self.tag(process, index))
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        let end = self.first.saturating_add(self.count);
        self.broker.concluded.fetch_max(end, Ordering::Relaxed);
    }
}

impl Broker {
    /// A consumer of `options.queues`; nothing is sent before [`Broker::register`].
    ///
    /// The lease is renewed over `beside`, a connection to the same Redis (the same one, where
    /// nothing can hold that up).
    pub fn new(
        connection: Arc<Connection>,
        beside: Arc<Connection>,
        options: BrokerOptions,
    ) -> Arc<Self> {
        let keys = Keys::new(&options.global_keyprefix);
        let consumed = Consumed::new(options.queues.clone(), &keys);
        let arrivals = Arrivals::new(Arc::clone(&connection), &consumed.keys());
        Arc::new(Self {
            process: RwLock::new(Arc::new(Process::new(&keys))),
            settlements: Settlements::new(),
            connection,
            beside,
            keys,
            consumed: RwLock::new(Arc::new(consumed)),
            concurrency: AtomicUsize::new(options.description.concurrency),
            options,
            sequence: AtomicU64::new(0),
            concluded: AtomicU64::new(0),
            claiming: tokio::sync::Mutex::default(),
            live: Mutex::default(),
            apart: Apart::default(),
            arrivals,
            deferred: tokio::sync::Notify::new(),
            news: watch::Sender::new(None),
            clock_ahead: AtomicI64::new(0),
        })
    }

    /// Takes up to `limit` messages, recording each as held by this process in the same step.
    /// Model step: `claim`.
    ///
    /// Must not be cancelled: what was taken would come back only with the next renewal.
    pub async fn claim(self: &Arc<Self>, limit: usize) -> Result<Claim, TransportError> {
        let consumed = self.consumed();
        if let Some(claim) = self.claim_apart(&consumed, limit).await? {
            return Ok(claim);
        }
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let claiming = self.begin_claim(limit).await;
        let process = self.process();
        let (unacked, unacked_index) = (self.keys.unacked(), self.keys.unacked_index());
        let lists = consumed.lists.iter().map(|list| &*list.key);
        let keys: Vec<&str> = [&*process.alive, &unacked, &unacked_index, &process.held]
            .into_iter()
            .chain(lists)
            .collect();
        let mut call = Call::new(&scripts::CLAIM, &keys);
        call.arg(limit).arg(format!(".{}", process.id)).arg(claiming.first).arg(CLAIM_BYTES);
        for list in &consumed.lists {
            call.arg(&list.suffix);
        }
        let reply = self.connection.call("fetch messages", &call).await;
        let deliveries = reply.map(|reply| self.received(&process, &consumed, &claiming, reply));
        drop(claiming);
        if let Ok(Some(deliveries)) = &deliveries {
            self.apart.look_at(deliveries);
        }
        Ok(deliveries?.map_or(Claim::LeaseGone, Claim::Deliveries))
    }

    /// The deliveries in a claim's reply; `None` for a process whose lease is gone.
    fn received(
        self: &Arc<Self>,
        process: &Arc<Process>,
        consumed: &Consumed,
        claiming: &Claiming<'_>,
        reply: Value,
    ) -> Option<Vec<Delivery>> {
        let Value::Array(reply) = reply else {
            return None;
        };
        let mut fields = reply.into_iter();
        let mut deliveries = Vec::with_capacity(fields.len() / 2);
        let mut tags = (0..).map(|index| claiming.tag(process, index));
        while let (Some(Value::Int(list)), Some(Value::BulkString(message)), Some(tag)) =
            (fields.next(), fields.next(), tags.next())
        {
            let list = &consumed.lists[usize::try_from(list).unwrap_or(1).saturating_sub(1)];
            deliveries.push(self.lend(
                process,
                tag.into(),
                Arc::clone(&list.key),
                Arc::clone(&list.queue),
                message.into(),
                Origin::Queue,
            ));
        }
        Some(deliveries)
    }

    /// A delivery that Redis has recorded as ours.
    pub(super) fn lend(
        self: &Arc<Self>,
        process: &Arc<Process>,
        tag: Arc<str>,
        list: Arc<str>,
        queue: Arc<str>,
        message: Bytes,
        origin: Origin,
    ) -> Delivery {
        self.live().insert(Arc::clone(&tag));
        Delivery::new(Arc::clone(self), Arc::clone(process), tag, list, queue, message, origin)
    }

    /// Numbers for up to `count` deliveries that are about to be recorded as ours. One claim is
    /// under way at a time, so that whatever is numbered lower is known or lost.
    pub(super) async fn begin_claim(&self, count: u64) -> Claiming<'_> {
        let lock = self.claiming.lock().await;
        let first = self.sequence.fetch_add(count, Ordering::Relaxed);
        Claiming { broker: self, first, count, _lock: lock }
    }

    /// Ends when a message may be waiting in one of the lists. The message stays where it is.
    pub async fn message_waiting(&self) {
        self.arrivals.wait().await;
    }

    /// Puts back what Redis has as ours and we do not have. Model step: `return`.
    ///
    /// That is what a claim took whose reply never reached us, and what we settled before Redis
    /// lost its latest writes (a crash without fsync, a failover to a replica that lagged).
    ///
    /// To be called after a failed claim and before the next one. Each renewal does it again: a
    /// claim that was given up may be executed long after that, when the network lets it through.
    pub async fn return_unknown_claims(&self) -> Result<usize, TransportError> {
        let concluded = self.claims_concluded();
        if concluded == 0 {
            return Ok(0);
        }
        let process = self.process();
        let mut unknown = reclaim::held(&self.beside, &process).await?;
        unknown.retain(|(tag, _)| self.is_unknown(tag, concluded));
        let mut returned = 0;
        for delivery in reclaim::read(&self.beside, &self.keys, &unknown).await? {
            let queue = self.queue_of(&delivery.list);
            let message = envelope_of_unacked(&delivery.record, &queue).unwrap_or(delivery.record);
            let mut script = scripts::REQUEUE.prepare_invoke();
            script
                .key(self.keys.unacked())
                .key(self.keys.unacked_index())
                .key(&*process.held)
                .key(self.keys.apart(&delivery.tag))
                .key(&delivery.list)
                .arg(&delivery.tag)
                .arg(mark_redelivered(&message, Redelivery::Restored))
                .arg("head");
            returned += self.beside.script::<usize>("return a message", &script).await?;
        }
        Ok(returned)
    }

    /// The number below which deliveries belong to claims that are over.
    pub(super) fn claims_concluded(&self) -> u64 {
        self.concluded.load(Ordering::Relaxed)
    }

    /// Whether we do not have a delivery that Redis has as ours, of a claim that was over
    /// (numbered below `concluded`) before Redis was asked.
    pub(super) fn is_unknown(&self, tag: &str, concluded: u64) -> bool {
        sequence(tag) < concluded && !self.live().contains(tag)
    }

    /// The queues that are consumed now, in the order they are served.
    pub fn queues(&self) -> Vec<String> {
        self.consumed().queues.clone()
    }

    /// Consumes one more queue, after all others; whether that is a change.
    pub fn add_queue(&self, queue: &str) -> bool {
        self.change_queues(|queues| {
            let new = !queues.iter().any(|known| known == queue);
            if new {
                queues.push(queue.to_owned());
            }
            new
        })
    }

    /// Consumes a queue no more; whether that is a change. What was taken from it is done.
    pub fn cancel_queue(&self, queue: &str) -> bool {
        self.change_queues(|queues| {
            let before = queues.len();
            queues.retain(|known| known != queue);
            queues.len() < before
        })
    }

    fn change_queues(&self, change: impl FnOnce(&mut Vec<String>) -> bool) -> bool {
        let mut current = self.consumed.write().unwrap_or_else(PoisonError::into_inner);
        let mut queues = current.queues.clone();
        let changed = change(&mut queues);
        if changed {
            *current = Arc::new(Consumed::new(queues, &self.keys));
            self.arrivals.watch_only(&current.keys());
        }
        changed
    }

    fn consumed(&self) -> Arc<Consumed> {
        Arc::clone(&self.consumed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what has been settled; runs until the broker is closed.
    pub async fn send_settlements(&self) {
        self.settlements.run(&self.connection, &self.keys).await;
    }

    /// Watches the lists for [`Broker::message_waiting`]; never ends.
    pub async fn watch_lists(&self) {
        self.arrivals.watch().await;
    }

    /// The connection that all parts of the line share.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The connection for what has to go on while tasks hold up every thread of the line.
    pub fn beside(&self) -> &Arc<Connection> {
        &self.beside
    }

    /// Names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How this worker consumes.
    pub fn options(&self) -> &BrokerOptions {
        &self.options
    }

    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new identity, unless another part has already taken one.
    pub(super) fn replace_process(&self, old: &Arc<Process>, new: Arc<Process>) {
        let mut current = self.process.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, old) {
            *current = new;
        }
    }

    pub(super) fn forget(&self, tag: &str) {
        self.live().remove(tag);
        if apart::is_apart(tag) {
            self.apart.forget(tag);
        }
    }

    pub(super) fn queue_of(&self, list: &str) -> Arc<str> {
        self.consumed().lists.iter().find(|known| *known.key == *list).map_or_else(
            || reclaim::queue_of_list(&self.keys, list).into(),
            |known| Arc::clone(&known.queue),
        )
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<str>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
