//! Pages: some of a table's rows, in an order, at the wire and over HTTP; they agree with what the database says, and with the stream.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::GzDecoder;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const SECRET: &str = "a secret that only the tests know";

fn token(role: &str, sub: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"exp": now + 600, "iat": now, "role": role, "sub": sub});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A page: its rows, and its last message.
async fn page(socket: &mut Socket, command: &Value) -> (Vec<Value>, Value) {
    socket.send(&command.to_string()).await;
    let mut rows = Vec::new();
    loop {
        let message = socket.message().await;
        assert_eq!((&message["type"], &message["ref"]), (&json!("rows"), &command["ref"]), "{message}");
        rows.extend(message["rows"].as_array().unwrap().iter().cloned());
        if message["last"] == true {
            return (rows, message);
        }
    }
}

/// All rows of an order, page after page, forwards and backwards.
async fn both_ways(socket: &mut Socket, channel: &str, order: &str, limit: usize) -> [Vec<Value>; 2] {
    let mut both = [vec![], vec![]];
    for (way, place) in ["after", "before"].into_iter().enumerate() {
        // the last page is the first one of the order the other way round
        let mut at: Option<Value> = None;
        if way == 1 {
            let last = both[0].last().cloned().unwrap();
            both[1].push(last);
            at = both[1].last().cloned();
        }
        loop {
            let mut command = json!({"type": "rows", "channel": channel, "order": order, "limit": limit, "ref": order});
            if let Some(at) = &at {
                command[place] = at.clone();
            }
            let (rows, last) = page(socket, &command).await;
            let more = last["more"] == true;
            assert!(rows.len() == limit || !more, "{order}: a page is full where there are more rows");
            if way == 0 {
                both[0].extend(rows);
                at = both[0].last().cloned();
            } else {
                both[1].splice(0..0, rows);
                at = both[1].first().cloned();
            }
            if !more {
                break;
            }
        }
    }
    both
}

