//! No subscriber harms another: what one may take of memory, processor, descriptors and turns, seen from outside.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use super::support::postgres::TestDatabase;
use super::support::process::Process;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SECRET: &str = "a secret that only the tests know";
/// Of 500 rows, 7 MB together.
const NOTES: &str = "create table notes (id int primary key, note text); select rowcast.watch('notes');
    insert into notes select n, repeat(md5(n::text), 450) from generate_series(1, 500) n";
const PETS: &str = "create table pets (id int primary key, name text, owner text); select rowcast.watch('pets')";

fn token(claims: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({"exp": now + 600, "iat": now, "role": "member"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

async fn status(server: &TestServer, path: &str) -> u16 {
    match Socket::connect(server.address, path, None).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Ok(_) => 101,
        Err(other) => panic!("{other}"),
    }
}

/// What all that is not a view takes while 9 MB of rows pass: their history, the parts on their way, 700 sockets, and an
/// allocator that keeps what it was given.
const BESIDE: u64 = 48 << 20;

#[tokio::test]
async fn distinct_filters_that_nobody_reads_stay_within_the_budget() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let budget = 16 << 20;
    let bytes = budget.to_string();
    let server = Process::serve(&db.url, 0, &["--view-bytes", &bytes, "--history-bytes", "1000000"]).await;
    let mut reader = Socket::connect(server.address, "/ws/pets", None).await.unwrap();
    assert_eq!(reader.message().await["type"], "subscribed");
    // what they are told is the same, or differs by a row of each cut, or by a column
    let mut mute = Vec::new();
    for n in 0..600 {
        mute.push(server.mute(&format!("/ws/pets?filter=id=gte.-{n}&old=true")).await);
    }
    for n in 1..50 {
        mute.push(server.mute(&format!("/ws/pets?filter=id=neq.{n}&filter=owner=neq.{n}")).await);
        mute.push(server.mute(&format!("/ws/pets?filter=name=neq.{n}&filter=id=neq.{}&columns=id,name", n + 50)).await);
    }
    let (before, began) = (server.resident(), Instant::now());
    let mut most = 0;
    for cut in 0..9 {
        let rows = format!(
            "insert into pets select n, repeat(md5(n::text), 32), n from generate_series({}, {}) n",
            cut * 1000 + 1,
            cut * 1000 + 1000
        );
        db.run(&rows).await;
        for n in 1..=1000 {
            assert_eq!(reader.message().await["data"]["id"], cut * 1000 + n, "a client that reads hears everything");
        }
        most = most.max(server.resident() - before);
    }
    assert!(most < budget + budget / 2 + BESIDE, "{} MiB", most >> 20);
    let (_, metrics, _) = server.get("/metrics").await;
    let held =
        metrics.lines().find_map(|line| line.strip_prefix("rowcast_view_bytes ")).unwrap().parse::<u64>().unwrap();
    assert!(held <= budget, "{held}");
    // some had to go, and were told so; on a busy machine the kernel was first, after 30 s in which they took nothing
    let is_in_time = began.elapsed() < Duration::from_secs(25);
    assert!(!is_in_time || !metrics.contains("rowcast_limits_total{limit=\"memory\"} 0"), "{metrics}");
}

#[tokio::test]
async fn the_worst_filters_of_one_user_delay_nobody() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.allow('pets', 'member')").await;
    let server = Process::serve(&db.url, 0, &["--jwt-secret", SECRET]).await;
    let (five, six) = (token(json!({"sub": "5"})), token(json!({"sub": "6"})));
    let mut other =
        Socket::connect(server.address, &format!("/ws/pets?filter=id=gt.0&token={six}"), None).await.unwrap();
    assert_eq!(other.message().await["type"], "subscribed");
    // each fits, so that the next one is looked at too, and each is another: what was found out for one is of no use for
    // the next
    let pattern = |n: usize, m: usize| {
        format!("&filter=name=like.%25{}%25{}b", "a".repeat(n % 40 + 1), "a".repeat(57 - n / 40 * 9 - m))
    };
    let mut worst = Vec::new();
    for n in 0..100 {
        let like: String = (0..9).map(|m| pattern(n, m)).collect();
        worst.push(server.mute(&format!("/ws/pets?filter=id=gte.-{n}{like}&token={five}")).await);
    }
    for length in [50_000, 1_000_000] {
        let began = Instant::now();
        let row = format!("insert into pets values ({length}, repeat('a', {length}) || 'b', '7')");
        let inserting = db.run(&row);
        let healthy = async {
            let mut longest = Duration::ZERO;
            while began.elapsed() < Duration::from_secs(2) {
                let (status, _, took) = server.get("/healthz").await;
                assert_eq!(status, 200);
                longest = longest.max(took);
            }
            longest
        };
        let told = async {
            assert_eq!(other.message().await["data"]["id"], length);
            began.elapsed()
        };
        let ((), longest, told) = tokio::join!(inserting, healthy, told);
        // a build for tests is tens of times slower than one for users, on a machine that builds others meanwhile
        assert!(longest < Duration::from_secs(1), "/healthz took {longest:?} beside {length} characters");
        assert!(told < Duration::from_secs(10), "the other was told after {told:?}");
    }
}

