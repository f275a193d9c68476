//! What a DBA asks: what it costs, whether anything is missing, whether anybody reads, which statement is slow because of it.

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const DOCS: &str = include_str!("../docs/reference/operations.md");

async fn finding(db: &TestDatabase, name: &str) -> (String, String, String) {
    // Postgres would compile the view for seconds, as rowcast's own sessions do not let it
    db.run("set jit = off").await;
    let part =
        async |column: &str| db.text(&format!("select {column} from rowcast.health where finding = '{name}'")).await;
    (part("state").await, part("detail").await, part("remedy").await)
}

#[tokio::test]
async fn what_capture_costs_is_told_by_table_the_dearest_first() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key, name text); create table docs (id int primary key, body text);
         create table silent (id int primary key);
         select rowcast.watch('pets'), rowcast.watch('docs'), rowcast.watch('silent')",
    )
    .await;
    db.run("insert into pets select i, 'Luna' from generate_series(1, 100) i; update pets set name = 'Rex'").await;
    db.run("insert into docs select i, (select string_agg(md5(random()::text), '') from generate_series(1, 640)) from generate_series(1, 10) i").await;
    db.run("select rowcast.configure('row_bytes', '4 MB'); insert into docs values (11, repeat(chr(1), 2000000))")
        .await;
    let told = db.text("select json_agg(c) from rowcast.cost c").await;
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    let [docs, pets, silent] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&docs["channel"], &docs["changes"], &docs["large"]), (&json!("docs"), &json!(11), &json!(10)));
    assert_eq!(docs["omitted"], 1);
    let size = |of: &Value, what: &str| of[what].as_f64().unwrap();
    assert!((10.0 * 20_480.0..10.0 * 24_000.0).contains(&size(docs, "outbox_bytes")), "{docs}");
    assert_eq!((&pets["channel"], &pets["changes"], &pets["large"]), (&json!("pets"), &json!(200), &json!(0)));
    let images = size(pets, "old_bytes") + size(pets, "new_bytes");
    assert!(size(pets, "old_bytes") > 2_000.0 && size(pets, "new_bytes") > size(pets, "old_bytes"), "{pets}");
    assert!(size(pets, "outbox_bytes") > images && size(pets, "wal_bytes") > size(pets, "outbox_bytes"), "{pets}");
    assert!(size(pets, "per_second") > 0.0, "{pets}");
    assert_eq!(
        (&silent["channel"], &silent["changes"], &silent["outbox_bytes"]),
        (&json!("silent"), &json!(0), &json!(0))
    );
    // the time of the trigger is told once Postgres counts it
    assert_eq!(pets["trigger_us"], Value::Null);
    let writer = db.another_client().await;
    let count = "set track_functions = 'pl'; insert into pets values (101, 'Luna')";
    writer.batch_execute(count).await.unwrap();
    drop(writer);
    // at the end of its session, which it does not wait for
    while db.text("select trigger_us > 0 from rowcast.cost limit 1").await != "true" {}
}

#[tokio::test]
async fn a_large_outbox_is_judged_by_a_part_of_it() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key, note text); select rowcast.watch('pets')").await;
    db.run("insert into pets select i, repeat('x', 500) from generate_series(1, 40000) i").await;
    let told = db.text("select looked_at < 100 and abs(changes - 40000) < 8000 from rowcast.cost").await;
    assert_eq!(told, "true", "{}", db.text("select json_agg(c) from rowcast.cost c").await);
}

#[tokio::test]
async fn an_update_of_columns_that_may_not_leave_costs_no_row_of_the_outbox() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key, name text, seen timestamptz, body text);
         create table docs (id int primary key, body text, seen int, other int);
         select rowcast.watch('pets', columns => '{id,name}', user_rule => 'select row.id');
         select rowcast.watch('docs', exclude => '{seen}')",
    )
    .await;
    db.run("insert into pets values (1, 'Luna', now(), null), (2, 'Rex', now(), repeat('x', 5000))").await;
    db.run("insert into docs values (1, (select string_agg(md5(i::text), '') from generate_series(1, 600) i), 1)")
        .await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut user) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/user/1").await);
    let mut docs = server.subscribed("/ws/docs").await;
    let rows = "select count(*) from rowcast.outbox";
    let before = db.text(rows).await;
    db.run("update pets set seen = now() + interval '1 day', body = 'y'; update docs set seen = 2; update docs set seen = 3").await;
    assert_eq!(db.text(rows).await, before);
    // and nothing else is different: the next change is the next message
    db.run("update pets set name = 'Nala', seen = now() where id = 1; update docs set seen = 4, other = 7").await;
    let told = pets.message().await;
    assert_eq!((&told["changed"], &told["data"]), (&json!(["name"]), &json!({"id": 1, "name": "Nala"})));
    assert_eq!(user.message().await["data"]["name"], "Nala");
    let told = docs.message().await;
    assert_eq!(
        (&told["changed"], &told["data"]["other"], &told["data"]["seen"]),
        (&json!(["other"]), &json!(7), &Value::Null)
    );
    db.run("update pets set id = 3, seen = now() where id = 1").await;
    assert_eq!(pets.message().await["data"]["id"], 3);
}