#[tokio::test]
async fn pages_in_both_directions_are_the_rows_in_the_order_of_the_database() {
    let db = TestDatabase::new().await;
    db.run(
        "create table things (id int, part int, name text, price numeric, ratio float8, small int2, big int8, token uuid,
                              open boolean, at timestamptz, noted timestamp, day date, hour time, primary key (part, id));
         insert into things
           select n, n % 3,
                  case when n % 7 > 0 then (array['b','B','a','Z','ä','zz','','🦀','a b','ﬃ','É',U&'b\\FFFD'])[1 + n % 12] end,
                  case when n % 5 > 0 then (array['1.50','1.5','-3','NaN','Infinity','0','99999999999999.25','-Infinity'])[1 + n % 8]::numeric end,
                  (array['0.1','NaN','-Infinity','1e300','-0','0']::float8[])[1 + n % 6],
                  n % 4, case when n % 3 > 0 then n * 1000 - 20000 end, md5((n % 20)::text)::uuid, n % 2 = 0,
                  case when n % 6 > 0 then (array['infinity','-infinity','0044-03-15 12:00 BC','12345-06-07','2024-01-15 10:30:00.5',
                                                  '2024-01-15 10:30:00','1999-12-31 23:59:59.999999']::timestamptz[])[1 + n % 7] end,
                  timestamp '2024-01-01' + n % 9 * interval '1 hour', date '2024-01-01' + n % 10, time '10:00' + n % 4 * interval '1 minute'
             from generate_series(1, 60) n;
         select rowcast.watch('things')",
    )
    .await;
    // as many pages a second as a quick machine gives
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "10000")]);
    let mut socket = server.subscribed("/ws/things").await;
    for (order, sql) in [
        ("", "part, id"),
        ("id.desc", "id desc, part desc"),
        ("name", "name collate \"C\", part, id"),
        ("name.desc.nullslast,price.asc.nullsfirst", "name collate \"C\" desc nulls last, price nulls first, part, id"),
        ("price.desc", "price desc, part desc, id desc"),
        ("ratio,at.desc", "ratio, at desc, part desc, id desc"),
        ("small.desc,big.nullsfirst", "small desc, big nulls first, part, id"),
        ("token,open.desc", "token, open desc, part desc, id desc"),
        ("at.nullsfirst,id.desc", "at nulls first, id desc, part desc"),
        ("noted.desc,day,hour.desc", "noted desc, day, hour desc, part desc, id desc"),
    ] {
        let expected =
            db.text(&format!("select json_agg(json_build_array(part, id) order by {sql}) from things")).await;
        let expected: Value = serde_json::from_str(&expected).unwrap();
        for limit in [7, 60] {
            for rows in both_ways(&mut socket, "things", order, limit).await {
                let keys: Vec<Value> = rows.iter().map(|row| json!([row["part"], row["id"]])).collect();
                assert_eq!(Value::from(keys), expected, "order {order}, limit {limit}");
            }
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_large_table_is_ordered_by_an_index_and_the_refusal_names_it() {
    let db = TestDatabase::new().await;
    db.run(
        "create table orders (order_id int primary key, created_at timestamptz not null, state text, total numeric, secret text);
         insert into orders select n, timestamptz '2024-01-01' + n * interval '1 s', 'open', n from generate_series(1, 20000) n;
         analyze orders;
         select rowcast.watch('orders', exclude => '{secret}')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/orders").await;
    for order in ["created_at.desc", "state,created_at.desc", "total.desc.nullslast"] {
        let command = json!({"type": "rows", "channel": "orders", "order": order, "limit": 2, "ref": 1});
        socket.send(&command.to_string()).await;
        let refused = socket.message().await;
        assert_eq!(
            (&refused["type"], &refused["code"], &refused["ref"]),
            (&json!("error"), &json!("bad_order"), &json!(1)),
            "{refused}"
        );
        // the remedy works when it is pasted
        let (_, remedy) = refused["message"].as_str().unwrap().split_once(": create").unwrap();
        db.run(&format!("create{remedy}")).await;
        let (rows, last) = page(&mut socket, &command).await;
        assert_eq!(
            (rows[0]["order_id"].clone(), rows.len(), &last["more"]),
            (json!(20_000), 2, &json!(true)),
            "{order}"
        );
    }
    for (order, code, part) in [
        ("secret", "bad_order", "there is no column secret"),
        ("colour.desc", "bad_order", "there is no column colour"),
        ("order_id.down", "bad_order", "column.desc"),
    ] {
        socket.send(&json!({"type": "rows", "channel": "orders", "order": order}).to_string()).await;
        let refused = socket.message().await;
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(part), "{refused}");
    }
    db.run("select rowcast.configure('order', 'any')").await;
    let any = json!({"type": "rows", "channel": "orders", "order": "total.desc,state", "limit": 1});
    assert_eq!(page(&mut socket, &any).await.0[0]["order_id"], 20_000);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_subscription_begins_with_a_page_and_goes_on_from_it() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, owner int, name text);
         insert into pets select n, n % 2, 'pet ' || n from generate_series(1, 10) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws").await;
    let subscribe = json!({"type": "subscribe", "channel": "pets", "view": "odd", "filter": "owner=eq.1", "columns": ["pet_id", "name"],
                           "rows": {"order": "pet_id.desc", "limit": 2, "count": "exact"}, "ref": 1});
    socket.send(&subscribe.to_string()).await;
    let rows = socket.message().await;
    let cursor = rows["cursor"].as_str().unwrap().to_owned();
    let mut expected = json!({
        "type": "rows", "channel": "pets", "view": "odd", "last": true, "more": true,
        "rows": [{"pet_id": 9, "name": "pet 9"}, {"pet_id": 7, "name": "pet 7"}],
        "order": [{"column": "pet_id", "type": "integer", "desc": true, "nulls": "first"}],
        "count": 5, "exact": true});
    expected["cursor"] = json!(cursor);
    assert_eq!(rows, expected);
    let subscribed = socket.message().await;
    assert_eq!(
        (&subscribed["type"], &subscribed["recovered"], &subscribed["ref"]),
        (&json!("subscribed"), &json!(false), &json!(1))
    );
    db.run("insert into pets values (11, 1, 'Luna'), (12, 0, 'Rex')").await;
    let created = socket.message().await;
    assert_eq!((&created["data"], &created["view"]), (&json!({"pet_id": 11, "name": "Luna"}), &json!("odd")));
    // the next page of the view has its filter and its columns
    let next = json!({"type": "rows", "channel": "pets", "view": "odd", "order": "pet_id.desc", "limit": 2, "after": {"pet_id": 7}, "ref": "n"});
    let (rows, last) = page(&mut socket, &next).await;
    assert_eq!(
        (Value::from(rows), &last["view"]),
        (json!([{"pet_id": 5, "name": "pet 5"}, {"pet_id": 3, "name": "pet 3"}]), &json!("odd"))
    );
    // a client that comes back with the cursor of the page gets the changes and no rows
    let mut back = server.socket("/ws").await;
    let mut resume = subscribe.clone();
    resume["since"] = json!(cursor);
    back.send(&resume.to_string()).await;
    assert_eq!(back.message().await["data"]["pet_id"], 11);
    assert_eq!(back.message().await["recovered"], true);
    // and one whose cursor is none gets the page
    resume["since"] = json!("nonsense");
    resume["view"] = json!("other");
    back.send(&resume.to_string()).await;
    for kind in ["gap", "rows"] {
        assert_eq!(back.message().await["type"], kind);
    }
    // a page of a moment ago is as good: what came since follows
    while back.message().await["type"] != "subscribed" {}
    for (wrong, code) in [
        (json!({"snapshot": true, "rows": {}}), "bad_message"),
        (json!({"rows": {"limit": 0}}), "bad_order"),
        (json!({"rows": {"order": "colour"}}), "bad_order"),
        (json!({"rows": {"order": "owner"}, "columns": "pet_id"}), "bad_order"),
        (json!({"rows": {}, "columns": "name"}), "bad_order"),
        (json!({"rows": {"after": {"pet_id": "x"}}}), "bad_order"),
        (json!({"rows": {"after": {"name": "x"}}}), "bad_order"),
    ] {
        let mut command = json!({"type": "subscribe", "channel": "pets", "view": "w", "ref": 9});
        command.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        back.send(&command.to_string()).await;
        let refused = back.message().await;
        assert_eq!((&refused["code"], &refused["ref"]), (&json!(code), &json!(9)), "{command}: {refused}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_shows_what_the_policy_shows() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, owner text, name text, chip text);
         insert into pets select n, (n % 3)::text, 'pet ' || n, 'secret' from generate_series(1, 30) n;
         create table visits (visit_id int primary key, at date);
         insert into visits select n, '2024-02-29' from generate_series(1, 30) n;
         select rowcast.watch('pets', exclude => '{chip}'), rowcast.watch('visits');
         select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id,name}');
         select rowcast.allow('visits', 'owner', null, '{at}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let one = token("owner", "1");
    let mut socket = server.subscribed(&format!("/ws/pets?token={one}")).await;
    let (rows, last) = page(
        &mut socket,
        &json!({"type": "rows", "channel": "pets", "order": "pet_id.desc", "limit": 2, "count": "exact"}),
    )
    .await;
    assert_eq!(Value::from(rows), json!([{"pet_id": 28, "name": "pet 28"}, {"pet_id": 25, "name": "pet 25"}]));
    assert_eq!((&last["count"], &last["more"]), (&json!(10), &json!(true)));
    assert!(last["cursor"].as_str().unwrap().contains('~'), "the cursor says with which rights it was got");
    for (command, code) in [
        (json!({"channel": "pets", "order": "owner"}), "bad_order"),
        (json!({"channel": "pets", "order": "chip"}), "bad_order"),
        (json!({"channel": "pets", "filter": "owner=eq.2"}), "bad_filter"),
        (json!({"channel": "visits"}), "bad_order"),
        (json!({"channel": "cats"}), "forbidden"),
        (json!({"channel": "user/1"}), "bad_message"),
    ] {
        let mut command = command;
        command["type"] = json!("rows");
        socket.send(&command.to_string()).await;
        let refused = socket.message().await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{command}: {refused}");
    }
    // nor from which of its keys on: that would tell what they are
    let (_, cursor) = server.subscribed_at(&format!("/ws/visits?token={one}")).await;
    let place = URL_SAFE_NO_PAD.encode(r#"[["visit_id","15"]]"#);
    let path = format!("/ws/visits?snapshot=true&partial=true&since={cursor}~{place}&token={one}");
    let mut placed = server.socket(&path).await;
    assert_eq!(placed.gap().await, "bad_cursor");
    assert_eq!(placed.message().await["rows"].as_array().unwrap().len(), 30);
    // another user's page is another one, also within the second
    let two = token("owner", "2");
    let (head, body) =
        server.get_with("/rows/pets?order=pet_id.desc&limit=1", &format!("authorization: Bearer {two}\r\n")).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!([{"pet_id": 29, "name": "pet 29"}]), "{head}");
    assert!(head.contains("cache-control: private"), "{head}");
    assert_eq!(server.get("/rows/pets").await.0, 401);
    assert_eq!(server.get(&format!("/rows/pets?token={}", token("stranger", "1"))).await.0, 403);
    // what the policy takes away is not told a moment later
    db.run("select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id}')").await;
    let path = format!("/rows/pets?order=pet_id.desc&limit=1&token={two}");
    loop {
        let (_, body) = server.get(&path).await;
        let rows: Value = serde_json::from_str(&body).unwrap();
        if rows == json!([{"pet_id": 29}]) {
            break;
        }
    }
    server.stop().await.unwrap();
}

/// DDL that takes a moment: a client that asked asks again, and nothing ends.
#[tokio::test]
async fn a_page_of_a_table_that_is_locked_can_be_asked_for_again() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); insert into pets values (1); select rowcast.watch('pets')")
        .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    let holder = db.another_client().await;
    holder.batch_execute("begin; lock table pets in access exclusive mode").await.unwrap();
    let command = json!({"type": "rows", "channel": "pets"});
    socket.send(&command.to_string()).await;
    let refused = socket.message().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("unanswered")), "{refused}");
    holder.batch_execute("commit").await.unwrap();
    let (rows, _) = page(&mut socket, &command).await;
    assert_eq!(rows, [json!({"pet_id": 1})]);
    server.stop().await.unwrap();
}

