//! Connections to Postgres. Owns how they are made, named and configured; knows no statement of any stage.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Connection, SimpleQueryMessage, Socket};

use super::tls;
use crate::error::{Error, Kind, Result};

/// A dead peer is noticed within this time: TCP's own clocks on both sides of a connection.
const DEAD_PEER: Duration = Duration::from_secs(5);

/// One would do with poolers that give out the backend that came back last; with those that take turns, a few.
const LOOKS: u32 = 3;

/// What a connection is for; stands in `pg_stat_activity.application_name`, so a DBA sees which is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// hears the doorbell
    Listen,
    /// reads the outbox and holds the relay's locks
    Read,
    /// the catalogue, status
    Query,
    /// changes of the past and snapshots, for one subscriber
    Replay,
    /// holds the lock of the publisher
    Publish,
    /// migrate, watch, doctor and the like
    Command,
}

/// Whoever may create functions in a schema of the search path could have his own run instead of Postgres', with the
/// relay's rights. To be set at once: startup options do not pass every pooler.
pub(super) const SEARCH_PATH: &str = "set search_path = pg_catalog, pg_temp";

/// A database, and this process as its client.
#[derive(Clone)]
pub struct Database {
    config: tokio_postgres::Config,
    tls: tls::Connector,
    /// tells this process's backends from another node's
    instance: Arc<str>,
}

/// A connection that ends when it is dropped. [`Database::client`] reads what was asked for to its end first.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driving: tokio::task::JoinHandle<()>,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// A connection that must be driven by whoever asked for it.
pub type Driver = Connection<Socket, tls::Stream>;

impl Database {
    /// Reads `postgres://user@host:port/database` or `host=.. dbname=..`.
    ///
    /// # Errors
    /// [`Kind::Config`] with what is wrong in it; the text never contains the password.
    pub fn parse(url: &str) -> Result<Self> {
        let (url, mode, tls) = tls::split(url)?;
        let mut config = tokio_postgres::Config::from_str(&url).map_err(|e| {
            Error::new(Kind::Config, "the database URL cannot be read")
                .because(e)
                .hint("write postgres://user:password@host:5432/database")
        })?;
        config.ssl_mode(mode);
        if config.get_hosts().is_empty() {
            return Err(Error::new(Kind::Config, "the database URL names no host")
                .hint("write postgres://user@localhost/database"));
        }
        Ok(Self { config, tls, instance: format!("{:08x}", fastrand::u32(..)).into() })
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(dbname);
        other
    }

    /// Tells this process from another node: eight characters.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The name under which a connection appears in `pg_stat_activity`.
    pub fn application_name(&self, purpose: Purpose) -> String {
        let purpose = match purpose {
            Purpose::Listen => "listen",
            Purpose::Read => "read",
            Purpose::Query => "query",
            Purpose::Replay => "replay",
            Purpose::Publish => "publish",
            Purpose::Command => "command",
        };
        format!("rowcast {purpose} {}", self.instance)
    }

    /// Opens a connection. It does nothing until its driver is polled.
    ///
    /// # Errors
    /// [`Kind::Connection`] where trying again may help, [`Kind::Database`] with a remedy where it will not.
    pub async fn connect(&self, purpose: Purpose) -> Result<(Client, Driver)> {
        self.config_for(purpose).connect(self.tls.clone()).await.map_err(|e| self.explain(e))
    }