/// Plain inheritance: what is written into the child is a change of the child alone.
#[tokio::test]
async fn what_is_written_into_a_child_is_no_silence_of_its_parent() {
    let db = TestDatabase::new().await;
    db.run(
        "create table animals (id int); create table pets (name text) inherits (animals);
         select rowcast.watch('animals'), rowcast.watch('pets')",
    )
    .await;
    let silent = "select string_agg(channel || ' ' || rows, ', ') from rowcast.note_tally()";
    for _ in 0..2 {
        assert_eq!(db.text(silent).await, "", "the tally begins");
    }
    let writer = db.another_client().await;
    writer.batch_execute("insert into pets values (1, 'Luna')").await.unwrap();
    drop(writer);
    // its session tells what it has counted when it ends
    while db.text("select pg_stat_get_tuples_inserted('pets'::regclass)").await != "1" {}
    assert_eq!(db.text(silent).await, "");
}

#[tokio::test]
async fn rows_that_are_written_and_not_captured_are_found_and_subscribers_can_be_told() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key); create table rooms (id int primary key) partition by range (id);
         create table rooms_1 partition of rooms for values from (0) to (1000);
         select rowcast.watch('pets'), rowcast.watch('rooms')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut rooms) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/rooms").await);
    let counted = async |sql: &str, table: &str, rows: u32| {
        let writer = db.another_client().await;
        writer.batch_execute(sql).await.unwrap();
        drop(writer);
        // its session tells what it has counted when it ends
        let written = format!("select pg_stat_get_tuples_inserted('{table}'::regclass)");
        while db.text(&written).await != rows.to_string() {}
    };
    counted("insert into pets select generate_series(1, 5)", "pets", 5).await;
    let silent = "select string_agg(channel || ' ' || rows, ', ') from rowcast.note_tally()";
    for _ in 0..2 {
        assert_eq!(db.text(silent).await, "", "the tally begins");
    }
    // captured, rolled back, updated to what it was: nothing is missing
    counted("insert into pets values (6); begin; insert into pets values (7), (8); rollback", "pets", 8).await;
    counted(
        "begin; insert into pets values (9); rollback; update pets set id = id; insert into rooms values (1)",
        "pets",
        9,
    )
    .await;
    assert_eq!(db.text(silent).await, "");
    counted("begin; insert into pets values (7); rollback", "pets", 10).await;
    assert_eq!((db.text(silent).await, finding(&db, "silent tables").await.0), (String::new(), "ok".to_owned()));
    // two ways that the catalogue does not show
    counted("set rowcast.mute = on; insert into pets select generate_series(11, 30)", "pets", 30).await;
    counted("set session_replication_role = replica; insert into rooms values (2), (3), (4)", "rooms_1", 4).await;
    assert_eq!(db.text(silent).await, "pets 20, rooms 3");
    assert_eq!(db.text(silent).await, "", "said once");
    let (state, detail, remedy) = finding(&db, "silent tables").await;
    assert!(
        state == "warn" && detail.contains("pets (20 rows by ") && detail.contains("rooms (3 rows by "),
        "{detail}"
    );
    // the remedy as it is printed: subscribers load again, and the finding is over
    db.run(&remedy).await;
    for socket in [&mut pets, &mut rooms] {
        let gap = loop {
            let message = socket.message().await;
            if message["type"] == "gap" {
                break message;
            }
        };
        assert_eq!(gap["reason"], "policy");
    }
    assert_eq!(finding(&db, "silent tables").await.0, "ok");
    for _ in 0..2 {
        assert_eq!(db.text(silent).await, "", "it begins anew");
    }
    // it is looked for again, and not after a pause, which is told
    counted("set rowcast.mute = on; insert into pets values (31)", "pets", 31).await;
    assert_eq!(db.text(silent).await, "pets 1");
    db.run("select rowcast.pause()").await;
    counted("insert into pets values (32)", "pets", 32).await;
    assert_eq!(db.text(silent).await, "");
    db.run("select rowcast.resume()").await;
    for _ in 0..3 {
        assert_eq!(db.text(silent).await, "");
    }
    // nor where nobody looked during the pause
    db.run("select rowcast.pause()").await;
    counted("insert into pets values (33)", "pets", 33).await;
    db.run("select rowcast.resume()").await;
    for _ in 0..3 {
        assert_eq!(db.text(silent).await, "");
    }
    // a partition brings its rows, ANALYZE estimates anew
    db.run("create table rooms_2 (like rooms including all); insert into rooms_2 select generate_series(1000, 1100)")
        .await;
    db.run("alter table rooms attach partition rooms_2 for values from (1000) to (2000)").await;
    counted("begin; insert into pets values (34), (35); rollback; analyze pets", "pets", 35).await;
    assert_eq!(db.text(silent).await, "");
}

