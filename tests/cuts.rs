//! Wholeness: a socket that is told the end of each cut has, at each of them, all its tables as they were at one moment. The
//! writer keeps their checksum in a table of its own, inside each transaction.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SCHEMA: &str = "create table a (id int primary key, v int); create table b (id int primary key, v int);
    create table total (id int primary key, sum_a bigint, sum_b bigint, n int);
    insert into total values (1, 0, 0, 0);
    create function write_rows(n int, rows int) returns void language plpgsql as $$ begin
      insert into a select i, n * 7 + i from generate_series(1, rows) i on conflict (id) do update set v = excluded.v;
      insert into b select i, n * 3 + i from generate_series(1, rows) i on conflict (id) do update set v = excluded.v;
      if n % 4 = 3 then delete from a where id % 3 = 0; delete from b where id % 5 = 0; end if;
      update total set sum_a = (select coalesce(sum(v), 0) from a), sum_b = (select coalesce(sum(v), 0) from b), n = write_rows.n;
    end $$;
    select rowcast.watch('a'), rowcast.watch('b'), rowcast.watch('total')";

/// The tables, as a client of the documented protocol has them.
#[derive(Default)]
struct Page {
    tables: BTreeMap<String, BTreeMap<i64, Value>>,
    joined: usize,
    /// cuts that were told
    cuts: usize,
}

impl Page {
    /// Applies a message; true where it is a cut at which all that it shows has to agree.
    fn hear(&mut self, message: &Value) -> bool {
        let key = |row: &Value| row["id"].as_i64().unwrap();
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                let table = self.tables.entry(message["channel"].as_str().unwrap().to_owned()).or_default();
                for row in message["rows"].as_array().unwrap() {
                    table.insert(key(row), row.clone());
                }
            }
            "realtime_update" => {
                let table = self.tables.entry(message["entity_type"].as_str().unwrap().to_owned()).or_default();
                match message["action"].as_str().unwrap() {
                    "deleted" => _ = table.remove(&key(&message["data"])),
                    "truncated" => table.clear(),
                    _ => _ = table.insert(key(&message["data"]), message["data"].clone()),
                }
            }
            "subscribed" => self.joined += 1,
            "gap" => panic!("{message}"),
            "cut" => {
                self.cuts += 1;
                return self.joined == 3;
            }
            _ => {}
        }
        false
    }

    fn sum(&self, table: &str) -> i64 {
        self.tables.get(table).map_or(0, |rows| rows.values().map(|row| row["v"].as_i64().unwrap()).sum())
    }

    fn total(&self) -> &Value {
        &self.tables["total"][&1]
    }

    fn assert_whole(&self) {
        let total = self.total();
        assert_eq!(
            (self.sum("a"), self.sum("b")),
            (total["sum_a"].as_i64().unwrap(), total["sum_b"].as_i64().unwrap()),
            "{total}"
        );
    }

    /// Reads until the transaction of this number is shown, at a cut.
    async fn comes_to(&mut self, socket: &mut Socket, n: i64) {
        loop {
            if self.hear(&socket.message().await) {
                self.assert_whole();
                if self.total()["n"] == n {
                    return;
                }
            }
        }
    }
}

async fn subscribe(socket: &mut Socket, channel: &str, since: Option<&str>) {
    socket.send(&json!({"type": "subscribe", "channel": channel, "snapshot": true, "since": since}).to_string()).await;
}

#[tokio::test]
async fn at_each_cut_all_tables_of_a_socket_are_of_one_moment() {
    let db = TestDatabase::new().await;
    db.run(SCHEMA).await;
    for settings in [&[][..], &[("log-bytes", "1000000")]] {
        let server = TestServer::start_with(&db.url, settings);
        let (mut readers, last) = (Vec::new(), 60);
        // one that keeps up
        let mut socket = server.socket("/ws?cuts=true").await;
        let mut page = Page::default();
        for channel in ["a", "total", "b"] {
            subscribe(&mut socket, channel, None).await;
        }
        while !page.hear(&socket.message().await) {}
        for n in 100..120 {
            let before = page.cuts;
            db.run(&format!("select write_rows({n}, {})", [1, 2, 10, 50, 300][n as usize % 5])).await;
            page.comes_to(&mut socket, n).await;
            assert_eq!(page.cuts - before, 1, "one transaction, one end");
        }
        for number in 0..4 {
            let mut socket = server.socket("/ws?cuts=true").await;
            readers.push(tokio::spawn(async move {
                let mut page = Page::default();
                for channel in ["a", "total", "b"] {
                    subscribe(&mut socket, channel, None).await;
                    // some join one after the other, while it is written
                    if number % 2 == 0 {
                        while page.joined == 0 {
                            let message = socket.message().await;
                            page.hear(&message);
                        }
                    }
                }
                page.comes_to(&mut socket, last).await;
                page
            }));
        }
        for n in 0..=last {
            let rows = [1, 2, 10, 50, 300, 1][n as usize % 6];
            db.run(&format!("select write_rows({n}, {rows})")).await;
        }
        for reader in readers {
            let page = reader.await.unwrap();
            assert!(page.cuts > 0);
        }
        server.stop().await.unwrap();
    }
}

