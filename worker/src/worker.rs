//! One worker process: its parts, their beginning and their end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use celery_redis::transport::broker::{Broker, BrokerOptions};
use celery_redis::transport::connection::{
    Backoff, Connection, ConnectionOptions, ConnectionSettings, TransportError, UrlError,
};
use celery_redis::transport::event_dispatcher::EventDispatcher;
use celery_redis::transport::lease::Description;
use celery_redis::transport::publisher::Publisher;
use celery_redis::transport::result_backend::ResultBackend;
use celery_redis::transport::server::{self, ServerError};
use celery_redis::wire::event::{Sender, Sign};
use celery_redis::wire::signature::Producer;
use celery_redis::{Client, Clock};
use celery_task::{Registry, TaskApp, TaskAppError, TaskOptions};
use chrono::Utc;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::config::{RateLimits, WorkerConfig};
use crate::consumer::Consumer;
use crate::control::{Panel, RemoteControl};
use crate::events::{EventQueue, Events, Sendings};
use crate::limits::Limits;
use crate::revoked::RevokedTasks;
use crate::running::Running;
use crate::shutdown::{Shutdown, Stage};
use crate::side::SideThread;
use crate::slots::Slots;
use crate::state::WorkerState;
use crate::stuck::{Finish, StuckSlots};
use crate::task_threads::TaskThreads;
use crate::waiting_room::{CalledInto, Doors};
use crate::{heartbeat, lease_keeper, promoter, reaper, waiting_room};

/// A worker that is ready to begin.
pub struct Worker {
    config: WorkerConfig,
    registry: Registry,
    connection: Arc<Connection>,
    backend: Arc<Connection>,
    threads: TaskThreads,
    state: Arc<WorkerState>,
}

/// Why a worker cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A URL names no Redis.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The Redis is of a kind that cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Redis refuses what a worker has to do.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The system has no thread left.
    #[error("no thread for tasks, or for the lease, remote control and events: {0}")]
    Thread(std::io::Error),
    /// The task library could not be set up.
    #[error(transparent)]
    App(#[from] TaskAppError),
}

impl Worker {
    /// A worker for the tasks of `registry`.
    pub fn new(config: WorkerConfig, mut registry: Registry) -> Result<Self, WorkerError> {
        registry.set_defaults(&config.tasks);
        registry.adjust_options(|task, options| {
            let options = config.annotations.laid_over(task, options);
            match config.rate_limits {
                RateLimits::Enabled => options,
                RateLimits::Disabled => TaskOptions { fleet_rate_limit: None, ..options },
            }
        });
        let broker = connection_settings(&config.broker, &config.broker.url)?;
        let backend = match &config.broker.result_backend {
            Some(url) => Some(connection_settings(&config.broker, url)?),
            None => None,
        };
        let connection = Arc::new(Connection::new(broker.clone()));
        let backend = match backend.filter(|backend| !backend.same_database(&broker)) {
            Some(settings) => Arc::new(Connection::new(settings)),
            None => Arc::clone(&connection),
        };
        let threads = TaskThreads::start(&registry).map_err(WorkerError::Thread)?;
        Ok(Self { config, registry, connection, backend, threads, state: WorkerState::new() })
    }

    /// The books, for whoever watches the worker from outside its runtime.
    pub(crate) fn state(&self) -> Arc<WorkerState> {
        Arc::clone(&self.state)
    }

    /// The runtime of its tasks.
    pub(crate) fn task_threads(&self) -> Handle {
        self.threads.handle().clone()
    }

