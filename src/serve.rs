//! `rowcast serve`: puts source, delivery and web together. Owns their order at the start and at the end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use crate::config::{Config, KeySettings};
use crate::delivery::auth::{Key, Keys, Rules};
use crate::delivery::hub::{self, Hub};
use crate::delivery::session::Limits;
use crate::error::{Error, Kind, Result};
use crate::metrics::{DeliveryMetrics, SourceMetrics};
use crate::shutdown::Shutdown;
use crate::source::pool::Database;
use crate::source::{inspect, node, relay, replay, retention};
use crate::web::jwks;
use crate::web::server::{self, Web};
use crate::web::tls::Tls;

/// Parts of cuts on their way from the source to the hub. Few: the reader should feel it when delivery is behind.
const EVENTS: usize = 4;
/// Requests that wait for the source. Whoever asks beyond that waits in its own task.
const REQUESTS: usize = 64;

/// Connections that wait to be accepted. A client whose first packet finds this full tries again after a second: with
/// the usual 128 that befell a storm of 256 at a time.
const BACKLOG: u32 = 4096;

/// Binds the configured address.
///
/// # Errors
/// [`Kind::Io`] when the port is in use or not ours to take.
pub fn bind(config: &Config) -> Result<TcpListener> {
    listen(config.listen).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there: stop it or choose another port with --listen"
            }
            std::io::ErrorKind::PermissionDenied => "choose a port above 1023 with --listen",
            _ => "choose an address of this machine with --listen",
        };
        Error::new(Kind::Io, format!("cannot listen on {}", config.listen)).because(e).hint(hint)
    })
}

/// What tokens are checked with, if anything.
fn keys_of(settings: &KeySettings) -> Result<Option<Arc<Keys>>> {
    if !settings.is_some() {
        return Ok(None);
    }
    let mut fixed: Vec<Key> = settings.secret.iter().map(|secret| Key::secret(secret)).collect();
    if let Some(pem) = &settings.public_key {
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

/// Serves until the shutdown.
///
/// # Errors
/// When the first connection to the database cannot be made; later losses are retried for ever.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<()> {
    let database = Database::parse(&config.database_url)?;
    let source = Arc::new(SourceMetrics::default());
    // beside sockets, requests for pages
    let connections = usize::try_from(config.max_sockets).unwrap_or(usize::MAX).saturating_add(1000);
    let tls = config.tls.map(|files| Tls::read(files, connections)).transpose()?.map(Arc::new);
    let pool = database.pool()?;
    let mut ends = shutdown.clone();
    tokio::select! {
        proven = database.prove_own() => proven?,
        () = ends.begun() => return Ok(()),
    }
    let nudge = Arc::new(Notify::new());
    let (requests, asked) = mpsc::channel(REQUESTS);
    let keys = keys_of(&config.keys)?;
    let settings = hub::Settings {
        log_bytes: config.log_bytes,
        history_bytes: config.history_bytes,
        heartbeat: config.heartbeat,
        ping: config.ping,
        replay_bytes_per_second: config.replay_bytes_per_second,
        shards: std::thread::available_parallelism().map_or(1, usize::from),
        keys: keys.clone(),
    };
    let way_back = hub::Source { requests, nudge: nudge.clone() };
    let delivery = Arc::new(DeliveryMetrics::default());
    let hub = Hub::new(settings, way_back, delivery.clone());
    let (questions, questioned) = mpsc::channel(REQUESTS);
    let web = Arc::new(Web {
        hub: hub.clone(),
        source: source.clone(),
        limits: Limits {
            message_bytes: config.message_bytes,
            subscriptions: config.max_subscriptions,
            sockets_per_user: config.admission.sockets_per_user,
            commands_per_second: config.commands_per_second,
        },
        admission: config.admission,
        checks_host: keys.is_none() && config.listen.ip().is_loopback(),
        is_demo: config.is_demo,
        questions,
        tls: tls.clone(),
        by_address: Arc::default(),
        by_user: Arc::default(),
        max_sockets: config.max_sockets,
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    let (events, received) = mpsc::channel(EVENTS);
    let address = listener.local_addr().unwrap_or(config.listen);
    let open_to = if keys.is_some() { "whom a policy allows" } else { "everybody" };
    tracing::info!(event = "listening", %address, tls = tls.is_some(), channels_open_to = open_to);
    let hub = tokio::spawn(hub.run(received, shutdown.clone()));
    let serving = tokio::spawn(server::run(listener, web, config.drain));
    let replays = tokio::spawn(replay::run(database.clone(), pool.clone(), asked, shutdown.clone()));
    let pruning = tokio::spawn(retention::run(pool.clone(), source.clone(), shutdown.clone()));
    let noting = tokio::spawn(node::run(database.clone(), pool.clone(), address, delivery, shutdown.clone()));
    let answering = tokio::spawn(inspect::run(pool, questioned, shutdown.clone()));
    if let Some(tls) = tls {
        tokio::spawn(tls.renew(shutdown.clone()));
    }
    if let (Some(keys), Some(source)) = (keys, config.keys.jwks) {
        tokio::spawn(jwks::run(source, keys, shutdown.clone()));
    }
    relay::run(database, source, nudge, events, shutdown).await?;
    for task in [hub, serving, replays, pruning, noting, answering] {
        if let Err(error) = task.await {
            tracing::error!(event = "task_died", %error);
        }
    }
    Ok(())
}
