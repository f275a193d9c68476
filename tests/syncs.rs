//! The command `sync`: that a client is told when it has been told all up to a position.

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const TABLES: &str = "create table pets (id int primary key, name text); select rowcast.watch('pets');
    create table visits (id int primary key, pet int, note text); select rowcast.watch('visits')";

/// What the server's positions are made of, to make others.
struct Positions<'a> {
    db: &'a TestDatabase,
    seal: rowcast::seal::Seal,
    sample: rowcast::cursor::Cursor,
}

impl<'a> Positions<'a> {
    async fn of(db: &'a TestDatabase, cursor: &str) -> Self {
        let key: Vec<u8> =
            db.client.query_one("select cursor_key from rowcast.installation", &[]).await.unwrap().get(0);
        let sample = rowcast::cursor::Cursor { inside: None, ..rowcast::cursor::Cursor::parse(cursor).unwrap() };
        Self { db, seal: rowcast::seal::Seal::new(&key), sample }
    }

    fn at(&self, snapshot: &str) -> String {
        let seen = rowcast::cursor::Snapshot::parse(snapshot).unwrap();
        self.seal.put(&rowcast::cursor::Cursor { seen, ..self.sample.clone() }.token())
    }

    /// What was committed by now.
    async fn now(&self) -> String {
        self.at(&self.db.text("pg_current_snapshot()").await)
    }

    fn of_the_future(&self) -> String {
        let xid = self.sample.seen.xmax() + 1_000_000;
        self.at(&format!("{xid}:{xid}:"))
    }
}

async fn sync(socket: &mut Socket, cursor: &str, reference: i64) {
    socket.send(&json!({"type": "sync", "cursor": cursor, "ref": reference}).to_string()).await;
}

/// What comes before the answer to a `sync`.
async fn until_synced(socket: &mut Socket, reference: i64) -> Vec<Value> {
    let mut before = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "synced" {
            assert_eq!(message, json!({"type": "synced", "ref": reference}));
            return before;
        }
        before.push(message);
    }
}

async fn subscribe(socket: &mut Socket, channel: &str, wish: Value) {
    let mut command = json!({"type": "subscribe", "channel": channel});
    command.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    socket.send(&command.to_string()).await;
}

