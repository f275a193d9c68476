//! Slow lines: what a client takes at its own pace it gets to the end, and nobody else waits for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const SECRET: &str = "a secret that only the tests know";
/// 24 MB of rows: more than all buffers between the server and a client that does not read.
const ROWS: usize = 40_000;
const TABLE: &str = "create table orders (id int primary key, note text); select rowcast.watch('orders');
    insert into orders select i, repeat('x', 500) from generate_series(1, 40000) i; analyze orders;
    grant select on orders to rowcast_relay";

/// The answer to a ping, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A socket whose client reads when the test says so, and answers nothing: no ping either. Its buffers are a phone's.
struct Slow(TcpStream);

impl Slow {
    async fn open(server: &TestServer, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut tcp = socket.connect(server.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        Self(tcp)
    }

    /// Reads to the end of the rows, and says how many there were.
    async fn rows(&mut self) -> usize {
        let (mut told, mut rest) = (0, String::new());
        loop {
            let mut part = vec![0; 1 << 20];
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut part)).await.unwrap().unwrap();
            assert!(read > 0, "closed after {told} rows");
            rest.push_str(&String::from_utf8_lossy(&part[..read]));
            told += rest.matches("{\"id\":").count();
            if rest.contains("\"type\":\"subscribed\"") {
                return told;
            }
            // what may be the beginning of a text that was counted or looked for
            rest = rest.split_off(rest.len() - rest.len().min(32));
            rest = rest.replace("{\"id\":", "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_no_rows_holds_neither_a_transaction_nor_a_turn() {
    let db = TestDatabase::new().await;
    db.run(TABLE).await;
    let server = TestServer::start(&db.url);
    // more than are read at a time
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(Slow::open(&server, "/ws/orders?snapshot=true").await);
    }
    // all were read by the server, so that nobody waits any more, and no snapshot is open
    let open = "select count(*) from pg_stat_activity where datname = current_database() and usename is not null and pid <> pg_backend_pid()
                and application_name like 'rowcast%' and query like '%row_to_json%' and state <> 'idle'";
    let mut quick = server.socket("/ws/orders?snapshot=true").await;
    let mut rows = 0;
    loop {
        let message = quick.message().await;
        match message["type"].as_str().unwrap() {
            "snapshot" => rows += message["rows"].as_array().unwrap().len(),
            "subscribed" => break,
            _ => panic!("{message}"),
        }
    }
    assert_eq!(rows, ROWS);
    let closed = async { while db.text(open).await != "0" {} };
    // a statement that waited for its reader would wait for a minute
    tokio::time::timeout(PATIENCE, closed).await.expect("the slow ones hold no statement");
    // the changes of meanwhile follow the rows
    db.run("update orders set note = 'seen' where id = 1").await;
    assert_eq!(quick.message().await["data"], json!({"id": 1, "note": "seen"}));
    for socket in &mut slow {
        assert_eq!(socket.rows().await, ROWS + 1, "the rows, and the change");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_what_it_is_sent_is_not_silent() {
    let db = TestDatabase::new().await;
    db.run(TABLE).await;
    let server = TestServer::start_with(&db.url, &[("ping-seconds", "3")]);
    let mut slow = Slow::open(&server, "/ws/orders?snapshot=true").await;
    let mut part = vec![0; 16_384];
    // until its rows come it answers, so that a busy machine is not taken for a silent client
    while !String::from_utf8_lossy(&part).contains("\"type\":\"snapshot\"") {
        slow.0.write_all(&PONG).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(100), slow.0.read(&mut part)).await;
    }
    // 8 s at 1.6 MB/s: three pings, whose answer would stand behind megabytes
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..800 {
        pace.tick().await;
        let read = slow.0.read(&mut part).await.unwrap();
        assert!(read > 0, "the server has closed the socket");
    }
    // and one that takes nothing is
    drop(slow);
    connections(&server, 0).await;
    let mute = Slow::open(&server, "/ws/orders?snapshot=true").await;
    connections(&server, 1).await;
    connections(&server, 0).await;
    drop(mute);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_is_told_with_how_much() {
    let db = TestDatabase::new().await;
    db.run("create table orders (id int primary key, note text); select rowcast.watch('orders'); select rowcast.allow('orders', 'admin')").await;
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = encode(&Header::default(), &json!({"sub": "dba", "role": "admin", "exp": expires}), &key).unwrap();
    let mut first = 0;
    for (secret, query) in [("", String::new()), (SECRET, format!("&token={token}"))] {
        // what it does not take stays in the log
        let settings = [("log-bytes", "67108864"), ("jwt-secret", secret)];
        let server = TestServer::start_with(&db.url, &settings[..if secret.is_empty() { 1 } else { 2 }]);
        let mut quick = server.subscribed(&format!("/ws/orders?old=false{query}")).await;
        let mut slow = Slow::open(&server, &format!("/ws/orders?filter=id=gt.0{query}")).await;
        let page = async |name: &str| -> Value {
            serde_json::from_str(&server.get(&format!("/websocket/{name}?{query}")).await.1).unwrap()
        };
        while page("status").await["channels"]["orders"] != 2 {}
        let rows = 4_000;
        let some =
            format!("insert into orders select {first} + i, repeat('x', 3000) from generate_series(1, {rows}) i");
        first += rows;
        db.run(&some).await;
        for _ in 0..rows {
            quick.message().await;
        }
        let told = loop {
            let told = page("behind").await;
            if told["behind"] == 1 {
                break told;
            }
        };
        assert_eq!(told["sockets"], 2);
        let one = &told["subscribers"][0];
        let watches = if secret.is_empty() { "orders" } else { "orders?filter=id=gt.0" };
        assert_eq!(one["watches"], watches, "{told}");
        let (messages, bytes) = (one["messages"].as_u64().unwrap(), one["bytes"].as_u64().unwrap());
        assert!(messages > 0 && messages < rows && bytes > 3_000 * (messages - 1), "{told}");
        // where everybody may ask, nobody is told who the others are
        let whose = if secret.is_empty() { (Value::Null, Value::Null) } else { (json!("dba"), json!("127.0.0.1")) };
        assert_eq!((&one["user"], &one["address"]), (&whose.0, &whose.1));
        let waited = one["ms"].as_u64().unwrap();
        while page("behind").await["subscribers"][0]["ms"].as_u64().unwrap() <= waited {}
        // once it reads, it is not among them
        let mut part = vec![0; 1 << 16];
        let caught_up = async {
            while page("behind").await["behind"] != 0 {
                assert!(slow.0.read(&mut part).await.unwrap() > 0, "the server has closed the socket");
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.expect("it catches up");
        server.stop().await.unwrap();
    }
}

/// Waits until so many sockets are open.
async fn connections(server: &TestServer, expected: u64) {
    let reached = async { while server.status().await["connections"] != expected {} };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("{expected} connections: they stay as they are"));
}