/// A transaction that comes in many parts has its end once.
#[tokio::test]
async fn a_large_transaction_has_one_end() {
    let db = TestDatabase::new().await;
    db.run(SCHEMA).await;
    db.run("select write_rows(1, 5)").await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "8000000")]);
    let mut socket = server.socket("/ws?cuts=true").await;
    let mut page = Page::default();
    for channel in ["a", "b", "total"] {
        subscribe(&mut socket, channel, None).await;
    }
    page.comes_to(&mut socket, 1).await;
    let before = page.cuts;
    db.run("select write_rows(2, 20000)").await;
    page.comes_to(&mut socket, 2).await;
    assert_eq!((page.cuts - before, page.tables["a"].len(), page.tables["b"].len()), (1, 20_000, 20_000));
    server.stop().await.unwrap();
}

/// Each lost connection resumes three channels at places of their own.
#[tokio::test]
async fn cuts_go_on_after_lost_connections() {
    let db = TestDatabase::new().await;
    db.run(SCHEMA).await;
    db.run("select write_rows(0, 20)").await;
    let server = TestServer::start(&db.url);
    let mut page = Page::default();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for round in 1..12 {
        let mut socket = server.socket("/ws?cuts=true").await;
        page.joined = 0;
        for channel in ["a", "b", "total"] {
            subscribe(&mut socket, channel, places.get(channel).map(String::as_str)).await;
        }
        db.run(&format!("select write_rows({round}, {})", round * 20)).await;
        // some are cut off before the end of what was missed
        let most = if round % 3 == 0 { 40 } else { usize::MAX };
        for _ in 0..most {
            let message = socket.message().await;
            let is_whole = page.hear(&message);
            let channel = message["entity_type"].as_str().or_else(|| message["channel"].as_str());
            if let (Some(channel), Some(cursor)) = (channel, message["cursor"].as_str()) {
                places.insert(channel.to_owned(), cursor.to_owned());
            }
            if is_whole {
                page.assert_whole();
                if page.total()["n"] == round {
                    break;
                }
            }
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn one_channel_is_told_the_end_of_each_transaction_with_its_cursor() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets'), rowcast.create_channel('news')")
        .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?cuts=true").await;
    assert_eq!(socket.message().await["type"], "subscribed");
    assert_eq!(socket.message().await["type"], "cut", "the rows of now are those of one moment");
    for rows in [1, 10] {
        db.run(&format!("truncate pets; insert into pets select generate_series(1, {rows})")).await;
        let (mut told, mut cursor) = (0, Value::Null);
        let cut = loop {
            let message = socket.message().await;
            if message["type"] == "cut" {
                break message;
            }
            told += 1;
            cursor = message["cursor"].clone();
        };
        assert_eq!((told, &cut["cursor"]), (rows + 1, &cursor), "{cut}");
        // it is a place like any other
        let again = server.socket(&format!("/ws/pets?since={}", cut["cursor"].as_str().unwrap())).await.message().await;
        assert_eq!(
            (&again["type"], &again["recovered"], &again["replayed"]),
            (&json!("subscribed"), &json!(true), &json!(0))
        );
    }
    // a client that asks later, and for a second channel
    let mut socket = server.subscribed("/ws/pets").await;
    socket.send(r#"{"type":"cuts"}"#).await;
    assert_eq!(socket.message().await["type"], "cut");
    subscribe(&mut socket, "news", None).await;
    while socket.message().await["type"] != "subscribed" {}
    assert_eq!(socket.message().await["type"], "cut");
    db.run("begin; insert into pets values (100); select rowcast.publish('news', 'said', '{}'); commit").await;
    let types =
        [socket.message().await, socket.message().await, socket.message().await].map(|message| message["type"].clone());
    assert_eq!(types, ["realtime_update", "realtime_update", "cut"]);
    socket.send(r#"{"type":"unsubscribe","channel":"news"}"#).await;
    assert_eq!(socket.message().await["type"], "unsubscribed");
    db.run("insert into pets values (101)").await;
    assert_eq!(socket.message().await["type"], "realtime_update");
    assert_eq!(socket.message().await["type"], "cut");
    server.stop().await.unwrap();
}

/// A policy that changes takes a client to another part of the channel. What the client has of the part before is of no moment
/// from then on: it is told so before it is told the end of a cut of which that part lacks something.
#[tokio::test]
async fn a_policy_that_changes_is_told_before_the_cut_that_it_concerns() {
    let db = TestDatabase::new().await;
    db.run(
        "create table a (id int primary key, n int); create table b (id int primary key, n int); create table c (id int primary key, n int);
         insert into a values (1, 0); insert into b values (1, 0); insert into c values (1, 0);
         select rowcast.watch('a'), rowcast.watch('b'), rowcast.watch('c');
         select rowcast.allow('a', 'anon'), rowcast.allow('b', 'anon'), rowcast.allow('c', 'anon');
         create function write_all(to_all int) returns void language sql as $$
           update a set n = to_all; update b set n = to_all; update c set n = to_all $$",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", "a secret that only the tests know")]);
    let mut socket = server.socket("/ws?cuts=true").await;
    // each view has a policy to wait for, one after the other
    let view = |i: usize| {
        let (channel, filter) = (["a", "b"][i % 2], format!("id=lt.{}", 9 + i));
        json!({"type": "subscribe", "channel": channel, "view": i.to_string(), "filter": filter})
    };
    for command in (0..30).map(view).chain([json!({"type": "subscribe", "channel": "c"})]) {
        socket.send(&command.to_string()).await;
        loop {
            let message = socket.message().await;
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == "subscribed" {
                break;
            }
        }
    }
    const LAST: i64 = 1_000_000;
    let (writer, ruler) = (db.another_client().await, db.another_client().await);
    let ruling = tokio::spawn(async move {
        for i in 1..=40 {
            let allow = format!("rowcast.allow('a', 'anon', 'id=gt.-{i}'), rowcast.allow('b', 'anon', 'id=gt.-{i}')");
            ruler.batch_execute(&format!("select {allow}")).await.unwrap();
        }
    });
    let writing = tokio::spawn(async move {
        let mut left = 300;
        for n in 1.. {
            left -= i32::from(ruling.is_finished());
            let to_all = if left == 0 { LAST } else { n };
            writer.batch_execute(&format!("select write_all({to_all}::int)")).await.unwrap();
            if left == 0 {
                return ruling.await.unwrap();
            }
        }
    });
    // what each view has shown since it was told to be whole; nothing behind a gap, until its row comes again
    let mut shown: BTreeMap<String, i64> = BTreeMap::new();
    let name = |message: &Value, channel: &str| format!("{} {}", message[channel], message["view"]);
    let c = "\"c\" null";
    let (mut gaps, mut compared) = (0, 0);
    let mut left: std::collections::BTreeSet<String> = Default::default();
    while shown.get(c) != Some(&LAST) {
        let message = socket.message().await;
        match message["type"].as_str().unwrap() {
            "gap" => {
                gaps += 1;
                shown.remove(&name(&message, "channel"));
                left.insert(name(&message, "channel"));
            }
            "subscribed" => _ = left.remove(&name(&message, "channel")),
            "realtime_update" if !left.contains(&name(&message, "entity_type")) => {
                shown.insert(name(&message, "entity_type"), message["data"]["n"].as_i64().unwrap());
            }
            "cut" if message.get("channel").is_none() => {
                let mut numbers: Vec<i64> = shown.values().copied().collect();
                numbers.dedup();
                assert!(numbers.len() <= 1, "at a cut after {gaps} gaps: {shown:?}");
                compared += usize::from(shown.len() == 31);
            }
            _ => {}
        }
    }
    writing.await.unwrap();
    assert!(gaps > 0 && compared > 0, "{gaps} gaps, {compared} cuts of all views");
    server.stop().await.unwrap();
}
