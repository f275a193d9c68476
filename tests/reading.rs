//! Reading: no cut is too large, and no row stops the stream.

use serde_json::Value;

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

/// The messages up to the change of a row, and that one.
async fn until(socket: &mut Socket, column: &str, value: i64) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        messages.push(socket.message().await);
        if messages[messages.len() - 1]["data"][column] == value {
            return messages;
        }
    }
}

fn gaps(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter(|message| message["type"] == "gap").filter_map(|gap| gap["reason"].as_str()).collect()
}

async fn resumed(server: &TestServer, path: &str) -> Vec<Value> {
    let mut socket = server.socket(path).await;
    let mut messages = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "subscribed" {
            return messages;
        }
        messages.push(message);
    }
}

/// A place of now.
async fn place(server: &TestServer, channel: &str) -> String {
    let mut socket = server.socket(&format!("/ws/{channel}")).await;
    socket.message().await["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_large_transaction_is_read_where_the_database_may_write_no_file() {
    let db = TestDatabase::new().await;
    let dbname = db.text("current_database()").await;
    db.run(&format!("alter database {dbname} set temp_file_limit = 0; alter database {dbname} set work_mem = '64kB'"))
        .await;
    db.run(
        "create table big (id int primary key, t text); create table pets (id int primary key, name text);
         select rowcast.watch('big'), rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864"), ("history-bytes", "65536")]);
    let (mut big, mut pets) = (server.subscribed("/ws/big").await, server.subscribed("/ws/pets").await);
    let left = place(&server, "big").await;
    let writer = db.another_client().await;
    let large = "insert into big select g, repeat('x', 200) from generate_series(1, 30000) g";
    writer.batch_execute(&format!("set temp_file_limit = -1; {large}")).await.unwrap();
    db.run("insert into pets values (1, 'after')").await;
    for id in 1..=30_000 {
        assert_eq!(big.message().await["data"]["id"], id);
    }
    assert_eq!(pets.message().await["data"]["name"], "after");
    assert_eq!(resumed(&server, &format!("/ws/big?since={left}")).await.len(), 30_000);
    server.stop().await.unwrap();
    let again = TestServer::start(&db.url);
    again.subscribed("/ws/pets").await;
    again.stop().await.unwrap();
}

/// A statement of so many rows, of which the first ones have triggers that change the last ones.
fn inverted(rows: usize) -> String {
    format!(
        "create table t (k int primary key, v int); insert into t select i, 0 from generate_series(1, {rows}) i;
         create function app() returns trigger language plpgsql as $$ begin
           if new.k <= 20 then update t set v = v + 100 where k = {rows} + 1 - new.k; end if; return null; end $$;
         create trigger app after update on t for each row execute function app();
         select rowcast.watch('t')"
    )
}

#[tokio::test]
async fn a_place_inside_a_large_cut_is_kept_to_the_change_whatever_its_order() {
    let db = TestDatabase::new().await;
    db.run(&inverted(5000)).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864"), ("history-bytes", "65536")]);
    let mut socket = server.subscribed("/ws/t").await;
    db.run("update t set v = v + 1").await;
    let mut live = Vec::new();
    for _ in 0..5020 {
        live.push(socket.message().await);
    }
    assert_eq!(live.iter().rfind(|message| message["data"]["k"] == 5000).unwrap()["data"]["v"], 101);
    for from in [0, 1, 999, 1000, 1001, 2500, 4990, 5018] {
        let since = live[from]["cursor"].as_str().unwrap();
        let rest = resumed(&server, &format!("/ws/t?since={since}")).await;
        let told = |messages: &[Value]| -> Vec<String> {
            messages.iter().map(|message| format!("{} {}", message["id"], message["data"])).collect()
        };
        assert!(told(&rest) == told(&live[from + 1..]), "after {from}: {} of {}", rest.len(), 5019 - from);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_loses_its_connection_inside_a_large_cut_goes_on_in_the_same_order() {
    let db = TestDatabase::new().await;
    db.run(&inverted(20_000)).await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864")]);
    let mut socket = server.subscribed("/ws/t").await;
    db.run("update t set v = v + 1").await;
    let killer = db.another_client().await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowcast read'";
    let (mut ids, mut last) = (Vec::new(), Value::Null);
    while ids.len() < 20_020 {
        let message = socket.message().await;
        if message["type"] != "realtime_update" {
            continue;
        }
        if ids.len() % 4000 == 10 {
            killer.execute(kill, &[]).await.unwrap();
        }
        ids.push(message["id"].as_i64().unwrap());
        if message["data"]["k"] == 20_000 {
            last = message["data"]["v"].clone();
        }
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    assert_eq!(last, 101);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_gap_of_its_channel_and_stops_nobody() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key); create table rooms (id int primary key);
         select rowcast.watch('pets'), rowcast.watch('rooms')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut rooms) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/rooms").await);
    let mut some = server.subscribed("/ws/pets?filter=id=gt.1").await;
    let (left_pets, left_rooms) = (place(&server, "pets").await, place(&server, "rooms").await);
    // none of these is what capture writes
    db.run(
        r#"begin; insert into rooms values (1); insert into pets values (1);
           insert into rowcast.outbox_0 (channel, op, new, users)
             select c.id, op::"char", new::json, users::text[] from rowcast.channel c,
               (values ('x', '{}', null), ('é', null, null), ('U', '[1]', null), ('I', null, null),
                       ('I', '{"id":5}', '{{a},{b}}'), ('D', '{}', null), ('P', '{"data":1}', '{null}')) bad (op, new, users)
              where c.name = 'pets';
           insert into rowcast.outbox_0 (channel, op, users) values (0, 'R', '{null,7}'), (99, 'I', null), (-5, 'x', null);
           insert into pets values (2); insert into rooms values (2); commit"#,
    )
    .await;
    let told = until(&mut pets, "id", 2).await;
    assert_eq!((gaps(&told), told.len()), (vec!["unreadable"], 3), "once: {told:?}");
    assert_eq!(gaps(&until(&mut some, "id", 2).await), ["unreadable"]);
    assert_eq!(gaps(&until(&mut rooms, "id", 2).await), [""; 0]);
    let metrics = server.get("/metrics").await.1;
    assert!(metrics.contains("rowcast_gaps_total{reason=\"unreadable\"} 1"), "{metrics}");
    // a client that was away is told as well: from memory, and from the outbox
    assert_eq!(gaps(&resumed(&server, &format!("/ws/pets?since={left_pets}")).await), ["unreadable"]);
    server.stop().await.unwrap();
    let server = TestServer::start_with(&db.url, &[("history-bytes", "65536")]);
    let mut rooms = server.subscribed("/ws/rooms").await;
    db.run("insert into rooms values (3); select rowcast.publish('rooms', 'much', jsonb_build_object('x', repeat('x', 70000)))").await;
    until(&mut rooms, "id", 3).await;
    rooms.message().await;
    assert_eq!(gaps(&resumed(&server, &format!("/ws/pets?since={left_pets}")).await), ["unreadable"]);
    assert_eq!(resumed(&server, &format!("/ws/rooms?since={left_rooms}")).await.len(), 4);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn large_rows_are_told_and_one_that_is_too_large_is_a_gap() {
    let db = TestDatabase::new().await;
    db.run(
        "create table t (id int primary key, x text); create table other (id int primary key);
         select rowcast.watch('t'), rowcast.watch('other'), rowcast.configure('row_bytes', '128 MB')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "67108864")]);
    let (mut t, mut other) = (server.subscribed("/ws/t").await, server.subscribed("/ws/other").await);
    // 256 kB that no compression makes less
    let random = "(select string_agg(md5((i * random())::text), '') from generate_series(1, 8000) i)";
    db.run(&format!(
        "begin; insert into t values (1, {random}); update t set x = x || 'end'; insert into other values (1); commit"
    ))
    .await;
    for length in [256_000, 256_003] {
        assert_eq!(t.message().await["data"]["x"].as_str().map(str::len), Some(length));
    }
    // 36 MB of JSON, and 6 MB
    db.run(
        "begin; insert into t values (2, repeat(chr(1), 6 * 1024 * 1024)); insert into other values (2);
         insert into t values (3, repeat(chr(1), 1024 * 1024)); commit",
    )
    .await;
    for id in [1, 2] {
        assert_eq!(other.message().await["data"]["id"], id);
    }
    assert_eq!(t.message().await["reason"], "unreadable");
    assert_eq!(t.message().await["data"]["id"], 3);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_byte_that_is_no_text_is_replaced() {
    let db = TestDatabase::in_encoding("SQL_ASCII").await;
    db.run(
        "create table people (id int primary key, name text); create table other (id int primary key);
         select rowcast.watch('people'), rowcast.watch('other'), rowcast.configure('notify', 'empty')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let (mut people, mut other) = (server.subscribed("/ws/people").await, server.subscribed("/ws/other").await);
    db.run(
        r"set client_encoding = SQL_ASCII; begin; insert into people values (1, E'Andr\xe9');
          update people set name = name || '!'; insert into other values (1); commit",
    )
    .await;
    assert_eq!(people.message().await["data"]["name"], "Andr\u{fffd}");
    assert_eq!(people.message().await["data"]["name"], "Andr\u{fffd}!");
    assert_eq!(other.message().await["data"]["id"], 1);
    server.stop().await.unwrap();
    let again = TestServer::start(&db.url);
    again.subscribed("/ws/other").await;
    again.stop().await.unwrap();
}