    /// Works until the shutdown is over; everything that this process held is then settled or
    /// back in its queue.
    ///
    /// The line is where this is polled. Tasks are elsewhere, but for those that are short.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<Finish, WorkerError> {
        self.connection.drive_here();
        self.backend.drive_here();
        let side = SideThread::start().map_err(WorkerError::Thread)?;
        let beside = Arc::new(self.connection.beside(side.runtime().clone()));
        let broker =
            Broker::new(Arc::clone(&self.connection), Arc::clone(&beside), self.broker_options());
        let publisher = Publisher::new(Arc::clone(&self.connection), broker.keys().clone());
        let revoked = RevokedTasks::default();
        tokio::select! {
            begun = self.begin(&broker, &publisher, &revoked) => begun?,
            () = shutdown.reached(Stage::Warm) => return Ok(Finish::Asked),
        }
        let clock: Arc<Clock> = Arc::default();
        let (events, queue) = Events::new(Arc::clone(&clock), self.config.task_events);
        let backend_beside = if Arc::ptr_eq(&self.backend, &self.connection) {
            Arc::clone(&beside)
        } else {
            Arc::new(self.backend.beside(side.runtime().clone()))
        };
        let client = Client::new(publisher.clone(), Arc::clone(&self.backend))
            .with_routes(self.config.routes.clone())
            .knowing(self.registry.names());
        let client = match self.config.sendings {
            Sendings::Told => client.telling_what_it_sends(Arc::clone(&clock)),
            Sendings::Untold => client,
        };
        let consumer = Arc::new(Consumer {
            app: TaskApp::build(&self.config.node, client).await?,
            broker: Arc::clone(&broker),
            results: ResultBackend::new(
                Arc::clone(&self.backend),
                Arc::ptr_eq(&self.backend, &self.connection),
                self.config.results.clone(),
            ),
            publisher,
            producer: Producer::current(),
            state: self.state,
            clock,
            events: Arc::clone(&events),
            slots: Slots::new(self.config.concurrency, self.config.autoscale),
            revoked,
            limits: Limits::new(&self.registry, self.config.rate_limits),
            doors: Doors::default(),
            stuck: StuckSlots::new(self.config.stuck_slots),
            threads: self.threads,
            registry: self.registry,
            config: self.config,
        });
        let visibility_timeout = consumer.config.broker.visibility_timeout;
        let leased = Arc::clone(&broker);
        let keeper =
            side.spawn(async move { lease_keeper::keep(&leased, visibility_timeout).await });
        let (sender, listening) = oneshot::channel();
        let panel = Panel::new(Arc::clone(&consumer), backend_beside, shutdown.clone());
        side.spawn(tell_and_obey(Arc::clone(&consumer), panel, queue, sender));
        let listens = tokio::select! {
            listens = listening => listens.unwrap_or(Ok(())),
            () = shutdown.reached(Stage::Warm) => Ok(()),
        };
        listens?;
        log::info!(
            "{} is ready: {} slots on {}; tasks {}",
            consumer.config.node,
            consumer.slots.count(),
            consumer.config.queues.join(","),
            consumer.registry.names().collect::<Vec<_>>().join(", ")
        );

        let mut parts = JoinSet::new();
        spawn_parts(&mut parts, &consumer);
        let running = Running::default();
        let (line, called_in) = mpsc::channel(1);
        let door = Arc::clone(&consumer);
        parts.spawn(async move { waiting_room::call_in(&door, &line).await });
        let end = consume(&consumer, &running, called_in, &shutdown).await;
        finish(&consumer, &running, shutdown.clone()).await;
        let last = |interval| heartbeat::sign(Sign::Offline, &consumer.state, interval);
        events.end(consumer.config.heartbeat.map(last)).await;
        parts.abort_all();
        keeper.abort();
        // Whether it was cancelled or has panicked: it renews no more, so that it takes no new
        // identity when this one leaves.
        let _ = keeper.await;
        leave(&broker).await;
        side.stop();
        // Whoever asked for a cold shutdown meanwhile wants no new beginning.
        Ok(if shutdown.stage() == Stage::Cold { Finish::Asked } else { end })
    }

    fn broker_options(&self) -> BrokerOptions {
        BrokerOptions {
            queues: self.config.queues.clone(),
            global_keyprefix: self.config.broker.global_keyprefix.clone(),
            lease: self.config.lease,
            max_deliveries: self.config.max_deliveries,
            dead_letters_kept: self.config.dead_letters_kept,
            description: Description {
                node: self.config.node.to_string(),
                pid: std::process::id(),
                queues: self.config.queues.clone(),
                concurrency: self.config.concurrency,
                started: Utc::now().timestamp(),
            },
        }
    }

    /// Waits for Redis, looks at what it is, and becomes known to it.
    async fn begin(
        &self,
        broker: &Broker,
        publisher: &Publisher,
        revoked: &RevokedTasks,
    ) -> Result<(), WorkerError> {
        let mut backoff = Backoff::default();
        loop {
            match self.introduce(broker, publisher, revoked).await {
                Err(
                    WorkerError::Server(ServerError::Transport(error))
                    | WorkerError::Transport(error),
                ) if error.is_outage() && !error.is_authentication() => {
                    backoff.wait().await;
                }
                result => return result,
            }
        }
    }

    async fn introduce(
        &self,
        broker: &Broker,
        publisher: &Publisher,
        revoked: &RevokedTasks,
    ) -> Result<(), WorkerError> {
        let mut reports = vec![(&self.connection, server::inspect(&self.connection).await?)];
        if !Arc::ptr_eq(&self.connection, &self.backend) {
            reports.push((&self.backend, server::inspect(&self.backend).await?));
        }
        broker.register().await?;
        for queue in &self.config.queues {
            publisher.bind(queue).await?;
        }
        revoked.load(broker).await?;
        // Only now: a server that can be read, but not written, was none to say "connected" of.
        for (connection, report) in reports {
            let server = connection.settings();
            log::info!("connected to {server} (Redis {})", report.version);
            for warning in server.warnings().iter().chain(&report.warnings) {
                log::warn!("{server}: {warning}");
            }
        }
        Ok(())
    }
}

