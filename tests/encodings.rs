//! Databases that are not in UTF-8, and bytes in them that nobody can read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// A session that sends bytes as they are, as an old program does: what is written stands in the literal as `\x..`.
async fn write_bytes(db: &TestDatabase, sql: &str) {
    let client = db.another_client().await;
    client.batch_execute("set client_encoding = 'SQL_ASCII'").await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

/// What is written, as a literal, is told as `text`: live, in a snapshot, by a filter and as a replay; and nobody else is
/// disturbed.
async fn is_told(encoding: &str, literal: &str, text: &str) {
    let db = TestDatabase::in_encoding(encoding).await;
    db.run("create table people (id int primary key, name text); create table other (id int primary key); select rowcast.watch('people'); select rowcast.watch('other')").await;
    let server = TestServer::start(&db.url);
    let (mut people, mut other) = (server.subscribed("/ws/people").await, server.subscribed("/ws/other").await);
    write_bytes(&db, &format!("insert into people values (1, {literal}); insert into other values (1)")).await;
    let told = people.message().await;
    assert_eq!(told["data"]["name"], text, "{encoding}, live");
    assert_eq!(other.message().await["data"]["id"], 1);
    let (rows, _) = server.subscribed_with_rows("/ws/people?snapshot=true").await;
    assert_eq!(rows, [serde_json::json!({"id": 1, "name": text})], "{encoding}, in a snapshot");
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (rows, mut some) =
        server.subscribed_with_rows(&format!("/ws/people?snapshot=true&filter=name=eq.{encoded}")).await;
    assert_eq!(rows.len(), 1, "{encoding}, by a filter");
    write_bytes(&db, &format!("insert into people values (2, {literal})")).await;
    assert_eq!(some.message().await["data"]["id"], 2);
    assert_eq!(people.message().await["data"]["id"], 2);
    // of more than equality each filter means the same, whatever the database makes of it
    for (filter, count) in [
        (format!("not.or=(name.neq.{encoded},id.eq.2)"), 1),
        (format!("and=(name.gte.{encoded},name.lte.{encoded},name.like.*{encoded})"), 2),
        (format!("name=not.eq.{encoded}"), 0),
        ("name=neq.x".to_owned(), 2),
        ("name=gt.A".to_owned(), 2),
        (format!("or=(name.not.in.(x,{encoded}),id.eq.2)"), 1),
    ] {
        let (rows, _) = server.subscribed_with_rows(&format!("/ws/people?snapshot=true&filter={filter}")).await;
        assert_eq!(rows.len(), count, "{encoding}: {filter}");
    }
    if encoding != "EUC_TW" {
        let filter = "or=(name.neq.%F0%9F%90%88,name.eq.%F0%9F%90%88)";
        let (rows, _) = server.subscribed_with_rows(&format!("/ws/people?snapshot=true&filter={filter}")).await;
        assert_eq!(rows.len(), 2, "{encoding}");
    }
    // a character that the database cannot have is in no row; where only the server knows which it can, it refuses
    if encoding != "EUC_TW" {
        let (rows, _) = server.subscribed_with_rows("/ws/people?snapshot=true&filter=name=eq.%F0%9F%90%88").await;
        assert!(rows.is_empty());
    }
    let status = server.status().await;
    assert_eq!(status["source"]["reconnects"], 0, "{encoding}: {status}");
    server.stop().await.unwrap();
    // a start reads the newest changes into memory
    let again = TestServer::start(&db.url);
    again.subscribed("/ws/other").await;
    let (mut gone, _) = (again.subscribed("/ws/people").await, ());
    write_bytes(&db, &format!("update people set name = {literal} || 'x' where id = 1")).await;
    assert_eq!(gone.message().await["data"]["name"], format!("{text}x"), "{encoding}");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_byte_that_is_no_utf_8_in_a_database_without_encoding_concerns_its_own_text() {
    Box::pin(is_told("SQL_ASCII", r"E'Andr\xe9'", "Andr\u{fffd}")).await;
    Box::pin(is_told("SQL_ASCII", r"E'Andr\xc3\xa9'", "André")).await;
}

#[tokio::test]
async fn a_byte_without_a_character_in_a_code_page_concerns_its_own_text() {
    Box::pin(is_told("WIN1252", r"E'a\x81b'", "a\u{fffd}b")).await;
    Box::pin(is_told("WIN1250", r"E'\x83\xa3'", "\u{fffd}Ł")).await;
}

#[tokio::test]
async fn text_of_other_encodings_is_told_as_utf_8() {
    Box::pin(is_told("LATIN1", r"E'caf\xe9'", "café")).await;
    Box::pin(is_told("WIN1252", r"E'caf\xe9 \x80'", "café €")).await;
    Box::pin(is_told("WIN1251", r"E'\xcc\xee\xf1\xea\xe2\xe0'", "Москва")).await;
    Box::pin(is_told("EUC_JP", r"E'\xc6\xfc\xcb\xdc'", "日本")).await;
    // only the server knows it
    Box::pin(is_told("EUC_TW", r"E'\xc4\xe3'", "中")).await;
}

/// Names are text too.
#[tokio::test]
async fn columns_with_names_of_another_encoding_have_snapshots() {
    let db = TestDatabase::in_encoding("LATIN1").await;
    db.run("create table maße (id int primary key, größe text, geheim text); select rowcast.watch('maße', channel => 'masse', exclude => '{geheim}'); insert into maße values (1, 'groß', 'x')").await;
    let server = TestServer::start(&db.url);
    let (rows, mut socket) =
        server.subscribed_with_rows("/ws/masse?snapshot=true&filter=gr%C3%B6%C3%9Fe=eq.gro%C3%9F").await;
    assert_eq!(rows, [serde_json::json!({"id": 1, "größe": "groß"})]);
    db.run("insert into maße values (2, 'groß', 'x')").await;
    assert_eq!(socket.message().await["data"], serde_json::json!({"id": 2, "größe": "groß"}));
    let (code, answer) = server.get("/websocket/database").await;
    assert!(code == 200 && answer.contains("maße"), "{answer}");
    server.stop().await.unwrap();
}

/// A name that is no UTF-8, in a database without encoding: the others go on.
#[tokio::test]
async fn a_column_whose_name_cannot_be_read_stops_no_other_channel() {
    let db = TestDatabase::in_encoding("SQL_ASCII").await;
    db.run("create table other (id int primary key); select rowcast.watch('other')").await;
    let server = TestServer::start(&db.url);
    let mut other = server.subscribed("/ws/other").await;
    // a literal cannot be a name: by way of a statement that is made of bytes
    write_bytes(&db, r"do $$ begin execute E'create table odd (id int primary key, gr\xf6\xdfe text)'; end $$; select rowcast.watch('odd'); insert into odd values (1, 'x')").await;
    write_bytes(&db, "insert into other values (1)").await;
    assert_eq!(other.message().await["data"]["id"], 1);
    let mut odd = server.subscribed("/ws/odd").await;
    write_bytes(&db, "insert into odd values (2, 'y')").await;
    let told = odd.message().await;
    assert_eq!(told["data"]["gr\u{fffd}\u{fffd}e"], "y", "{told}");
    let (code, _) = server.get("/websocket/database").await;
    assert_eq!(code, 200);
    let mut told = server.socket("/ws/odd?snapshot=true").await;
    let error = tokio::time::timeout(Duration::from_secs(5), told.message()).await.unwrap();
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"no_snapshot".into()), "{error}");
    server.stop().await.unwrap();
}

