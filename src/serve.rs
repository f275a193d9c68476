//! `rowcast serve`: puts source, backbone, delivery and web together. Owns their order at the start and at the end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
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
use crate::error::{self, Error, Kind, Result};
use crate::feedback::Feedback;
use crate::metrics::{DeliveryMetrics, SourceMetrics};
use crate::service_manager;
use crate::shutdown::{self, Shutdown};
use crate::source::node::{Node, Role};
use crate::source::pool::Database;
use crate::source::relay::{self, Begin, First};
use crate::source::{inspect, members, newcomers, replay, retention};
use crate::tasks::Tasks;
use crate::web::admit::Names;
use crate::web::connections::{self, Connections};
use crate::web::jwks;
use crate::web::rows;
use crate::web::server;
use crate::web::state::Web;
use crate::web::tls::Tls;

/// Parts of cuts on their way from the source to the hub. Few: the reader should feel it when delivery is behind.
const EVENTS: usize = 4;
/// Requests that wait for the source. Whoever asks beyond that waits in its own task.
const REQUESTS: usize = 64;

/// A relay reads the present in milliseconds.
const BY_RELAY: Duration = Duration::from_secs(3);
/// By the stream it takes as long as Redis or the publisher stands still before anybody notices, and catching up.
const BY_STREAM: Duration = Duration::from_secs(15);
/// After the drain, tasks have this time to end: beyond it one hangs.
const END_WITHIN: Duration = Duration::from_secs(5);
/// To be reached takes so long at most.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A database that is away at the start is tried so often.
const AGAIN: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted. A client whose first packet finds this full tries again after a second: with
/// the usual 128 that befell a storm of 256 at a time.
const BACKLOG: u32 = 4096;

/// Binds the configured address, or takes the socket that the service manager has passed.
///
/// # Errors
/// [`Kind::Io`] when the port is in use or not ours to take.
pub fn bind(config: &Config) -> Result<TcpListener> {
    if let Some(passed) = service_manager::passed_socket()? {
        let address = passed.local_addr().unwrap_or(config.listen);
        if !address.ip().is_loopback() && !config.keys.is_some() && !config.allow_anonymous {
            let text =
                format!("the socket that was passed is at {address}, beyond loopback, and every channel is open");
            let remedy = "give a key to check tokens with (--jwt-secret, --jwt-public-key, --jwks), say --allow-anonymous, or write ListenStream=127.0.0.1:8000";
            return Err(Error::new(Kind::Config, text).hint(remedy));
        }
        return Ok(passed);
    }
    listen_at(config.listen, "listen")
}

fn listen_at(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    listen(address).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program listens there: stop it or choose another port with --{setting}")
            }
            std::io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with --{setting}"),
            _ => format!("choose an address of this machine with --{setting}"),
        };
        Error::new(Kind::Io, format!("cannot listen on {address}")).because(e).hint(hint)
    })
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

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // a restarted server takes its port back while old connections of it are still in TIME_WAIT
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Waits until the database can be reached, where trying again may help, at most `patience`. Health is answered meanwhile.
async fn reach(database: &Database, patience: Duration, mut shutdown: Shutdown) -> Result<()> {
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        let proven = tokio::select! {
            // one that is frozen accepts connections and says nothing
            proven = timeout(CONNECT_WITHIN, database.prove_own()) =>
                proven.unwrap_or_else(|_| Err(Error::new(Kind::Connection, "the database does not answer"))),
            () = shutdown.begun() => return Ok(()),
        };
        match proven {
            Err(error) if error.kind() == Kind::Connection && began.elapsed() < patience => {
                // a line at the first, and then one each ten seconds
                if attempt % 10 == 0 {
                    let seconds = patience.saturating_sub(began.elapsed()).as_secs();
                    let hint = error.remedy();
                    tracing::warn!(event = "database_awaited", error = error::chain(&error), seconds, hint);
                }
                attempt += 1;
                let _ = timeout(AGAIN, shutdown.begun()).await;
            }
            proven => return proven,
        }
    }
}

