//! Metrics: each that is documented is there, and each that is there is documented; in the form that was asked for.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::postgres::TestDatabase;
use super::support::redis::free_port;
use super::support::server::TestServer;
use super::support::socket::Socket;

const DOCS: &str = include_str!("../docs/reference/operations.md");

/// What an address answers to a request, as it comes.
async fn ask(address: SocketAddr, request: &str, headers: &str) -> String {
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    tcp.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

const SECRET: &str = "a secret that only the tests know";

fn token(user: &str, role: &str) -> String {
    let claims = json!({"sub": user, "role": role, "exp": 4_000_000_000_u64});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// The value of a sample, with its labels.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {sample} in {text}"))
}

#[tokio::test]
async fn what_is_documented_is_there_and_moves() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "1")]);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets select generate_series(1, 20)").await;
    for _ in 0..20 {
        socket.message().await;
    }
    socket.send("nonsense").await;
    assert_eq!(socket.message().await["type"], "error");
    socket.send("nonsense").await;
    assert_eq!(socket.message().await["code"], "rate_limited");
    let mut back = server.socket("/ws/pets?since=nonsense").await;
    assert_eq!(back.message().await["reason"], "bad_cursor");
    let cursor = back.message().await["cursor"].as_str().unwrap().to_owned();
    server.subscribed(&format!("/ws/pets?since={cursor}")).await;
    let mut closed = Socket::connect(server.address, "/ws/cats", Some("rowcast.v1")).await.unwrap();
    assert_eq!(closed.close_code().await, 4404);

    // the second one is given out again
    for _ in 0..2 {
        assert_eq!(server.get("/rows/pets?limit=3").await.0, 200);
    }

    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    for (sample, least) in [
        ("rowcast_source_live", 1.0),
        ("rowcast_source_reads_total", 1.0),
        ("rowcast_source_rows_total", 20.0),
        ("rowcast_messages_total", 20.0),
        ("rowcast_received_total", 1.0),
        ("rowcast_errors_total", 1.0),
        ("rowcast_sent_bytes_total", 20.0 * 100.0),
        ("rowcast_sockets", 2.0),
        ("rowcast_subscribers{channel=\"pets\"}", 2.0),
        ("rowcast_cut_changes_sum", 20.0),
        ("rowcast_delay_seconds_count", 1.0),
        ("rowcast_gaps_total{reason=\"bad_cursor\"}", 1.0),
        ("rowcast_resumes_total{from=\"memory\"}", 1.0),
        ("rowcast_pages_total{from=\"database\"}", 1.0),
        ("rowcast_pages_total{from=\"memory\"}", 1.0),
        ("rowcast_closes_total{code=\"4404\",reason=\"\"}", 1.0),
        ("rowcast_limits_total{limit=\"commands\"}", 1.0),
        ("rowcast_outbox_bytes", 1.0),
    ] {
        assert!(value(&text, sample) >= least, "{sample} in {text}");
    }
    assert!(value(&text, "rowcast_delay_seconds_sum") < 10.0, "seconds");
    assert!(value(&text, "rowcast_retention_seconds") == 86_400.0, "the default");
    assert!(value(&text, "rowcast_clock_skew_seconds").abs() < 10.0, "one machine, one clock");
    assert!(value(&text, "rowcast_publishing{stream=\"\"}") == 0.0);
    for (sample, most) in [
        ("process_resident_memory_bytes", 1e11),
        ("process_open_fds", 1e6),
        ("process_max_fds", 1e9),
        ("process_cpu_seconds_total", 1e6),
        ("process_start_time_seconds", 1e11),
    ] {
        assert!((0.001..most).contains(&value(&text, sample)), "{sample} in {text}");
    }

    let table = DOCS.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: BTreeSet<String> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    let there: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    let differing: Vec<_> = named.symmetric_difference(&there).collect();
    assert_eq!(json!(differing), json!([]), "documented or there, not both");
    server.stop().await.unwrap();
}

