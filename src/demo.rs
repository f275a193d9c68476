//! `rowcast demo`: the clinic on a private Postgres, with a writer that keeps it lively and an application that its page
//! can ask. Owns its set-up; serving is `serve`.

pub mod application;
pub mod cluster;
pub mod writer;

use std::io::Write as _;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::serve;
use crate::shutdown::{Shutdown, Trigger};
use crate::source::install;
use crate::source::pool::{Database, Purpose};
use cluster::Cluster;

const SCHEMA: &str = include_str!("../sql/clinic/schema.sql");
const SEED: &str = include_str!("../sql/clinic/seed.sql");
const ARCHIVE: &str = include_str!("../sql/clinic/archive.sql");
const WATCH: &str = include_str!("../sql/clinic/watch.sql");

/// Errands that wait for the clinic's application. Few: one takes a millisecond, and the page is told that it is busy.
const ERRANDS: usize = 16;

/// Where the demo's Postgres comes from.
#[derive(Debug, Clone)]
pub enum Postgres {
    /// a private cluster in this folder
    Private(PathBuf),
    /// a server that is there, reached as a superuser
    Given(String),
}

/// Runs the demo until the shutdown.
///
/// # Errors
/// When Postgres is missing or a step of the set-up fails.
pub async fn run(postgres: Postgres, config: Config, stop: &Trigger, shutdown: Shutdown) -> Result<()> {
    let listener = serve::bind(&config)?;
    let mut cluster = None;
    let (admin_url, relay_url, writer_url) = match postgres {
        Postgres::Given(url) => (url.clone(), url.clone(), url),
        Postgres::Private(folder) => {
            let started = cluster.insert(Cluster::start(&folder).await?);
            let url = |user: &str| started.url(user, "clinic");
            (url("postgres"), url("rowcast_relay"), url("clinic_app"))
        }
    };
    let outcome = live(&admin_url, &relay_url, &writer_url, config, listener, stop, shutdown).await;
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    outcome
}

async fn live(
    admin_url: &str,
    relay_url: &str,
    writer_url: &str,
    mut config: Config,
    listener: tokio::net::TcpListener,
    stop: &Trigger,
    shutdown: Shutdown,
) -> Result<()> {
    set_up(admin_url, relay_url != admin_url).await?;
    config.database_url = Some(relay_url.to_owned());
    let (application, errands) = mpsc::channel(ERRANDS);
    config.application = Some(application);
    let address = listener.local_addr().map_err(|e| Error::new(Kind::Io, "the listener has no address").because(e))?;
    // the pipe may be closed
    let _ = std::io::stdout().write_all(welcome(&address.to_string(), admin_url).as_bytes());
    // a page is no place for the password of a database that was given
    let psql = if relay_url == admin_url { String::new() } else { format!("psql {writer_url}") };
    let database = Database::parse(writer_url)?;
    let writer = tokio::spawn(writer::run(database.clone(), shutdown.clone()));
    let application = tokio::spawn(application::run(database, psql, errands, shutdown.clone()));
    let served = serve::run(config, listener, shutdown).await;
    stop.begin();
    for task in [writer, application] {
        if let Err(error) = task.await {
            tracing::error!(event = "writer_died", %error);
        }
    }
    served
}

/// Database, clinic, rowcast, watches. A second run changes nothing.
async fn set_up(admin_url: &str, relay_logs_in: bool) -> Result<()> {
    let database = Database::parse(admin_url)?;
    let explain = |e| Error::database("cannot set up the demo", e);
    if let Err(error) = database.as_caller().await {
        if error.kind() != Kind::Database {
            return Err(error);
        }
        let server = database.with_dbname("postgres").as_caller().await?;
        server.batch_execute("create database clinic").await.map_err(explain)?;
    }
    let client: Client = database.as_caller().await?;
    client.batch_execute("set client_min_messages = warning").await.map_err(explain)?;
    client.batch_execute(SCHEMA).await.map_err(explain)?;
    client.batch_execute(SEED).await.map_err(explain)?;
    // before the watches: 100,000 rows are no changes that anybody waits for
    client.batch_execute(ARCHIVE).await.map_err(explain)?;
    install::migrate(&mut database.client(Purpose::Command).await?).await?;
    client.batch_execute(WATCH).await.map_err(explain)?;
    if relay_logs_in {
        client.batch_execute("alter role rowcast_relay login").await.map_err(explain)?;
    }
    Ok(())
}

fn welcome(address: &str, admin_url: &str) -> String {
    // as it was called: a newcomer has it in target/release and not on PATH
    let rowcast = std::env::args().next().unwrap_or_else(|| "rowcast".to_owned());
    format!(
        "
  rowcast demo: a veterinary clinic, live.

  open     http://{address}/clinic   (what is going on: http://{address}/)
  write    psql {admin_url} -c \"update pets set notes = 'back at ' || now() where pet_id = 1\"
  watch    {rowcast} tail pets --url http://{address}
           websocat ws://{address}/ws/pets      (or: npx wscat -c ws://{address}/ws/pets)
  users    {rowcast} tail user/1 --url http://{address}
  look     psql {admin_url} -c 'select * from rowcast.health'

  Ctrl-C stops everything; the next start goes on where this one ended.

"
    )
}