/// Serves until the shutdown. A task that ends before it ends all of them, and the process with its name.
///
/// # Errors
/// When the first connection to the database cannot be made in time, or the one to the stream; later losses are retried for
/// ever. When a task has ended.
pub async fn run(config: Config, listener: TcpListener, mut shutdown: Shutdown) -> Result<()> {
    let database = config.database_url.as_deref().map(Database::parse).transpose()?;
    let database = database.map(|database| database.with_naming(config.schema.clone()));
    // beside sockets, requests for pages
    let connections = usize::try_from(config.max_sockets).unwrap_or(usize::MAX).saturating_add(1000);
    let tls = config.tls.clone().map(|files| Tls::read(files, connections)).transpose()?.map(Arc::new);
    let (awaited, patience) = (database.clone(), config.wait);
    let within = config.drain + END_WITHIN;
    let (all, ends) = shutdown::channel();
    let mut tasks = Tasks::default();
    let (tell_reached, reached) = watch::channel(false);
    let telling = start(config, database, tls, listener, &ends, &reached, &mut tasks)?;
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
    // one that only says goodbye to whom it told is not the cause
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
    outcome
}

/// A task that uses the database, once it was reached and proven to be ours: through a transaction pooler each statement of
/// it would reach a stranger's session.
async fn once_reached(mut reached: watch::Receiver<bool>, mut shutdown: Shutdown, task: impl Future<Output = ()>) {
    let is_reached = tokio::select! {
        reached = reached.wait_for(|reached| *reached) => reached.is_ok(),
        () = shutdown.begun() => false,
    };
    if is_reached {
        task.await;
    } else {
        // it ends with all others
        shutdown.begun().await;
    }
}

