//! Event streams: the same messages for clients without WebSockets.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

/// A client as simple as `curl -N`.
struct Events {
    lines: BufReader<OwnedReadHalf>,
    _writing: OwnedWriteHalf,
    status: u16,
}

/// What came between two blank lines.
#[derive(Debug, Default)]
struct Event {
    id: Option<String>,
    name: Option<String>,
    data: Value,
}

impl Events {
    async fn open(server: &TestServer, path: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        Self::ask(server, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{last}\r\n")).await
    }

    /// A stream whose client says all of it at the start.
    async fn of(server: &TestServer, query: &str, commands: &[Value]) -> Self {
        let body: String = commands.iter().map(|command| format!("{command}\n")).collect();
        let length = body.len();
        let head = format!("POST /sse{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        Self::ask(server, head + &body).await
    }

    async fn ask(server: &TestServer, request: String) -> Self {
        let (reading, mut writing) = TcpStream::connect(server.address).await.unwrap().into_split();
        writing.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self { lines: BufReader::new(reading), _writing: writing, status: 0 };
        events.status = events.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        while !events.line().await.is_empty() {}
        events
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.lines.read_line(&mut line)).await.expect("a line").unwrap();
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// The next event that has data and is no heartbeat. The chunks of HTTP are between its lines.
    async fn next(&mut self) -> Event {
        let mut event = Event::default();
        loop {
            let line = self.line().await;
            if let Some(id) = line.strip_prefix("id: ") {
                event.id = Some(id.to_owned());
            } else if let Some(name) = line.strip_prefix("event: ") {
                event.name = Some(name.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                event.data = serde_json::from_str(data).unwrap();
            } else if line.is_empty() && !event.data.is_null() {
                if event.data["type"] != "heartbeat" {
                    return event;
                }
                event = Event::default();
            }
        }
    }
}

#[tokio::test]
async fn an_event_stream_follows_and_comes_back() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, owner text); select rowcast.watch('pets', user_rule => 'owner')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let mut events = Events::open(&server, "/sse/pets?filter=owner=eq.5&columns=pet_id", None).await;
    assert_eq!(events.next().await.data["type"], "subscribed");
    let mut told = Events::open(&server, "/sse/user/5", None).await;
    assert_eq!(told.next().await.data["channel"], "user/5");
    db.run("insert into pets values (1, '5'), (2, '6')").await;
    let first = events.next().await;
    assert_eq!((&first.data["action"], &first.data["data"]), (&json!("created"), &json!({"pet_id": 1})));
    assert_eq!(first.id.as_deref(), first.data["cursor"].as_str());
    assert_eq!(told.next().await.data["notification_type"], "pet_created");
    drop(events);

    let mut watching = server.subscribed("/ws/pets").await;
    db.run("update pets set owner = '5' where pet_id = 2").await;
    watching.message().await;
    let mut back = Events::open(&server, "/sse/pets?filter=owner=eq.5&columns=pet_id", first.id.as_deref()).await;
    assert_eq!(back.next().await.data["action"], "entered", "what it missed");
    let subscribed = back.next().await;
    assert_eq!((&subscribed.data["recovered"], &subscribed.data["replayed"]), (&json!(true), &json!(1)));

    for (path, status) in [("/sse/cats", 404), ("/sse/", 404), ("/sse/pets?filter=a", 400), ("/sse/pets?x=1", 400)] {
        assert_eq!(Events::open(&server, path, None).await.status, status, "{path}");
    }
    // a client that goes gives everything back
    drop((back, told, watching));
    let gone = async { while server.status().await["connections"] != 0 {} };
    timeout(PATIENCE, gone).await.expect("no connection is left");

    let mut last = Events::open(&server, "/sse/pets", None).await;
    assert_eq!(last.next().await.data["type"], "subscribed");
    let stopping = tokio::spawn(server.stop());
    let goodbye = last.next().await;
    assert_eq!((goodbye.name.as_deref(), &goodbye.data["code"]), (Some("close"), &json!(1001)));
    drop(last);
    stopping.await.unwrap().unwrap();
}

/// A page that has lost its stream asks for what it missed, and hears when it has all of it.
/// A browser sends the cursor of the last event by itself, also one of the middle of a snapshot.
#[tokio::test]
async fn an_event_stream_that_was_broken_off_in_a_snapshot_goes_on() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key); insert into pets select n from generate_series(1, 12000) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let path = "/sse/pets?snapshot=true&partial=true";
    let mut events = Events::open(&server, path, None).await;
    let (mut rows, mut last) = (Vec::new(), None);
    let recovered = loop {
        let event = events.next().await;
        match event.data["type"].as_str().unwrap() {
            "snapshot" => rows.extend(event.data["rows"].as_array().unwrap().iter().map(|row| row["pet_id"].clone())),
            "subscribed" => break event.data["recovered"].clone(),
            _ => panic!("{event:?}"),
        }
        if last.is_none() && event.data["last"] == false && event.id.is_some() {
            last = event.id;
            events = Events::open(&server, path, last.as_deref()).await;
        }
    };
    assert!(last.is_some() && recovered == true, "{last:?}, {recovered}");
    assert_eq!(rows, (1..=12000).map(Value::from).collect::<Vec<_>>());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_stream_of_commands_says_when_it_has_come_to_a_position() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    let (mut socket, since) = server.subscribed_at("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    let cursor = socket.message().await["cursor"].clone();
    let commands = [
        json!({"type": "subscribe", "channel": "pets", "since": since}),
        json!({"type": "sync", "cursor": cursor, "ref": 1}),
    ];
    let mut events = Events::of(&server, "", &commands).await;
    let mut told = Vec::new();
    while told.last() != Some(&json!("synced")) {
        told.push(events.next().await.data["type"].clone());
    }
    assert_eq!(told, ["realtime_update", "subscribed", "synced"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_document_with_line_breaks_arrives_whole() {
    let db = TestDatabase::new().await;
    db.run("create table doc (id int primary key, body json); select rowcast.watch('doc')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/doc").await;
    let mut events = Events::open(&server, "/sse/doc", None).await;
    let subscribed = events.next().await;
    let document = r#"E'{\n "a": 1,\r\n\n "b": [1,\r2], "c": "\\n\u2028"}'"#;
    db.run(&format!("insert into doc values (1, {document})")).await;
    let wanted = json!({"id": 1, "body": {"a": 1, "b": [1, 2], "c": "\n\u{2028}"}});
    assert_eq!(events.next().await.data["data"], wanted, "live");
    assert_eq!(socket.message().await["data"], wanted);
    let mut rows = Events::open(&server, "/sse/doc?snapshot=true", None).await;
    assert_eq!(rows.next().await.data["rows"], json!([wanted]), "a snapshot");
    let mut back = Events::open(&server, "/sse/doc", subscribed.id.as_deref()).await;
    assert_eq!(back.next().await.data["data"], wanted, "a replay");
    server.stop().await.unwrap();
}

/// So that a cache keeps apart what different pages were allowed.
#[tokio::test]
async fn an_answer_that_depends_on_the_page_says_so() {
    let db = TestDatabase::new().await;
    db.run("create table doc (id int primary key); select rowcast.watch('doc')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/doc").await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /sse/doc HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost:3000\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(tcp).lines();
    let mut head = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
        head.push(line.to_ascii_lowercase());
    }
    for line in ["vary: origin", "access-control-allow-origin: http://localhost:3000"] {
        assert!(head.iter().any(|known| known == line), "{head:?}");
    }
    drop(lines);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_may_bring_commands_as_a_socket_has_them() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key, owner int); select rowcast.watch('pets'); insert into pets values (1, 5)").await;
    db.run("create table visits (id int primary key); select rowcast.watch('visits')").await;
    let server = TestServer::start(&db.url);
    let subscribe = |channel: &str, more: Value| {
        let mut command = json!({"type": "subscribe", "channel": channel, "snapshot": true});
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    let commands = [
        subscribe("pets", json!({"view": "fives", "filter": "owner=eq.5"})),
        subscribe("pets", json!({"ref": 2})),
        subscribe("visits", json!({})),
        subscribe("cats", json!({"ref": 4})),
    ];
    let mut events = Events::of(&server, "?cuts=true", &commands).await;
    assert_eq!(events.status, 200);
    let (mut joined, mut refused) = (Vec::new(), 0);
    while joined.len() + refused < 4 {
        let said = events.next().await.data;
        match said["type"].as_str().unwrap() {
            "subscribed" => joined.push(format!("{} {}", said["channel"], said["view"])),
            "error" => {
                refused += 1;
                assert_eq!((&said["code"], &said["ref"]), (&json!("unknown_channel"), &json!(4)));
            }
            _ => {}
        }
    }
    joined.sort();
    assert_eq!(joined, ["\"pets\" \"fives\"", "\"pets\" null", "\"visits\" null"]);
    while events.next().await.data["type"] != "cut" {}
    db.run("begin; insert into pets values (2, 5); insert into visits values (1); commit").await;
    let mut told = Vec::new();
    loop {
        let said = events.next().await.data;
        match said["type"].as_str().unwrap() {
            "cut" if told.len() == 3 => break,
            "cut" => told.clear(),
            _ => told.push(said["entity_type"].clone()),
        }
    }
    assert_eq!(told.iter().filter(|channel| **channel == "pets").count(), 2);

    assert_eq!(Events::of(&server, "", &[]).await.status, 404);
    let long = json!({"type": "subscribe", "channel": "x".repeat(2 << 20)});
    assert_eq!(Events::of(&server, "", &[long]).await.status, 413);
    // a line that is no command is answered as on a socket
    let mut events = Events::of(&server, "", &[json!("hello")]).await;
    assert_eq!(events.next().await.data["code"], "bad_message");
    server.stop().await.unwrap();
}

/// To any other status than 200 a browser's EventSource never comes back.
#[tokio::test]
async fn a_stream_that_is_refused_for_now_is_told_to_come_back() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start_with(&db.url, &[("max-sockets", "1")]);
    let _socket = server.subscribed("/ws/pets").await;
    let mut events = Events::open(&server, "/sse/pets", None).await;
    assert_eq!(events.status, 200);
    let mut retry = String::new();
    while !retry.starts_with("retry: ") {
        retry = events.line().await;
    }
    assert!((1_000..10_000).contains(&retry["retry: ".len()..].parse::<u32>().unwrap()), "{retry}");
    let event = events.next().await;
    assert_eq!((event.name.as_deref(), &event.data["code"]), (Some("close"), &json!(4503)));
    server.stop().await.unwrap();
}
