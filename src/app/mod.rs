//! The composition root: the only place that knows every part. What `serve`, `worker` and `demo` start is put
//! together here.

mod pairing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::artifacts::{self, ArtifactStore};
use crate::bundled;
use crate::clock::{Clock, SystemClock};
use crate::config::{
    ConnectionLimits, ListenArgs, RequestLimits, ServerConfig, StorageArgs, WORKER_LISTEN,
    WebhookArgs, WorkerArgs,
};
use crate::datasets::DataRoots;
use crate::domain::HubReach;
use crate::http::{self, Hosts, HttpState, Metrics};
use crate::jobs::{Jobs, JobsParts, Signals};
use crate::machine;
use crate::models::ModelLibrary;
use crate::pipeline::DeviceName;
use crate::pipeline::hub::{HubLook, HubOptions};
use crate::request::Defaults;
use crate::server;
use crate::store::{self, Store, Time};
use crate::telemetry;
use crate::webhooks::{Client, Dispatcher, Policy, Webhooks};
use crate::worker::{WorkerParts, WorkerPool, WorkerSettings};

/// How long open requests may go on after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the database may take to close: one that is away must not keep the process.
const CLOSE: Duration = Duration::from_secs(10);

/// Requested actions in the channel; a slot further behind reads the database.
const ASKED_BACKLOG: usize = 64;

/// How often the histograms are aggregated.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What API and workers share.
#[derive(Debug, Clone)]
struct Foundation {
    store: Arc<dyn Store>,
    artifacts: Arc<dyn ArtifactStore>,
    clock: Arc<dyn Clock>,
    signals: Signals,
}

/// A running server.
#[derive(Debug)]
pub struct RunningApp {
    /// The address, with the real port if 0 was requested.
    pub addr: SocketAddr,
    store: Arc<dyn Store>,
    jobs: Jobs,
    pool: Option<WorkerPool>,
    stop: CancellationToken,
    dispatcher: JoinHandle<()>,
    server: JoinHandle<()>,
}

/// A worker without an API.
#[derive(Debug)]
pub struct RunningWorker {
    store: Arc<dyn Store>,
    pool: WorkerPool,
    stop: CancellationToken,
}

/// Starts the API and, unless the configuration says no, its own worker pool.
pub async fn start(config: ServerConfig) -> anyhow::Result<RunningApp> {
    launch(config, Arc::new(SystemClock), Time::Database).await
}

/// Starts the API with another clock.
pub async fn start_with_clock(
    config: ServerConfig,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<RunningApp> {
    let of_store = Arc::clone(&clock);
    let time = Time::Given(Arc::new(move || of_store.now()));
    launch(config, clock, time).await
}

async fn launch(
    config: ServerConfig,
    clock: Arc<dyn Clock>,
    time: Time,
) -> anyhow::Result<RunningApp> {
    config.listen.check().map_err(anyhow::Error::msg)?;
    config.storage.check().map_err(anyhow::Error::msg)?;
    if !config.listen.no_worker {
        check_devices(&config.worker)?;
    }
    let metrics = telemetry::start_metrics()?;
    let foundation = Foundation::open(&config.storage, clock, time).await?;
    let address = config.listen.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let addr = listener
        .local_addr()
        .context("cannot read the address listened on")?;

    let devices = if config.listen.no_worker {
        Vec::new()
    } else {
        config.worker.devices.clone()
    };
    let pool = if config.listen.no_worker {
        None
    } else {
        Some(
            foundation
                .start_pool(&config.storage, &config.worker)
                .await?,
        )
    };
    let stop = CancellationToken::new();
    let jobs = foundation.jobs(&config.storage, &config.worker, &config.listen)?;
    jobs.read_log(stop.clone()).await?;
    let deadlines = end_overdue(jobs.clone(), config.worker.sweep_seconds);
    tokio::spawn(stop.clone().run_until_cancelled_owned(deadlines));
    if config.storage.retain_days > 0 {
        let days = config.storage.retain_days;
        tracing::info!(days, "jobs that are over are deleted after this time");
        let deletions = delete_expired(jobs.clone(), config.worker.sweep_seconds);
        tokio::spawn(stop.clone().run_until_cancelled_owned(deletions));
    }
    let (webhooks, dispatcher) = foundation.webhooks(&config.webhooks)?;
    let limits = server::within_system(config.listen.connection_limits);
    let held = config
        .listen
        .request_limits
        .held
        .min(limits.connections / 2);
    let router = http::router(HttpState {
        held: Arc::new(Semaphore::new(held)),
        jobs: jobs.clone(),
        webhooks,
        devices: devices.into(),
        hosts: match config.listen.hosts {
            Some(names) => Hosts::Only(names.into()),
            None if config.listen.insecure_no_auth => Hosts::Unregistered,
            None => Hosts::local(addr.ip()),
        },
        metrics: Metrics(metrics.clone()),
        has_shared_gauges: true,
        limits: config.listen.request_limits,
        stopping: stop.clone(),
    });

    tokio::spawn(stop.clone().run_until_cancelled_owned(keep_up(metrics)));
    let server = tokio::spawn(server::serve(listener, router, limits, stop.clone()));
    let dispatcher = tokio::spawn(dispatcher.run(stop.clone()));
    tracing::info!(%addr, home = %config.storage.home.display(), "listening");
    Ok(RunningApp {
        addr,
        store: foundation.store,
        jobs,
        pool,
        stop,
        dispatcher,
        server,
    })
}

/// Aggregates the histograms, which else keep every value until they are read.
async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// Fails jobs without a worker at their deadline.
async fn end_overdue(jobs: Jobs, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = jobs.end_overdue().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot find jobs past their deadline");
        }
    }
}