/// The database cannot decide which rows this policy shows, so the server looks at others too.
#[tokio::test]
async fn a_partial_snapshot_names_no_key_of_a_row_that_its_holder_may_not_see() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text);
         insert into pets select n, case n when 1 then 'Mine' else 'x' end from generate_series(1, 110000) n;
         select rowcast.watch('pets'), rowcast.allow('pets', 'owner', 'name=ilike.mine')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let path = format!("/ws/pets?snapshot=true&partial=true&token={}", token("owner", "1"));
    let mut socket = server.socket(&path).await;
    let mut places = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "subscribed" {
            break;
        }
        if let Some(cursor) = message["cursor"].as_str().filter(|_| message["last"] != true) {
            places.push(URL_SAFE_NO_PAD.decode(cursor.rsplit('~').next().unwrap()).unwrap());
        }
    }
    assert_eq!(places, [br#"[["pet_id","1"]]"#]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_over_http_has_what_a_program_needs_to_go_on() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, \"größe\" int, name text);
         insert into pets select n, n, repeat('x', 200) from generate_series(1, 40) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let (head, body) = server
        .get_with("/rows/pets?limit=3&count=exact&columns=pet_id,gr%C3%B6%C3%9Fe&order=gr%C3%B6%C3%9Fe.desc", "")
        .await;
    let rows: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(rows, json!([{"pet_id": 40, "größe": 40}, {"pet_id": 39, "größe": 39}, {"pet_id": 38, "größe": 38}]));
    let header = |head: &str, name: &str| {
        let found = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{name} in {head}"))
    };
    assert_eq!((header(&head, "rowcast-more"), header(&head, "rowcast-count")), ("true".to_owned(), "40".to_owned()));
    assert_eq!(header(&head, "cache-control"), "public, max-age=1");
    let order: Value = serde_json::from_str(&header(&head, "rowcast-order")).unwrap();
    assert_eq!(order[0], json!({"column": "größe", "type": "integer", "desc": true, "nulls": "first"}));
    assert_eq!(order[1]["column"], "pet_id");
    // the next page, by the last row as it came
    let (_, body) = server.get("/rows/pets?limit=1&columns=pet_id,gr%C3%B6%C3%9Fe&order=gr%C3%B6%C3%9Fe.desc&after=%7B%22gr%C3%B6%C3%9Fe%22:38,%22pet_id%22:38%7D").await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()[0]["pet_id"], 37);
    // its cursor is where a subscription goes on
    let mut socket = server.socket(&format!("/ws/pets?since={}", header(&head, "rowcast-cursor"))).await;
    assert_eq!(socket.message().await["recovered"], true);
    // what did not change is not sent again
    let (first, _) = server.get_with("/rows/pets?limit=2", "").await;
    let (second, body) =
        server.get_with("/rows/pets?limit=2", &format!("if-none-match: {}\r\n", header(&first, "etag"))).await;
    assert!(second.starts_with("HTTP/1.1 304") && body.is_empty(), "{second}");
    for (query, status) in [
        ("limit=0", 400),
        ("order=colour", 400),
        ("after=7", 400),
        ("since=x", 400),
        ("filter=colour=eq.1", 400),
        ("count=some", 400),
    ] {
        assert_eq!(server.get(&format!("/rows/pets?{query}")).await.0, status, "{query}");
    }
    assert_eq!(
        (server.get("/rows/cats").await.0, server.get("/rows/user/1").await.0, server.get("/rows/").await.0),
        (404, 404, 404)
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn rows_that_are_too_large_and_tables_without_a_key_or_without_rows() {
    let db = TestDatabase::new().await;
    db.run(
        "create table files (file_id int primary key, at date, body text);
         insert into files values (1, '2024-01-01', 'short'), (2, '2024-01-02', repeat(md5('x'), 300000)), (3, '2024-01-03', 'short');
         create table bare (n int);
         insert into bare values (1);
         select rowcast.watch('files'), rowcast.watch('bare');
         select rowcast.create_channel('news')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/files").await;
    socket.send(r#"{"type":"rows","channel":"files","order":"at.desc","columns":["file_id","at"]}"#).await;
    let (first, large, last) = (socket.message().await, socket.message().await, socket.message().await);
    assert_eq!(first["rows"], json!([{"file_id": 3, "at": "2024-01-03"}]), "{first}");
    assert_eq!(
        (&large["rows"], &large["omitted"]),
        (&json!([{"file_id": 2, "at": "2024-01-02"}]), &json!("row_bytes"))
    );
    assert_eq!(
        (&last["rows"], &last["last"], &last["more"]),
        (&json!([{"file_id": 1, "at": "2024-01-01"}]), &json!(true), &json!(false))
    );
    socket.send(r#"{"type":"rows","channel":"bare","ref":2}"#).await;
    let refused = socket.message().await;
    assert_eq!(refused["code"], "bad_order");
    assert!(refused["message"].as_str().unwrap().contains("no primary key"), "{refused}");
    let (rows, last) = page(&mut socket, &json!({"type": "rows", "channel": "news"})).await;
    assert_eq!((rows.len(), &last["more"]), (0, &json!(false)), "a channel without a table has no rows");
    server.stop().await.unwrap();
}

/// Writers go on while a client pages: with the rule of the seam it has at each moment what the stream says.
#[tokio::test]
async fn a_client_that_keeps_what_changes_touch_ends_with_the_table() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, n int not null default 0);
         insert into pets select n from generate_series(1, 300) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    let writer = db.another_client().await;
    let writing = tokio::spawn(async move {
        for n in 1..=400 {
            let key = 1 + n * 7919 % 300;
            let sql = match n % 4 {
                0 => format!("delete from pets where pet_id = {key}"),
                1 => format!("insert into pets values ({key}, {n}) on conflict do nothing"),
                _ => format!("update pets set n = {n} where pet_id between {key} and {}", key + 5),
            };
            writer.batch_execute(&sql).await.unwrap();
        }
    });
    // None: gone
    let mut rows = BTreeMap::<i64, Option<i64>>::new();
    let mut after = None;
    let apply = |rows: &mut BTreeMap<i64, Option<i64>>, message: &Value| {
        let (key, n) = (message["data"]["pet_id"].as_i64().unwrap(), message["data"]["n"].as_i64());
        rows.insert(key, n.filter(|_| message["action"] != "deleted"));
        key
    };
    loop {
        let mut command = json!({"type": "rows", "channel": "pets", "limit": 10});
        if let Some(after) = after {
            command["after"] = json!({ "pet_id": after });
        }
        socket.send(&command.to_string()).await;
        let mut touched = std::collections::BTreeSet::new();
        let message = loop {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "realtime_update" => touched.insert(apply(&mut rows, &message)),
                "rows" => break message,
                _ => panic!("{message}"),
            };
        };
        for row in message["rows"].as_array().unwrap() {
            let key = row["pet_id"].as_i64().unwrap();
            if !touched.contains(&key) {
                let known = rows.insert(key, row["n"].as_i64());
                assert!(
                    known.is_none_or(|known| known == row["n"].as_i64()),
                    "{row}: a row that no change has touched is what it was"
                );
            }
            after = Some(key);
        }
        if message["more"] == false {
            break;
        }
    }
    writing.await.unwrap();
    db.run("insert into pets values (1000, 1000)").await;
    while apply(&mut rows, &socket.message().await) != 1000 {}
    let told: Vec<Value> = rows.iter().filter_map(|(key, n)| n.map(|n| json!([key, n]))).collect();
    let table = db.text("select json_agg(json_build_array(pet_id, n) order by pet_id) from pets").await;
    assert_eq!(Value::from(told), serde_json::from_str::<Value>(&table).unwrap());
    server.stop().await.unwrap();
}

/// Twelve thousand rows are two pages at least. Changes between them are told behind the rows.
#[tokio::test]
async fn all_rows_come_in_pages_and_a_client_that_was_broken_off_goes_on_behind_the_last() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (kind text, pet_id int, n int not null default 0, note text, primary key (kind, pet_id));
         insert into pets select (array['Ähre','b','B'])[1 + n % 3], n, 0, repeat('x', 40) from generate_series(1, 25000) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let key = |row: &Value| (row["kind"].as_str().unwrap().to_owned(), row["pet_id"].as_i64().unwrap());
    let mut rows = BTreeMap::new();
    let mut token = String::new();
    let mut breaks = 0;
    'all: loop {
        let mut socket = server.socket(&format!("/ws/pets?snapshot=true&partial=true&since={token}")).await;
        if token.is_empty() {
            assert_eq!(socket.message().await["type"], "gap", "an empty cursor is none");
        }
        loop {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "snapshot" => {
                    for row in message["rows"].as_array().unwrap() {
                        assert!(rows.insert(key(row), row["n"].clone()).is_none(), "{row} came twice");
                    }
                }
                "realtime_update" if message["action"] == "deleted" => drop(rows.remove(&key(&message["data"]))),
                "realtime_update" => drop(rows.insert(key(&message["data"]), message["data"]["n"].clone())),
                "subscribed" => {
                    assert_eq!(message["recovered"], true, "{message}");
                    break 'all;
                }
                _ => panic!("{message}"),
            }
            if let Some(cursor) = message["cursor"].as_str() {
                cursor.clone_into(&mut token);
                if message["last"] == false {
                    // the connection is lost, and the rows that were told change
                    breaks += 1;
                    db.run("update pets set n = n + 1 where pet_id % 100 = 1; delete from pets where pet_id = 7 or pet_id = 24998")
                        .await;
                    db.run(&format!("insert into pets values ('a', {breaks}, 1), ('c', {breaks}, 1)")).await;
                    continue 'all;
                }
            }
        }
    }
    assert!(breaks >= 2, "{breaks}");
    let told: Vec<Value> = rows.iter().map(|((kind, pet_id), n)| json!([kind, pet_id, n])).collect();
    let table = "select json_agg(json_build_array(kind, pet_id, n) order by kind collate \"C\", pet_id) from pets";
    assert_eq!(Value::from(told), serde_json::from_str::<Value>(&db.text(table).await).unwrap());
    // a client that does not say that it keeps its rows gets all of them, and so does one whose place is none of this table
    let part = token.replace('~', "").clone() + "~~W1siYSIsIjEiXV0";
    for (query, last) in [("", true), ("&partial=true", false)] {
        let mut socket = server.socket(&format!("/ws/pets?snapshot=true{query}&since={part}")).await;
        assert_eq!(socket.gap().await, "bad_cursor", "{query}");
        let first = socket.message().await;
        assert_eq!((&first["type"], &first["last"]), (&json!("snapshot"), &json!(false)));
        loop {
            let message = socket.message().await;
            if message["type"] == "subscribed" {
                assert_eq!(message["recovered"], false, "{query}: what it had is forgotten");
                break;
            }
            let is_in_pages = message["last"] == false && message["cursor"].is_string();
            assert!(!(last && is_in_pages), "only a client that says so gets pages");
        }
    }
    server.stop().await.unwrap();
}

