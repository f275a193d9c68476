//! `rowcast serve`: puts source, backbone, delivery and web together. Owns their order at the start and at the end.
//!
//! | task | what it does | where |
//! |---|---|---|
//! | relay | outbox → events; on a node that follows a Redis Stream, the follower: stream → events | `source::relay`, `backbone::follower` |
//! | hub, shards, keepalive | events → views → sockets | `delivery::fanout` |
//! | server, operators | requests, handshakes; health and metrics on an address of their own | `web` |
//! | candidate | outbox → stream, while no other node does | `backbone::candidate` |
//! | past, replay | what one client asks for: from the stream, from the outbox; current rows | `backbone::past`, `source::replay` |
//! | members | the values of claims that stand in tables | `source::members` |
//! | inspect | what an operator asks about the database | `source::inspect` |
//! | retention, newcomers, node | looks after the outbox, new tables and the note of this node | `source` |
//! | certificate, keys | renewed files and key sets | `web` |
//! | hour | what this node did in the last hour | `metrics::hour` |
//! | service manager | readiness and the watchdog, to systemd | `service_manager` |
//!
//! Channels between them: the source tells the hub *events*; the hub asks for the *past* and for *members*; a request of
//! an operator asks *questions*. Hints for the relay go back by [`Feedback`]. The tasks that use the database wait until it
//! was reached.

mod listen;
mod reach;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use listen::bind;
use listen::listen_at;
use reach::{once_reached, reach};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::backbone::candidate::Candidate;
use crate::backbone::follower::Follower;
use crate::backbone::{self, past};
use crate::config::{Backbone, Config, KeySettings};
use crate::delivery::access::auth::{Key, Keys, Rules};
use crate::delivery::conversation::session::Limits;
use crate::delivery::fanout::hub::{self, Hub};
use crate::error::{Error, Kind, Result};
use crate::feedback::Feedback;
use crate::metrics::hour::Hour;
use crate::metrics::{DeliveryMetrics, SourceMetrics};
use crate::node::NodeState;
use crate::question::Question;
use crate::request::{Membership, Request};
use crate::service_manager;
use crate::shutdown::{self, Shutdown};
use crate::source::node::{Node, Role};
use crate::source::pool::Database;
use crate::source::relay::{self, Begin, First, Ports};
use crate::source::{inspect, members, newcomers, replay, retention};
use crate::spans::Spans;
use crate::tasks::Tasks;
use crate::web::admit::HostNames;
use crate::web::connections::{self, Connections};
use crate::web::jwks;
use crate::web::server;
use crate::web::state::Web;
use crate::web::tls::Tls;

/// Chunks of cuts on their way from the source to the hub. Few: the reader should feel it when delivery is behind.
const EVENTS: usize = 4;
/// Requests that wait for the source. A client that asks beyond that waits in its own task.
const REQUESTS: usize = 64;

/// A relay reads the present in milliseconds.
const BY_RELAY: Duration = Duration::from_secs(3);
/// By the stream it takes as long as Redis or the publisher stands still before anybody notices, and catching up.
const BY_STREAM: Duration = Duration::from_secs(15);
/// After the drain, tasks have this time to end: beyond it one hangs.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Whether the settings can be used, as far as this machine alone can tell: URLs, certificate, keys.
///
/// # Errors
/// What [`run`] would end with before it has asked anybody.
pub fn check(config: &Config) -> Result<()> {
    config.database_url.as_deref().map(Database::parse).transpose()?;
    config.tls.clone().map(|files| Tls::read(files, 1)).transpose()?;
    keys_of(&config.keys)?;
    Ok(())
}