/// Deletes jobs when their retention is over.
async fn delete_expired(jobs: Jobs, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = jobs.delete_expired().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot delete jobs whose retention is over");
        }
    }
}

/// Fails where attempts would fail for want of a device, unless another program runs them.
fn check_devices(worker: &WorkerArgs) -> anyhow::Result<()> {
    if worker.program.is_some() {
        return Ok(());
    }
    for name in &worker.devices {
        let device: DeviceName = name.parse().map_err(anyhow::Error::msg)?;
        device.check()?;
    }
    Ok(())
}

/// Starts the worker pool only, with its health on `listen`.
pub async fn start_worker(
    storage: &StorageArgs,
    worker: &WorkerArgs,
    listen: Option<SocketAddr>,
) -> anyhow::Result<RunningWorker> {
    storage.check().map_err(anyhow::Error::msg)?;
    check_devices(worker)?;
    let foundation = Foundation::open(storage, Arc::new(SystemClock), Time::Database).await?;
    let stop = CancellationToken::new();
    if let Some(listener) = health_listener(listen).await? {
        let metrics = telemetry::start_metrics()?;
        let (webhooks, _) = foundation.webhooks(&WebhookArgs::default())?;
        let state = HttpState {
            held: Arc::new(Semaphore::new(0)),
            // It takes none.
            jobs: foundation.jobs(storage, worker, &ListenArgs::default())?,
            webhooks,
            devices: worker.devices.clone().into(),
            hosts: Hosts::Unregistered,
            metrics: Metrics(metrics.clone()),
            has_shared_gauges: false,
            limits: RequestLimits::default(),
            stopping: stop.clone(),
        };
        let addr = listener
            .local_addr()
            .context("cannot read the address listened on")?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_up(metrics)));
        let (router, limits) = (
            http::worker_router(state),
            server::within_system(ConnectionLimits::default()),
        );
        tokio::spawn(server::serve(listener, router, limits, stop.clone()));
        tracing::info!(%addr, "listening for health checks of this worker");
    }
    let pool = foundation.start_pool(storage, worker).await?;
    Ok(RunningWorker {
        store: foundation.store,
        pool,
        stop,
    })
}

/// Listens for health checks of a worker: on the address that was given, or on the default one unless it is taken.
async fn health_listener(listen: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let address = listen.unwrap_or(WORKER_LISTEN);
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if listen.is_none() => {
            tracing::info!(%error, %address, "no health checks of this worker: the address cannot be listened on");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

impl RunningApp {
    /// Stops: gives running attempts back and lets open requests end.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let mut server = self.server;
        let requests = tokio::time::timeout(DRAIN, &mut server);
        let attempts = async {
            if let Some(pool) = self.pool {
                pool.stop().await;
            }
        };
        let leave = tokio::time::timeout(DRAIN, self.jobs.leave_shared_gauges());
        match tokio::join!(requests, attempts, leave).0 {
            Ok(ended) => ended.context("the server panicked")?,
            Err(_elapsed) => server.abort(),
        }
        self.dispatcher.await.context("the dispatcher panicked")?;
        close(&self.store).await;
        Ok(())
    }
}

impl RunningWorker {
    /// Stops: claims nothing more and gives running attempts back.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.pool.stop().await;
        close(&self.store).await;
    }
}

async fn close(store: &Arc<dyn Store>) {
    if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
        tracing::warn!("the database does not close in time");
    }
}