#[tokio::test]
async fn what_was_committed_before_a_sync_comes_before_its_answer() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start(&db.url);
    let (mut socket, cursor) = server.subscribed_at("/ws/pets").await;
    let positions = Positions::of(&db, &cursor).await;
    subscribe(&mut socket, "visits", json!({})).await;
    assert_eq!(socket.message().await["type"], "subscribed");
    for n in 0..60 {
        db.run(&format!("begin; insert into pets values ({n}); insert into visits values ({n}, {n}); commit")).await;
        sync(&mut socket, &positions.now().await, n).await;
        let told = until_synced(&mut socket, n).await;
        let mut channels: Vec<_> = told.iter().map(|message| message["entity_type"].as_str().unwrap()).collect();
        channels.sort_unstable();
        assert_eq!(channels, ["pets", "visits"], "{n}");
    }
    // also one that has come to where a message is, inside a cut or not, whatever the rights, and one that follows nothing
    db.run("insert into pets select 1000 + i from generate_series(1, 3) i").await;
    let inside = socket.message().await["cursor"].as_str().unwrap().to_owned();
    for cursor in [&inside, &cursor, &format!("{inside}~-"), &format!("{cursor}~1abc")] {
        sync(&mut socket, cursor, 1).await;
        assert!(until_synced(&mut socket, 1).await.len() <= 2);
    }
    let mut idle = server.socket("/ws").await;
    sync(&mut idle, &positions.now().await, 7).await;
    assert_eq!(until_synced(&mut idle, 7).await, [] as [Value; 0]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_sync_waits_for_the_subscriptions_that_were_asked_for_before_it() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("insert into pets select i, repeat('x', 500) from generate_series(1, 20000) i").await;
    let server = TestServer::start(&db.url);
    let (_, cursor) = server.subscribed_at("/ws/visits").await;
    let positions = Positions::of(&db, &cursor).await;
    let mut socket = server.socket("/ws").await;
    subscribe(&mut socket, "pets", json!({"snapshot": true})).await;
    subscribe(&mut socket, "visits", json!({"since": cursor})).await;
    sync(&mut socket, &positions.now().await, 1).await;
    let told = until_synced(&mut socket, 1).await;
    let joined: Vec<_> = told.iter().filter(|message| message["type"] == "subscribed").collect();
    assert_eq!(joined.len(), 2, "it has all rows");
    // one that is called off is not waited for
    let mut socket = server.socket("/ws").await;
    subscribe(&mut socket, "pets", json!({"snapshot": true})).await;
    sync(&mut socket, &positions.now().await, 2).await;
    socket.send(r#"{"type":"unsubscribe","channel":"pets"}"#).await;
    let told = until_synced(&mut socket, 2).await;
    assert!(told.iter().all(|message| message["type"] != "subscribed"), "{:?}", told.last());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_socket_is_told_when_it_was_written_all_of_it() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864")]);
    for path in ["/ws/pets", "/ws/pets?cuts=true"] {
        let (mut quick, cursor) = server.subscribed_at("/ws/pets").await;
        let mut slow = server.subscribed(path).await;
        let positions = Positions::of(&db, &cursor).await;
        // more than what lies between the server and a client that does not read
        let rows = 6_000;
        db.run(&format!(
            "truncate pets; insert into pets select i, repeat('x', 3000) from generate_series(1, {rows}) i"
        ))
        .await;
        for _ in 0..=rows {
            quick.message().await;
        }
        let cursor = positions.now().await;
        db.run("delete from pets where id <= 2").await;
        while quick.message().await["action"] != "deleted" {}
        assert_eq!(
            serde_json::from_str::<Value>(&server.get("/websocket/behind").await.1).unwrap()["behind"],
            1,
            "it has not taken all"
        );
        sync(&mut slow, &cursor, 1).await;
        let told = until_synced(&mut slow, 1).await;
        let created = told.iter().filter(|message| message["action"] == "created").count();
        assert_eq!(created, rows as usize, "{path}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_cut_follows_the_answer() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start(&db.url);
    let (_, cursor) = server.subscribed_at("/ws/pets").await;
    let positions = Positions::of(&db, &cursor).await;
    let mut socket = server.socket("/ws?cuts=true").await;
    // also where nothing is followed, and where nothing has happened
    sync(&mut socket, &cursor, 0).await;
    assert_eq!(until_synced(&mut socket, 0).await, [] as [Value; 0]);
    assert_eq!(socket.message().await, json!({"type": "cut"}));
    for channel in ["pets", "visits"] {
        subscribe(&mut socket, channel, json!({})).await;
        while socket.message().await["type"] != "subscribed" {}
    }
    while socket.message().await["type"] != "cut" {}
    sync(&mut socket, &cursor, 1).await;
    assert_eq!(until_synced(&mut socket, 1).await, [] as [Value; 0]);
    let cut = socket.message().await;
    assert_eq!(cut["type"], "cut");
    assert!(cut["cursor"].is_string(), "{cut}");
    for n in 0..40 {
        db.run(&format!("begin; insert into pets values ({n}); insert into visits values ({n}, {n}); commit")).await;
        sync(&mut socket, &positions.now().await, n).await;
        let told = until_synced(&mut socket, n).await;
        assert_eq!(told.iter().filter(|message| message["type"] == "realtime_update").count(), 2);
        while socket.message().await["type"] != "cut" {}
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_position_that_cannot_be_waited_for_is_refused() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start(&db.url);
    let (mut socket, cursor) = server.subscribed_at("/ws/pets").await;
    let positions = Positions::of(&db, &cursor).await;
    let elsewhere = TestDatabase::new().await;
    elsewhere.run(TABLES).await;
    let foreign = TestServer::start(&elsewhere.url);
    let of_another = foreign.subscribed_at("/ws/pets").await.1;
    let of_no_life =
        positions.seal.put(&rowcast::cursor::Cursor { incarnation: 99, ..positions.sample.clone() }.token());
    let unsealed = positions.sample.token();
    for (number, cursor) in [
        "",
        "~-",
        "nonsense",
        &cursor[..cursor.len() - 2],
        &of_another,
        &of_no_life,
        &unsealed,
        &positions.of_the_future(),
    ]
    .into_iter()
    .enumerate()
    {
        sync(&mut socket, cursor, number as i64).await;
        let refused = socket.message().await;
        assert_eq!(
            (&refused["type"], &refused["code"], &refused["ref"]),
            (&json!("error"), &json!("bad_cursor"), &json!(number)),
            "{cursor}"
        );
    }
    socket.send(r#"{"type":"sync","ref":1}"#).await;
    assert_eq!(socket.message().await["code"], "bad_message");
    // of those that wait there are so many at most
    let far = positions.of_the_future();
    for number in 0..65 {
        sync(&mut socket, &far, number).await;
    }
    let refused = socket.message().await;
    assert_eq!((&refused["code"], &refused["ref"]), (&json!("too_many_syncs"), &json!(64)));
    for _ in 0..64 {
        assert_eq!(socket.message().await["code"], "bad_cursor");
    }
    sync(&mut socket, &cursor, 3).await;
    assert_eq!(until_synced(&mut socket, 3).await, [] as [Value; 0]);
    foreign.stop().await.unwrap();
    server.stop().await.unwrap();
}
