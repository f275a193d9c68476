//! A Redis of the test's own, on a free port of loopback, in a folder of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use redis::{Client, Cmd, FromRedisValue, RedisError};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct TestRedis {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    server: Option<Child>,
}

impl TestRedis {
    /// Keeps nothing over a restart.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rowcast-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { port, folder, options, server: None };
        redis.begin().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again, with what it kept.
    pub(crate) async fn begin(&mut self) {
        let program = std::env::var("ROWCAST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let server = Command::new(&program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"])
            .arg(&self.folder)
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = server.unwrap_or_else(|e| panic!("{program}: {e}; install it: apt-get install redis-server"));
        self.server = Some(server);
        // one that asks for a password answers as well
        while matches!(self.try_run::<String>(&redis::cmd("PING")).await, Err(error) if error.code() != Some("NOAUTH"))
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Runs a command.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        self.try_run(&command).await.expect("an answer of Redis")
    }

    async fn try_run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = Client::open(self.url())?.get_multiplexed_async_connection().await?;
        command.query_async(&mut connection).await
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