/// What a client has, by key: rows that came, changes that followed them.
#[derive(Default)]
struct Shown(BTreeMap<i64, Value>);

impl Shown {
    fn row(&mut self, row: &Value) {
        self.0.insert(row["pet_id"].as_i64().unwrap(), row.clone());
    }

    fn change(&mut self, message: &Value) -> i64 {
        let key = message["data"]["pet_id"].as_i64().unwrap();
        match message["action"].as_str().unwrap() {
            "deleted" => drop(self.0.remove(&key)),
            "created" => assert!(self.0.insert(key, message["data"].clone()).is_none(), "{message} came twice"),
            _ => assert!(self.0.insert(key, message["data"].clone()).is_some(), "{message} is of a row that was there"),
        }
        key
    }
}

fn count(metrics: &str, sample: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {sample} in {metrics}"))
}

/// Each client has the rows of a cursor, and all that came since, for whichever client they were read.
#[tokio::test]
async fn two_hundred_who_ask_for_the_same_cost_the_database_a_page_a_second() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, n int not null default 0);
         insert into pets select n from generate_series(1, 60) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("max-unauthenticated-per-address", "300")]);
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(server.socket("/ws").await);
    }
    let writer = db.another_client().await;
    let goes_on = Arc::new(AtomicBool::new(true));
    let is_asked = goes_on.clone();
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while is_asked.load(Relaxed) {
            n += 1;
            let key = 1 + n * 7919 % 60;
            let sql = match n % 3 {
                0 => format!("delete from pets where pet_id = {key}"),
                1 => format!("insert into pets values ({key}, {n}) on conflict do nothing"),
                _ => format!("update pets set n = {n} where pet_id between {key} and {}", key + 3),
            };
            writer.batch_execute(&sql).await.unwrap();
        }
    });
    let subscribe = json!({"type": "subscribe", "channel": "pets", "rows": {"order": "pet_id.desc", "limit": 100}});
    let began = Instant::now();
    for socket in &mut sockets {
        socket.send(&subscribe.to_string()).await;
    }
    // the page of each cursor, and what each client has
    let mut pages: BTreeMap<String, Value> = BTreeMap::new();
    let mut clients = Vec::new();
    for mut socket in sockets {
        let rows = socket.message().await;
        assert_eq!((&rows["type"], &rows["more"]), (&json!("rows"), &json!(false)), "{rows}");
        let cursor = rows["cursor"].as_str().unwrap().to_owned();
        assert_eq!(*pages.entry(cursor).or_insert_with(|| rows["rows"].clone()), rows["rows"], "one cursor, one page");
        let mut shown = Shown::default();
        rows["rows"].as_array().unwrap().iter().for_each(|row| shown.row(row));
        clients.push((socket, shown));
    }
    let most = 3 + began.elapsed().as_secs();
    let (_, metrics) = server.get("/metrics").await;
    let (read, again) = (
        count(&metrics, "rowcast_pages_total{from=\"database\"}"),
        count(&metrics, "rowcast_pages_total{from=\"memory\"}"),
    );
    assert!((1..=most).contains(&read), "{read} pages were read, {most} at most are allowed");
    assert_eq!(read + again, 200);
    goes_on.store(false, Relaxed);
    writing.await.unwrap();
    db.run("insert into pets values (1000, 1000)").await;
    let table = db.text("select json_agg(p order by pet_id) from pets p").await;
    let table: Value = serde_json::from_str(&table).unwrap();
    // a client that has the page alone goes on from its cursor
    for (cursor, page) in &pages {
        let mut shown = Shown::default();
        page.as_array().unwrap().iter().for_each(|row| shown.row(row));
        clients.push((server.socket(&format!("/ws/pets?since={cursor}")).await, shown));
    }
    for (mut socket, mut shown) in clients {
        loop {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "realtime_update" if shown.change(&message) == 1000 => break,
                "realtime_update" | "subscribed" => {}
                _ => panic!("{message}"),
            }
        }
        assert_eq!(Value::from(shown.0.into_values().collect::<Vec<_>>()), table);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_over_http_is_compressed_for_whoever_takes_that() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text);
         insert into pets select n, 'Jürgen ' || n from generate_series(1, 200) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let (plain_head, plain) = server.get_with("/rows/pets?limit=200", "").await;
    let (head, packed) = server.get_bytes("/rows/pets?limit=200", "accept-encoding: br, gzip\r\n").await;
    let header = |head: &str, name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    assert_eq!(header(&head, "content-encoding: ").as_deref(), Some("gzip"), "{head}");
    assert!(header(&head, "vary: ").unwrap().contains("accept-encoding"), "{head}");
    assert!(packed.len() * 2 < plain.len(), "{} bytes of {}", packed.len(), plain.len());
    let mut text = String::new();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[199], json!({"pet_id": 200, "name": "Jürgen 200"}));
    assert_eq!(header(&head, "rowcast-more: ").as_deref(), Some("false"));
    // other bytes, another tag, and each is good for itself
    let (tag, plain_tag) = (header(&head, "etag: ").unwrap(), header(&plain_head, "etag: ").unwrap());
    assert_ne!(tag, plain_tag);
    for (encoding, tag, status) in
        [("gzip", &tag, "304"), ("gzip", &plain_tag, "200"), ("identity", &plain_tag, "304"), ("identity", &tag, "200")]
    {
        let asked = format!("accept-encoding: {encoding}\r\nif-none-match: {tag}\r\n");
        let (head, body) = server.get_bytes("/rows/pets?limit=200", &asked).await;
        assert_eq!((head.split(' ').nth(1), body.is_empty()), (Some(status), status == "304"), "{asked}{head}");
    }
    // not for those that do not take it, and not where it saves nothing
    for (path, encoding) in [("/rows/pets?limit=200", "gzip;q=0"), ("/rows/pets?limit=2", "gzip")] {
        let (head, body) = server.get_with(path, &format!("accept-encoding: {encoding}\r\n")).await;
        assert!(header(&head, "content-encoding: ").is_none() && body.starts_with("[{"), "{head}");
    }
    server.stop().await.unwrap();
}

