//! Locks that a session holds: what waits for them, for how long, and what it is told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rowcast::source::client::Client;

use rowcast::source::install;
use serde_json::json;

use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// An open transaction.
async fn holding(db: &TestDatabase, sql: &str) -> Client {
    let client = db.another_client().await;
    client.batch_execute("begin").await.unwrap();
    client.batch_execute(sql).await.unwrap();
    client
}

/// A role that may connect and nothing else, which holds every number of ours.
async fn stranger_with_all_locks(db: &TestDatabase) -> Client {
    let role = db.text("select 'nada_of_' || current_database()").await;
    db.run(&format!("create role {role} login password 'secret'")).await;
    let stranger = connect(&db.url_of(&role)).await;
    stranger
        .batch_execute("set application_name = 'rowcast read 00000000'; select pg_advisory_lock(1919907683, n) from generate_series(1, 20) n")
        .await
        .unwrap();
    stranger
}

#[tokio::test]
async fn a_role_without_rights_delays_nothing_but_bells() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets'); insert into pets values (1)")
        .await;
    let stranger = stranger_with_all_locks(&db).await;
    // 3
    let migrated = tokio::time::timeout(PATIENCE, async { install::migrate(&mut db.another_client().await).await });
    migrated.await.expect("it does not wait").unwrap();
    // 5: a start, a snapshot, and a start after the reader was ended
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    assert_eq!(socket.message().await["rows"][0]["pet_id"], 1);
    while socket.message().await["type"] != "subscribed" {}
    // 1 and 2
    db.run("insert into pets values (2)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 2);
    db.run("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name like 'rowcast read%' and usename = 'postgres'").await;
    while socket.message().await["code"] != "source_down" {}
    db.run("insert into pets values (3)").await;
    while socket.message().await["data"]["pet_id"] != 3 {}
    // 4
    assert_eq!(db.text("select rowcast.prune()").await, "nothing to do");
    server.stop().await.unwrap();
    // nor with the name of a relay
    db.run("select rowcast.uninstall()").await;
    drop(stranger);
}

