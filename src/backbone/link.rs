//! Connections to Redis: a server, one behind Sentinels, a Cluster. Owns how they are named, made and configured; knows
//! no command of any stage.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    TlsCertificates, TlsMode,
};

use crate::error::{Error, Kind, Result};

/// Connected within this time, or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An answer takes so long at most, the second that a reader waits for the next entry included.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Reconnecting: full jitter over 50 ms doubled up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A Redis, as a URL names it.
#[derive(Clone)]
pub struct Link {
    servers: Vec<(String, u16)>,
    kind: Topology,
    is_tls: bool,
    user: Option<String>,
    password: Option<String>,
    /// PEM of the roots to trust; `None`: the system's
    roots: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq)]
enum Topology {
    Single { db: i64 },
    Sentinel { master: String, db: i64 },
    Cluster,
}

/// A connection. Commands of several tasks may share a clone, but those that block must not.
#[derive(Clone)]
pub enum RedisConnection {
    /// to one server
    Single(MultiplexedConnection),
    /// to the servers of a cluster
    Cluster(ClusterConnection),
}

/// What a URL lacks.
const FORM: &str = "write redis://user:password@host:6379, rediss:// for TLS, redis+sentinel://host1,host2/master or redis+cluster://host1,host2";

impl Link {
    /// Reads `redis[s][+sentinel|+cluster]://[user:password@]host[:port][,host[:port]..][/master][/db]`.
    ///
    /// # Errors
    /// [`Kind::Config`] with what is wrong in it; the text never contains the password.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |what: &str| Error::new(Kind::Config, format!("the Redis URL {what}")).hint(FORM);
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let (is_tls, form) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis" | "valkey", form) => (false, form),
            ("rediss" | "valkeys", form) => (true, form),
            _ => return Err(bad("begins with none of redis, rediss")),
        };
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(c, rest)| (Some(c), rest));
        let decode = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        let (user, password) = match credentials.map(|c| c.split_once(':').unwrap_or((c, ""))) {
            Some((user, password)) => (decode(user), decode(password)),
            None => (None, None),
        };
        let mut parts = rest.trim_end_matches('/').split('/');
        let port = if form == "sentinel" { 26379 } else { 6379 };
        let servers = parts.next().unwrap_or_default().split(',').map(|server| server_of(server, port));
        let servers: Vec<_> = servers.collect::<Option<_>>().ok_or_else(|| bad("names no host, or no port number"))?;
        let path: Vec<&str> = parts.collect();
        let db =
            |text: Option<&&str>| text.map_or(Ok(0), |text| text.parse().map_err(|_| bad("names no database number")));
        let kind = match (form, &path[..]) {
            ("", [] | [_]) if servers.len() == 1 => Topology::Single { db: db(path.first())? },
            ("sentinel", [master, rest @ ..]) if rest.len() < 2 => {
                Topology::Sentinel { master: (*master).to_owned(), db: db(rest.first())? }
            }
            ("sentinel", _) => return Err(bad("names no master behind the Sentinels")),
            ("cluster", []) => Topology::Cluster,
            _ => return Err(bad("cannot be understood")),
        };
        Ok(Self { servers, kind, is_tls, user, password, roots: None })
    }

    /// Trusts these roots, in PEM, instead of the system's.
    #[must_use]
    pub fn trusting(mut self, roots: Option<Vec<u8>>) -> Self {
        self.roots = roots;
        self
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Kind::Connection`] where trying again may help, [`Kind::Config`] where it will not.
    pub async fn connect(&self) -> Result<RedisConnection> {
        let opened = tokio::time::timeout(CONNECT_WITHIN, self.open()).await;
        let opened = opened.map_err(|_| {
            let text = format!("cannot connect to Redis at {self}: no answer within {} s", CONNECT_WITHIN.as_secs());
            Error::new(Kind::Connection, text)
        })?;
        opened.map_err(|e| explain(&format!("cannot connect to Redis at {self}"), e))
    }

    async fn open(&self) -> Result<RedisConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let certificates = TlsCertificates { client_tls: None, root_cert: self.roots.clone() };
        match &self.kind {
            Topology::Single { .. } => {
                let url = self.url_of(0);
                let client = if self.is_tls { Client::build_with_tls(url, certificates)? } else { Client::open(url)? };
                Ok(RedisConnection::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Topology::Sentinel { master, db } => {
                let address = |(host, port): &(String, u16)| {
                    let (host, port) = (host.clone(), *port);
                    if self.is_tls {
                        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
                    } else {
                        ConnectionAddr::Tcp(host, port)
                    }
                };
                let sentinels = self.servers.iter().map(address);
                let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
                    .set_client_to_redis_db(*db);
                if self.is_tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                if let Some(user) = &self.user {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = &self.password {
                    builder = builder.set_client_to_redis_password(password);
                }
                Ok(RedisConnection::Single(builder.build()?.get_async_connection_with_config(&config).await?))
            }
            Topology::Cluster => {
                let urls: Vec<_> = (0..self.servers.len()).map(|server| self.url_of(server)).collect();
                let urls = urls.into_iter().map(redis::IntoConnectionInfo::into_connection_info);
                let mut builder = ClusterClientBuilder::new(urls.collect::<Result<Vec<_>, _>>()?)
                    .connection_timeout(CONNECT_WITHIN)
                    .response_timeout(ANSWER_WITHIN);
                if self.is_tls {
                    builder = builder.certs(certificates);
                }
                Ok(RedisConnection::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }

    /// The URL of one of the servers, as the library reads it.
    fn url_of(&self, server: usize) -> String {
        let encoded = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let (host, port) = &self.servers[server];
        let credentials = match self.password {
            Some(_) => format!("{}:{}@", encoded(&self.user), encoded(&self.password)),
            None => String::new(),
        };
        let db = match self.kind {
            Topology::Single { db } => db,
            _ => 0,
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("redis{}://{credentials}{host}:{port}/{db}", if self.is_tls { "s" } else { "" })
    }
}

fn server_of(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // an IPv6 address has brackets around it
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl RedisConnection {
    /// Runs a command.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn run<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// How long to wait before the next attempt.
pub fn backoff(attempt: u32) -> Duration {
    let ceiling = BACKOFF_MAX.min(Duration::from_millis(50) * 2_u32.saturating_pow(attempt.min(10)));
    ceiling.mul_f64(fastrand::f64())
}

/// Whether Redis or TLS has refused a connection, and would again at once: a certificate, a password, a right. That ends a start; while
/// a node runs it may be mended.
pub fn is_refused(error: &Error) -> bool {
    use std::error::Error as _;
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<RedisError>()) else { return false };
    let inner = error.source().and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let io = inner.and_then(|inner| inner.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
        || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// An error of Redis with its remedy.
pub fn explain(doing: &str, error: RedisError) -> Error {
    let remedy = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            Some("check user and password in the URL")
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            Some("the user lacks a right: docs/explanation/scale.md lists the commands that are used")
        }
        (ErrorKind::InvalidClientConfig, _) => Some(FORM),
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            Some("this is a replica: name the primary, or the Sentinels that know it (redis+sentinel://)")
        }
        (_, Some("NOREPLICAS")) => Some("Redis wants more replicas (min-replicas-to-write) than are connected to it"),
        (_, Some("OOM")) => Some("give Redis more memory, or a shorter --stream-retention-seconds"),
        _ => None,
    };
    let is_final = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig);
    let mut explained = Error::new(if is_final { Kind::Config } else { Kind::Connection }, doing).because(error);
    if let Some(remedy) = remedy {
        explained = explained.hint(remedy);
    }
    explained
}

/// Hosts and ports, never the password.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        f.write_str(&servers.join(","))?;
        match &self.kind {
            Topology::Single { db: 0 } | Topology::Cluster => Ok(()),
            Topology::Single { db } => write!(f, "/{db}"),
            Topology::Sentinel { master, .. } => write!(f, "/{master}"),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisConnection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_sentinels_or_a_cluster() {
        for (url, read, opened) in [
            ("redis://cache", "cache:6379", "redis://cache:6379/0"),
            ("rediss://me:p%40ss@[::1]:1/2", "::1:1/2", "rediss://me:p%40ss@[::1]:1/2"),
            ("redis://:secret@cache", "cache:6379", "redis://:secret@cache:6379/0"),
            ("redis+sentinel://a,b:5/mymaster", "a:26379,b:5/mymaster", "redis://a:26379/0"),
            ("rediss+cluster://a:7000,b:7001", "a:7000,b:7001", "rediss://a:7000/0"),
        ] {
            let link = Link::parse(url).unwrap();
            assert_eq!((link.to_string(), link.url_of(0)), (read.to_owned(), opened.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, what) in [
            ("cache:6379", "no scheme"),
            ("http://:s3cret@cache", "none of redis"),
            ("redis://:s3cret@", "names no host"),
            ("redis://:s3cret@cache:port", "names no host, or no port"),
            ("redis://:s3cret@cache/first", "no database number"),
            ("redis+sentinel://a,b", "names no master"),
            ("redis://a,b", "cannot be understood"),
        ] {
            let error = Link::parse(url).unwrap_err();
            assert!(error.to_string().contains(what), "{url}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