impl Foundation {
    async fn open(
        storage: &StorageArgs,
        clock: Arc<dyn Clock>,
        time: Time,
    ) -> anyhow::Result<Self> {
        keep_private(storage)?;
        let bundled = storage.bundled();
        bundled::unpack(&bundled)
            .with_context(|| format!("cannot unpack into {}", bundled.display()))?;
        let store = store::open(&storage.database(), time).await?;
        let place = storage.artifacts();
        let artifacts = artifacts::open(&place, &storage.bucket.settings()).await?;
        pairing::pair(&*store, &*artifacts, &place.to_string()).await?;
        let (asked, _) = broadcast::channel(ASKED_BACKLOG);
        let signals = Signals {
            wake: Arc::new(Notify::new()),
            asked,
            outbox: Arc::new(Notify::new()),
        };
        Ok(Self {
            store,
            artifacts,
            clock,
            signals,
        })
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    fn jobs(
        &self,
        storage: &StorageArgs,
        worker: &WorkerArgs,
        listen: &ListenArgs,
    ) -> anyhow::Result<Jobs> {
        let hub = hub_reach(storage)?;
        let from_env = HubOptions::from_env();
        let options = HubOptions {
            token: worker.hub_token.clone().or(from_env.token),
            offline: matches!(hub, HubReach::Offline { .. }),
            ..from_env
        };
        Ok(Jobs::new(JobsParts {
            hub: Arc::new(HubLook::new(options, listen.hub_check_seconds)),
            store: self.store(),
            artifacts: Arc::clone(&self.artifacts),
            models: ModelLibrary {
                models_dir: storage.models_dir.clone(),
                bundled_dir: storage.bundled(),
                hub_cache: Some(hub_cache(&hub)?),
            },
            datasets: DataRoots {
                data_dir: storage.data_dir.clone(),
                bundled_dir: storage.bundled(),
                hub,
            },
            clock: Arc::clone(&self.clock),
            defaults: Defaults::for_devices(&worker.devices),
            signals: self.signals.clone(),
            directories: storage.directories(),
            most_queued: listen.max_queued,
            retention: storage.retention(),
        }))
    }

    /// The use-cases and the dispatcher.
    fn webhooks(&self, webhooks: &WebhookArgs) -> anyhow::Result<(Webhooks, Dispatcher)> {
        let policy = Policy::new(&webhooks.webhook_allow, webhooks.webhook_allow_http);
        let client = Client::new(policy.clone(), webhooks.webhook_timeout_seconds)?;
        let clock = || Arc::clone(&self.clock);
        let wake = || Arc::clone(&self.signals.outbox);
        Ok((
            Webhooks::new(self.store(), clock(), policy, wake()),
            Dispatcher::new(self.store(), clock(), client, wake()),
        ))
    }

    async fn start_pool(
        &self,
        storage: &StorageArgs,
        worker: &WorkerArgs,
    ) -> anyhow::Result<WorkerPool> {
        let settings = worker_settings(storage, worker)?;
        let parts = WorkerParts {
            store: self.store(),
            artifacts: Arc::clone(&self.artifacts),
            clock: Arc::clone(&self.clock),
            wake: Arc::clone(&self.signals.wake),
            asked: self.signals.asked.clone(),
        };
        Ok(WorkerPool::start(settings, parts).await?)
    }
}

/// Creates the home, and keeps other users of the machine from what lies in it.
fn keep_private(storage: &StorageArgs) -> anyhow::Result<()> {
    let home = &storage.home;
    machine::create_private(home)
        .with_context(|| format!("cannot create the home {}", home.display()))?;
    for directory in storage.own_directories() {
        if let Err(error) = machine::make_private(&directory) {
            tracing::warn!(%error, directory = %directory.display(), "other users can read the directory");
        }
    }
    Ok(())
}

fn hub_reach(storage: &StorageArgs) -> anyhow::Result<HubReach> {
    Ok(match &storage.hub {
        Some(hub) => hub.clone(),
        None => HubOptions::from_env().reach()?,
    })
}

fn hub_cache(hub: &HubReach) -> anyhow::Result<PathBuf> {
    Ok(match hub {
        HubReach::Offline { cache_dir } => cache_dir.clone(),
        HubReach::Online => HubOptions::from_env().cache_in_use()?,
    })
}

/// Paths become absolute: the attempts' processes need not share our working directory.
fn worker_settings(storage: &StorageArgs, worker: &WorkerArgs) -> anyhow::Result<WorkerSettings> {
    let hub = hub_reach(storage)?;
    let absolute = |path| std::path::absolute(path).context("cannot make a path absolute");
    let program = match &worker.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("cannot find this program's own file")?,
    };
    let threads = match worker.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("cannot count the processors")?,
    };
    Ok(WorkerSettings {
        pool: WorkerArgs {
            memory_bytes: worker.memory_bytes.or_else(machine::memory_bytes),
            // Offline nothing brings a model back.
            hub_cache_bytes: worker
                .hub_cache_bytes
                .filter(|_| matches!(hub, HubReach::Online)),
            ..worker.clone()
        },
        threads: threads.get(),
        program,
        scratch_dir: absolute(storage.scratch())?,
        workers_dir: absolute(storage.workers())?,
        models_dir: storage.models_dir.clone().map(absolute).transpose()?,
        data_dir: storage.data_dir.clone().map(absolute).transpose()?,
        bundled_dir: absolute(storage.bundled())?,
        scores_dir: absolute(storage.scores())?,
        hub_cache: hub_cache(&hub)?,
        retention: storage.retention(),
    })
}