#[tokio::test]
async fn who_asks_for_one_snapshot_comes_before_anothers_second() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run(
        "create table quiet (id int primary key); select rowcast.watch('quiet'); insert into quiet values (1), (2), (3);
         select rowcast.allow('pets', 'member'), rowcast.allow('quiet', 'member');
         insert into pets select n, repeat('x', 3000), n from generate_series(1, 5000) n",
    )
    .await;
    let server = Process::serve(&db.url, 0, &["--jwt-secret", SECRET]).await;
    let (five, six) = (token(json!({"sub": "5"})), token(json!({"sub": "6"})));
    let mut mute = Vec::new();
    for _ in 0..60 {
        mute.push(server.mute(&format!("/ws/pets?snapshot=true&token={five}")).await);
    }
    // also where the other one has asked for the same, and waits for a turn
    mute.push(server.mute(&format!("/ws/quiet?snapshot=true&token={five}")).await);
    let began = Instant::now();
    let mut calm =
        Socket::connect(server.address, &format!("/ws/quiet?snapshot=true&token={six}"), None).await.unwrap();
    assert_eq!(calm.message().await["rows"], json!([{"id": 1}, {"id": 2}, {"id": 3}]));
    // behind the other's, each of which nobody takes, it would wait for minutes
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn health_is_answered_when_strangers_hold_every_descriptor() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 300, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    for path in ["/healthz", "/readyz"] {
        let (status, _, took) = server.get(path).await;
        assert!(status == 200 && took < Duration::from_secs(5), "{path}: {status} after {took:?}");
    }
    let (status, text, _) = server.get("/websocket/status").await;
    assert_eq!((status, text.contains("in use")), (503, true), "{text}");
    // the database is not cut off
    db.run("insert into pets values (1, 'Luna', '7')").await;
    drop(silent);
    while server.get("/websocket/status").await.0 != 200 {}
    let mut socket = Socket::connect(server.address, "/ws/pets?snapshot=true", None).await.unwrap();
    assert_eq!(socket.message().await["rows"][0]["name"], "Luna");
}

/// A load balancer that forwards bytes says whom it speaks for in its health checks too.
#[tokio::test]
async fn health_is_answered_to_a_forwarding_proxy_when_strangers_hold_every_descriptor() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let proxied = ["--proxy-protocol", "true", "--trusted-proxies", "127.0.0.1", "--allow-anonymous", "true"];
    let server = Process::serve(&db.url, 300, &proxied).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let request = b"PROXY UNKNOWN\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("retry-after"), "in brief, as all descriptors are taken: {answer}");
}

#[tokio::test]
async fn sockets_without_a_token_are_few() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.allow('pets', 'member')").await;
    let settings = [("jwt-secret", SECRET), ("max-unauthenticated-per-address", "3"), ("message-bytes", "262144")];
    let server = TestServer::start_with(&db.url, &settings);
    let five = token(json!({"sub": "5"}));
    server.subscribed(&format!("/ws/pets?token={five}")).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(server.socket("/ws").await);
    }
    assert_eq!(status(&server, "/ws").await, 503);
    server.subscribed(&format!("/ws/pets?token={five}")).await;
    // one that says who it is makes room
    let mut known = strangers.pop().unwrap();
    known.send(&json!({"type": "auth", "token": five}).to_string()).await;
    assert_eq!(known.message().await["type"], "authenticated");
    let mut third = server.socket("/ws").await;
    // and may then say more at once than a stranger
    known.send(&json!({"type": "ping", "ref": "x".repeat(100_000)}).to_string()).await;
    assert_eq!(known.message().await["type"], "pong");
    third.send(&json!({"type": "ping", "ref": "x".repeat(100_000)}).to_string()).await;
    assert_eq!(third.close_code().await, 1009);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn messages_that_never_end_take_a_bounded_part_of_the_memory() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 0, &["--message-bytes", "1000000"]).await;
    let before = server.resident();
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut tcp = server.mute("/ws/pets").await;
        // a frame of 900,000 bytes, masked with zeros, whose end does not come
        let mut frame = vec![0x81, 0xff];
        frame.extend(900_000_u64.to_be_bytes());
        frame.extend([0; 4]);
        frame.resize(880_000, b'x');
        let _ = tokio::time::timeout(Duration::from_secs(5), tcp.write_all(&frame)).await;
        open.push(tcp);
    }
    // 64 MiB of them, which their buffers may have doubled
    let grown = server.resident() - before;
    assert!(grown < (2 * 64 + 16) << 20, "{} MiB", grown >> 20);
    let mut calm = Socket::connect(server.address, "/ws/pets", None).await.unwrap();
    assert_eq!(calm.message().await["type"], "subscribed");
    calm.send(r#"{"type":"ping"}"#).await;
    assert_eq!(calm.message().await["type"], "pong");
}