/// A place is found again by comparing values: what an index orders otherwise than the operators that are at hand, or what a cast
/// cuts, is read in one transaction.
#[tokio::test]
async fn all_rows_come_once_whatever_the_key_is_made_of() {
    let db = TestDatabase::new().await;
    db.run(
        "create type mood as enum ('wild', 'calm', 'tame');
         create domain code as char(6); create domain deep as code;
         create table chars (k char(6) primary key); create table domains (k deep primary key); create table bits (k bit(16) primary key);
         create table bytes (k bytea primary key, note text); create table moods (k mood, n int, primary key (k, n));
         create table included (k int, note text, primary key (k) include (note));
         insert into chars select 'a' || lpad(n::text, 5, '0') from generate_series(1, 12000) n;
         insert into domains select * from chars;
         insert into bits select n::bit(16) from generate_series(1, 12000) n;
         insert into bytes select decode(md5(n::text), 'hex'), repeat('x', 100) from generate_series(1, 12000) n;
         insert into moods select (enum_range(null::mood))[1 + n % 3], n from generate_series(1, 12000) n;
         insert into included select n, case when n % 2 = 0 then 'even' end from generate_series(1, 12000) n;
         select rowcast.watch(t) from unnest('{chars,domains,bits,bytes,moods,included}'::regclass[]) t",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/chars").await;
    for channel in ["chars", "domains", "bits", "bytes", "moods", "included"] {
        let mut socket = server.socket(&format!("/ws/{channel}?snapshot=true&partial=true")).await;
        let mut rows = std::collections::HashSet::new();
        loop {
            let message = socket.message().await;
            assert!(["snapshot", "subscribed"].contains(&message["type"].as_str().unwrap()), "{channel}: {message}");
            if message["type"] == "subscribed" {
                break;
            }
            for row in message["rows"].as_array().unwrap() {
                assert!(rows.insert(row.to_string()), "{channel}: {row} came twice");
            }
        }
        assert_eq!(rows.len(), 12_000, "{channel}");
    }
    server.stop().await.unwrap();
}

