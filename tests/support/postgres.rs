//! The one place where tests get Postgres from: `ROWCAST_TEST_DATABASE_URL` if set, else testcontainers if a Docker
//! engine answers, else a private cluster from local programs. `ROWCAST_TEST_POSTGRES=docker|private` insists.
//! Each test gets a database of its own, cloned from a migrated template.

use std::future::poll_fn;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rowcast::demo::cluster::Cluster;
use rowcast::source::client::Client;
use rowcast::source::install;
use rowcast::source::pool::Database;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, NoTls};

use super::PATIENCE;

struct Server {
    /// URL of a superuser, up to the database's name
    base: String,
    template: String,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database with schema rowcast, and a superuser's connection to it.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl TestDatabase {
    pub(crate) async fn new() -> Self {
        let server = SERVER.get_or_init(start).await;
        Self::create(&server.base, &format!("template {}", server.template)).await
    }

    /// Without schema rowcast.
    pub(crate) async fn empty() -> Self {
        let server = SERVER.get_or_init(start).await;
        Self::create(&server.base, "").await
    }

    /// In another encoding than UTF-8, with schema rowcast.
    pub(crate) async fn in_encoding(encoding: &str) -> Self {
        let server = SERVER.get_or_init(start).await;
        let options = format!("encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'");
        let database = Self::create(&server.base, &options).await;
        install::migrate(&mut database.another_client().await).await.unwrap();
        database
    }

    /// Whether the server's processes are this machine's.
    pub(crate) fn is_private() -> bool {
        std::env::var_os("ROWCAST_TEST_DATABASE_URL").is_none()
            && std::env::var("ROWCAST_TEST_POSTGRES").as_deref() == Ok("private")
    }

    async fn create(base: &str, options: &str) -> Self {
        let name = format!("rowcast_test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        connect(&format!("{base}postgres"))
            .await
            .batch_execute(&format!("create database {name} {options}"))
            .await
            .unwrap();
        let url = format!("{base}{name}");
        Self { client: connect(&url).await, url }
    }

    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The error of a statement that must fail: message and hint.
    pub(crate) async fn refused(&self, sql: &str) -> String {
        let error = self.client.batch_execute(sql).await.expect_err(sql);
        let error = error.as_db_error().expect("an error of the server");
        format!("{} | {}", error.message(), error.hint().unwrap_or("no hint"))
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        let row = self
            .client
            .query_one(&format!("select ({sql})::text"), &[])
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// Prunes until it did this. One call may find a table in use that the relay reads at that moment, or a node that noted
    /// meanwhile how far it had read before.
    pub(crate) async fn pruned(&self, done: &str) {
        let mut said = String::new();
        let all = async {
            loop {
                said = self.text("rowcast.prune()").await;
                if said.contains(done) {
                    return;
                }
                // what each node notes every few seconds
                self.run("update rowcast.node set seen = pg_current_snapshot()").await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            panic!("rowcast.prune() says {said:?}, not {done:?}");
        }
    }

    pub(crate) async fn another_client(&self) -> Client {
        connect(&self.url).await
    }

    /// The payloads of the doorbell from now on, as a listener in psql would see them.
    pub(crate) async fn bells(&self) -> UnboundedReceiver<String> {
        self.bells_on("rowcast").await
    }

    /// The same of another channel.
    pub(crate) async fn bells_on(&self, channel: &str) -> UnboundedReceiver<String> {
        let (listener, mut connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        let (sender, bells) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(bell) = message {
                    let _ = sender.send(bell.payload().to_owned());
                }
            }
        });
        listener.batch_execute(&format!("listen {channel}")).await.unwrap();
        std::mem::forget(listener); // dropping it would end the connection
        bells
    }

    /// The URL with another user.
    pub(crate) fn url_of(&self, user: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("postgres://{user}:secret@{rest}")
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    Database::parse(url).unwrap().as_caller().await.unwrap().into()
}

/// Where the library of native capture lies, where the suite is to run with it: on a private cluster.
fn native_library() -> Option<String> {
    std::env::var("ROWCAST_TEST_NATIVE").ok().filter(|folder| !folder.is_empty())
}

async fn start() -> Server {
    let base = base_url().await;
    let template = format!("rowcast_template_{}", std::process::id());
    connect(&format!("{base}postgres")).await.batch_execute(&format!("create database {template}")).await.unwrap();
    let mut client = connect(&format!("{base}{template}")).await;
    install::migrate(&mut client).await.unwrap();
    if native_library().is_some() {
        client.batch_execute("select rowcast.configure('capture', 'native')").await.unwrap();
    }
    drop(client);
    // a database with a connection cannot be a template
    let postgres = connect(&format!("{base}postgres")).await;
    let gone = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{template}'");
    postgres.batch_execute(&gone).await.unwrap();
    loop {
        let row =
            postgres.query_one("select count(*) from pg_stat_activity where datname = $1", &[&template]).await.unwrap();
        if row.get::<_, i64>(0) == 0 {
            break;
        }
    }
    Server { base, template }
}

async fn base_url() -> String {
    let wanted = std::env::var("ROWCAST_TEST_POSTGRES").unwrap_or_default();
    if let Ok(url) = std::env::var("ROWCAST_TEST_DATABASE_URL") {
        eprintln!("tests use the Postgres of ROWCAST_TEST_DATABASE_URL");
        return url.rsplit_once('/').unwrap().0.to_owned() + "/";
    }
    if wanted == "docker" || (wanted != "private" && docker_answers()) {
        let container = GenericImage::new("postgres", "15")
            .with_exposed_port(5432.tcp())
            .with_wait_for(WaitFor::message_on_stderr("database system is ready to accept connections"))
            .with_env_var("POSTGRES_PASSWORD", "postgres")
            .with_cmd(["-c", "fsync=off", "-c", "max_connections=200", "-c", "wal_level=logical"])
            .start()
            .await
            .expect("a container of postgres:15");
        let port = container.get_host_port_ipv4(5432).await.unwrap();
        eprintln!("tests use Postgres in a container, port {port}");
        // with its volume: a run of the suite writes 2 GB there
        when_we_end(&format!("docker rm -f -v {} >/dev/null 2>&1", container.id()));
        std::mem::forget(container);
        let base = format!("postgres://postgres:postgres@127.0.0.1:{port}/");
        // the image's first start is a temporary one that sets up the password
        while tokio_postgres::connect(&format!("{base}postgres"), tokio_postgres::NoTls).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        return base;
    }
    let folder = std::env::temp_dir().join(format!("rowcast-tests-{}", std::process::id()));
    let mut settings = vec!["fsync=off".to_owned(), "max_connections=200".to_owned(), "wal_level=logical".to_owned()];
    settings.extend(native_library().map(|folder| format!("dynamic_library_path={folder}:$libdir")));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(&folder, &settings).await.expect("a private cluster");
    let pid = cluster.pid().unwrap();
    eprintln!("tests use a private cluster in {}", folder.display());
    when_we_end(&format!(
        "kill -INT {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done; rm -rf {}",
        quoted(&folder)
    ));
    let base = cluster.url("postgres", "");
    std::mem::forget(cluster);
    base
}

fn docker_answers() -> bool {
    Command::new("docker")
        .arg("info")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Statics are not dropped when a test binary ends, so a small watcher cleans up after this process.
#[expect(clippy::zombie_processes, reason = "it outlives us: that is its purpose")]
fn when_we_end(command: &str) {
    let watch = format!("while kill -0 {} 2>/dev/null; do sleep 0.2; done; {command}", std::process::id());
    Command::new("sh")
        .args(["-c", &watch])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
