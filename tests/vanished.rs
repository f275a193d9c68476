//! Vanished: a client that is gone without a word, as after a cable is pulled. Needs root and `ip`, for a network of its own.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const NEEDED: &str = "a network namespace needs root and iproute2: apt-get install iproute2";

/// A network namespace, and a wire into it.
struct Elsewhere {
    name: String,
    /// this end of it
    wire: String,
    /// three numbers of its addresses
    network: String,
}

impl Elsewhere {
    async fn new() -> Option<Self> {
        let id = std::process::id();
        let name = format!("rowcast-{id}");
        if !ip(&format!("netns add {name}")).await {
            return None;
        }
        let network = format!("10.{}.{}", 100 + id % 100, id / 100 % 250);
        let elsewhere = Self { name, wire: format!("rc{id}"), network };
        let Self { name, wire, network } = &elsewhere;
        for words in [
            format!("link add {wire} type veth peer name wire netns {name}"),
            format!("address add {network}.1/30 dev {wire}"),
            format!("-n {name} address add {network}.2/30 dev wire"),
            format!("link set {wire} up"),
            format!("-n {name} link set wire up"),
        ] {
            if !ip(&words).await {
                return None;
            }
        }
        Some(elsewhere)
    }

    /// The address of this end.
    fn here(&self) -> String {
        format!("{}.1", self.network)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    /// From now on nothing passes, and nobody is told.
    async fn cut(&self) {
        assert!(ip(&format!("-n {} link set wire down", self.name)).await);
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // the wire first: a connection that is not closed may keep the namespace for minutes
        for words in [["link", "delete", &self.wire], ["netns", "delete", &self.name]] {
            let _ = std::process::Command::new("ip").args(words).stderr(Stdio::null()).status();
        }
    }
}

async fn ip(words: &str) -> bool {
    let done = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).stderr(Stdio::null()).status().await;
    done.is_ok_and(|status| status.success())
}

/// Neither a ping that stays unanswered, which is an hour away here, nor the kernel's own patience of a quarter of one.
#[tokio::test]
async fn a_client_that_takes_nothing_any_more_is_ended_within_half_a_minute() {
    let Some(elsewhere) = Elsewhere::new().await else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{NEEDED}");
        return eprintln!("skipped: {NEEDED}");
    };
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let listen = format!("{}:0", elsewhere.here());
    let server =
        TestServer::start_with(&db.url, &[("listen", &listen), ("allow-anonymous", "true"), ("ping-seconds", "3600")]);
    let url = format!("http://{}", server.address);
    let mut client = elsewhere.run(env!("CARGO_BIN_EXE_rowcast"), &["tail", "pets", "--url", &url]);
    let subscribers = async || server.status().await["channels"]["pets"].clone();
    let comes_to = async |number: u64| {
        while subscribers().await != number {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, comes_to(1)).await.expect("the client subscribes");
    db.run("insert into pets values (1)").await;
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let arrives = async { while !lines.next_line().await.unwrap().expect("a line").contains("realtime_update") {} };
    timeout(PATIENCE, arrives).await.expect("the client is told");

    elsewhere.cut().await;
    db.run("insert into pets values (2)").await;
    let since = Instant::now();
    timeout(PATIENCE, comes_to(0)).await.expect("its socket ends");
    assert!(since.elapsed() > Duration::from_secs(20), "a wire may be out for a moment: {:?}", since.elapsed());
    server.stop().await.unwrap();
}
