//! Views that are told less: the newest change of each row at most so often, or the columns that differ alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use futures_util::StreamExt as _;

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SECRET: &str = "a secret that only the tests know";
const QUOTES: &str = "create table quotes (id int primary key, price int, note text); select rowcast.watch('quotes');
    insert into quotes select i, 0, 'n' from generate_series(1, 20) i";

/// Long enough that nothing is told by the clock while a test runs.
const NEVER: &str = "latest=true&every=60000";

async fn quotes(settings: &[(&str, &str)]) -> (TestDatabase, TestServer) {
    let db = TestDatabase::new().await;
    db.run(QUOTES).await;
    let server = TestServer::start_with(&db.url, settings);
    (db, server)
}

/// A socket that was told one change, so that the next ones wait; and that change.
async fn waiting(db: &TestDatabase, server: &TestServer, query: &str) -> (Socket, Value) {
    let mut socket = server.subscribed(&format!("/ws/quotes?{query}")).await;
    db.run("update quotes set price = price + 1 where id = 1").await;
    let first = socket.any_message().await;
    assert_eq!((&first["data"]["id"], &first["last"]), (&json!(1), &json!(true)), "{first}");
    (socket, first)
}

/// All that a socket is told until it is synced to where the database is.
async fn synced(db: &TestDatabase, socket: &mut Socket) -> Vec<Value> {
    let cursor = db.text("select rowcast.cursor()").await;
    socket.send(&json!({"type": "sync", "cursor": cursor, "ref": "here"}).to_string()).await;
    let mut told = Vec::new();
    loop {
        let message = socket.any_message().await;
        if message["type"] == "synced" {
            return told;
        }
        told.push(message);
    }
}

fn rows(messages: &[Value]) -> Vec<(&str, i64, i64)> {
    let row = |message: &'_ Value| {
        let data = &message["data"];
        (data["id"].as_i64().unwrap(), data["price"].as_i64().unwrap_or(-1))
    };
    messages.iter().map(|message| (message["action"].as_str().unwrap(), row(message).0, row(message).1)).collect()
}