/// What a policy hides is not told by the words of a refusal, nor by a number.
#[tokio::test]
async fn a_refusal_and_a_count_tell_a_holder_of_a_policy_nothing_of_the_rest() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, owner text, at timestamptz not null default now(), score float8 default 1);
         insert into pets select n, (n % 2)::text from generate_series(1, 40000) n;
         analyze pets;
         select rowcast.watch('pets'); select rowcast.allow('pets', 'owner', 'owner=eq.{sub}', '{pet_id,at,score}')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let mut socket = server.subscribed(&format!("/ws/pets?token={}", token("owner", "1"))).await;
    let refused = |message: &Value| {
        assert_eq!(message["code"], "bad_order", "{message}");
        let text = message["message"].as_str().unwrap();
        assert!(!["owner", "40", "public", "index"].iter().any(|part| text.contains(part)), "{text}");
    };
    socket.send(r#"{"type":"rows","channel":"pets","order":"at.desc"}"#).await;
    refused(&socket.message().await);
    // of 20,000 rows, and where the database does not decide, an estimate would be made of everybody's
    for filter in ["[]", r#"["score=gt.0.5"]"#] {
        socket
            .send(&format!(r#"{{"type":"rows","channel":"pets","limit":1,"count":"exact","filter":{filter}}}"#))
            .await;
        let page = socket.message().await;
        assert_eq!((&page["type"], page.get("count")), (&json!("rows"), None), "{page}");
    }
    // where nothing is hidden, both are told
    db.run("select rowcast.allow('pets', 'vet')").await;
    let vet = format!("/rows/pets?order=at.desc&token={}", token("vet", "1"));
    loop {
        let (status, text) = server.get(&vet).await;
        if status == 400 {
            assert!(text.contains("about 40000 rows: create index concurrently on public.pets"), "{text}");
            break;
        }
        assert!([401, 403].contains(&status), "{status}");
    }
    server.stop().await.unwrap();
}

/// An index serves an order only where the planner makes use of it for what the filter asks.
#[tokio::test]
async fn a_filter_on_an_enum_does_not_make_an_index_serve() {
    let db = TestDatabase::new().await;
    db.run(
        "create type mood as enum ('wild', 'calm');
         create table pets (pet_id int primary key, mood mood, owner int, at timestamptz not null default now());
         insert into pets select n, (enum_range(null::mood))[1 + n % 2], n % 3 from generate_series(1, 20000) n;
         create index on pets (mood, at, pet_id); create index on pets (owner, at, pet_id);
         analyze pets; select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    socket.send(r#"{"type":"rows","channel":"pets","order":"at.desc","filter":"mood=eq.calm"}"#).await;
    assert_eq!(socket.message().await["code"], "bad_order");
    let served = json!({"type": "rows", "channel": "pets", "order": "at.desc", "filter": "owner=eq.1", "limit": 3});
    assert_eq!(page(&mut socket, &served).await.0.len(), 3);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_of_long_rows_ends_before_its_limit_and_says_so() {
    let db = TestDatabase::new().await;
    db.run(
        "create table files (file_id int primary key, body text);
         insert into files select n, repeat(md5(n::text), 30000) from generate_series(1, 60) n;
         select rowcast.watch('files')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/files").await;
    let mut all = Vec::new();
    loop {
        let mut command = json!({"type": "rows", "channel": "files", "columns": ["file_id"], "limit": 1000});
        if let Some(last) = all.last() {
            command["after"] = json!({ "file_id": last });
        }
        let (rows, last) = page(&mut socket, &command).await;
        assert!(rows.len() < 25, "{} rows of a megabyte", rows.len());
        all.extend(rows.iter().map(|row| row["file_id"].as_i64().unwrap()));
        if last["more"] == false {
            break;
        }
    }
    assert_eq!(all, (1..=60).collect::<Vec<_>>());
    server.stop().await.unwrap();
}

/// Clients share a page for a second. A column that was excluded within it is in none that is asked for afterwards.
#[tokio::test]
async fn a_shared_page_has_no_column_that_was_excluded_before_it_was_asked_for() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, secret text); insert into pets values (1, 'hush')").await;
    db.run("select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let ask = json!({"type": "subscribe", "channel": "pets", "view": "v", "rows": {}});
    for _ in 0..5 {
        db.run("select rowcast.unwatch('pets'), rowcast.watch('pets')").await;
        let first = server.get("/rows/pets").await;
        assert!(first.0 == 404 || first.1.contains("hush"), "{first:?}");
        let mut socket = server.socket("/ws").await;
        socket.send(&ask.to_string()).await;
        assert!(socket.message().await.to_string().contains("hush"));
        db.run("select rowcast.watch('pets', exclude => '{secret}')").await;
        for path in ["/ws/pets?snapshot=true", "/ws/pets?snapshot=true&partial=true"] {
            let rows = server.socket(path).await.message().await;
            assert!(!rows.to_string().contains("hush"), "{path}: {rows}");
        }
        let mut socket = server.socket("/ws").await;
        socket.send(&ask.to_string()).await;
        let rows = socket.message().await;
        assert!(!rows.to_string().contains("hush"), "{rows}");
        let (_, body) = server.get("/rows/pets").await;
        assert!(!body.contains("hush"), "{body}");
    }
    server.stop().await.unwrap();
}

/// A page that takes the database long ends when its client hangs up: asking again and again keeps one backend busy, not one
/// more each time.
#[tokio::test]
async fn a_client_that_asks_and_hangs_up_keeps_no_backend_busy() {
    let db = TestDatabase::new().await;
    // each row takes some milliseconds: at each of its letters the pattern fits, but for its end
    db.run(
        "create table pets (pet_id int primary key, note text);
         insert into pets select n, repeat('a', 20000) from generate_series(1, 5000) n;
         select rowcast.watch('pets')",
    )
    .await;
    let filter = format!("note=like.*{}b", "a".repeat(98));
    let page = json!({"type": "rows", "channel": "pets", "ref": "r", "filter": filter}).to_string();
    let all = json!({"type": "subscribe", "channel": "pets", "snapshot": true, "filter": filter}).to_string();
    let over_http = format!("/rows/pets?filter={filter}");
    let server = TestServer::start(&db.url);
    let busy = "select count(*) from pg_stat_activity where datname = current_database() \
                and application_name like 'rowcast replay%' and state = 'active' \
                and query_start < clock_timestamp() - interval '50 ms'";
    let until = async |wanted: &str| {
        let began = Instant::now();
        while db.text(busy).await != wanted {
            assert!(began.elapsed().as_secs() < 3, "not {wanted} within 3 s: {}", db.text(busy).await);
        }
    };
    for command in [&page, &all, &page] {
        let mut socket = server.socket("/ws").await;
        socket.send(command).await;
        tokio::select! {
            answer = socket.message() => panic!("what takes long has come: {answer}"),
            () = until("1") => {}
        }
        drop(socket);
        until("0").await;
    }
    tokio::select! {
        answer = server.get(&over_http) => panic!("what takes long has come: {answer:?}"),
        () = until("1") => {}
    }
    until("0").await;
    // the next page is read as ever
    let command = json!({"type": "rows", "channel": "pets", "ref": "r", "limit": 60});
    assert_eq!(self::page(&mut server.socket("/ws").await, &command).await.0.len(), 60);
    server.stop().await.unwrap();
}

/// A session that holds a table, so that pages of it wait, for a second at most.
struct Holder(tokio_postgres::Client);

impl Holder {
    async fn of(db: &TestDatabase, table: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(&db.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("begin; lock table {table} in access exclusive mode")).await.unwrap();
        Self(client)
    }

    /// Until a page waits for it. Postgres shows a transaction what it showed it first, so another session looks.
    async fn is_waited_for(&self, db: &TestDatabase) {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                       and application_name like 'rowcast replay%' and wait_event_type = 'Lock'";
        while db.text(waiting).await == "0" {}
    }

    async fn commit(self, statements: &str) {
        self.0.batch_execute(&format!("{statements}; commit")).await.unwrap();
    }
}

/// A transaction that began before a TRUNCATE, or before DDL that wrote the table anew, and has the lock after it, would see no row.
#[tokio::test]
async fn a_page_that_waits_for_a_table_that_is_written_anew_has_its_rows() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text); insert into pets select n, 'old' from generate_series(1, 9) n;
         create table parts (id int primary key, name text) partition by range (id);
         create table part_1 partition of parts for values from (0) to (100);
         insert into parts select n, 'old' from generate_series(1, 9) n; select rowcast.watch('pets'), rowcast.watch('parts')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let refill = "truncate {t}; insert into {t} select n, 'new' from generate_series(1, 3) n";
    for (table, statements) in [
        ("pets", refill.replace("{t}", "pets")),
        ("parts", refill.replace("{t}", "parts")),
        ("pets", "alter table pets drop column if exists weight, add column weight real default random()".to_owned()),
        ("pets", "alter table pets alter column pet_id type bigint".to_owned()),
    ] {
        for (number, kind) in ["page", "snapshot"].into_iter().enumerate() {
            // one that was not read a moment ago
            let filter = format!("name=neq.{number}{statements}").replace([',', '(', ')', '"'], "");
            let holder = Holder::of(&db, table).await;
            let mut socket = server.socket("/ws").await;
            let command = match kind {
                "page" => json!({"type": "rows", "channel": table, "filter": filter}),
                _ => {
                    json!({"type": "subscribe", "channel": table, "snapshot": true, "partial": true, "filter": filter})
                }
            };
            socket.send(&command.to_string()).await;
            holder.is_waited_for(&db).await;
            let told = socket.message();
            let (told, ()) = tokio::join!(told, holder.commit(&statements));
            let names: Vec<_> = told["rows"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
            assert_eq!(names, ["new"; 3], "{kind} of {table} after {statements}: {told}");
        }
    }
    server.stop().await.unwrap();
}

/// What was allowed when a page was asked for is not told when it has been taken away by the time that the rows are there.
#[tokio::test]
async fn a_page_that_waits_is_told_by_the_rights_that_hold_then() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, owner text); insert into pets select n, (n % 3)::text from generate_series(1, 9) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let (one, clerk) = (token("owner", "1"), token("clerk", "1"));
    let allow = "select rowcast.allow('pets', 'owner', 'owner=eq.{sub}'), rowcast.allow('pets', 'clerk')";
    db.run(allow).await;
    let pets =
        |rows: &Value| -> Vec<Value> { rows.as_array().unwrap().iter().map(|row| row["pet_id"].clone()).collect() };

    // over HTTP: nothing is allowed any more, or something else
    let mut limit = 9;
    for (statement, expected) in [
        ("select rowcast.deny('pets', 'owner')", None),
        ("select rowcast.allow('pets', 'owner', 'pet_id=lt.3')", Some(vec![1, 2])),
    ] {
        loop {
            db.run(allow).await;
            while server.get(&format!("/rows/pets?token={one}")).await.0 != 200 {}
            let mut unfiltered = server.subscribed(&format!("/ws/pets?token={}", token("owner", "1"))).await;
            let holder = Holder::of(&db, "pets").await;
            // one that was not read a moment ago
            limit += 1;
            let path = format!("/rows/pets?limit={limit}&token={one}");
            let asked = server.get(&path);
            let change = async {
                holder.is_waited_for(&db).await;
                db.run(statement).await;
                // the server knows it
                let told = unfiltered.any_message().await;
                assert!(told["type"] == "gap" || told["code"] == "forbidden", "{told}");
                holder.commit("").await;
            };
            let ((status, body), ()) = tokio::join!(asked, change);
            if status == 503 {
                continue; // it did not have the lock within a second
            }
            match &expected {
                None => assert_eq!(status, 403, "{body}"),
                Some(expected) => {
                    assert_eq!(pets(&serde_json::from_str(&body).unwrap()), *expected, "{status}");
                }
            }
            break;
        }
    }

    // on a socket: it has fewer rights by then
    db.run(allow).await;
    // the server knows it: else it would be a change of rights, too
    loop {
        let (status, body) = server.get(&format!("/rows/pets?token={one}")).await;
        if status == 200 && pets(&serde_json::from_str(&body).unwrap()) == [1, 4, 7] {
            break;
        }
    }
    {
        let mut socket = server.socket(&format!("/ws?token={clerk}")).await;
        let holder = Holder::of(&db, "pets").await;
        socket.send(&json!({"type": "rows", "channel": "pets", "ref": "r"}).to_string()).await;
        holder.is_waited_for(&db).await;
        socket.send(&json!({"type": "auth", "token": one, "ref": "a"}).to_string()).await;
        let told = [socket.message().await, socket.message().await];
        assert!(told.iter().all(|told| told["type"] != "rows"), "{told:?}");
        assert!(told.iter().any(|told| told["code"] == "unanswered"), "{told:?}");
        assert!(told.iter().any(|told| told["type"] == "authenticated"), "{told:?}");
        holder.commit("").await;
        let (rows, _) = page(&mut socket, &json!({"type": "rows", "channel": "pets", "ref": "again"})).await;
        assert!(rows.iter().all(|row| row["owner"] == "1"), "{rows:?}");
    }
    server.stop().await.unwrap();
}

/// Pages over HTTP that their clients do not take have so much memory and no more, and not for ever.
#[tokio::test]
async fn a_client_that_does_not_take_its_page_loses_its_connection() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, note text);
         insert into pets select n, repeat('a', 14000) from generate_series(1, 900) n; select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let slow = tokio::net::TcpSocket::new_v4().unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    let mut slow = slow.connect(server.address).await.unwrap();
    slow.write_all(b"GET /rows/pets?limit=900 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // its address has no room for another one
    let (head, _) = server.get_with("/rows/pets?limit=900", "").await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: "), "{head}");
    // until it has lost its connection
    let began = Instant::now();
    while server.get("/rows/pets?limit=900").await.0 != 200 {
        assert!(began.elapsed().as_secs() < 60, "it keeps the room");
    }
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.len() < 12_600_000, "{} bytes", rest.len());
    server.stop().await.unwrap();
}