#[tokio::test]
async fn who_waits_says_who_is_in_the_way() {
    let db = TestDatabase::new().await;
    let pid = async |client: &Client| {
        client.query_one("select pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0).to_string()
    };
    let dba = db.another_client().await;
    dba.batch_execute("set application_name = 'console'").await.unwrap();
    dba.batch_execute("begin; lock table rowcast.segment in share row exclusive mode").await.unwrap();
    let said = db.text("select rowcast.prune()").await;
    assert_eq!(said, format!("another session prunes: pid {} (postgres, console)", pid(&dba).await));
    dba.batch_execute("rollback; begin; lock table rowcast.alive; truncate rowcast.alive; rollback; begin; lock table rowcast.alive in share mode").await.unwrap();
    db.run("delete from rowcast.incarnation").await;
    let refused = db.refused("select rowcast.note_life()").await;
    assert!(
        refused.contains(&format!("rowcast.alive is locked by pid {} (postgres, console)", pid(&dba).await)),
        "{refused}"
    );
    dba.batch_execute("rollback; begin; select * from rowcast.health").await.unwrap();
    let error = install::migrate(&mut db.another_client().await).await.unwrap_err();
    let remedy = error.remedy().unwrap_or_default();
    assert!(remedy.contains(&format!("pid {} (postgres, console)", pid(&dba).await)), "{error}: {remedy}");
}

/// A DBA works on one table, in a transaction that stays open.
#[tokio::test]
async fn a_lock_on_one_table_keeps_no_other_channel_waiting() {
    let db = TestDatabase::new().await;
    db.run(
        "create type mood as enum ('glad', 'sad');
         create table a (id int, k int, m mood, t text, primary key (id, k)) partition by list (k);
         create table a1 partition of a for values in (1); create table a2 partition of a for values in (2);
         create table plain (id int primary key, m mood); create index plain_m on plain (m); create table b (id int primary key);
         select rowcast.watch('a'); select rowcast.watch('plain'); select rowcast.watch('b')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut b = server.subscribed("/ws/b").await;
    let locks = [
        "lock table a1 in access exclusive mode",
        "lock table a in access exclusive mode",
        "lock table plain in access exclusive mode",
        "alter table a alter t type varchar(10)",
        "alter type mood rename value 'sad' to 'blue'",
        "reindex index plain_m",
        "truncate a1; create index on a2 (t)",
        "alter table plain add column more int default 1; alter table plain rename m to feeling",
    ];
    // amid the pages of a large table, too
    db.run("create table large (id int primary key); insert into large select generate_series(1, 25000); select rowcast.watch('large')").await;
    let mut amid = server.socket("/ws/large?snapshot=true&partial=true").await;
    // that of the first page comes with its last part
    let part = loop {
        let message = amid.message().await;
        if message["cursor"].is_string() {
            assert_eq!(message["last"], false, "{message}");
            break message["cursor"].clone();
        }
    };
    drop(amid);
    let dba = holding(&db, "lock table large in access exclusive mode").await;
    let mut of_all = server.socket("/ws").await;
    of_all.send(r#"{"type":"subscribe","channel":"b"}"#).await;
    assert_eq!(of_all.message().await["type"], "subscribed");
    // of other columns: pages that were read a moment ago are given to others, too
    let command = json!({"type": "subscribe", "channel": "large", "snapshot": true, "partial": true, "since": part, "filter": "id=gt.0", "ref": 1});
    of_all.send(&command.to_string()).await;
    let told = of_all.message().await;
    assert_eq!((&told["code"], &told["ref"]), (&json!("unanswered"), &json!(1)), "{told}");
    dba.batch_execute("rollback").await.unwrap();
    drop(of_all);
    for (number, lock) in locks.into_iter().enumerate() {
        let dba = holding(&db, lock).await;
        // makes the relay read the channels
        db.run(&format!("select rowcast.create_channel('news-{number}')")).await;
        db.run(&format!("insert into b values ({number})")).await;
        assert_eq!(b.message().await["data"]["id"], number, "{lock}");
        server.subscribed(&format!("/ws/news-{number}")).await;
        let mut late = server.socket("/ws/b?snapshot=true").await;
        let rows = late.message().await["rows"].as_array().unwrap().len();
        assert_eq!(rows, number + 1, "{lock}");
        assert_eq!(server.get("/readyz").await.0, 200);
        assert_eq!(server.get("/websocket/database").await.0, 200, "{lock}");
        let watching = db.another_client().await;
        watching.batch_execute("set lock_timeout = '100ms'; select * from rowcast.health; select * from rowcast.watched; select * from rowcast.unwatched; select * from rowcast.exposure; select * from rowcast.recent; select rowcast.prune()").await.unwrap_or_else(|e| panic!("{lock}: {e:?}"));
        if lock.starts_with("lock table a") {
            let mut of_a = server.socket("/ws/a?snapshot=true").await;
            // a path's own: its client comes back to it
            assert_eq!(of_a.close_code().await, 4408, "{lock}");
            let mut of_all = server.socket("/ws").await;
            for wish in [json!({"snapshot": true}), json!({"rows": {"limit": 5}})] {
                let mut command = json!({"type": "subscribe", "channel": "a", "ref": 1});
                command.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
                of_all.send(&command.to_string()).await;
                let told = of_all.message().await;
                assert_eq!((&told["code"], &told["ref"]), (&json!("unanswered"), &json!(1)), "{lock}: {told}");
            }
        }
        dba.batch_execute("rollback").await.unwrap();
    }
    assert_eq!(server.status().await["source"]["reconnects"], 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_that_needs_channels_which_cannot_be_read_is_a_gap_of_its_own_channel() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); create table users (id int primary key); select rowcast.watch('pets'); select rowcast.watch('users')").await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut users) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/users").await);
    let number = db.text("select id from rowcast.channel where name = 'pets'").await;
    let dba = holding(&db, "lock table rowcast.channel in access exclusive mode").await;
    // nothing of it is needed
    db.run("insert into pets values (1); insert into users values (1)").await;
    let first = pets.message().await;
    assert_eq!(first["data"]["id"], 1);
    assert_eq!(users.message().await["data"]["id"], 1);
    // stated anew, and nobody can say how
    db.run(&format!("select rowcast.append({number}, 'C', null, null, null, null)")).await;
    db.run("insert into pets values (2); insert into users values (2)").await;
    let gap = pets.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&"gap".into(), &"unreadable".into()), "{gap}");
    assert_eq!(users.message().await["data"]["id"], 2);
    let before = Instant::now();
    db.run("insert into pets values (3); insert into users values (3)").await;
    assert_eq!(users.message().await["data"]["id"], 3);
    assert!(before.elapsed() < Duration::from_secs(2), "the others wait once");
    dba.batch_execute("rollback").await.unwrap();
    // for each of those that came in between, and once that is over
    for missing in ["of the row", "of the next one", "what came in between"] {
        let gap = pets.message().await;
        assert_eq!((&gap["type"], &gap["reason"]), (&"gap".into(), &"unreadable".into()), "{missing}: {gap}");
    }
    db.run("insert into pets values (4)").await;
    assert_eq!(pets.message().await["data"]["id"], 4);
    // a client that was away meanwhile hears of it too
    let mut back = server.socket(&format!("/ws/pets?since={}", first["cursor"].as_str().unwrap())).await;
    assert_eq!(back.gap().await, "unreadable");
    assert_eq!(server.status().await["source"]["reconnects"], 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn taking_tables_out_keeps_nobody_waiting_who_uses_another_one() {
    let db = TestDatabase::new().await;
    for number in 0..5 {
        db.run(&format!("create table t{number} (id int primary key); select rowcast.watch('t{number}')")).await;
    }
    let reader = holding(&db, "select * from t4").await;
    let began = Instant::now();
    let refused = db.refused(r#"select rowcast.unwatch("table") from rowcast.watched order by channel"#).await;
    assert!(
        refused.contains("one table in a transaction") && refused.contains("t4: it is in use by pid "),
        "{refused}"
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let refused = db.refused("select rowcast.uninstall()");
    let other = db.another_client().await;
    other.batch_execute("set lock_timeout = '1s'").await.unwrap();
    let reads = async {
        for _ in 0..20 {
            other.batch_execute("select * from t0; select * from t3").await.expect("a reader of another table");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (refused, ()) = tokio::join!(refused, reads);
    assert!(refused.contains("t4 stayed in use") && refused.contains("call rowcast.unwatch_all()"), "{refused}");
    let (all, reads) = (db.another_client().await, async {
        for _ in 0..20 {
            other.batch_execute("select * from t0; select * from t3").await.expect("a reader of another table");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (failed, ()) = tokio::join!(all.batch_execute("call rowcast.unwatch_all()"), reads);
    assert!(
        failed.unwrap_err().to_string().contains("")
            && db.text("select string_agg(channel, ' ') from rowcast.watched").await == "t4"
    );
    reader.batch_execute("rollback").await.unwrap();
    db.run("call rowcast.unwatch_all()").await;
    assert_eq!(db.text("select count(*) from rowcast.watched").await, "0");
    assert_eq!(db.text("select count(*) from pg_trigger where tgname ~ 'rowcast'").await, "0");
}

#[tokio::test]
async fn an_uninstall_beside_a_relay_says_so_at_its_start() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let refused = db.refused("select rowcast.uninstall()").await;
    assert!(
        refused.contains("a relay is connected: pid ")
            && refused.contains("(postgres, rowcast listen ")
            && refused.contains("end rowcast serve first"),
        "{refused}"
    );
    assert_eq!(db.text("select state from rowcast.watched").await, "live");
    server.stop().await.unwrap();
    while db.text("select count(*) from pg_stat_activity where datname = current_database() and application_name ~ '^rowcast (listen|read|query|replay) '").await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    db.run("select rowcast.uninstall()").await;
    assert_eq!(db.text("select count(*) from pg_namespace where nspname = 'rowcast'").await, "0");
}

/// Each lock that a statement of ours takes or looks at, as `sql/locks.md` lists it: its kind, its number or mode, the file.
#[test]
fn every_lock_is_in_the_table_of_locks() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut taken = BTreeSet::new();
    for folder in ["sql/functions", "sql/views", "sql/inspect", "sql", "migrations", "src"] {
        collect_locks(root, &root.join(folder), &mut taken);
    }
    let mut listed = BTreeSet::new();
    let mut kind = "";
    for line in std::fs::read_to_string(root.join("sql/locks.md")).unwrap().lines() {
        kind = match line {
            "## Advisory locks" => "advisory",
            "## Locks of tables" => "table",
            "## Locks of rows" => "row",
            _ => kind,
        };
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let what = match kind {
            "advisory" => cells[0],
            "table" if cells.len() > 2 => cells[1],
            _ => "",
        };
        for file in cells[cells.len() - 1].split('`').filter(|part| part.contains('/') && cells.len() > 2) {
            listed.insert(format!("{kind} {what} {file}"));
        }
    }
    assert!(listed.len() > 20, "{listed:#?}");
    let missing: Vec<&String> = taken.difference(&listed).collect();
    let obsolete: Vec<&String> = listed.difference(&taken).collect();
    assert!(
        missing.is_empty() && obsolete.is_empty(),
        "not in sql/locks.md: {missing:#?}; no longer taken: {obsolete:#?}"
    );
}

fn collect_locks(root: &std::path::Path, folder: &std::path::Path, taken: &mut BTreeSet<String>) {
    const FIRST: &str = "1919907683";
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            if folder.starts_with(root.join("src")) {
                collect_locks(root, &path, taken);
            }
            continue;
        }
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if name == "src/naming.rs" || !(name.ends_with(".sql") || name.ends_with(".rs")) {
            continue; // it speaks of the first number only
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with(['-', '/'])).collect();
        let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for (at, _) in code.match_indices("advisory_") {
            if let Some((_, arguments)) =
                code[at..].split_once('(').filter(|(called, _)| called.contains("lock") && !called.contains(' '))
            {
                assert!(
                    arguments.starts_with(FIRST),
                    "{name}: an advisory lock that is not ours: {}",
                    &code[at..(at + 60).min(code.len())]
                );
            }
        }
        for (at, _) in code.match_indices(FIRST) {
            let rest = &code[at + FIRST.len()..];
            let number = rest.strip_prefix(", ").or_else(|| rest.strip_prefix(" and l.objid = "));
            let number: String = number.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
            // without one it asks for all of them
            if !number.is_empty() {
                taken.insert(format!("advisory {number} {name}"));
            }
        }
        for (at, _) in code.match_indices("lock table ") {
            let (_, rest) = code[at..].split_once(" in ").expect(&name);
            match rest.split_once(" mode").expect(&name).0 {
                "%s" => ["share row exclusive", "access exclusive"].iter().for_each(|mode| {
                    assert!(code.contains(&format!("'{mode}'")), "{name}: {mode}");
                    taken.insert(format!("table {mode} {name}"));
                }),
                mode => _ = taken.insert(format!("table {mode} {name}")),
            }
        }
        if name.ends_with(".sql") && code.contains(" for update") {
            taken.insert(format!("row  {name}"));
        }
    }
}

/// A DBA has stated something of the channel and not committed: `unwatch` waits for that, without the table's lock.
#[tokio::test]
async fn who_waits_for_a_channel_keeps_nobody_from_its_table() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let dba = holding(&db, "select rowcast.raise_floor(id) from rowcast.channel").await;
    let (other, reader) = (db.another_client().await, db.another_client().await);
    reader.batch_execute("set lock_timeout = '1s'").await.unwrap();
    let reads = async {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while db.text(waiting).await == "0" {}
        reader.batch_execute("select from pets; insert into pets values (1)").await.expect("nobody waits");
        dba.batch_execute("rollback").await.unwrap();
    };
    let (gone, ()) = tokio::join!(other.batch_execute("select rowcast.unwatch('pets')"), reads);
    gone.unwrap();
}

/// The table of before, which gave its name away, has triggers that go with the schema.
#[tokio::test]
async fn an_uninstall_waits_for_a_table_that_kept_triggers_without_a_lock_on_others() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets'); alter table pets rename to pets_old; create table pets (id int primary key)").await;
    let reader = holding(&db, "select from pets_old").await;
    let remedy = db.text("select remedy from rowcast.watched where drift is not null").await;
    db.run(&remedy).await;
    let refused = db.refused("select rowcast.uninstall()").await;
    assert!(refused.contains("pets_old stayed in use"), "{refused}");
    reader.batch_execute("rollback").await.unwrap();
    db.run("select rowcast.uninstall()").await;
}

/// An emergency stop is for moments in which the outbox is in the way.
#[tokio::test]
async fn a_pause_waits_for_nobody_who_holds_the_outbox() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let holder = holding(&db, "lock table rowcast.outbox_0, rowcast.outbox_1, rowcast.outbox_2").await;
    db.run("set statement_timeout = '10s'; select rowcast.pause(); insert into pets values (1)").await;
    assert_eq!(db.text("select count(*) from rowcast.setting where name = 'paused'").await, "1");
    assert_eq!(db.text("current_setting('lock_timeout')").await, "0");
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "0");
}