#[tokio::test]
async fn a_database_that_nobody_reads_is_not_well() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let (state, detail, _) = finding(&db, "relays").await;
    assert!(state == "warn" && detail.starts_with("none runs: changes wait"), "{state}: {detail}");
    let server = TestServer::start(&db.url);
    while finding(&db, "relays").await.0 != "ok" {}
    server.stop().await.unwrap();
    // a relay that stands still goes on noting itself, and has seen nothing of what was captured since
    let note = "select rowcast.note_node('0', '1', '127.0.0.1:9', 'relay', now(), 0, 0, pg_current_snapshot())";
    db.run(&format!("delete from rowcast.node; {note}")).await;
    // a transaction of its own: others of the cluster, that begin and end while this one runs, would put its number
    // before the end of the snapshot
    db.run("insert into pets values (1)").await;
    assert_eq!(finding(&db, "relays").await.0, "ok", "it has a moment");
    // what it notes later, having read nothing
    db.run("update rowcast.outbox set at = at - interval '2 minutes'").await;
    let stands = "select rowcast.note_node('0', '1', '127.0.0.1:9', 'relay', now(), 0, 0, seen) from rowcast.node";
    db.run(stands).await;
    let (state, detail, remedy) = finding(&db, "relays").await;
    assert!(state == "warn" && detail.contains("relay at 127.0.0.1:9 has not read what was captured at "), "{detail}");
    assert!(remedy.contains("restart it"), "{remedy}");
    // a segment that is locked keeps no node from noting itself
    let holder = db.another_client().await;
    holder.batch_execute("begin; lock table rowcast.outbox_1").await.unwrap();
    db.run(stands).await;
    holder.batch_execute("rollback").await.unwrap();
    db.run(note).await;
    assert_eq!(finding(&db, "relays").await.0, "ok", "it has read it");
    db.run("update rowcast.node set seen_at = seen_at - interval '1 hour'").await;
    let (state, detail, _) = finding(&db, "relays").await;
    assert!(state == "warn" && detail.contains("the last one was there at "), "{detail}");
}

#[tokio::test]
async fn a_table_that_was_dropped_is_named_with_a_remedy_that_works() {
    let db = TestDatabase::new().await;
    db.run("create table orders (id int); select rowcast.watch('orders'); drop table orders").await;
    let (state, detail, _) = finding(&db, "triggers").await;
    let number = db.text("select \"table\"::oid from rowcast.watched").await;
    assert_eq!(
        (state.as_str(), detail.as_str()),
        ("fail", &*format!("orders: the table public.orders is gone: select rowcast.unwatch('{number}');"))
    );
    db.run(&db.text("select remedy from rowcast.watched").await).await;
    assert_eq!(finding(&db, "triggers").await.0, "ok");
}

/// What the documentation tells to type.
#[tokio::test]
async fn explain_tells_what_capture_takes_of_a_statement() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); select rowcast.watch('pets'); insert into pets values (1, 'Luna')").await;
    let section = DOCS.split("### Which statement is slow because of it").nth(1).expect("the section");
    let mut recipes = section.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (explain, auto) = (recipes.next().expect("explain"), recipes.next().expect("auto_explain"));
    let plan: Vec<String> = db
        .client
        .simple_query(explain)
        .await
        .unwrap()
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect();
    let trigger =
        plan.iter().find(|line| line.starts_with("Trigger !rowcast: time=")).unwrap_or_else(|| panic!("{plan:?}"));
    assert!(trigger.ends_with("calls=1"), "{trigger}");
    assert_eq!(db.text("select name from pets").await, "Luna", "it was rolled back");
    // not everybody has the module
    if db.client.batch_execute("load 'auto_explain'").await.is_err() {
        return;
    }
    let psql = rowcast::demo::cluster::find_programs().expect("psql, from Postgres's own programs").join("psql");
    let script = format!("set client_min_messages = log; {auto}; update pets set name = 'Nala'");
    let mut command = tokio::process::Command::new(psql);
    let output = command.args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", &script]).arg(&db.url).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Trigger !rowcast: time="), "{said}");
}

/// The outbox may have gigabytes that nobody has analysed.
#[tokio::test]
async fn what_a_relay_asks_when_it_connects_reads_none_of_the_outbox() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key); select rowcast.watch('pets');
         insert into pets select generate_series(1, 1000); select rowcast.note_life()",
    )
    .await;
    // of a session that has read nothing else
    let relay = db.another_client().await;
    relay.batch_execute("begin; select rowcast.note_life()").await.unwrap();
    let scans = "select sum(pg_stat_get_xact_numscans(format('rowcast.outbox_%s', n)::regclass))::int8 from generate_series(0, 5) n";
    assert_eq!(relay.query_one(scans, &[]).await.unwrap().get::<_, i64>(0), 0);
}