/// Serves until the shutdown. A task that ends before it ends all of them, and the process with its name.
///
/// # Errors
/// When the first connection to the database cannot be made in time, or the one to the stream; later losses are retried for
/// ever. When a task has ended.
pub async fn run(config: Config, listener: TcpListener, mut shutdown: Shutdown) -> Result<()> {
    let database = config.database_url.as_deref().map(Database::parse).transpose()?;
    let database = database.map(|database| database.with_naming(config.schema.clone()).with_instance(&config.node));
    // beside sockets, requests for pages
    let connections = usize::try_from(config.max_sockets).unwrap_or(usize::MAX).saturating_add(1000);
    let tls = config.tls.clone().map(|files| Tls::read(files, connections)).transpose()?.map(Arc::new);
    let (awaited, patience) = (database.clone(), config.wait);
    let within = config.drain + END_WITHIN;
    let (all, ends) = shutdown::channel();
    let mut tasks = Tasks::default();
    let (tell_reached, reached) = watch::channel(false);
    let node = &config.node;
    let spans = config.otlp_endpoint.as_deref().map(|endpoint| Spans::to(endpoint, node.clone())).transpose()?;
    let common = Common {
        database,
        keys: keys_of(&config.keys)?,
        source: Arc::default(),
        delivery: Arc::default(),
        node: Arc::default(),
        hour: Arc::default(),
        feedback: Arc::default(),
        spans: spans.clone(),
        reached,
        shutdown: ends.clone(),
    };
    let telling = start(config, listener, tls, &common, &mut tasks)?;
    let mut source = Box::pin(async move {
        if let Some(database) = awaited {
            reach(&database, patience, ends).await?;
        }
        tell_reached.send_replace(true);
        telling.await
    });
    let outcome = tokio::select! {
        ended = source.as_mut() => ended,
        error = tasks.first_end() => Err(error),
        () = shutdown.begun() => {
            all.begin();
            source.await
        }
    };
    // a source that only says goodbye to the task that it told is not the cause
    let outcome = match outcome {
        Ok(()) if !shutdown.has_begun() => {
            let ended = Error::new(Kind::Io, "what tells the changes has ended before the shutdown");
            Err(timeout(END_WITHIN, tasks.first_end()).await.unwrap_or(ended))
        }
        outcome => outcome,
    };
    all.begin();
    if timeout(within, tasks.finish()).await.is_err() {
        tracing::error!(event = "tasks_left", seconds = within.as_secs());
    }
    if let Some(spans) = spans {
        spans.finish().await;
    }
    outcome
}

/// What tells the changes, until the shutdown.
type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What the parts have in common.
struct Common {
    database: Option<Database>,
    keys: Option<Arc<Keys>>,
    source: Arc<SourceMetrics>,
    delivery: Arc<DeliveryMetrics>,
    node: Arc<NodeState>,
    hour: Arc<Hour>,
    feedback: Arc<Feedback>,
    spans: Option<Arc<Spans>>,
    /// whether the database was
    reached: watch::Receiver<bool>,
    shutdown: Shutdown,
}

/// What only the database can answer, on its way there.
struct ForDatabase {
    past: mpsc::Receiver<Request>,
    members: mpsc::Receiver<Membership>,
    questions: mpsc::Receiver<Question>,
}