/// A reader that takes nothing, of a table that is read in one transaction: the statement waits for it, with its lock.
#[tokio::test]
async fn a_snapshot_that_is_taken_slowly_gives_way_to_ddl() {
    let db = TestDatabase::new().await;
    db.run(
        "create table log (body text);
         insert into log select md5(n::text) || md5(random()::text) || md5(random()::text) || md5(random()::text)
           from generate_series(1, 400000) n;
         select rowcast.watch('log')",
    )
    .await;
    // it answers no ping either
    let server = TestServer::start_with(&db.url, &[("ping-seconds", "600")]);
    let _takes_nothing = server.socket("/ws/log?snapshot=true").await;
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
         and application_name like 'rowcast replay%' and wait_event = 'ClientWrite'";
    while db.text(waiting).await != "1" {
        tokio::task::yield_now().await;
    }
    db.run("set lock_timeout = '20s'; alter table log add column x int").await;
    server.stop().await.unwrap();
}

/// A writer of a table with hidden columns has the table in which they are noted.
#[tokio::test]
async fn a_migrate_keeps_no_writer_of_hidden_columns_waiting() {
    let db = TestDatabase::new().await;
    db.run("create table users (id int primary key, pw text); select rowcast.watch('users', exclude => '{pw}'); alter table users add column note text")
        .await;
    // as the version before left it
    db.run("alter table rowcast.hidden_column replica identity default").await;
    let writer = holding(&db, "insert into users values (1)").await;
    let (other, mut migrating) = (db.another_client().await, db.another_client().await);
    other.batch_execute("set lock_timeout = '2s'").await.unwrap();
    let migrate = tokio::spawn(async move { install::migrate(&mut migrating).await.map(|_| ()) });
    let mut id = 1;
    while !migrate.is_finished() {
        id += 1;
        other.batch_execute(&format!("insert into users values ({id})")).await.unwrap();
    }
    migrate.await.unwrap().unwrap();
    writer.batch_execute("commit").await.unwrap();
    let identity = "select relreplident from pg_class where oid = 'rowcast.hidden_column'::regclass";
    assert_eq!(db.text(identity).await, "d");
    install::migrate(&mut db.another_client().await).await.unwrap();
    assert_eq!(db.text(identity).await, "f");
}

