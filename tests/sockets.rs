//! Sockets: what a client is told, and what it costs the others.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const PETS: &str = "create table pets (pet_id int primary key, user_id text, name text);
    select rowcast.watch('pets', user_rule => 'user_id', notification => '{\"pet_name\": \"name\", \"pet_id\": \"pet_id\"}')";

#[tokio::test]
async fn an_insert_reaches_the_channel_and_its_user_and_nobody_else() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut pets = server.subscribed("/ws/pets").await;
    let mut owner = server.subscribed("/ws/user/j%C3%BCrgen%2F1").await;
    let mut other = server.subscribed("/ws/user/2").await;
    db.run("insert into pets values (1, 'jürgen/1', 'Luna')").await;
    let update = pets.message().await;
    assert_eq!(update["type"], "realtime_update");
    assert_eq!(update["entity_type"], "pets");
    assert_eq!(update["action"], "created");
    assert_eq!(update["data"], json!({"pet_id": 1, "user_id": "jürgen/1", "name": "Luna"}));
    let told = owner.message().await;
    assert_eq!(told["type"], "notification");
    assert_eq!(told["notification_type"], "pet_created");
    assert_eq!(told["user_id"], "jürgen/1");
    assert_eq!(told["data"], json!({"pet_name": "Luna", "pet_id": 1}));
    assert_eq!((&told["id"], &told["timestamp"]), (&update["id"], &update["timestamp"]));
    assert!(update["timestamp"].as_str().unwrap().ends_with('Z'));
    db.run("select rowcast.notify('2', 'hello', '{\"a\": 1}')").await;
    assert_eq!(other.message().await["data"], json!({"a": 1}), "the first thing that user hears");
    db.run("select rowcast.create_channel('news'); select rowcast.publish('news', 'flash', '[1]')").await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn one_socket_follows_many_channels() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create table rooms (room_id int); select rowcast.watch('rooms'); select rowcast.create_channel('news')")
        .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws").await;
    for (i, channel) in ["pets", "rooms", "news"].iter().enumerate() {
        socket.send(&json!({"type": "subscribe", "channel": channel, "ref": i}).to_string()).await;
        let answer = socket.message().await;
        assert_eq!(
            (&answer["type"], &answer["channel"], &answer["ref"]),
            (&json!("subscribed"), &json!(channel), &json!(i))
        );
    }
    db.run("insert into rooms values (1)").await;
    assert_eq!(socket.message().await["entity_type"], "rooms");
    db.run("select rowcast.publish('news', 'flash', '[1]')").await;
    let news = socket.message().await;
    assert_eq!((&news["action"], &news["data"]), (&json!("flash"), &json!([1])));
    socket.send(r#"{"type":"unsubscribe","channel":"rooms"}"#).await;
    assert_eq!(socket.message().await["type"], "unsubscribed");
    db.run("insert into rooms values (2); insert into pets values (1)").await;
    assert_eq!(socket.message().await["entity_type"], "pets");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_command_is_answered_and_the_socket_stays_open() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    for (sent, code) in [
        ("{", "bad_json"),
        ("3", "bad_message"),
        (r#"{"type":"dance"}"#, "unknown_command"),
        (r#"{"type":"subscribe","channel":"cats"}"#, "unknown_channel"),
        (r#"{"type":"subscribe","channel":"pets"}"#, "already_subscribed"),
        (r#"{"type":"unsubscribe","channel":"cats"}"#, "not_subscribed"),
    ] {
        socket.send(sent).await;
        let answer = socket.message().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{sent}");
    }
    socket.raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(socket.message().await["code"], "bad_message");
    socket.send(r#"{"type":"ping","ref":7}"#).await;
    assert_eq!(socket.message().await, json!({"type": "pong", "ref": 7}));
    let test = json!({"type": "test", "anything": [1, "ü"]});
    socket.send(&test.to_string()).await;
    assert_eq!(socket.message().await, test);
    db.run("insert into pets values (1)").await;
    assert_eq!(socket.message().await["action"], "created");
    assert_eq!(server.status().await["errors"], 7);
    socket.send(&"x".repeat(70_000)).await;
    assert_eq!(socket.close_code().await, 1009);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unknown_channel_is_a_404_or_4404_for_clients_that_speak_our_protocol() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    match Socket::connect(server.address, "/ws/cats", None).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    let mut socket = Socket::connect(server.address, "/ws/cats", Some("rowcast.v1")).await.unwrap();
    assert_eq!(socket.close_code().await, 4404);
    let mut socket = Socket::connect(server.address, "/ws/pets?fliter=a=eq.1", Some("rowcast.v1")).await.unwrap();
    assert_eq!(socket.close_code().await, 4400, "not half of what was asked for");
    // the channel of an open socket goes away; one that follows others stays
    db.run("select rowcast.create_channel('news')").await;
    while server.status().await["channels"]["news"].is_null() {
        tokio::task::yield_now().await;
    }
    let mut both = server.subscribed("/ws/pets").await;
    both.send(r#"{"type":"subscribe","channel":"news"}"#).await;
    assert_eq!(both.message().await["type"], "subscribed");
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("select rowcast.unwatch('pets')").await;
    assert_eq!(socket.close_code().await, 4404);
    assert_eq!(both.message().await["code"], "unknown_channel");
    db.run("select rowcast.publish('news', 'flash', '1')").await;
    assert_eq!(both.message().await["action"], "flash");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_costs_the_others_nothing_and_is_closed() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "65536")]);
    let mut reader = server.subscribed("/ws/pets").await;
    let mut mute = tokio::net::TcpStream::connect(server.address).await.unwrap();
    mute.write_all(b"GET /ws/pets HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
    while server.status().await["channels"]["pets"] != 2 {
        tokio::task::yield_now().await;
    }
    let mut id = 0;
    while server.status().await["closed_too_slow"] == 0 {
        id += 1;
        assert!(id < 3000, "never closed");
        db.run(&format!("insert into pets values ({id}, 'x', repeat('x', 10000))")).await;
        assert_eq!(reader.message().await["data"]["pet_id"], id, "the other one hears everything");
    }
    while server.status().await["connections"] != 1 {
        tokio::task::yield_now().await;
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_pauses_gets_everything_once_it_reads_again() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864")]);
    let mut socket = server.subscribed("/ws/pets").await;
    // more than the kernel's buffers hold, so that a frame is cut in half and the server has to wait
    db.run("insert into pets select i, 'x', repeat('x', 3000) from generate_series(1, 8000) i").await;
    while server.status().await["messages"] != 8000 {
        tokio::task::yield_now().await;
    }
    let written = server.status().await["bytes_sent"].as_u64().unwrap();
    assert!(written < 8000 * 3000, "the server was stopped by a full socket: {written} bytes");
    socket.send(r#"{"type":"ping"}"#).await;
    let mut next = 1;
    let mut pongs = 0;
    while next <= 8000 || pongs == 0 {
        let message = socket.message().await;
        if message["type"] == "pong" {
            pongs += 1;
        } else {
            assert_eq!(message["data"]["pet_id"], next);
            next += 1;
        }
    }
    assert_eq!(server.status().await["closed_too_slow"], 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_dropped() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("ping-seconds", "1"), ("heartbeat-seconds", "1")]);
    let mut dead = tokio::net::TcpStream::connect(server.address).await.unwrap();
    dead.write_all(b"GET /ws/pets HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    // the server ends the connection: reading comes to an end by itself
    let read = tokio::io::AsyncReadExt::read_to_end(&mut dead, &mut received);
    tokio::time::timeout(PATIENCE, read).await.unwrap().ok();
    assert!(received.windows(2).any(|pair| pair == [0x89, 0x00]), "a ping");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_quiet_channel_sends_heartbeats_with_the_cursor() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("heartbeat-seconds", "1")]);
    let mut socket = server.subscribed("/ws/pets").await;
    let first = socket.heartbeat().await;
    assert!(first["cursor"].as_str().unwrap().starts_with('1'), "{first}");
    assert_eq!(first["channel"], "pets");
    db.run("create table elsewhere (a int); select rowcast.watch('elsewhere'); insert into elsewhere values (1)").await;
    // the first one may have been on its way
    let (next, last) = (socket.heartbeat().await, socket.heartbeat().await);
    assert_ne!(last["cursor"], first["cursor"], "the stream moves on without changes here: {next}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn draining_tells_every_socket_1001_and_ends_in_time() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut one = server.subscribed("/ws/pets").await;
    let mut two = server.subscribed("/ws/user/1").await;
    assert_eq!(server.get("/readyz").await.0, 200);
    let stopping = tokio::spawn(server.stop());
    assert_eq!(one.close_code().await, 1001);
    assert_eq!(two.close_code().await, 1001);
    tokio::time::timeout(Duration::from_secs(5), stopping).await.expect("drained in time").unwrap().unwrap();
}

#[tokio::test]
async fn a_channel_can_be_subscribed_to_right_after_it_was_made() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut many = server.socket("/ws").await;
    server.subscribed("/ws/pets").await;
    for i in 0..20 {
        db.run(&format!("create table t{i} (id int primary key); select rowcast.watch('t{i}')")).await;
        if i % 2 == 0 {
            server.subscribed(&format!("/ws/t{i}")).await;
        } else {
            many.send(&format!(r#"{{"type":"subscribe","channel":"t{i}"}}"#)).await;
            assert_eq!(many.message().await["type"], "subscribed", "t{i}");
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_clients_goodbye_is_answered() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    for path in ["/ws", "/ws/pets"] {
        let mut socket = server.socket(path).await;
        socket.send(r#"{"type":"ping"}"#).await;
        while socket.message().await["type"] != "pong" {}
        let frame = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
        socket.raw(Message::Close(Some(frame))).await;
        assert_eq!(socket.close_code().await, 1000, "else a browser says 1006");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn pages_say_what_is_running() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("max-sockets", "1")]);
    let _open = server.subscribed("/ws/pets").await;
    for page in [
        "/",
        "/dashboard.js",
        "/figures.js",
        "/uplot.js",
        "/uplot.css",
        "/rowcast.js",
        "/docs",
        "/docs.js",
        "/openapi.json",
    ] {
        let (status, text) = server.get(page).await;
        assert!(status == 200 && !text.contains("http://cdn") && !text.is_empty(), "{page}: {status}");
    }
    for page in ["/clinic", "/clinic/psql"] {
        assert_eq!(server.get(page).await.0, 404, "{page}: only in the demo");
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/nothing").await.0, 404);
    assert_eq!(server.get("/ws/user/1").await.0, 503, "the one socket is taken");
    let status = server.status().await;
    assert_eq!((&status["connections"], &status["channels"]["pets"]), (&json!(1), &json!(1)));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn sockets_stay_and_are_told_when_the_source_is_down() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'rowcast listen%' and datname = current_database()").await;
    assert_eq!(socket.message().await["code"], "source_down");
    db.run("insert into pets values (1)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_dropped() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "100000"), ("message-bytes", "1000000")]);
    let mut calm = server.subscribed("/ws/pets").await;
    let mut socket = server.subscribed("/ws/pets").await;
    let echo = format!(r#"{{"type":"test","x":"{}"}}"#, "x".repeat(500_000));
    // the kernel holds some megabytes for it, rowcast one
    for _ in 0..100 {
        socket.try_send(&echo).await;
    }
    let dropped = async { while server.status().await["closed_too_slow"] != 1 {} };
    tokio::time::timeout(PATIENCE, dropped).await.expect("it is dropped");
    db.run("insert into pets values (1)").await;
    assert_eq!(calm.message().await["action"], "created");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_view_that_is_left_in_the_middle_of_anothers_frame_leaves_the_wire_whole() {
    let db = TestDatabase::new().await;
    db.run(
        "create table blobs (id int, body text); create table others (id int, body text);
            select rowcast.watch('blobs'), rowcast.watch('others')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/blobs").await;
    socket.send(r#"{"type":"subscribe","channel":"others"}"#).await;
    assert_eq!(socket.message().await["type"], "subscribed");
    let mut watching = server.subscribed("/ws/others").await;
    for _ in 0..5 {
        db.run("insert into blobs values (1, repeat('x', 800000)); insert into others values (1, repeat('y', 800000))")
            .await;
        watching.message().await;
    }
    socket.send(r#"{"type":"unsubscribe","channel":"others"}"#).await;
    db.run("insert into blobs values (2, 'last')").await;
    // each is parsed as it comes
    while socket.message().await["data"]["id"] != 2 {}
    server.stop().await.unwrap();
}

#[tokio::test]
async fn who_leaves_on_the_way_and_comes_again_is_not_forgotten() {
    let db = TestDatabase::new().await;
    db.run("create table blobs (id int, body text); select rowcast.watch('blobs')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws").await;
    socket.send(r#"{"type":"subscribe","channel":"blobs"}"#).await;
    let cursor = socket.message().await["cursor"].as_str().unwrap().to_owned();
    drop(socket);
    let mut watching = server.subscribed("/ws/blobs?columns=id").await;
    db.run("insert into blobs select n, repeat('x', 500000) from generate_series(1, 40) n").await;
    for _ in 0..40 {
        watching.message().await;
    }
    let mut socket = server.socket("/ws").await;
    socket.send(&json!({"type": "subscribe", "channel": "blobs", "since": cursor}).to_string()).await;
    // more than the kernel holds: it is in the middle of its replay
    assert_eq!(socket.message().await["data"]["id"], 1);
    socket.send(r#"{"type":"unsubscribe","channel":"blobs"}"#).await;
    socket.send(r#"{"type":"subscribe","channel":"blobs","ref":"again"}"#).await;
    while socket.message().await["ref"] != "again" {}
    db.run("insert into blobs values (99, 'new')").await;
    assert_eq!(socket.message().await["data"]["id"], 99);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_refused() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    for (host, status) in [
        ("evil.example", "421"),
        ("evil.example:8000", "421"),
        ("[::1]evil.com", "421"),
        ("localhost:1", "200"),
        ("[::1]", "200"),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{host}");
    }
    server.stop().await.unwrap();
}

/// RFC 6455, section 4.1: the handshake is a GET.
#[tokio::test]
async fn a_handshake_by_another_method_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let db = TestDatabase::new().await;
    let server = TestServer::start(&db.url);
    for (method, status) in [("POST", "405"), ("PUT", "405"), ("HEAD", "426"), ("GET", "101")] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "{method} /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"), "{method}");
    }
    server.stop().await.unwrap();
}