/// What tells the changes, until the shutdown.
type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Begins all tasks but the one that tells the changes.
fn start(
    config: Config,
    database: Option<Database>,
    tls: Option<Arc<Tls>>,
    listener: TcpListener,
    shutdown: &Shutdown,
    reached: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<Running> {
    let source = Arc::new(SourceMetrics::default());
    let descriptors = connections::raise_descriptors();
    if descriptors < config.max_sockets.unsigned_abs() {
        let hint = "raise the limit (LimitNOFILE, ulimit -n), or set max-sockets";
        tracing::warn!(event = "few_descriptors", descriptors, max_sockets = config.max_sockets, hint);
    }
    let feedback = Arc::new(Feedback::default());
    let (requests, asked) = mpsc::channel(REQUESTS);
    let keys = keys_of(&config.keys)?;
    let settings = hub::Settings {
        log_bytes: config.log_bytes,
        view_bytes: config.view_bytes,
        history_bytes: config.history_bytes,
        claim_bytes: config.claim_bytes,
        heartbeat: config.heartbeat,
        ping: config.ping,
        replay_bytes_per_second: config.replay_bytes_per_second,
        reach_within: if config.backbone.is_some() { BY_STREAM } else { BY_RELAY },
        shards: std::thread::available_parallelism().map_or(1, usize::from),
        keys: keys.clone(),
        most: config.most,
    };
    // without a database nobody answers: it closes
    let (membership, asked_of_members) = mpsc::channel(1);
    let way_back = hub::Source { requests, membership, feedback: feedback.clone() };
    let delivery = Arc::new(DeliveryMetrics::default());
    let hub = Hub::new(settings, way_back, delivery.clone());
    let (questions, questioned) = mpsc::channel(REQUESTS);
    let questions = database.as_ref().map(|_| questions);
    let (per_address, proxies) = (config.admission.connections_per_address, config.admission.proxies.clone());
    let address = listener.local_addr().unwrap_or(config.listen);
    let operators = config.admin_listen.map(|address| listen_at(address, "admin-listen")).transpose()?;
    let web = Arc::new(Web {
        hub: hub.clone(),
        source: source.clone(),
        limits: Limits {
            message_bytes: config.message_bytes,
            subscriptions: config.max_subscriptions,
            commands_per_second: config.commands_per_second,
        },
        admission: config.admission,
        names: match (&keys, address.ip().is_loopback()) {
            (Some(_), _) => Names::Any,
            (None, true) => Names::ThisMachine,
            (None, false) => Names::NotPublic,
        },
        application: config.application,
        naming: config.schema,
        questions,
        has_admin_listener: operators.is_some(),
        tls: tls.clone(),
        connections: Connections::new(per_address, proxies, descriptors),
        room: rows::room(),
        max_sockets: config.max_sockets,
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    let (events, received) = mpsc::channel(EVENTS);
    let open_to = if keys.is_some() { "whom a policy allows" } else { "everybody" };
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!(event = "listening", %address, tls = tls.is_some(), channels_open_to = open_to, version, process);
    hub.start(tasks, received, shutdown);
    tasks.spawn("service manager", service_manager::run(hub.live(), shutdown.clone()));
    if let Some(operators) = operators {
        if let Ok(address) = operators.local_addr() {
            tracing::info!(event = "listening_for_operators", %address);
        }
        tasks.spawn("operators", server::run_for_operators(operators, web.clone()));
    }
    tasks.spawn("server", server::run(listener, web, config.drain));
    if let Some(tls) = tls {
        tasks.spawn("certificate", tls.renew(shutdown.clone()));
    }
    if let (Some(keys), Some(source)) = (keys, config.keys.jwks) {
        tasks.spawn("keys", jwks::run(source, keys, shutdown.clone()));
    }
    // what only the database can answer
    let (outbox, asked_of_outbox) = mpsc::channel(REQUESTS);
    let (asked_of_outbox, asked_of_stream) = match &config.backbone {
        None => (asked, None),
        Some(_) => (asked_of_outbox, Some(asked)),
    };
    if let Some(database) = &database {
        let pool = database.pool()?;
        let role = match &config.backbone {
            None => Role::Relay,
            Some(backbone) if backbone.publishes => Role::Candidate,
            Some(_) => Role::Gateway,
        };
        let mut spawn = |name: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            tasks.spawn(name, once_reached(reached.clone(), shutdown.clone(), task));
        };
        let node = Node { database: database.clone(), address, role, source: source.clone(), delivery };
        spawn("replay", Box::pin(replay::run(database.clone(), pool.clone(), asked_of_outbox, shutdown.clone())));
        spawn("members", Box::pin(members::run(pool.clone(), asked_of_members, shutdown.clone())));
        spawn("retention", Box::pin(retention::run(pool.clone(), source.clone(), shutdown.clone())));
        spawn("newcomers", Box::pin(newcomers::run(pool.clone(), shutdown.clone())));
        spawn("node", Box::pin(node.run(pool.clone(), shutdown.clone())));
        spawn("inspect", Box::pin(inspect::run(pool, questioned, shutdown.clone())));
    }
    match (config.backbone, database) {
        (Some(Backbone { link, stream, publishes, retention }), database) => {
            let keys = backbone::Keys::of(&stream);
            source.note_stream(&stream);
            let outbox = database.as_ref().map(|_| outbox);
            if let Some(asked) = asked_of_stream {
                tasks.spawn("past", past::run(link.clone(), keys.clone(), outbox.clone(), asked, shutdown.clone()));
            }
            if let Some(database) = database.filter(|_| publishes) {
                let (link, keys, metrics) = (link.clone(), keys.clone(), source.clone());
                let candidate = Candidate { database, link, keys, retention, metrics };
                let running = candidate.run(shutdown.clone());
                tasks.spawn("candidate", once_reached(reached.clone(), shutdown.clone(), running));
            }
            let follower = Follower::new(link, keys, events, outbox, source, config.history_bytes);
            Ok(Box::pin(follower.run(feedback, shutdown.clone())))
        }
        (None, Some(database)) => {
            let first = First { begin: Begin::Latest, patience: config.wait };
            Ok(Box::pin(relay::run(database, first, source, feedback, events, shutdown.clone())))
        }
        (None, None) => Err(Error::new(Kind::Config, "there is neither a database nor a stream to serve changes from")),
    }
}