#[tokio::test]
async fn pages_that_nobody_takes_hold_a_bounded_part_of_the_memory() {
    let db = TestDatabase::new().await;
    db.run(NOTES).await;
    let server = Process::serve(&db.url, 0, &[]).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = Socket::connect(server.address, "/ws/notes", None).await.unwrap();
        assert_eq!(socket.message().await["type"], "subscribed");
        sockets.push(socket);
    }
    let read = || async {
        let metrics = server.get("/metrics").await.1;
        let name = r#"rowcast_pages_total{from="database"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        count.and_then(|count| count.parse::<f64>().ok()).unwrap_or_default()
    };
    let before = server.resident();
    // 2.3 to 3.6 MB each, and none of them the same; nobody reads them
    for (at, socket) in (0..).zip(&mut sockets) {
        for n in 0..30 {
            let limit = 250 - 30 * at - n;
            socket.send(&format!(r#"{{"type":"rows","channel":"notes","limit":{limit},"ref":{n}}}"#)).await;
        }
        while read().await < f64::from(30 * (at + 1)) {}
    }
    // of 270 MB; what was read a moment ago is kept, eight are being read, and freed memory may stay with the process
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 230 << 20, "{} MiB", grown >> 20);
    // of those that there was no memory for the client hears, and asks again. The last one: a client that reads nothing for 30 s is
    // cut off
    let mut last = sockets.pop().unwrap();
    let (mut refused, mut answered) = (0, 0);
    while refused + answered < 30 {
        let message = last.message().await;
        refused += u32::from(message["code"] == "unanswered");
        answered += u32::from(message["last"] == true);
    }
    assert!(refused > 0);
    drop(sockets);
    loop {
        last.send(r#"{"type":"rows","channel":"notes","limit":400,"ref":"again"}"#).await;
        let mut message = last.message().await;
        while message["ref"] != "again" {
            message = last.message().await;
        }
        if message["code"] != "unanswered" {
            break;
        }
    }
}

#[tokio::test]
async fn pages_with_which_subscriptions_begin_are_read_as_their_socket_takes_them() {
    let db = TestDatabase::new().await;
    db.run(NOTES).await;
    let server = TestServer::start(&db.url);
    let (mut mute, mut other) = (server.subscribed("/ws/notes").await, server.subscribed("/ws/notes").await);
    for n in 0..30 {
        let command =
            format!(r#"{{"type":"subscribe","channel":"notes","view":"v{n}","rows":{{"limit":{}}}}}"#, 500 - n);
        mute.send(&command).await;
    }
    other.send(r#"{"type":"rows","channel":"notes","limit":1}"#).await;
    assert_eq!(other.message().await["last"], true);
    let metrics = server.get("/metrics").await.1;
    let read = metrics.lines().find_map(|line| line.strip_prefix(r#"rowcast_pages_total{from="database"} "#)).unwrap();
    assert!(read.parse::<f64>().unwrap() < 10.0, "{read} pages were read");
    // all of them begin as they are taken
    let mut begun = 0;
    while begun < 30 {
        begun += u32::from(mute.message().await["type"] == "subscribed");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn forged_tokens_are_not_looked_at_for_long() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.allow('pets', 'member')").await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let good = format!("/ws/pets?token={}", token(json!({"sub": "5"})));
    let mut before = server.subscribed(&good).await;
    let forged = format!("/ws/pets?token={}x", token(json!({"sub": "6"})));
    let mut answers = Vec::new();
    for _ in 0..400 {
        answers.push(server.get(&forged).await.0);
    }
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert!(answers[..100].iter().all(|status| *status == 401) && refused > 100, "{refused}");
    // an open socket is not concerned, and after a moment nobody is
    before.send(r#"{"type":"ping"}"#).await;
    assert_eq!(before.message().await["type"], "pong");
    while status(&server, &good).await != 101 {}
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_user_has_so_many_distinct_filters_over_all_sockets() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.allow('pets', 'member')").await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET), ("max-views-per-user", "2")]);
    let (five, six) = (token(json!({"sub": "5"})), token(json!({"sub": "6"})));
    let path = |filter: &str, token: &str| format!("/ws/pets?filter={filter}&token={token}");
    let mut one = server.subscribed(&path("id=eq.1", &five)).await;
    let _two = server.subscribed(&path("id=eq.2", &five)).await;
    let _again = server.subscribed(&path("id=eq.1", &five)).await;
    let mut third = server.socket(&path("id=eq.3", &five)).await;
    assert_eq!(third.close_code().await, 4503);
    one.send(r#"{"type":"unsubscribe","channel":"pets"}"#).await;
    assert_eq!(one.message().await["type"], "unsubscribed");
    one.send(r#"{"type":"subscribe","channel":"pets","filter":"id=eq.3","ref":1}"#).await;
    let refused = one.message().await;
    assert_eq!((&refused["code"], &refused["ref"]), (&json!("too_many_views"), &json!(1)));
    one.send(r#"{"type":"subscribe","channel":"pets","ref":2}"#).await;
    assert_eq!(one.message().await["type"], "subscribed", "the whole channel is no filter");
    let _other = server.subscribed(&path("id=eq.3", &six)).await;
    server.stop().await.unwrap();
}

/// An event stream takes more descriptors than its connection; what it took is given back, also where it is refused.
#[tokio::test]
async fn requests_for_streams_on_one_connection_take_no_descriptors_for_ever() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 300, &[]).await;
    let mut hostile = TcpStream::connect(server.address).await.unwrap();
    let requests = "GET /sse/ HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    let _ = hostile.write_all(requests.as_bytes()).await;
    // until all are answered, or the server has closed the connection, of which this end stays open
    let (mut answers, mut chunk) = (String::new(), [0; 4096]);
    while answers.matches("HTTP/1.1").count() < 200 {
        match hostile.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => answers += &String::from_utf8_lossy(&chunk[..length]),
        }
    }
    assert_eq!(server.get("/websocket/status").await.0, 200);
    // one after the other, each on a connection of its own
    for _ in 0..200 {
        assert_eq!(server.get("/sse/").await.0, 404);
    }
    drop(hostile);
}

/// A connection that asks for a stream with these commands.
async fn commands(server: &Process, text: &str, token: Option<&str>) -> TcpStream {
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let bearer = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let length = text.len();
    let head = format!("POST /sse HTTP/1.1\r\nhost: localhost\r\n{bearer}content-length: {length}\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    // one that is refused may be closed before
    let _ = tcp.write_all(text.as_bytes()).await;
    tcp
}

async fn status_of(tcp: &mut TcpStream) -> u16 {
    let mut line = [0; 12];
    tcp.read_exact(&mut line).await.unwrap();
    std::str::from_utf8(&line[9..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn commands_of_a_stream_are_bounded_as_on_a_socket() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 0, &["--jwt-secret", SECRET]).await;
    let long = format!("{}\n", json!({"type": "subscribe", "channel": "pets", "ref": "x".repeat(70_000)}));
    let mut stranger = commands(&server, &long, None).await;
    assert_eq!(status_of(&mut stranger).await, 413, "a client that has brought no token says less");
    let mut member = commands(&server, &long, Some(&token(json!({"sub": "1"})))).await;
    assert_eq!(status_of(&mut member).await, 200);
}

#[tokio::test]
async fn commands_that_never_end_take_a_bounded_part_of_the_memory() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 0, &[]).await;
    let before = server.resident();
    let mut open = Vec::new();
    // 100 MB of commands whose end does not come; each chunk has one byte
    let body = "1\r\n \r\n".repeat(1 << 20);
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(b"POST /sse HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let _ = tcp.write_all(&body.as_bytes()[..body.len() - 6]).await;
        open.push(tcp);
    }
    let most = server.resident();
    assert!(most < before + (96 << 20), "{before}, {most}");
    assert_eq!(server.get("/healthz").await.0, 200);
}

/// The metric that counts the pages that the database was asked for.
async fn pages_read(server: &TestServer) -> f64 {
    let metrics = server.get("/metrics").await.1;
    let read = metrics.lines().find_map(|line| line.strip_prefix(r#"rowcast_pages_total{from="database"} "#)).unwrap();
    read.parse().unwrap()
}

#[tokio::test]
async fn snapshots_with_which_subscriptions_begin_are_read_as_their_socket_takes_them() {
    let db = TestDatabase::new().await;
    db.run(
        "create table notes (id int primary key, note text); select rowcast.watch('notes');
         insert into notes select n, repeat(md5(n::text), 450) from generate_series(1, 120) n",
    )
    .await;
    // all commands are read at once
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "10000")]);
    let (mut mute, mut other) = (server.subscribed("/ws/notes").await, server.subscribed("/ws/notes").await);
    for n in 0..80 {
        let command = json!({"type": "subscribe", "channel": "notes", "view": format!("v{n}"), "filter": format!("id=gte.-{n}"),
            "snapshot": true, "partial": true});
        mute.send(&command.to_string()).await;
    }
    other.send(r#"{"type":"rows","channel":"notes","limit":1}"#).await;
    assert_eq!(other.message().await["last"], true);
    // eight wait for their client, and what the lines of loopback take goes on, of 1.7 MB each
    let read = pages_read(&server).await;
    assert!(read < 40.0, "{read} pages were read");
    // all of them begin as they are taken
    let (mut begun, mut rows) = (0, 0);
    while begun < 80 {
        let message = mute.message().await;
        begun += u32::from(message["type"] == "subscribed");
        rows += message["rows"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(rows, 80 * 120);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_missed_is_held_for_a_few_subscriptions_of_a_socket_at_a_time() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = Process::serve(&db.url, 0, &[]).await;
    let mut first = Socket::connect(server.address, "/ws/pets", None).await.unwrap();
    let cursor = first.message().await["cursor"].as_str().unwrap().to_owned();
    // in memory, and read once: what each of them keeps of it comes on top
    for part in 0..4 {
        db.run(&format!("insert into pets select i + {part} * 10000, 'x', '7' from generate_series(1, 10000) i")).await;
    }
    let resumed = format!("/ws/pets?since={cursor}");
    let mut calm = Socket::connect(server.address, &resumed, None).await.unwrap();
    while calm.message().await["type"] != "subscribed" {}
    let before = server.resident();
    // 16 bytes a change: 640 kB each
    let mut mute = Vec::new();
    for _ in 0..5 {
        let mut socket = Socket::connect(server.address, "/ws/pets", None).await.unwrap();
        for n in 0..100 {
            let command = json!({"type": "subscribe", "channel": "pets", "view": format!("v{n}"), "since": cursor});
            socket.send(&command.to_string()).await;
        }
        mute.push(socket);
    }
    let mut calm = Socket::connect(server.address, &resumed, None).await.unwrap();
    while calm.message().await["type"] != "subscribed" {}
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 130 << 20, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn costly_filters_on_the_past_of_one_user_keep_nobody_from_theirs() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.allow('pets', 'member')").await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let (five, six) = (token(json!({"sub": "5"})), token(json!({"sub": "6"})));
    let (_first, cursor) = server.subscribed_at(&format!("/ws/pets?token={six}")).await;
    db.run("insert into pets select n, case when n % 150 = 0 then 'luna' else repeat('ab', 500) end, '7' from generate_series(1, 3000) n").await;
    // so that nothing of it is news
    let (_caught_up, _) = server.subscribed_at(&format!("/ws/pets?token={six}&since={cursor}")).await;
    let mut greedy = server.subscribed(&format!("/ws/pets?token={five}")).await;
    for n in 0..400 {
        let filters: Vec<_> = (0..9).map(|m| format!("name=like.*a{}*b{m}*z{n}", "b".repeat(m + 1))).collect();
        let command = json!({"type": "subscribe", "channel": "pets", "view": format!("v{n}"), "filter": filters, "since": cursor});
        greedy.send(&command.to_string()).await;
    }
    let began = Instant::now();
    let mut calm = server.socket(&format!("/ws/pets?filter=name=like.*luna*&since={cursor}&token={six}")).await;
    let mut told = 0;
    loop {
        let message = calm.message().await;
        match message["type"].as_str().unwrap() {
            "realtime_update" => told += 1,
            "subscribed" => break,
            _ => panic!("{message}"),
        }
    }
    assert_eq!(told, 20);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    server.stop().await.unwrap();
}