#[tokio::test]
async fn the_newest_change_of_each_row_is_told_at_most_so_often() {
    let (db, server) = quotes(&[]).await;
    let mut socket = server.subscribed("/ws/quotes?latest=true&every=700").await;
    db.run("update quotes set price = 1 where id = 1").await;
    let first = socket.any_message().await;
    let told = Instant::now();
    assert_eq!((&first["data"]["price"], &first["last"]), (&json!(1), &json!(true)), "the first one at once");
    for price in 2..40 {
        db.run(&format!("update quotes set price = {price} where id = 1")).await;
    }
    db.run("update quotes set price = 7 where id = 2; delete from quotes where id = 3").await;
    let mut next = Vec::new();
    while next.last().is_none_or(|message: &Value| message["last"] != true) {
        next.push(socket.any_message().await);
    }
    assert!(told.elapsed() > Duration::from_millis(500), "{:?}", told.elapsed());
    // a slow machine takes longer than that for 40 statements: then there are some tellings more
    let mut newest = BTreeMap::new();
    loop {
        for message in next.drain(..) {
            let is_named = message["changed"].as_array().is_some_and(|changed| !changed.is_empty());
            assert!(!is_named && message["old"].is_null(), "{message}");
            newest.insert(message["data"]["id"].as_i64().unwrap(), message);
        }
        if newest.contains_key(&3) {
            break;
        }
        next.push(socket.any_message().await);
    }
    let newest: Vec<Value> = newest.into_values().collect();
    assert_eq!(rows(&newest), [("updated", 1, 39), ("updated", 2, 7), ("deleted", 3, 0)]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_on_from_any_message_misses_nothing() {
    let (db, server) = quotes(&[("heartbeat-seconds", "1")]).await;
    let (mut socket, first) = waiting(&db, &server, NEVER).await;
    db.run("update quotes set price = 5 where id in (1, 2, 3)").await;
    let heartbeat = socket.heartbeat().await;
    db.run("update quotes set price = 6 where id = 3").await;
    let told = synced(&db, &mut socket).await;
    assert_eq!(rows(&told), [("updated", 1, 5), ("updated", 2, 5), ("updated", 3, 6)]);
    assert_eq!(told.iter().map(|message| message["last"] == true).collect::<Vec<_>>(), [false, false, true]);
    // before the newest change was told, and amid its telling, a client has the others to come
    for (name, message) in
        [("first", &first), ("heartbeat", &heartbeat), ("first of three", &told[0]), ("second", &told[1])]
    {
        let mut back =
            server.socket(&format!("/ws/quotes?{NEVER}&since={}", message["cursor"].as_str().unwrap())).await;
        let mut newest = BTreeMap::new();
        loop {
            let message = back.any_message().await;
            if message["type"] == "subscribed" {
                assert_eq!(message["recovered"], true, "{name}");
                break;
            }
            newest.insert(message["data"]["id"].as_i64().unwrap(), message["data"]["price"].as_i64().unwrap());
        }
        assert_eq!(newest, [(1, 5), (2, 5), (3, 6)].into(), "{name}");
    }
    let last = told[2]["cursor"].as_str().unwrap();
    let mut back = server.socket(&format!("/ws/quotes?{NEVER}&since={last}")).await;
    let first = back.any_message().await;
    assert_eq!((&first["type"], &first["replayed"]), (&json!("subscribed"), &json!(0)), "{first}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_view_is_told_what_became_of_its_rows_and_not_what_was_in_between() {
    let (db, server) = quotes(&[]).await;
    db.run("update quotes set price = 100 where id = 5").await;
    let (mut socket, _) = waiting(&db, &server, &format!("{NEVER}&filter=price=lt.50")).await;
    for sql in [
        // away and back, and not as it was
        "update quotes set price = 90 where id = 2; update quotes set price = 9 where id = 2",
        // away
        "update quotes set price = 8 where id = 3; update quotes set price = 80 where id = 3",
        // never seen
        "insert into quotes values (30, 1, 'n'); delete from quotes where id = 30",
        // as it was
        "update quotes set price = 77 where id = 4; update quotes set price = 0 where id = 4",
        // it comes
        "update quotes set price = 5 where id = 5; insert into quotes values (31, 3, 'n')",
    ] {
        db.run(sql).await;
    }
    let told = synced(&db, &mut socket).await;
    let wanted = [("updated", 2, 9), ("left", 3, 0), ("entered", 5, 5), ("created", 31, 3)];
    assert_eq!(rows(&told), wanted, "{told:#?}");
    server.stop().await.unwrap();
}

/// What a client has that came with rows, or asked for a page of them, and was then told the rest.
fn applied(rows: &[Value], told: &[Value]) -> BTreeMap<i64, i64> {
    let row = |row: &Value| (row["id"].as_i64().unwrap(), row["price"].as_i64().unwrap());
    let mut has: BTreeMap<i64, i64> = rows.iter().map(row).collect();
    for message in told.iter().filter(|message| message["type"] == "realtime_update") {
        let (id, price) = row(&message["data"]);
        match message["action"].as_str().unwrap() {
            "deleted" | "left" => _ = has.remove(&id),
            _ => _ = has.insert(id, price),
        }
    }
    has
}

/// Rows that come, change, and cross the filter are shown to one that comes with a snapshot, or asks for a page; then all that is
/// undone, before anybody was told of it by its time.
async fn undone(by_page: bool) {
    let (db, server) = quotes(&[]).await;
    db.run("update quotes set price = 100 where id = 5").await;
    let view = format!("{NEVER}&filter=price=lt.50");
    let (mut first, _) = waiting(&db, &server, &view).await;
    let mut page = server.subscribed(&format!("/ws/quotes?{view}")).await;
    db.run(
        "insert into quotes values (30, 1, 'n'), (31, 1, 'n'); update quotes set price = 9 where id = 2;
         update quotes set price = 5 where id = 5; update quotes set price = 90 where id = 6",
    )
    .await;
    let (rows, mut second) = if by_page {
        page.send(r#"{"type":"rows","channel":"quotes","filter":"price=lt.50","limit":100}"#).await;
        let rows = loop {
            let message = page.any_message().await;
            if message["type"] == "rows" {
                break message["rows"].as_array().unwrap().clone();
            }
        };
        (rows, page)
    } else {
        server.subscribed_with_rows(&format!("/ws/quotes?snapshot=true&{view}")).await
    };
    db.run(
        "delete from quotes where id = 30; update quotes set price = 0 where id = 2;
         update quotes set price = 100 where id = 5; update quotes set price = 0 where id = 6",
    )
    .await;
    let unchanged = (2..=20).filter(|id| *id != 5).map(|id| (id, 0));
    let wanted: BTreeMap<i64, i64> = [(1, 1), (31, 1)].into_iter().chain(unchanged).collect();
    let told = synced(&db, &mut second).await;
    assert_eq!(applied(&rows, &told), wanted, "{told:#?}");
    // and one that was there before
    let before: Vec<Value> =
        (1..=20).filter(|id| *id != 5).map(|id| json!({"id": id, "price": i64::from(id == 1)})).collect();
    let told = synced(&db, &mut first).await;
    assert_eq!(applied(&before, &told), wanted, "{told:#?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_comes_with_rows_while_something_waits_is_told_what_undoes_it() {
    Box::pin(undone(false)).await;
}

#[tokio::test]
async fn a_client_that_asks_for_a_page_while_something_waits_is_told_what_undoes_it() {
    Box::pin(undone(true)).await;
}

#[tokio::test]
async fn what_concerns_all_rows_and_a_key_that_moves_keep_their_place() {
    let (db, server) = quotes(&[]).await;
    let (mut socket, _) = waiting(&db, &server, NEVER).await;
    db.run("update quotes set price = 4 where id = 2").await;
    db.run("truncate quotes").await;
    db.run(
        "insert into quotes values (2, 1, 'n'); update quotes set id = 40 where id = 2; update quotes set price = 9",
    )
    .await;
    let told = synced(&db, &mut socket).await;
    let actions: Vec<&str> = told.iter().map(|message| message["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["updated", "truncated", "created", "updated", "updated"], "{told:#?}");
    assert_eq!((&told[3]["old"], &told[3]["data"]["id"]), (&json!({"id": 2}), &json!(40)));
    assert_eq!(told[4]["data"], json!({"id": 40, "price": 9, "note": "n"}));
    server.stop().await.unwrap();
}

/// A socket of small buffers whose client reads when the test says so.
async fn slow(server: &TestServer, path: &str) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let tcp = socket.connect(server.address).await.unwrap();
    let request = format!("ws://localhost{path}").into_client_request().unwrap();
    client_async(request, tcp).await.unwrap().0
}

/// Of each row the newest that a slow client is told, and of how many messages: until a gap, or until it has the last one of the
/// round `until`.
async fn newest(
    socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
    until: i64,
) -> Result<(BTreeMap<i64, i64>, usize), String> {
    let (mut newest, mut messages) = (BTreeMap::new(), 0);
    loop {
        let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("something in time");
        let text = match next.unwrap().unwrap() {
            Message::Text(text) => text,
            Message::Ping(_) => continue,
            other => panic!("{other:?}"),
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "realtime_update" => {
                let data = &message["data"];
                messages += 1;
                let price = data["price"].as_i64().unwrap();
                let before = newest.insert(data["id"].as_i64().unwrap(), price);
                assert!(before.is_none_or(|before| before < price), "{message} behind {before:?}");
                if message["last"] == true && price == until {
                    return Ok((newest, messages));
                }
            }
            "gap" => return Err(message["reason"].as_str().unwrap().to_owned()),
            "subscribed" | "heartbeat" => {}
            _ => panic!("{message}"),
        }
    }
}

/// Rounds of changes of 20 rows of 2 kB, each told before the next: of the same rows, or of so many others in turn.
async fn rounds(db: &TestDatabase, server: &TestServer, others: i64, count: i64) {
    let mut quick = server.subscribed("/ws/quotes?latest=true&every=20").await;
    for round in 1..=count {
        let first = 1 + 20 * (round % others);
        let rows = format!("id between {first} and {}", first + 19);
        db.run(&format!("update quotes set price = {round}, note = repeat('x', 2000) where {rows}")).await;
        while {
            let message = quick.any_message().await;
            message["last"] != true || message["data"]["price"] != json!(round)
        } {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_never_cut_off_and_gets_the_newest_of_each_row() {
    let (db, server) = quotes(&[("log-bytes", "131072")]).await;
    let mut latest = slow(&server, "/ws/quotes?latest=true&every=20").await;
    let mut every = slow(&server, "/ws/quotes?filter=id=gt.0").await;
    // 20 rows of 2 kB, 300 times, are 12 MB: more than all buffers on the way
    rounds(&db, &server, 1, 300).await;
    let (rows, messages) = newest(&mut latest, 300).await.expect("20 rows of 2 kB are less than is kept");
    assert_eq!(rows, (1..=20).map(|row| (row, 300)).collect());
    assert!(messages < 20 * 300, "it was told every change, so it was not slow");
    // a client that wants each change is, perhaps in the middle of a frame
    let mut told = 0;
    while let Some(Ok(message)) = every.next().await {
        told += usize::from(message.is_text());
    }
    assert!(told < 20 * 300, "it was not slow");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_of_more_rows_than_are_kept_is_told_so_and_goes_on() {
    let (db, server) = quotes(&[("log-bytes", "65536")]).await;
    db.run("insert into quotes select i, 0, 'n' from generate_series(21, 200) i").await;
    let mut latest = slow(&server, "/ws/quotes?latest=true&every=20").await;
    rounds(&db, &server, 10, 300).await;
    assert_eq!(newest(&mut latest, 300).await, Err("slow".to_owned()), "200 rows of 2 kB are more than is kept");
    db.run("update quotes set price = 301, note = '' where id = 7").await;
    assert_eq!(newest(&mut latest, 301).await.unwrap().0, [(7, 301)].into());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn more_than_may_wait_is_told_before_its_time() {
    let (db, server) = quotes(&[("log-bytes", "65536")]).await;
    db.run("insert into quotes select i, 0, 'n' from generate_series(21, 2000) i").await;
    // the server has passed them on before anybody is there
    synced(&db, &mut server.socket("/ws").await).await;
    let (mut socket, first) = waiting(&db, &server, NEVER).await;
    db.run("update quotes set price = 3").await;
    let mut told = BTreeMap::new();
    while told.len() < 2000 {
        let message = socket.any_message().await;
        assert_ne!(message["type"], "gap", "{message}");
        assert_eq!(told.insert(message["data"]["id"].as_i64().unwrap(), 3), None, "{message}");
    }
    // the cursor that came before all of them is still good for all of them
    let since = first["cursor"].as_str().unwrap();
    let mut back = server.socket(&format!("/ws/quotes?since={since}")).await;
    let mut missed = 0;
    while back.any_message().await["type"] != "subscribed" {
        missed += 1;
    }
    assert_eq!(missed, 2000);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_cut_follows_what_is_told_and_carries_no_cursor_from_before_the_rest() {
    let (db, server) = quotes(&[]).await;
    let mut socket = server.socket(&format!("/ws/quotes?{NEVER}&cuts=true")).await;
    let until_cut = async |socket: &mut Socket| {
        let mut told = Vec::new();
        loop {
            let message = socket.any_message().await;
            told.push(message);
            if told.last().unwrap()["type"] == "cut" {
                return told;
            }
        }
    };
    assert_eq!(until_cut(&mut socket).await[0]["type"], "subscribed");
    db.run("update quotes set price = 1 where id in (1, 2)").await;
    let told = until_cut(&mut socket).await;
    assert_eq!(rows(&told[..2]), [("updated", 1, 1), ("updated", 2, 1)]);
    assert!(told[2]["cursor"].is_null(), "{}", told[2]);
    // a view of each change beside it
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    socket.send(r#"{"type":"subscribe","channel":"pets"}"#).await;
    until_cut(&mut socket).await;
    db.run("update quotes set price = 2 where id = 1").await;
    db.run("insert into pets values (1)").await;
    let told = until_cut(&mut socket).await;
    assert_eq!((told.len(), &told[0]["entity_type"]), (2, &json!("pets")), "{told:?}");
    assert!(told[1]["cursor"].is_null(), "what the other view is owed comes from before: {}", told[1]);
    server.stop().await.unwrap();
}

fn token(role: &str, user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"exp": now + 600, "role": role, "sub": user});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[tokio::test]
async fn what_is_owed_is_told_to_nobody_who_may_not_see_it_any_more() {
    let (db, server) = quotes(&[("jwt-secret", SECRET)]).await;
    db.run("select rowcast.allow('quotes', 'trader', 'price=lt.50')").await;
    let query = format!("{NEVER}&token={}", token("trader", "1"));
    let (mut socket, _) = waiting(&db, &server, &query).await;
    db.run("update quotes set price = 30 where id = 2").await;
    db.run("select rowcast.allow('quotes', 'trader', 'price=lt.20')").await;
    db.run("update quotes set price = 10 where id = 3").await;
    assert_eq!(socket.gap().await, "policy");
    // what it is told from then on is of the other rows
    db.run("update quotes set price = 11 where id = 4").await;
    let mut told = synced(&db, &mut socket).await;
    told.retain(|message| message["type"] == "realtime_update");
    let ids: Vec<i64> = rows(&told).iter().map(|(_, id, _)| *id).collect();
    assert!(ids.contains(&4) && !ids.contains(&2), "{told:?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_column_that_is_hidden_while_something_waits_is_not_told_later() {
    let (db, server) = quotes(&[]).await;
    let (mut socket, _) = waiting(&db, &server, NEVER).await;
    db.run("update quotes set note = 'secret' where id = 2").await;
    db.run("select rowcast.watch('quotes', exclude => '{note}')").await;
    assert_eq!(socket.gap().await, "policy");
    db.run("update quotes set price = 11 where id = 4").await;
    let told = synced(&db, &mut socket).await;
    assert_eq!(rows(&told), [("updated", 4, 11)], "{told:?}");
    assert!(told.iter().all(|message| message["data"]["note"].is_null()), "{told:?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_holder_is_told_what_was_owed_before_a_membership_changes_and_nothing_of_it_after() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, clinic int, name text);
         create table staff (user_id int, clinic int, primary key (user_id, clinic));
         insert into pets values (1, 1, 'a'), (2, 2, 'b'), (3, 1, 'c'); insert into staff values (7, 1);
         select rowcast.watch('pets');
         select rowcast.claim('clinics', 'select clinic from public.staff where user_id = {sub}::int');
         select rowcast.allow('pets', 'vet', 'clinic=in.{clinics}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let (rows, mut socket) =
        server.subscribed_with_rows(&format!("/ws/pets?snapshot=true&{NEVER}&token={}", token("vet", "7"))).await;
    assert_eq!(rows.len(), 2);
    let mut pets: BTreeMap<i64, String> =
        rows.iter().map(|row| (row["pet_id"].as_i64().unwrap(), row["name"].as_str().unwrap().to_owned())).collect();
    db.run("update pets set name = 'first' where pet_id = 1").await;
    // it waits, and is told at once when a membership changes
    db.run("update pets set name = 'waits' where pet_id = 3").await;
    db.run("insert into staff values (7, 2)").await;
    let mut seen = Vec::new();
    while !pets.contains_key(&2) {
        let message = socket.any_message().await;
        if message["type"] == "realtime_update" {
            let (data, action) = (&message["data"], message["action"].as_str().unwrap());
            seen.push((action.to_owned(), data["pet_id"].as_i64().unwrap()));
            pets.insert(data["pet_id"].as_i64().unwrap(), data["name"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(message["type"], "cut", "{message}");
        }
    }
    let wanted: BTreeMap<i64, String> = [(1, "first".into()), (2, "b".into()), (3, "waits".into())].into();
    assert_eq!(pets, wanted, "{seen:?}");
    // what is written after a membership is gone is told to nobody, however long it waits
    db.run("update pets set name = 'seen' where pet_id = 2").await;
    db.run("delete from staff where clinic = 2; update pets set name = 'secret' where pet_id = 2").await;
    loop {
        let message = socket.any_message().await;
        assert_ne!(message["data"]["name"], "secret", "{message}");
        if message["action"] == "left" && message["data"]["pet_id"] == 2 {
            break;
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_update_tells_the_key_and_the_columns_that_differ() {
    let (db, server) = quotes(&[]).await;
    let mut socket = server.subscribed("/ws/quotes?changed=true&filter=price=lt.50").await;
    db.run("update quotes set price = 1 where id = 1").await;
    db.run("insert into quotes values (50, 1, 'new')").await;
    db.run("update quotes set price = 90 where id = 2").await;
    db.run("update quotes set price = 4 where id = 2").await;
    db.run("update quotes set id = 60, note = 'moved' where id = 3; delete from quotes where id = 4").await;
    let mut told = Vec::new();
    for _ in 0..6 {
        let message = socket.any_message().await;
        told.push((message["action"].as_str().unwrap().to_owned(), message["data"].clone(), message["old"].clone()));
    }
    let wanted = [
        ("updated", json!({"id": 1, "price": 1}), Value::Null),
        ("created", json!({"id": 50, "price": 1, "note": "new"}), Value::Null),
        ("left", json!({"id": 2}), Value::Null),
        ("entered", json!({"id": 2, "price": 4, "note": "n"}), Value::Null),
        ("updated", json!({"id": 60, "price": 0, "note": "moved"}), json!({"id": 3})),
        ("deleted", json!({"id": 4}), Value::Null),
    ];
    for ((action, data, old), wanted) in told.iter().zip(wanted) {
        assert_eq!((action.as_str(), data.clone(), old.clone()), wanted);
    }
    // of the columns that were asked for
    let mut some = server.subscribed("/ws/quotes?changed=true&columns=id,note").await;
    db.run("update quotes set price = 8 where id = 5; update quotes set price = 9, note = 'x' where id = 6").await;
    assert_eq!(some.any_message().await["data"], json!({"id": 6, "note": "x"}));
    // a publication is no change of a row, whatever its action is called
    db.run(r#"select rowcast.publish('quotes', 'updated', '{"id": 1, "note": "said"}')"#).await;
    assert_eq!(some.any_message().await["data"], json!({"id": 1, "note": "said"}));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_told_so_is_refused_with_the_reason() {
    let (db, server) = quotes(&[]).await;
    db.run("create table logs (line text); select rowcast.watch('logs')").await;
    // it knows the channels, and their columns
    server.subscribed("/ws/logs").await;
    for (path, reason) in [
        ("logs?latest=true", "primary key"),
        ("logs?changed=true", "primary key"),
        ("quotes?changed=true&columns=price", "primary key"),
        ("quotes?latest=true&changed=true", "neither old nor changed"),
        ("quotes?every=500", "latest=true"),
        ("quotes?latest=true&every=fast", "milliseconds"),
        ("quotes?latest=true&every=5", "20 to 60000"),
        ("user/7?latest=true", "no latest"),
    ] {
        let answer = tokio::time::timeout(PATIENCE, server.get(&format!("/sse/{path}"))).await;
        let (status, text) = answer.unwrap_or_else(|_| panic!("{path} is not refused"));
        assert!(status == 400 && text.contains(reason), "{path}: {status} {text}");
    }
    let mut socket = server.socket("/ws").await;
    for (wish, reason) in [
        (json!({"channel": "quotes", "latest": true, "old": true}), "neither old nor changed"),
        (json!({"channel": "quotes", "every": 500}), "latest=true"),
        (json!({"channel": "user/7", "latest": true}), "have no"),
    ] {
        let mut command = json!({"type": "subscribe"});
        command.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        socket.send(&command.to_string()).await;
        let answer = socket.any_message().await;
        assert!(answer["message"].as_str().unwrap().contains(reason), "{answer}");
    }
    server.stop().await.unwrap();
}

/// Before the first change of the new form comes, the view is told what it is owed; that change is shown by the names of now.
#[tokio::test]
async fn a_column_that_took_a_granted_name_is_not_told_by_what_was_owed_before() {
    let (db, server) = quotes(&[("jwt-secret", SECRET)]).await;
    db.run("select rowcast.allow('quotes', 'trader', null, '{id,price}')").await;
    let (mut socket, _) = waiting(&db, &server, &format!("{NEVER}&token={}", token("trader", "1"))).await;
    let mut plain = server.subscribed(&format!("/ws/quotes?token={}", token("trader", "2"))).await;
    db.run("update quotes set price = 30 where id = 2").await;
    assert_eq!(plain.message().await["data"]["price"], 30, "it was read by the names of before");
    db.run(
        "alter table quotes rename price to old; alter table quotes rename note to price;
         insert into quotes values (99, 5, 'SECRET')",
    )
    .await;
    let told = format!("{:?}", synced(&db, &mut socket).await);
    assert!(told.contains("30") && !told.contains("SECRET"), "{told}");
    server.stop().await.unwrap();
}
