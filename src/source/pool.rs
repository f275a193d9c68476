//! Connections to Postgres. Owns how they are made, named and configured; knows no statement of any stage.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, RecyclingMethod, Runtime};
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::{Connection, SimpleQueryMessage, Socket};

use super::client::{Client, Pool};
use super::encoding::Encoding;
use super::session::settings;
use super::{tls, url};
use crate::error::{self, Error, Kind, Result};
use crate::naming::Naming;

pub use super::session::Purpose;

/// A dead peer is noticed within this time: TCP's own clocks on both sides of a connection.
const DEAD_PEER: Duration = Duration::from_secs(5);

/// One would do with poolers that give out the backend that came back last; with those that take turns, a few.
const LOOKS: u32 = 3;

/// A database with an installation in it, and this process as its client.
#[derive(Clone)]
pub struct Database {
    config: tokio_postgres::Config,
    tls: tls::Connector,
    /// tells this process's backends from another node's
    instance: Arc<str>,
    /// the database's encoding, and what reading sessions ask for; known from the first connection on
    encoding: Arc<OnceLock<(Encoding, &'static str)>>,
    naming: Naming,
}

/// A connection that ends when it is dropped. [`Database::client`] reads what was asked for to its end first.
#[derive(Debug)]
pub struct DatabaseSession {
    client: Client,
    driving: tokio::task::JoinHandle<()>,
}

impl std::ops::Deref for DatabaseSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for DatabaseSession {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// A connection that must be driven by the caller that asked for it.
pub type Driver = Connection<Socket, tls::PostgresStream>;

impl Database {
    /// Reads `postgres://user@host:port/database` or `host=.. dbname=..`.
    ///
    /// # Errors
    /// [`Kind::Config`] with what is wrong in it; the text never contains the password.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some((scheme, _)) = url.split_once("://")
            && !scheme.contains(['=', ' '])
            && !["postgres", "postgresql"].iter().any(|ours| scheme.trim_start_matches("jdbc:").starts_with(ours))
        {
            return Err(Error::new(Kind::Config, format!("the database URL is one of {scheme}"))
                .hint("write postgres://user:password@host:5432/database"));
        }
        let (url, passed_over) = url::of_application(url);
        if !passed_over.is_empty() {
            tracing::info!(
                event = "url_options_ignored",
                options = passed_over.join(", "),
                "they concern other client libraries"
            );
        }
        refuse_bare_at(&url)?;
        let (url, mode, tls) = tls::split(&url)?;
        let mut config = tokio_postgres::Config::from_str(&url).map_err(|e| {
            let has_option = url.contains('?');
            Error::new(Kind::Config, "the database URL cannot be read").because(e).hint(match has_option {
                true => "take the option out of the URL; postgres://user:password@host:5432/database is enough",
                false => "write postgres://user:password@host:5432/database",
            })
        })?;
        config.ssl_mode(mode);
        if config.get_hosts().is_empty() {
            return Err(Error::new(Kind::Config, "the database URL names no host")
                .hint("write postgres://user@localhost/database"));
        }
        let instance = format!("{:08x}", fastrand::u32(..)).into();
        Ok(Self { config, tls, instance, encoding: Arc::default(), naming: Naming::default() })
    }

    /// The same database, another installation in it.
    #[must_use]
    pub fn with_naming(self, naming: Naming) -> Self {
        Self { naming, ..self }
    }

    /// The installation.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(dbname);
        other.encoding = Arc::default();
        other
    }

    /// Tells this process from another node: eight characters.
    #[must_use]
    pub fn with_instance(mut self, name: &str) -> Self {
        self.instance = name.into();
        self
    }