/// Begins all tasks but the one that tells the changes.
fn start(
    config: Config,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    common: &Common,
    tasks: &mut Tasks,
) -> Result<Running> {
    let (events, told) = mpsc::channel(EVENTS);
    let (ask_past, past_asked) = mpsc::channel(REQUESTS);
    // without a database nobody answers: it closes
    let (ask_members, members_asked) = mpsc::channel(1);
    let (ask_questions, questions_asked) = mpsc::channel(REQUESTS);

    let way_back = hub::Source { requests: ask_past, membership: ask_members, feedback: common.feedback.clone() };
    let hub = Hub::new(hub_settings(&config, common), way_back, common.delivery.clone());
    hub.start(tasks, told, &common.shutdown);
    let (counted, told) = (common.source.clone(), common.delivery.clone());
    tasks.spawn("hour", common.hour.clone().run(counted, told, common.shutdown.clone()));
    tasks.spawn("service manager", service_manager::run(hub.live(), common.shutdown.clone()));

    let address = listener.local_addr().unwrap_or(config.listen);
    let (backbone, patience, history_bytes) = (config.backbone.clone(), config.wait, config.history_bytes);
    let questions = common.database.as_ref().map(|_| ask_questions);
    start_web(config, listener, tls, hub, questions, common, tasks)?;

    let role = match &backbone {
        None => Role::Relay,
        Some(backbone) if backbone.publishes => Role::Candidate,
        Some(_) => Role::Gateway,
    };
    // the stream is asked first, where there is one, and then the outbox
    let (ask_outbox, outbox_asked) = mpsc::channel(REQUESTS);
    let ask_outbox = common.database.as_ref().map(|_| ask_outbox);
    let (outbox_asked, stream_asked) = match &backbone {
        None => (past_asked, None),
        Some(_) => (outbox_asked, Some(past_asked)),
    };
    if let Some(database) = &common.database {
        let asked = ForDatabase { past: outbox_asked, members: members_asked, questions: questions_asked };
        start_beside_database(database, role, address, asked, common, tasks)?;
    }
    match (backbone, &common.database) {
        (Some(Backbone { link, stream, publishes, retention }), database) => {
            let keys = backbone::StreamKeys::of(&stream);
            common.source.note_stream(&stream);
            if let Some(asked) = stream_asked {
                let answering =
                    past::run(link.clone(), keys.clone(), ask_outbox.clone(), asked, common.shutdown.clone());
                tasks.spawn("past", answering);
            }
            if let Some(database) = database.as_ref().filter(|_| publishes) {
                let (database, link, keys) = (database.clone(), link.clone(), keys.clone());
                let (node, metrics) = (common.node.clone(), common.source.clone());
                let candidate = Candidate { database, link, keys, retention, node, metrics };
                let running = candidate.run(common.shutdown.clone());
                tasks.spawn("candidate", once_reached(common.reached.clone(), common.shutdown.clone(), running));
            }
            let follower = Follower::new(link, keys, events, ask_outbox, common.source.clone(), history_bytes);
            Ok(Box::pin(follower.run(common.feedback.clone(), patience, common.shutdown.clone())))
        }
        (None, Some(database)) => {
            let first = First { begin: Begin::Latest, patience };
            let (feedback, node, metrics) = (common.feedback.clone(), common.node.clone(), common.source.clone());
            let ports = Ports { out: events, feedback, node, metrics };
            Ok(Box::pin(relay::run(database.clone(), first, ports, common.shutdown.clone())))
        }
        (None, None) => Err(Error::new(Kind::Config, "there is neither a database nor a stream to serve changes from")),
    }
}

fn hub_settings(config: &Config, common: &Common) -> hub::Settings {
    hub::Settings {
        log_bytes: config.log_bytes,
        view_bytes: config.view_bytes,
        history_bytes: config.history_bytes,
        claim_bytes: config.claim_bytes,
        heartbeat: config.heartbeat,
        ping: config.ping,
        replay_bytes_per_second: config.replay_bytes_per_second,
        reach_within: if config.backbone.is_some() { BY_STREAM } else { BY_RELAY },
        shards: std::thread::available_parallelism().map_or(1, usize::from),
        keys: common.keys.clone(),
        most: config.most,
        spans: common.spans.clone(),
    }
}