/// A page of another origin may send its token in a header only where the browser was told so before (CORS).
#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_its_token_in_a_header() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets'); select rowcast.allow('pets', 'vet')")
        .await;
    let settings = [("jwt-secret", SECRET), ("origins", "https://clinic.example")];
    let server = TestServer::start_with(&db.url, &settings);
    let ask = async |method: &str, path: &str, origin: &str, headers: &str| {
        let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\n{headers}connection: close\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase()
    };
    let (ours, other) = ("https://clinic.example", "https://evil.example");
    let wish = "access-control-request-method: GET\r\naccess-control-request-headers: authorization\r\n";
    for path in ["/rows/pets", "/sse/pets", "/sse"] {
        let head = ask("OPTIONS", path, ours, wish).await;
        assert!(head.starts_with("http/1.1 204"), "{path}: {head}");
        assert!(head.contains("access-control-allow-origin: https://clinic.example"), "{path}: {head}");
        assert!(head.contains("authorization"), "{path}: {head}");
        let head = ask("OPTIONS", path, other, wish).await;
        assert!(!head.starts_with("http/1.1 204") && !head.contains("access-control"), "{path}: {head}");
    }
    let vet = token("vet", "1");
    let bearer = format!("authorization: Bearer {vet}\r\n");
    // it has read the policies by then
    server.subscribed(&format!("/ws/pets?token={vet}")).await;
    let head = ask("GET", "/rows/pets", ours, &bearer).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("access-control-expose-headers: etag"), "{head}");
    // a refusal can be read, too
    let head = ask("GET", "/rows/pets", ours, "authorization: Bearer expired\r\n").await;
    assert!(head.starts_with("http/1.1 401") && head.contains("access-control-allow-origin"), "{head}");
    assert!(
        head.contains("access-control-expose-headers: retry-after, rowcast-code")
            && head.contains("rowcast-code: 4401"),
        "{head}"
    );
    let head = ask("GET", "/rows/pets", other, &bearer).await;
    assert!(head.starts_with("http/1.1 403") && !head.contains("access-control"), "{head}");
    server.stop().await.unwrap();
}