/// An autovacuum that takes hours gives way to nobody who waits for less than `deadlock_timeout`.
#[tokio::test]
async fn a_table_on_which_autovacuum_works_can_be_watched() {
    if !TestDatabase::is_private() {
        eprintln!("skipped: the settings of this cluster are not ours");
        return;
    }
    let db = TestDatabase::new().await;
    db.run("alter system set autovacuum_naptime = '1s'").await;
    db.run("select pg_reload_conf()").await;
    db.run(
        "create table big (id int primary key, note text) with (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
           autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
         insert into big select n, repeat('x', 100) from generate_series(1, 50000) n",
    )
    .await;
    db.run("delete from big").await;
    let works = "select count(*) from pg_locks l join pg_stat_activity a on a.pid = l.pid
        where l.relation = 'big'::regclass and a.usesysid is null";
    tokio::time::timeout(PATIENCE, async { while db.text(works).await == "0" {} }).await.unwrap();
    let holders = db.text("select rowcast.holders('big', true)").await;
    assert!(holders.contains("(autovacuum, "), "{holders}");
    let owner = db.text("select 'owner_of_' || current_database()").await;
    db.run(&format!("create role {owner} in role rowcast_capture; alter table big owner to {owner}")).await;
    db.run("select rowcast.watch('big')").await;
    db.run("alter system reset autovacuum_naptime").await;
    db.run(&format!("select pg_reload_conf(); drop table big; drop role {owner}")).await;
}
