//! Link: a Redis is reached over TLS, as a user with few rights, behind Sentinels and in a Cluster.

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::redis::{TestRedis, free_port, new_folder};
use super::support::server::TestServer;
use super::support::socket::Socket;

const COUNTERS: &str = "create table counters (k int primary key); select rowcast.watch('counters')";

const DOCS: &str = include_str!("../docs/explanation/scale.md");

/// The rights that docs/explanation/scale.md gives to a user, as words of `ACL SETUSER`.
fn rights_of(user: &str) -> String {
    let line = DOCS.lines().find_map(|line| line.strip_prefix(&format!("user {user} ")));
    let words = line.expect("a user of docs/explanation/scale.md").split_whitespace();
    let words = words.map(|word| if word.starts_with('>') { ">secret" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A publisher and a gateway without a database, both over this URL, and a socket on the gateway.
async fn over(db: &TestDatabase, url: &str, settings: &[(&str, &str)]) -> (TestServer, TestServer, Socket) {
    let with = |name: &'static str| [&[(name, url)], settings].concat();
    let publisher = TestServer::start_with(&db.url, &with("publish"));
    let gateway = TestServer::start_with("", &with("subscribe"));
    let socket = gateway.subscribed("/ws/counters").await;
    (publisher, gateway, socket)
}

async fn arrives(db: &TestDatabase, socket: &mut Socket, k: i64) {
    db.run(&format!("insert into counters values ({k})")).await;
    let mut message = socket.message().await;
    while message["code"] == "source_down" {
        message = socket.message().await;
    }
    assert_eq!(message["data"]["k"], k, "{message}");
}

async fn counters() -> TestDatabase {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    db
}

#[tokio::test]
async fn redis_is_reached_over_tls() {
    let db = counters().await;
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = new_folder();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(file("certificate.pem"), certified.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let (port, certificate, key) = (free_port().to_string(), file("certificate.pem"), file("key.pem"));
    let options =
        ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let _redis =
        TestRedis::start_in(folder.clone(), &[&options[..], &["--tls-ca-cert-file", &certificate]].concat()).await;
    let url = format!("rediss://localhost:{port}");
    let (_publisher, _gateway, mut socket) = over(&db, &url, &[("redis-ca", &certificate)]).await;
    arrives(&db, &mut socket, 1).await;
    let stranger = TestServer::start_with("", &[("subscribe", &url)]);
    let ended = tokio::time::timeout(PATIENCE, stranger.stop_by_itself()).await;
    let error = rowcast::error::chain(&ended.expect("it waits for nothing").unwrap_err());
    assert!(error.contains("certificate"), "a certificate that nobody vouches for: {error}");
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let db = counters().await;
    let redis = TestRedis::start().await;
    for user in ["rowcast", "rowcast_gateway"] {
        let _: String = redis.run(&format!("ACL SETUSER {user} {}", rights_of(user))).await;
    }
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}", redis.port());
    let publisher = TestServer::start_with(&db.url, &[("publish", &url("rowcast"))]);
    let gateway = TestServer::start_with("", &[("subscribe", &url("rowcast_gateway")), ("history-bytes", "65536")]);
    let mut socket = gateway.subscribed("/ws/counters").await;
    arrives(&db, &mut socket, 0).await;
    let cursor = gateway.status().await["cursor"].as_str().unwrap().to_owned();
    // a resume from beyond memory, and a snapshot, for which the present is asked for
    db.run("insert into counters select generate_series(1, 2000)").await;
    for k in 1..=2000 {
        assert_eq!(socket.message().await["data"]["k"], k);
    }
    let mut back = gateway.socket(&format!("/ws/counters?since={cursor}")).await;
    assert_eq!(back.message().await["data"]["k"], 1);
    let mut snapshot = publisher.socket("/ws/counters?snapshot=true").await;
    while snapshot.message().await["type"] != "subscribed" {}
    // what is taken away is said, and what was held back arrives once it is given again
    let _: String = redis.run("ACL SETUSER rowcast -evalsha -eval").await;
    db.run("insert into counters values (3000)").await;
    let down = socket.message().await;
    assert_eq!(down["code"], "source_down", "{down}");
    let _: String = redis.run("ACL SETUSER rowcast +evalsha +eval").await;
    assert_eq!(socket.message().await["data"]["k"], 3000);
}

#[tokio::test]
async fn a_failover_by_sentinels_loses_nothing() {
    let db = counters().await;
    let (master, replica) = (TestRedis::start().await, TestRedis::start().await);
    let _: String = replica.run(&format!("REPLICAOF 127.0.0.1 {}", master.port())).await;
    while !replica.run::<String>("INFO replication").await.contains("master_link_status:up") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let folder = new_folder();
    let conf = folder.join("sentinel.conf").to_str().unwrap().to_owned();
    let lines = [
        format!("sentinel monitor clinic 127.0.0.1 {} 1", master.port()),
        "sentinel down-after-milliseconds clinic 500".to_owned(),
        "sentinel failover-timeout clinic 3000".to_owned(),
    ];
    std::fs::write(&conf, lines.join("\n")).unwrap();
    let sentinel = TestRedis::start_in(folder, &[&conf, "--sentinel"]).await;
    while !sentinel.run::<String>("INFO sentinel").await.contains("slaves=1") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let url = format!("redis+sentinel://127.0.0.1:{}/clinic", sentinel.port());
    let (_publisher, _gateway, mut socket) = over(&db, &url, &[]).await;
    arrives(&db, &mut socket, 1).await;
    let _: String = sentinel.run("SENTINEL FAILOVER clinic").await;
    arrives(&db, &mut socket, 2).await;
    while !replica.run::<String>("INFO replication").await.contains("role:master") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    arrives(&db, &mut socket, 3).await;
    let entries: u64 = replica.run("XLEN {rowcast}:changes").await;
    assert!(entries > 0);
}

#[tokio::test]
async fn one_slot_of_a_cluster_holds_the_stream() {
    let db = counters().await;
    let redis = TestRedis::start_with(&["--cluster-enabled", "yes", "--save", ""]).await;
    let _: String = redis.run("CLUSTER ADDSLOTSRANGE 0 16383").await;
    while !redis.run::<String>("CLUSTER INFO").await.contains("cluster_state:ok") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let url = format!("redis+cluster://127.0.0.1:{}", redis.port());
    let (_publisher, _gateway, mut socket) = over(&db, &url, &[]).await;
    arrives(&db, &mut socket, 1).await;
    arrives(&db, &mut socket, 2).await;
}