/// Of a partitioned table Postgres makes no index beside its writers.
#[tokio::test]
async fn the_index_that_a_refusal_names_can_be_made_of_a_partitioned_table() {
    let db = TestDatabase::new().await;
    db.run(
        "create table visits (visit_id int, day date, note text, primary key (visit_id, day)) partition by range (day);
         create table visits_1 partition of visits for values from ('2024-01-01') to ('2025-01-01');
         insert into visits select n, '2024-05-01', 'n' || n from generate_series(1, 20000) n; analyze visits;
         select rowcast.watch('visits')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/visits").await;
    let (status, text) = server.get("/rows/visits?order=note&limit=2").await;
    let (_, remedy) = text.split_once(": create").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(status, 400, "{text}");
    db.run(&format!("create{remedy}")).await;
    let (status, text) = server.get("/rows/visits?order=note&limit=2").await;
    assert_eq!(status, 200, "{text}");
    server.stop().await.unwrap();
}

/// U+FFFD is a character as any other where the database is in UTF-8: bad imports leave it behind.
#[tokio::test]
async fn a_page_may_end_with_a_replacement_character() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); insert into pets values (1, 'a'), (2, U&'b\\FFFD'), (3, 'c'); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let (status, text) = server.get("/rows/pets?order=name&limit=2").await;
    assert_eq!(status, 200, "{text}");
    server.stop().await.unwrap();
}

/// Only so many rows are looked at for one page, and here all of them were.
#[tokio::test]
async fn a_part_of_the_rows_that_ends_where_the_table_does_is_the_last() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text);
         insert into pets select n, case when n > 102990 then 'x' else 'y' end from generate_series(1, 103000) n;
         select rowcast.watch('pets')",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let mut socket = server.socket("/ws/pets?snapshot=true&partial=true&filter=name=ilike.x").await;
    let mut rows = std::collections::HashSet::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "subscribed" {
            break;
        }
        for row in message["rows"].as_array().unwrap_or_else(|| panic!("{message}")) {
            assert!(rows.insert(row.to_string()), "{row} came twice");
        }
    }
    assert_eq!(rows.len(), 10);
    server.stop().await.unwrap();
}
