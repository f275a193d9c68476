//! Bounds: a row, an actor, an outbox that grow too large, and capture that was paused. Nothing of it fails a write, stops
//! another channel, or passes in silence.

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

/// 20 million characters that JSON writes as six bytes each: 120 MB of JSON, 230 kB in the table.
const HUGE: &str = "repeat(chr(1), 20000000)";

async fn update(socket: &mut Socket) -> Value {
    let message = socket.message().await;
    assert_eq!(message["type"], "realtime_update", "{message}");
    message
}

/// Resident bytes of this process, in which the server runs.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn a_huge_row_is_told_by_its_key_and_holds_nobody_up() {
    let db = TestDatabase::new().await;
    db.run("create table files (id int primary key, owner text, body text); create table other (id int primary key)")
        .await;
    db.run("select rowcast.watch('files', user_rule => 'owner'), rowcast.watch('other')").await;
    let server = TestServer::start(&db.url);
    let mut files = server.subscribed("/ws/files").await;
    let mut other = server.subscribed("/ws/other").await;
    let mut user = server.subscribed("/ws/user/7").await;
    let before = resident();
    db.run(&format!("insert into files values (1, '7', {HUGE}); insert into other values (1)")).await;
    let created = update(&mut files).await;
    assert_eq!(
        (&created["action"], &created["data"], &created["omitted"]),
        (&json!("created"), &json!({"id": 1}), &json!("row_bytes"))
    );
    assert_eq!(update(&mut other).await["data"], json!({"id": 1}));
    let told = user.message().await;
    assert_eq!(
        (&told["notification_type"], &told["data"], &told["omitted"]),
        (&json!("file_created"), &json!({"id": 1}), &json!("row_bytes"))
    );
    db.run("update files set id = 2").await;
    let moved = update(&mut files).await;
    assert_eq!(moved["changed"], json!([]), "what differs is not known");
    assert_eq!(
        (&moved["data"], &moved["old"], &moved["omitted"]),
        (&json!({"id": 2}), &json!({"id": 1}), &json!("row_bytes"))
    );
    // a row that shrinks is told whole again
    db.run("update files set body = 'small'").await;
    let shrunk = update(&mut files).await;
    assert_eq!((&shrunk["data"], &shrunk["omitted"]), (&json!({"id": 2, "owner": "7", "body": "small"}), &Value::Null));
    db.run(&format!("update files set body = {HUGE}")).await;
    assert_eq!(update(&mut files).await["omitted"], "row_bytes");
    // in a snapshot too
    let mut snapshot = server.socket("/ws/files?snapshot=true").await;
    let part = snapshot.message().await;
    assert_eq!((&part["rows"], &part["omitted"]), (&json!([{"id": 2}]), &json!("row_bytes")));
    assert_eq!(snapshot.message().await["last"], true);
    db.run("delete from files").await;
    let deleted = update(&mut files).await;
    assert_eq!((&deleted["action"], &deleted["data"]), (&json!("deleted"), &json!({"id": 2})));
    // others of this process's tests may run beside
    assert!(resident().saturating_sub(before) < 200 << 20, "{} MiB more", (resident() - before) >> 20);
}