/// The servers, and what renews what they go by.
fn start_web(
    config: Config,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    hub: Arc<Hub>,
    questions: Option<mpsc::Sender<Question>>,
    common: &Common,
    tasks: &mut Tasks,
) -> Result<()> {
    let descriptors = connections::raise_descriptors();
    if descriptors < config.max_sockets.unsigned_abs() {
        let hint = "raise the limit (LimitNOFILE, ulimit -n), or set max-sockets";
        tracing::warn!(event = "few_descriptors", descriptors, max_sockets = config.max_sockets, hint);
    }
    let (per_address, proxies) = (config.admission.connections_per_address, config.admission.proxies.clone());
    let address = listener.local_addr().unwrap_or(config.listen);
    let operators = config.admin_listen.map(|address| listen_at(address, "admin-listen")).transpose()?;
    let web = Arc::new(Web {
        hub,
        source: common.source.clone(),
        node: common.node.clone(),
        hour: common.hour.clone(),
        limits: Limits {
            message_bytes: config.message_bytes,
            subscriptions: config.max_subscriptions,
            commands_per_second: config.commands_per_second,
        },
        admission: config.admission,
        names: match (&common.keys, address.ip().is_loopback()) {
            (Some(_), _) => HostNames::Any,
            (None, true) => HostNames::ThisMachine,
            (None, false) => HostNames::NotPublic,
        },
        application: config.application,
        naming: config.schema,
        questions,
        has_admin_listener: operators.is_some(),
        tls: tls.clone(),
        connections: Connections::new(per_address, proxies, descriptors),
        max_sockets: config.max_sockets,
        tasks: TaskTracker::new(),
        shutdown: common.shutdown.clone(),
    });
    let open_to = if common.keys.is_some() { "whom a policy allows" } else { "everybody" };
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!(event = "listening", %address, tls = tls.is_some(), channels_open_to = open_to, version, process);
    if let Some(operators) = operators {
        if let Ok(address) = operators.local_addr() {
            tracing::info!(event = "listening_for_operators", %address);
        }
        tasks.spawn("operators", server::run_for_operators(operators, web.clone()));
    }
    tasks.spawn("server", server::run(listener, web, config.drain));
    if let Some(tls) = tls {
        tasks.spawn("certificate", tls.renew(common.shutdown.clone()));
    }
    if let (Some(keys), Some(source)) = (common.keys.clone(), config.keys.jwks) {
        tasks.spawn("keys", jwks::run(source, keys, common.shutdown.clone()));
    }
    Ok(())
}

/// What uses the database beside the relay, once it was reached.
fn start_beside_database(
    database: &Database,
    role: Role,
    address: SocketAddr,
    asked: ForDatabase,
    common: &Common,
    tasks: &mut Tasks,
) -> Result<()> {
    let pool = database.pool()?;
    let shutdown = || common.shutdown.clone();
    let mut spawn = |name: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(name, once_reached(common.reached.clone(), shutdown(), task));
    };
    let (database, state) = (database.clone(), common.node.clone());
    let (source, delivery) = (common.source.clone(), common.delivery.clone());
    spawn("replay", Box::pin(replay::run(database.clone(), pool.clone(), asked.past, shutdown())));
    spawn("members", Box::pin(members::run(pool.clone(), asked.members, shutdown())));
    spawn("retention", Box::pin(retention::run(pool.clone(), source.clone(), shutdown())));
    spawn("newcomers", Box::pin(newcomers::run(pool.clone(), shutdown())));
    spawn("inspect", Box::pin(inspect::run(pool.clone(), asked.questions, shutdown())));
    spawn("node", Box::pin(Node { database, address, role, state, source, delivery }.run(pool, shutdown())));
    Ok(())
}

/// What tokens are checked with, if anything.
fn keys_of(settings: &KeySettings) -> Result<Option<Arc<Keys>>> {
    if !settings.is_some() {
        return Ok(None);
    }
    let mut fixed: Vec<Key> = settings.secrets.iter().map(|secret| Key::secret(secret)).collect();
    for pem in &settings.public_keys {
        fixed.push(Key::pem(pem).map_err(|what| Error::new(Kind::Config, format!("jwt-public-key: {what}")))?);
    }
    let rules =
        Rules { audiences: settings.audiences.clone(), issuers: settings.issuers.clone(), leeway: settings.leeway };
    Ok(Some(Arc::new(Keys::new(fixed, rules, settings.jwks.is_none()))))
}