    /// What tells this process's backends from another node's.
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
        format!("{} {purpose} {}", self.naming.session(), self.instance)
    }

    /// Opens a connection. It does nothing until its driver is polled.
    ///
    /// # Errors
    /// [`Kind::Connection`] where trying again may help, [`Kind::Database`] with a remedy where it will not.
    pub async fn connect(&self, purpose: Purpose) -> Result<(Client, Driver)> {
        let (client, driver) = self.plain(purpose).await?;
        Ok((Client::new(client, self.naming.clone()), driver))
    }

    async fn plain(&self, purpose: Purpose) -> Result<(tokio_postgres::Client, Driver)> {
        let connected = self.config_for(purpose).connect(self.tls.clone()).await.map_err(|e| self.explain(e))?;
        self.note_encoding(connected.1.parameter("server_encoding").unwrap_or("UTF8"));
        Ok(connected)
    }

    /// The database's encoding, as the first connection has learnt it.
    pub fn encoding(&self) -> Encoding {
        self.encoding.get().map_or(Encoding::UTF8, |(encoding, _)| *encoding)
    }

    /// The `client_encoding` of sessions that read rows.
    pub(super) fn encoding_of_reading_sessions(&self) -> &'static str {
        self.encoding.get().map_or("UTF8", |(_, asked)| asked)
    }

    fn note_encoding(&self, server_encoding: &str) {
        self.encoding.get_or_init(|| {
            let encoding = Encoding::of(server_encoding);
            (encoding, encoding.of_reading_sessions(server_encoding))
        });
    }

    /// What a session says first: its settings, and how text is to be sent. Only a session that reads rows takes it as
    /// it is.
    fn first_words(&self, purpose: Purpose) -> String {
        let reads = matches!(purpose, Purpose::Read | Purpose::Query | Purpose::Replay);
        let encoding = if reads { self.encoding_of_reading_sessions() } else { "UTF8" };
        format!("{}; set client_encoding = '{encoding}'", settings(purpose))
    }

    /// Opens a connection that a task of its own drives until the client is dropped.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn client(&self, purpose: Purpose) -> Result<Client> {
        let client = Client::new(self.driven(purpose).await?, self.naming.clone());
        client.batch_execute(&self.first_words(purpose)).await.map_err(|e| self.explain(e))?;
        Ok(client)
    }

    /// Opens a connection with the settings that its role and its database have, for statements that are the caller's, in
    /// whatever words.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn as_caller(&self) -> Result<tokio_postgres::Client> {
        self.driven(Purpose::Command).await
    }

    async fn driven(&self, purpose: Purpose) -> Result<tokio_postgres::Client> {
        let (client, driver) = self.plain(purpose).await?;
        tokio::spawn(async move {
            // the task that uses the client gets the error from its next call
            let _ = driver.await;
        });
        Ok(client)
    }

    /// The number of a table, by its name as the caller's own search path has it; `None` where there is none.
    ///
    /// # Errors
    /// When the database cannot be asked, or the name is none.
    pub async fn table(&self, name: &str) -> Result<Option<u32>> {
        let caller = self.bare(Purpose::Command).await?;
        // of Postgres' own, whatever the search path is
        let row = caller
            .query_one("select pg_catalog.to_regclass($1)::pg_catalog.oid", &[&name])
            .await
            .map_err(|e| Error::database(format_args!("cannot look for table {name}"), e))?;
        Ok(row.get(0))
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
    async fn bare(&self, purpose: Purpose) -> Result<DatabaseSession> {
        let (client, driver) = self.connect(purpose).await?;
        let driving = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(DatabaseSession { client, driving })
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
    pub async fn session(&self, purpose: Purpose) -> Result<DatabaseSession> {
        let session = self.bare(purpose).await?;
        session.batch_execute(&self.first_words(purpose)).await.map_err(|e| self.explain(e))?;
        Ok(session)
    }

    /// Ends the statement that a session is busy with.
    pub(super) async fn cancel(&self, session: &DatabaseSession) {
        // where the server cannot be reached, it finds out itself that nobody listens
        let _ = tokio::time::timeout(DEAD_PEER, session.cancel_token().cancel_query(self.tls.clone())).await;
    }

    /// A small pool for occasional queries: the hot path has connections of its own.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be built.
    pub fn pool(&self) -> Result<Pool> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let database = self.clone();
        let pool = deadpool_postgres::Pool::builder(Manager::from_config(
            self.config_for(Purpose::Query),
            self.tls.clone(),
            manager,
        ))
        .post_create(Hook::async_fn(move |client, _| {
            let database = database.clone();
            Box::pin(async move {
                let encoding = "select pg_catalog.current_setting('server_encoding')";
                let row = client.query_one(encoding, &[]).await.map_err(HookError::Backend)?;
                database.note_encoding(row.get(0));
                let words = database.first_words(Purpose::Query);
                client.batch_execute(&words).await.map_err(HookError::Backend)
            })
        }))
        .max_size(4)
        .wait_timeout(Some(DEAD_PEER))
        .create_timeout(Some(DEAD_PEER))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::new(Kind::Config, "the connection pool cannot be built").because(e))?;
        Ok(Pool::new(pool, self.naming.clone()))
    }

    fn config_for(&self, purpose: Purpose) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        // for each host in turn: what has DEAD_PEER for a connection gets to the last host where no other one answers
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        let each = DEAD_PEER / u32::try_from(hosts + 1).unwrap_or(u32::MAX);
        // one that takes connections and says nothing is in the way of those behind it: each attempt begins elsewhere
        if hosts > 1 && config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        config
            .application_name(self.application_name(purpose))
            .connect_timeout(each)
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
            Some("53300") if error.as_db_error().is_some_and(|e| e.message().contains("for role")) => Some(format!(
                "the role has a connection limit: alter role \"{user}\" connection limit 15; a server takes up to eleven, \
                 a publisher candidate twelve, and a command up to three: count them for each server"
            )),
            Some("53300") => Some("the server has no connection left: raise max_connections or close idle ones".into()),
            Some(_) => None,
            None if error::chain(&error).contains("UnknownIssuer") => Some(
                "no authority that is trusted here has signed the server's certificate: name its root, sslrootcert=FILE in DATABASE_URL, \
                 or install the authorities of the system (Debian and Alpine: the package ca-certificates)"
                    .into(),
            ),
            None => Some("is Postgres running there? check host and port in DATABASE_URL".into()),
        };
        let mut explained = Error::database(format!("cannot connect to {self}"), error);
        if let Some(remedy) = remedy {
            explained = explained.hint(remedy);
        }
        explained
    }
}

/// The driver ends user and password at the first @. What follows would be a host, which is told in messages.
fn refuse_bare_at(url: &str) -> Result<()> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some((before, behind)) = rest.and_then(|rest| rest.split_once('@')) else { return Ok(()) };
    // options that stand before it are those of a URL without a password; a password may have ? and = as they are
    let is_in_options = before.split_once('?').is_some_and(|(_, options)| {
        options
            .split('&')
            .any(|option| ["user=", "password=", "host=", "dbname="].iter().any(|name| option.starts_with(name)))
    });
    // a second one may stand in an option's value, and nowhere else
    let mut words = behind.split(['?', '&']);
    let has_another = words.next().is_some_and(|place| place.contains('@'))
        || words.any(|word| word.split('=').next().is_some_and(|name| name.contains('@')));
    if is_in_options || has_another {
        return Err(Error::new(Kind::Config, "the database URL has an @ in the password, or in another name")
            .hint("write it as %40"));
    }
    Ok(())
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
