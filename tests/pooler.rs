//! A transaction pooler between rowcast and Postgres: refused with the right words, by a real PgBouncer.

use std::path::PathBuf;
use std::process::Stdio;

use rowcast::error::Kind;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// A PgBouncer of the test's own, in front of the test's server.
struct Pooler {
    running: tokio::process::Child,
    folder: PathBuf,
    port: u16,
}

impl Pooler {
    /// `None` where there is none on this machine.
    async fn start(url: &str, mode: &str) -> Option<Self> {
        let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
        let program = places.into_iter().find(|place| std::path::Path::new(place).exists())?;
        let config: tokio_postgres::Config = url.parse().unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else { panic!("{url}: no TCP") };
        let (server, user) = (config.get_ports()[0], config.get_user().unwrap());
        let password = config.get_password().map(String::from_utf8_lossy);
        let password = password.map(|password| format!("password={password}")).unwrap_or_default();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("rowcast-{}-pooler-{mode}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ini = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={server} user={user} {password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\nignore_startup_parameters = extra_float_digits\n"
        );
        std::fs::write(&ini, text).unwrap();
        let mut command = tokio::process::Command::new(program);
        // it refuses to run as root
        if nix::unistd::Uid::effective().is_root() {
            command.args(["-u", "nobody"]);
        }
        let mut running =
            command.arg(&ini).stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("process up") {
                // whatever else it says must not fill the pipe
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        eprintln!("{line}");
                    }
                });
                return Some(Self { running, folder, port });
            }
        }
        panic!("pgbouncer ended: {:?}", running.wait().await);
    }

    fn url(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        format!("postgres://anybody@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.running.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Says that the test did not run; a failure where everything must.
fn skipped() {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "pgbouncer is missing: apt-get install pgbouncer");
    eprintln!("skipped: pgbouncer is missing: apt-get install pgbouncer");
}

#[tokio::test]
async fn a_transaction_pooler_is_refused_with_the_remedy() {
    let db = TestDatabase::new().await;
    let Some(pooler) = Pooler::start(&db.url, "transaction").await else { return skipped() };
    let error = TestServer::start(&pooler.url(&db.url)).stop_by_itself().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("transaction pooler"), "{error}");
    assert!(error.remedy().unwrap().contains("connect to Postgres itself"));
    let locks = "select count(*) from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(db.text(locks).await, "0", "no backend of the pool was left with a lock");
    // nor with a setting: each is taken for a transaction of its own
    let backends = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    let there: usize = db.text(backends).await.parse().unwrap();
    let mut taken = Vec::new();
    for _ in 0..there {
        let caller = connect(&pooler.url(&db.url)).await;
        caller.simple_query("begin").await.unwrap();
        let path = caller.simple_query("show search_path").await.unwrap();
        assert!(format!("{path:?}").contains("public"), "{path:?}");
        taken.push(caller);
    }
}

#[tokio::test]
async fn a_session_pooler_does_no_harm() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let Some(pooler) = Pooler::start(&db.url, "session").await else { return skipped() };
    let server = TestServer::start(&pooler.url(&db.url));
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 1);
    server.stop().await.unwrap();
}