/// An increase is what alerts ask for, and a series that begins at 1 has none.
#[tokio::test]
async fn what_may_come_to_be_counted_is_there_as_zero() {
    let db = TestDatabase::new().await;
    let server = TestServer::start(&db.url);
    let (_, text) = server.get("/metrics").await;
    for sample in [
        "rowcast_gaps_total{reason=\"trigger_off\"}",
        "rowcast_gaps_total{reason=\"retention\"}",
        "rowcast_gaps_total{reason=\"failover\"}",
        "rowcast_gaps_total{reason=\"unreadable\"}",
        "rowcast_closes_total{code=\"4408\",reason=\"slow\"}",
        "rowcast_closes_total{code=\"1001\",reason=\"\"}",
        "rowcast_resumes_total{from=\"outbox\"}",
        "rowcast_pages_total{from=\"database\"}",
        "rowcast_pages_total{from=\"memory\"}",
    ] {
        assert!(value(&text, sample) == 0.0, "{sample} in {text}");
    }
    let limits = DOCS.split("| `rowcast_limits_total` | `limit`: ").nth(1).unwrap().split(" |").next().unwrap();
    for limit in limits.split(", ") {
        let limit = limit.trim_matches('`');
        assert!(value(&text, &format!("rowcast_limits_total{{limit=\"{limit}\"}}")) == 0.0, "{limit} in {text}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn openmetrics_is_for_who_asks_for_it() {
    let db = TestDatabase::new().await;
    let server = TestServer::start(&db.url);
    let (head, body) = server.get_with("/metrics", "accept: */*\r\n").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("# TYPE rowcast_gaps_total counter") && !body.contains("# EOF"), "{body}");
    let (head, body) =
        server.get_with("/metrics", "accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("# TYPE rowcast_gaps counter") && body.ends_with("# EOF\n"), "{body}");
    server.stop().await.unwrap();
}

/// The network of operators is not that of clients: what the server is, to the one without a token; what it serves, to the other.
#[tokio::test]
async fn operators_have_a_listener_of_their_own() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets'), rowcast.allow('pets', 'anon')")
        .await;
    let admin: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let settings = [("admin-listen", &*admin.to_string()), ("jwt-secret", SECRET)];
    let server = TestServer::start_with(&db.url, &settings);
    server.subscribed("/ws/pets").await;
    let ask = async |path: &str, host: &str| ask(admin, &format!("GET {path}"), &format!("host: {host}\r\n")).await;
    for (path, said) in [
        ("/metrics", "rowcast_sockets"),
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/websocket/status", "\"connections\""),
        ("/websocket/behind", "["),
    ] {
        let answer = ask(path, "10.0.0.1:9000").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(said), "{path}: {answer}");
    }
    for path in ["/rows/pets", "/ws/pets", "/sse/pets", "/"] {
        let answer = ask(path, "localhost").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let answer = ask("/metrics", "evil.example.org").await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    for path in ["/metrics", "/websocket/status"] {
        let (status, said) = server.get(path).await;
        assert!(status == 404 && said.contains("admin-listen"), "{path}: {status} {said}");
    }
    // but to a token of an admin, which the page at / asks with
    for (role, status) in [("admin", 200), ("vet", 404)] {
        assert_eq!(server.get(&format!("/websocket/status?token={}", token("1", role))).await.0, status, "{role}");
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/rows/pets").await.0, 200);
    assert_eq!(server.get(&format!("/kick?channel=pets&token={}", token("1", "vet"))).await.0, 401, "no admin");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_operator_closes_the_sockets_of_a_user_or_of_a_channel_and_they_come_back() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); create table visits (id int primary key)").await;
    db.run("select rowcast.watch('pets'), rowcast.watch('visits'), rowcast.allow('pets', 'vet'), rowcast.allow('visits', 'vet')").await;
    let admin: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let settings = [("admin-listen", &*admin.to_string()), ("jwt-secret", SECRET)];
    let server = TestServer::start_with(&db.url, &settings);
    let of = async |path: &str, user: &str| {
        let path = format!("{path}{}token={}", if path.contains('?') { "&" } else { "?" }, token(user, "vet"));
        let mut socket = server.socket(&path).await;
        let subscribed = socket.message().await;
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        (socket, subscribed["cursor"].as_str().unwrap().to_owned())
    };
    let ask = async |address, request: &str, header: &str| {
        ask(address, request, &format!("host: localhost\r\n{header}")).await
    };
    let ((mut five, cursor), (mut six, _)) = (of("/ws/pets", "5").await, of("/ws/visits", "6").await);
    let (mut inbox, _) = of("/ws/user/5", "5").await;
    // not by a page, not by GET, not by anybody who reaches the clients' address
    for (request, header, status) in [
        ("POST /kick?user=5", "origin: http://localhost\r\n", "403"),
        ("GET /kick?user=5", "", "405"),
        ("POST /kick?user=", "", "400"),
        ("POST /kick", "", "400"),
        ("POST /kick?user=5&channel=pets", "", "400"),
        ("POST /kick?usr=5", "", "400"),
    ] {
        let answer = ask(admin, request, header).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    for (role, status) in [(None, "401"), (Some("vet"), "401"), (Some("admin"), "200")] {
        let query = role.map(|role| format!("&token={}", token("9", role))).unwrap_or_default();
        let answer = ask(server.address, &format!("POST /kick?user=nobody{query}"), "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{role:?}: {answer}");
    }
    // by an admin's token that stands beside it, at the clients' address
    let answer = ask(server.address, &format!("POST /kick?token={}&user=5", token("9", "admin")), "").await;
    assert!(answer.contains("\"closed\": 2"), "{answer}");
    assert!(ask(admin, "POST /kick?user=5", "").await.contains("\"closed\": 0"), "they are closed already");
    assert_eq!((five.close_code().await, inbox.close_code().await), (1001, 1001));
    db.run("insert into pets values (1)").await;
    let mut back = server.socket(&format!("/ws/pets?since={cursor}&token={}", token("5", "vet"))).await;
    let first = loop {
        let message = back.message().await;
        if message["type"] != "subscribed" {
            break message;
        }
    };
    assert_eq!(first["data"]["id"], 1, "nothing is lost: {first}");
    let asking = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast"))
        .args(["kick", "--channel", "visits", "--url", &format!("http://{admin}")])
        .output();
    let said = asking.await.unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("\"closed\": 1"), "{said:?}");
    assert_eq!(six.close_code().await, 1001);
    server.stop().await.unwrap();
}