/// Columns of any name: none of ours is in the way.
#[tokio::test]
async fn no_name_of_a_column_is_in_the_way_of_capture_snapshots_rules_or_notifications() {
    let names = [
        "r", "q", "t", "c", "o", "n", "s", "u", "p", "a", "k", "old", "new", "row", "value", "id", "channel", "xid",
        "at", "op", "users", "actor", "json", "name", "x", "rel", "root", "attnums", "emptied", "columns", "result",
        "by_list", "rule", "rings", "before", "after", "tg_op", "select", "from", "a\"b", "a'b", "%s", "%I", "$1",
        "a b", "A", "ü", "\\", "ctid_", "target", "",
    ];
    let db = TestDatabase::new().await;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for (number, name) in names.iter().filter(|name| !name.is_empty()).enumerate() {
        let (column, table) = (quoted(name), format!("t{number}"));
        // as the key, beside an excluded column, with a rule that is a query and names of our variables in it
        let (in_rule, told) = (column.replace('\'', "''"), name.replace('\'', "''"));
        let rule = format!("select row.{in_rule} from (select 1 as users) teams where users = 1");
        db.run(&format!(
            "create table {table} ({column} int primary key, other interval, hidden text);
             select rowcast.watch('{table}', user_rule => '{rule}', exclude => '{{hidden}}',
                                  notification => json_build_object('told', '{told}')::jsonb)"
        ))
        .await;
    }
    let server = TestServer::start(&db.url);
    for (number, name) in names.iter().filter(|name| !name.is_empty()).enumerate() {
        let (column, table) = (quoted(name), format!("t{number}"));
        let mut live = server.subscribed(&format!("/ws/{table}")).await;
        let mut user = server.subscribed("/ws/user/7").await;
        db.run(&format!("insert into {table} values (7, '1 day', 'secret')")).await;
        let row = serde_json::json!({*name: 7, "other": "1 day"});
        assert_eq!(live.message().await["data"], row, "{name}");
        assert_eq!(user.message().await["data"], serde_json::json!({"told": 7}), "{name}");
        let (rows, _) = server.subscribed_with_rows(&format!("/ws/{table}?snapshot=true")).await;
        assert_eq!(rows, [row], "{name}");
        let deviating = db.another_client().await;
        let update = format!("set intervalstyle = 'iso_8601'; update {table} set {column} = 8");
        deviating.batch_execute(&update).await.unwrap();
        assert_eq!(live.message().await["data"], serde_json::json!({*name: 8, "other": "1 day"}), "{name}");
    }
    server.stop().await.unwrap();
}

