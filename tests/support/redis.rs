//! A Redis of the test's own, on a free port of loopback, in a folder of its own: a local program, or, where Postgres runs
//! in a container, a container.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use redis::{Client, Cmd, FromRedisValue, RedisError};
use testcontainers::core::Mount;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct TestRedis {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    server: Option<Server>,
}

enum Server {
    Program(Child),
    Container(String),
}

impl TestRedis {
    /// Keeps nothing over a restart.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_in(new_folder(), options).await
    }

    pub(crate) async fn start_in(folder: PathBuf, options: &[&str]) -> Self {
        let port = free_port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { port, folder, options, server: None };
        redis.begin().await;
        redis
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again, with what it kept.
    pub(crate) async fn begin(&mut self) {
        self.server = Some(self.launch().await);
        // one that asks for a password answers as well
        while matches!(self.try_run::<String>(&redis::cmd("PING")).await, Err(error) if error.code() != Some("NOAUTH"))
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn launch(&self) -> Server {
        let (port, folder) = (self.port.to_string(), self.folder.to_str().unwrap());
        // a configuration file comes first
        let (files, options): (Vec<&String>, Vec<&String>) =
            self.options.iter().partition(|option| option.ends_with(".conf"));
        let own = ["--bind", "127.0.0.1", "--port", &port, "--dir", folder].map(str::to_owned);
        let arguments = files.into_iter().chain(&own).chain(options).cloned();
        if std::env::var("ROWCAST_TEST_POSTGRES").as_deref() == Ok("docker") {
            let image = GenericImage::new("redis", "7").with_network("host").with_cmd(arguments);
            let container =
                image.with_mount(Mount::bind_mount(folder, folder)).start().await.expect("a container of redis:7");
            let id = container.id().to_owned();
            std::mem::forget(container);
            return Server::Container(id);
        }
        let program = std::env::var("ROWCAST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let server = Command::new(&program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Server::Program(server.unwrap_or_else(|e| panic!("{program}: {e}; install it: apt-get install redis-server")))
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        match self.server.take() {
            Some(Server::Program(mut server)) => {
                server.kill().unwrap();
                server.wait().unwrap();
            }
            Some(Server::Container(id)) => {
                let removed = Command::new("docker").args(["rm", "-f", "-v", &id]).stdout(Stdio::null()).status();
                assert!(removed.is_ok_and(|status| status.success()), "a container that stays");
            }
            None => {}
        }
    }

    /// Runs a command.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        loop {
            match self.try_run(&command).await {
                // one that changes its role ends its connections
                Err(error) if error.is_io_error() => {}
                answer => return answer.expect("an answer of Redis"),
            }
        }
    }

    async fn try_run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = Client::open(self.url())?.get_multiplexed_async_connection().await?;
        command.query_async(&mut connection).await
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn new_folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("rowcast-redis-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