/// How to connect to `url`, the broker's or the result backend's.
pub fn connection_settings(
    broker: &settings::Broker,
    url: &SecretString,
) -> Result<ConnectionSettings, UrlError> {
    let options = ConnectionOptions {
        connect_timeout: broker.connect_timeout,
        command_timeout: broker.command_timeout,
        sentinel_master: broker.sentinel_master.clone(),
    };
    ConnectionSettings::parse_with(url.expose_secret(), &options)
}

/// What works beside the line. Each goes on through any outage and ends with the worker.
fn spawn_parts(parts: &mut JoinSet<()>, consumer: &Arc<Consumer>) {
    let broker = &consumer.broker;
    let (dead, lists, settlements, large) =
        (Arc::clone(broker), Arc::clone(broker), Arc::clone(broker), Arc::clone(broker));
    let due = Arc::clone(consumer);
    parts.spawn(async move { promoter::promote(&due).await });
    parts.spawn(async move { reaper::reap(&dead).await });
    parts.spawn(async move { lists.watch_lists().await });
    parts.spawn(async move { settlements.send_settlements().await });
    parts.spawn(async move { large.record_large_messages().await });
    // One that does not scale itself at its start never does.
    if consumer.slots.autoscale().is_some() {
        let scaled = Arc::clone(consumer);
        parts.spawn(async move { scaled.slots.scale_down().await });
    }
}

/// Tells what happens here, and obeys what it is told; `listening` hears once it does.
async fn tell_and_obey(
    consumer: Arc<Consumer>,
    panel: Panel,
    queue: EventQueue,
    listening: oneshot::Sender<Result<(), TransportError>>,
) {
    let broker = &consumer.broker;
    let dispatcher =
        EventDispatcher::new(broker.connection().settings().clone(), broker.keys().clone());
    let sender = Sender { node: consumer.config.node.to_string(), pid: std::process::id() };
    let producer = Sender::of_sendings(&consumer.producer);
    let controlled = async {
        if consumer.config.remote_control == RemoteControl::Off {
            // Whoever waits hears that there is nothing to wait for.
            drop(listening);
        } else {
            panel.answer(listening).await;
        }
    };
    let beating = async {
        if let Some(interval) = consumer.config.heartbeat {
            heartbeat::beat(&consumer.events, &consumer.state, interval).await;
        }
    };
    let told = queue.send(&consumer.events, &dispatcher, &sender, &producer);
    tokio::join!(beating, told, controlled);
}

/// Consumes until the shutdown begins, which it does by itself when too many slots are stuck.
async fn consume(
    consumer: &Arc<Consumer>,
    running: &Running,
    called_in: mpsc::Receiver<CalledInto>,
    shutdown: &Shutdown,
) -> Finish {
    let mut consuming = pin!(consumer.consume(running, called_in, shutdown.clone()));
    tokio::select! {
        biased;
        () = &mut consuming => Finish::Asked,
        () = consumer.stuck.give_up(shutdown) => {
            consuming.await;
            Finish::BeginAnew
        }
    }
}

/// Waits for what runs, until the time is up or the shutdown turns cold.
async fn finish(consumer: &Consumer, running: &Running, mut shutdown: Shutdown) {
    match running.count() {
        0 => {}
        count => log::info!("waiting for {count} running tasks"),
    }
    tokio::select! {
        () = running.ended() => return,
        () = shutdown.reached(Stage::Cold) => {}
        () = time_is_up(consumer.config.shutdown_timeout) => {
            log::warn!("the time for running tasks is up: their messages go back to their queues");
        }
    }
    running.abort();
}

async fn time_is_up(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// Gives back what is still held. If Redis cannot be reached, another worker's reaper does it.
async fn leave(broker: &Broker) {
    const LONGEST: Duration = Duration::from_secs(5);
    match tokio::time::timeout(LONGEST, broker.leave()).await {
        Ok(Ok(0)) => log::info!("nothing was left to put back"),
        Ok(Ok(count)) => log::warn!("{count} messages put back into their queues"),
        Ok(Err(error)) => {
            log::error!("messages could not be put back, other workers will do it: {error}");
        }
        Err(_) => log::error!("messages could not be put back in time, other workers will do it"),
    }
}