/// Roles and their settings are shared by databases of several encodings, and nobody converts them.
#[tokio::test]
async fn who_writes_may_have_a_name_of_another_encoding() {
    let (latin, db) = (TestDatabase::in_encoding("LATIN1").await, TestDatabase::new().await);
    db.run("create table pets (id int primary key); select rowcast.watch('pets'); grant insert on pets to public")
        .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    let plain = format!("zoe_{}", std::process::id());
    // an é at the end is the first byte of a character of three
    let named = format!("{plain}é");
    latin
        .run(&format!(
            r#"create role "{named}" login superuser password 'secret'; create role {plain} login password 'secret'; alter role {plain} set rowcast.actor = 'Zoé'"#
        ))
        .await;
    let client = connect(&db.url_of(&plain)).await;
    client.batch_execute("insert into pets values (1)").await.unwrap();
    // in this database nobody can type its name
    let bytes = [plain.as_bytes(), b"\xe9"].concat();
    let psql = rowcast::demo::cluster::find_programs().expect("psql, from Postgres's own programs").join("psql");
    let (_, place) = db.url.split_once('@').unwrap();
    let output = tokio::process::Command::new(psql)
        .args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", "insert into pets values (2)", "-U"])
        .arg(OsStr::from_bytes(&bytes))
        .arg(format!("postgres://{place}"))
        .env("PGPASSWORD", "secret")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for id in 1..=2 {
        assert_eq!(socket.message().await["data"]["id"], id);
    }
    let written =
        "select string_agg(encode(textsend(actor), 'hex'), ' ' order by id) from rowcast.outbox where op = 'I'";
    let hex: String = plain.bytes().map(|byte| format!("{byte:02x}")).collect();
    let actors = db.text(written).await;
    assert!(actors.starts_with(&format!("5a6fe9 {hex}e9")), "{actors}");
    server.stop().await.unwrap();
    drop(client);
    latin.run(&format!(r#"drop role "{named}"; drop role {plain}"#)).await;
}

/// A client orders text by its characters; a server, by the bytes of the database's encoding.
#[tokio::test]
async fn an_order_by_text_is_refused_where_clients_would_have_another_one() {
    for (encoding, code) in [("WIN1251", 400), ("LATIN1", 200), ("SQL_ASCII", 200)] {
        let db = TestDatabase::in_encoding(encoding).await;
        db.run("create table people (id int primary key, name text); select rowcast.watch('people')").await;
        write_bytes(&db, r"insert into people values (1, E'\xb8'), (2, E'\xe0')").await;
        let server = TestServer::start(&db.url);
        server.subscribed("/ws/people").await;
        let (got, text) = server.get("/rows/people?order=name").await;
        assert_eq!(got, code, "{encoding}: {text}");
        assert_eq!(server.get("/rows/people?order=id").await.0, 200, "{encoding}");
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn names_in_another_encoding_end_no_server() {
    let db = TestDatabase::in_encoding("LATIN1").await;
    db.run(
        "create table pets (id int primary key); select rowcast.watch('pets');
         create table große (id int primary key, name text); select rowcast.watch('große');
         insert into große select n, 'x' from generate_series(1, 11000) n;
         select rowcast.watch_schema('public', future => true); select rowcast.revoke('müller')",
    )
    .await;
    // whose name a relay tells when it begins
    let server = TestServer::start(&db.url);
    let mut pets = server.subscribed("/ws/pets").await;
    // a table that a relay watches
    db.run("create table maße (id int primary key)").await;
    while db.text("select count(*) from rowcast.channel where name = 'maße'").await != "1" {}
    // a count that the planner estimates, in whose plan the table's name stands
    let (status, text) = server.get("/rows/gro%C3%9Fe?count=exact&limit=1").await;
    assert_eq!(status, 200, "{text}");
    db.run("insert into pets values (1)").await;
    assert_eq!(pets.message().await["data"]["id"], 1);
    server.stop().await.unwrap();
}

/// The first pages of a snapshot come, and a later one cannot be had: the rows come in one piece, and not the first pages again
/// and again.
#[tokio::test]
async fn a_snapshot_of_which_a_later_page_cannot_be_had_comes_in_one_piece() {
    let db = TestDatabase::in_encoding("SQL_ASCII").await;
    db.run(
        "create table people (name text primary key);
         insert into people select lpad(n::text, 6, '0') from generate_series(1, 25000) n; select rowcast.watch('people')",
    )
    .await;
    write_bytes(&db, r"update people set name = name || E'\xff' where name = '020000'").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/people").await;
    let mut socket = server.socket("/ws/people?snapshot=true&partial=true").await;
    let (mut rows, mut gaps) = (std::collections::HashSet::new(), 0);
    loop {
        let message = socket.message().await;
        match message["type"].as_str().unwrap() {
            "gap" => {
                gaps += 1;
                rows.clear();
                assert!(gaps < 2, "it begins anew again and again");
            }
            "snapshot" => rows.extend(message["rows"].as_array().unwrap().iter().map(ToString::to_string)),
            _ => break,
        }
    }
    assert_eq!((rows.len(), gaps), (25_000, 1));
    server.stop().await.unwrap();
}