    /// Opens a connection that a task of its own drives until the client is dropped.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn client(&self, purpose: Purpose) -> Result<Client> {
        let (client, driver) = self.connect(purpose).await?;
        tokio::spawn(async move {
            // whoever uses the client gets the error from its next call
            let _ = driver.await;
        });
        // a command's table may be named as its caller's search path has it
        if purpose != Purpose::Command {
            client.batch_execute(SEARCH_PATH).await.map_err(|e| self.explain(e))?;
        }
        Ok(client)
    }

    /// Proves that a connection here is a session of its own. A transaction pooler gives it any backend, and that backend
    /// to others too: LISTEN may even work for a while, where the pooler has nothing else to do, and the relay's locks would
    /// stay with strangers.
    ///
    /// # Errors
    /// [`Kind::Config`] where it is not; when the database cannot be asked.
    pub async fn prove_own(&self) -> Result<()> {
        // nothing is set in these sessions: what a shared backend is told it keeps, and strangers get it
        let (one, other) = (self.bare(Purpose::Command).await?, self.bare(Purpose::Command).await?);
        let (ours, others) = (self.backend(&one).await?, self.backend(&other).await?);
        for _ in 0..LOOKS {
            // not in turns: two backends that take turns would look like two sessions
            let looks =
                [(&one, &ours), (&one, &ours), (&other, &others), (&one, &ours), (&other, &others), (&other, &others)];
            for (client, known) in looks {
                if self.backend(client).await? != *known || ours == others {
                    let what = "the database URL leads through a transaction pooler, which gives a session another backend each time";
                    return Err(Error::new(Kind::Config, what).hint(
                        "connect to Postgres itself (port 5432, most likely), or through a pool in session mode",
                    ));
                }
            }
        }
        Ok(())
    }

    /// A connection in which nothing is set.
    async fn bare(&self, purpose: Purpose) -> Result<Session> {
        let (client, driver) = self.connect(purpose).await?;
        let driving = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Session { client, driving })
    }

    /// The process id behind a connection. Not by a prepared statement, which another backend would not know.
    async fn backend(&self, client: &Client) -> Result<String> {
        let messages = client.simple_query("select pg_catalog.pg_backend_pid()").await.map_err(|e| self.explain(e))?;
        let pid = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(pid.unwrap_or_default().to_owned())
    }

    /// Opens a connection for one answer: when the session is dropped it ends at once, also in the middle of a result.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn session(&self, purpose: Purpose) -> Result<Session> {
        let session = self.bare(purpose).await?;
        session.batch_execute(SEARCH_PATH).await.map_err(|e| self.explain(e))?;
        Ok(session)
    }

    /// A small pool for occasional queries: the hot path has connections of its own.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be built.
    pub fn pool(&self) -> Result<Pool> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        Pool::builder(Manager::from_config(self.config_for(Purpose::Query), self.tls.clone(), manager))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(SEARCH_PATH).await.map_err(HookError::Backend) })
            }))
            .max_size(4)
            .wait_timeout(Some(DEAD_PEER))
            .create_timeout(Some(DEAD_PEER))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::new(Kind::Config, "the connection pool cannot be built").because(e))
    }

    fn config_for(&self, purpose: Purpose) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        config
            .application_name(self.application_name(purpose))
            .connect_timeout(DEAD_PEER)
            .tcp_user_timeout(DEAD_PEER)
            .keepalives_idle(Duration::from_secs(2))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        config
    }

    fn explain(&self, error: tokio_postgres::Error) -> Error {
        let code = error.code().map(|c| c.code().to_owned());
        let user = self.config.get_user().unwrap_or("?");
        let dbname = self.config.get_dbname().unwrap_or(user);
        let remedy = match code.as_deref() {
            Some("28P01" | "28000") => {
                Some(format!("check the user and password in DATABASE_URL, and pg_hba.conf for user {user}"))
            }
            Some("3D000") => Some(format!("create it (createdb {dbname}) or name another in DATABASE_URL")),
            Some("53300") => Some("the server has no connection left: raise max_connections or close idle ones".into()),
            Some(_) => None,
            None => Some("is Postgres running there? check host and port in DATABASE_URL".into()),
        };
        let mut explained = Error::database(format!("cannot connect to {self}"), error);
        if let Some(remedy) = remedy {
            explained = explained.hint(remedy);
        }
        explained
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

/// Host, port and database, never the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => f.write_str(host)?,
            Some(Host::Unix(path)) => write!(f, "{}", path.display())?,
            None => {}
        }
        write!(f, ":{}", self.config.get_ports().first().copied().unwrap_or(5432))?;
        write!(f, "/{}", self.config.get_dbname().or(self.config.get_user()).unwrap_or(""))
    }
}