/// `rowcast.watch` takes no excluded column in a primary key; DDL may put it there later.
#[tokio::test]
async fn an_excluded_column_in_a_later_key_is_not_told_of_a_huge_row() {
    let db = TestDatabase::new().await;
    db.run(
        "create table files (id int primary key, ssn text, body text); select rowcast.watch('files', exclude => '{ssn}');
         alter table files drop constraint files_pkey, add primary key (id, ssn)",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut files = server.subscribed("/ws/files").await;
    let mut bells = db.bells().await;
    db.run(&format!("insert into files values (1, 'secret', {HUGE})")).await;
    let created = update(&mut files).await;
    assert_eq!((&created["data"], &created["omitted"]), (&json!({"id": 1}), &json!("row_bytes")));
    assert!(!bells.recv().await.unwrap().contains("secret"));
    assert_eq!(db.text("select count(*) from rowcast.outbox where new::text ~ 'secret'").await, "0");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_outbox_that_an_earlier_version_filled_with_a_huge_row_starts_a_relay() {
    let db = TestDatabase::new().await;
    db.run("create table files (id int primary key, body text); select rowcast.watch('files')").await;
    db.run("select rowcast.configure('row_bytes', '128 MB'); insert into files values (1, repeat(chr(1), 20000000))")
        .await;
    db.run("select rowcast.configure('row_bytes', '8 MB'); insert into files values (2, 'small')").await;
    let server = TestServer::start(&db.url);
    let mut files = server.subscribed("/ws/files").await;
    db.run("insert into files values (3, 'next')").await;
    assert_eq!(update(&mut files).await["data"], json!({"id": 3, "body": "next"}));
}

#[tokio::test]
async fn a_large_value_that_did_not_change_is_kept_once() {
    let db = TestDatabase::new().await;
    db.run("create table docs (id int primary key, n int, body text, data json); select rowcast.watch('docs')").await;
    db.run(r#"insert into docs select 1, 1, string_agg(md5(i::text), ''), '{"a": 1}' from generate_series(1, 600) i"#)
        .await;
    let server = TestServer::start(&db.url);
    let mut docs = server.subscribed("/ws/docs?old=true").await;
    let mut filtered = server.subscribed("/ws/docs?filter=n=eq.2&columns=id,n").await;
    db.run("update docs set n = 2").await;
    assert_eq!(db.text("select old::jsonb from rowcast.outbox order by id desc limit 1").await, r#"{"n": 1}"#);
    let told = update(&mut docs).await;
    assert_eq!((&told["changed"], &told["old"]), (&json!(["n"]), &json!({"n": 1})));
    assert_eq!(told["data"]["body"].as_str().unwrap().len(), 19_200);
    let entered = update(&mut filtered).await;
    assert_eq!((&entered["action"], &entered["data"]), (&json!("entered"), &json!({"id": 1, "n": 2})));
    // what json_each cannot read is kept whole, and what did not change is not told
    db.run(r#"update docs set data = '{"a": "\u0000"}'; update docs set n = n"#).await;
    db.run("update docs set n = 3").await;
    assert_eq!(update(&mut docs).await["changed"], json!(["data"]));
    assert_eq!(update(&mut docs).await["changed"], json!(["n"]));
}

#[tokio::test]
async fn of_a_wide_row_the_old_image_is_what_differs() {
    let db = TestDatabase::new().await;
    db.run("create table docs (id int primary key, n int, body text, secret text, data json)").await;
    for options in ["", ", exclude => '{secret}'", ", columns => '{id,n,body,data}'"] {
        db.run(&format!("select rowcast.watch('docs'{options})")).await;
        db.run(r#"delete from docs; insert into docs select 1, 1, string_agg(md5(i::text), ''), 's', '{"a": 1}' from generate_series(1, 40) i"#)
            .await;
        let server = TestServer::start(&db.url);
        let mut docs = server.subscribed("/ws/docs?old=true").await;
        db.run("update docs set n = 2, data = null").await;
        let old = "(select old from rowcast.outbox where op = 'U' order by id desc limit 1)::jsonb";
        assert_eq!(db.text(&format!("select {old}")).await, r#"{"n": 1, "data": {"a": 1}}"#, "{options}");
        let told = update(&mut docs).await;
        assert_eq!((&told["changed"], &told["old"]), (&json!(["n", "data"]), &json!({"n": 1, "data": {"a": 1}})));
        assert_eq!(told["data"]["body"].as_str().unwrap().len(), 1280);
        // a key that changes, and JSON that json_each cannot read, which is kept whole
        db.run(r#"update docs set id = 2; update docs set data = '{"a": "\u0000"}', n = 3"#).await;
        assert_eq!(update(&mut docs).await["old"], json!({"id": 1}));
        assert_eq!(update(&mut docs).await["changed"], json!(["n", "data"]));
        db.run("update docs set n = 4").await;
        assert_eq!(update(&mut docs).await["old"], json!({"n": 3}));
        db.run("delete from docs").await;
        assert_eq!(update(&mut docs).await["data"]["body"].as_str().unwrap().len(), 1280);
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_actor_is_short() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int); select rowcast.watch('pets')").await;
    db.run("select set_config('rowcast.actor', repeat('Ä', 5000000), false); insert into pets values (1)").await;
    assert_eq!(db.text("select actor = repeat('Ä', 200) from rowcast.outbox where op = 'I'").await, "true");
}

#[tokio::test]
async fn without_a_relay_the_outbox_stays_within_twice_its_size_and_a_gap_is_told() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int, name text); select rowcast.watch('pets')").await;
    db.run("select rowcast.configure('outbox_size', '64 MB'), rowcast.configure('retention', '1 minute')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (0, 'first')").await;
    let cursor = update(&mut socket).await["cursor"].as_str().unwrap().to_owned();
    server.stop().await.unwrap();
    for _ in 0..6 {
        db.run("insert into pets select i, repeat('x', 200) from generate_series(1, 50000) i").await;
    }
    db.run("begin; insert into pets values (-1, 'left out'); commit").await;
    let size = "select sum(pg_total_relation_size(s)) from unnest(array['rowcast.outbox_0', 'rowcast.outbox_1', 'rowcast.outbox_2']::regclass[]) s";
    let bytes: u64 = db.text(size).await.parse().unwrap();
    assert!(bytes > 64 << 20 && bytes < 2 * (64 << 20), "{} MiB", bytes >> 20);
    assert_eq!(db.text("select count(*) from pets").await, "300002");
    assert_eq!(db.text("select count(*) from rowcast.outbox where new::text like '%left out%'").await, "0");
    assert_eq!(db.text("select state from rowcast.health where finding = 'capture'").await, "fail");
    // what steers the relay is written all the same
    db.run("select rowcast.create_channel('news')").await;
    assert_eq!(db.text("select op from rowcast.outbox order by id desc limit 1").await, "C");
    // prune makes room: the full segment gives way, and changes are captured again
    db.run("select rowcast.prune()").await;
    db.run("select rowcast.prune()").await;
    let done = db.text("select rowcast.prune() || (select state from rowcast.health where finding = 'capture')").await;
    assert!(done.ends_with("ok"), "{done}");
    let server = TestServer::start(&db.url);
    let mut back = server.socket(&format!("/ws/pets?since={cursor}")).await;
    let gap = back.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")));
    while back.message().await["type"] != "subscribed" {}
    db.run("insert into pets values (1, 'again')").await;
    assert_eq!(update(&mut back).await["data"]["name"], "again");
}

#[tokio::test]
async fn a_paused_capture_costs_nobody_a_lock_and_is_told_when_it_ends() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); create table rooms (id int, n interval)").await;
    db.run("select rowcast.watch('pets'), rowcast.watch('rooms')").await;
    let server = TestServer::start(&db.url);
    let mut pets = server.subscribed("/ws/pets").await;
    let (writer, holder) = (db.another_client().await, db.another_client().await);
    writer.batch_execute("begin; insert into pets values (1)").await.unwrap();
    holder.batch_execute("begin; lock table rooms in access exclusive mode").await.unwrap();
    db.run("select rowcast.pause()").await;
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(
        db.text("select state || ' ' || remedy from rowcast.health where finding = 'capture'").await,
        "warn select rowcast.resume();"
    );
    // in a transaction that was open already, in new ones, by notify too; nothing fails
    writer.batch_execute("insert into pets values (2)").await.unwrap();
    db.run("insert into rooms values (1, '1 day'); select rowcast.notify('7', 'hello', '{}'); truncate rooms").await;
    db.run("select rowcast.prune()").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op <> 'C'").await, "0");
    assert_eq!(db.text("rowcast.resume()").await, "true");
    assert_eq!(db.text("rowcast.resume()").await, "false");
    let gap = pets.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")));
    // a transaction that began before may have left something out: told again, once it has ended
    writer.batch_execute("insert into pets values (3); commit").await.unwrap();
    assert_eq!(update(&mut pets).await["data"]["id"], 1);
    assert_eq!(update(&mut pets).await["data"]["id"], 3);
    while !db.text("select left_out_until from rowcast.installation").await.is_empty() {
        // transactions of other databases count as well: their ids are drawn from one counter
        db.run("select rowcast.prune()").await;
    }
    assert_eq!(pets.message().await["type"], "gap");
    db.run("select rowcast.prune(); insert into pets values (4)").await;
    assert_eq!(update(&mut pets).await["data"]["id"], 4, "and not a third time");
}

#[tokio::test]
async fn a_pause_that_was_rolled_back_ends_by_itself_and_is_told() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    let mut pets = server.subscribed("/ws/pets").await;
    db.run("begin; select rowcast.pause(); rollback; insert into pets values (1)").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "0");
    db.pruned("changes are captured again: some were left out").await;
    assert_eq!(pets.message().await["type"], "gap");
    db.run("insert into pets values (2)").await;
    assert_eq!(update(&mut pets).await["data"]["id"], 2);
}

/// Its number is the first one behind those that have ended, which no snapshot lists.
#[tokio::test]
async fn what_the_newest_transaction_left_out_is_told_once_it_has_ended() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let writer = db.another_client().await;
    let until = "select left_out_until from rowcast.installation";
    // transactions of other databases may end in between, and hide it
    for id in 0..20 {
        db.run("select rowcast.pause()").await;
        writer.batch_execute(&format!("begin; insert into pets values ({id})")).await.unwrap();
        db.run("select rowcast.resume()").await;
        assert_ne!(db.text(until).await, "", "{id}");
        writer.batch_execute("commit").await.unwrap();
        while !db.text(until).await.is_empty() {
            db.run("select rowcast.prune()").await;
        }
    }
}

/// One transaction is open since the first pause, another one since the second.
#[tokio::test]
async fn what_was_left_out_behind_a_second_pause_is_told_too() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let until = "select left_out_until from rowcast.installation";
    let mut writers = Vec::new();
    for id in 0..2 {
        db.run("select rowcast.pause()").await;
        let writer = db.another_client().await;
        writer.batch_execute(&format!("begin; insert into pets values ({id})")).await.unwrap();
        db.run("select rowcast.resume()").await;
        writers.push(writer);
    }
    writers[0].batch_execute("commit").await.unwrap();
    db.run("select rowcast.prune()").await;
    assert_ne!(db.text(until).await, "", "the second one is open");
    writers[1].batch_execute("commit").await.unwrap();
    while !db.text(until).await.is_empty() {
        db.run("select rowcast.prune()").await;
    }
}

/// The transaction that resumes has had its id since before the pause, so that those of the writers are later.
#[tokio::test]
async fn what_was_left_out_within_the_transaction_of_pause_and_resume_is_told_too() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let (operator, writer) = (db.another_client().await, db.another_client().await);
    let until = "select left_out_until from rowcast.installation";
    // transactions of other databases may end in between, and hide it
    for id in 0..20 {
        operator.batch_execute("begin; select pg_current_xact_id(), rowcast.pause()").await.unwrap();
        writer.batch_execute(&format!("begin; insert into pets values ({id})")).await.unwrap();
        operator.batch_execute("select rowcast.resume(); commit").await.unwrap();
        assert_ne!(db.text(until).await, "", "{id}");
        writer.batch_execute("commit").await.unwrap();
        while !db.text(until).await.is_empty() {
            db.run("select rowcast.prune()").await;
        }
    }
}
