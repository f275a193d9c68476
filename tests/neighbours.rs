//! What else is in a database: other schemas with the same names, tables that come later, logical replication, partitions
//! that move, dumps by somebody else. Each remedy is pasted.

use serde_json::json;
use tokio::time::timeout;

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

/// Waits until a statement says so.
async fn comes_to(db: &TestDatabase, sql: &str, value: &str) {
    let comes = async {
        while db.text(sql).await != value {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, comes).await.is_ok(), "{sql} does not come to {value}, but to {}", db.text(sql).await);
}

async fn rowcast(url: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.args(arguments).env("DATABASE_URL", url).env_remove("ROWCAST_DATABASE_URL");
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

const TENANTS: &str = "create schema t1; create schema t2;
    create table t1.orders (id int primary key); create table t1.zebra (id int primary key);
    create table t2.orders (id int primary key); create table t2.zebra (id int primary key); create table t2.big_log (id int primary key)";

#[tokio::test]
async fn a_schema_for_each_tenant_is_watched_under_a_prefix() {
    let channels = "select string_agg(target::text || ' ' || name, ', ' order by target::text) from rowcast.channel";
    let wanted = "t1.orders orders, t1.zebra zebra, t2.orders t2-orders, t2.zebra t2-zebra";
    for with in ["sql", "procedure", "program"] {
        let db = TestDatabase::new().await;
        db.run(TENANTS).await;
        match with {
            "sql" => {
                db.run("select rowcast.watch_schema('t1'); select rowcast.watch_schema('t2', prefix => 't2-', except_tables => '{big_log}')").await;
            }
            "procedure" => {
                db.run("call rowcast.watch_each('t1')").await;
                db.run("call rowcast.watch_each('t2', prefix => 't2-', except_tables => '{big_log}')").await;
            }
            _ => {
                assert!(rowcast(&db.url, &["watch", "--schema", "t1"]).await.0);
                let second = ["watch", "--schema", "t2", "--prefix", "t2-", "--except", "big_log"];
                assert!(rowcast(&db.url, &second).await.0);
            }
        }
        assert_eq!(db.text(channels).await, wanted, "{with}");
    }
}

#[tokio::test]
async fn a_name_that_another_schema_has_stops_no_other_table_and_its_remedy_works() {
    let db = TestDatabase::new().await;
    db.run(TENANTS).await;
    db.run("select rowcast.watch_schema('t1'); drop table t1.zebra, t2.big_log").await;
    let (ok, said) = rowcast(&db.url, &["watch", "--schema", "t2"]).await;
    assert!(!ok && said.contains("channel orders is taken by t1.orders"), "{said}");
    // the channel of a table that is gone is kept for it: a call that states nothing would lose what was excluded
    assert!(said.contains("channel zebra is taken"), "{said}");
    for table in ["orders", "zebra"] {
        let remedy = format!("select remedy from rowcast.unwatched where \"table\" = 't2.{table}'::regclass");
        let remedy = db.text(&remedy).await;
        assert_eq!(remedy, format!("select rowcast.watch('t2.{table}', channel => 't2-{table}');"));
        if table == "zebra" {
            db.run(&remedy).await;
        }
    }
    // the refusal prints what was asked for, under a name that is free
    let refused = db.refused("select rowcast.watch('t2.orders', exclude => '{}', singular => 'bill')").await;
    let (_, call) = refused.split_once("give it another name: ").expect(&refused);
    db.run(call).await;
    assert_eq!(
        db.text("select name || ' ' || singular from rowcast.channel where target = 't2.orders'::regclass").await,
        "t2-orders bill"
    );
    assert_eq!(db.text("select count(*) from rowcast.unwatched").await, "0");
}

#[tokio::test]
async fn names_that_look_alike_are_given_channels_that_differ() {
    let db = TestDatabase::new().await;
    db.run(
        "create table \"order\" (id int primary key); create table \"Order\" (id int primary key); create table \"ORDER\" (id int primary key);
         create table \"user\" (id int primary key); create table \"User\" (id int primary key); create table \"My Table\" (id int primary key);
         create table \"my_table\" (id int primary key); create table \"a/b?\" (id int primary key)",
    )
    .await;
    let many = "select count(*) from rowcast.unwatched";
    let mut left = db.text(many).await;
    while left != "0" {
        db.run(&db.text("select remedy from rowcast.unwatched limit 1").await).await;
        let now = db.text(many).await;
        assert_ne!(now, left, "a remedy that does nothing");
        left = now;
    }
    assert_eq!(db.text("select count(distinct name) from rowcast.channel").await, "8");
}

#[tokio::test]
async fn what_is_misspelt_for_a_schema_is_refused() {
    let db = TestDatabase::new().await;
    db.run(TENANTS).await;
    for (call, said) in [
        ("select rowcast.watch_schema('t3')", "it does not exist"),
        ("select rowcast.watch_schema('rowcast')", "it is not the application's"),
        (
            "select rowcast.watch_schema('t2', except_tables => '{biglog}')",
            "no table biglog to be excepted | name tables as pg_class has them, without the schema: big_log, orders, zebra",
        ),
        ("select rowcast.watch_schema('t2', prefix => 'a/b')", "cannot begin a channel's name"),
    ] {
        let refused = db.refused(call).await;
        assert!(refused.contains(said), "{refused}");
    }
    // columns that are excluded of a whole schema would be excluded of none
    let (ok, _) = rowcast(&db.url, &["watch", "--schema", "t2", "--exclude", "id"]).await;
    assert!(!ok);
    assert_eq!(db.text("select count(*) from rowcast.channel").await, "0");
}

#[tokio::test]
async fn a_table_that_is_added_later_is_watched_by_the_relay() {
    let db = TestDatabase::new().await;
    db.run(
        "create schema shop; create table shop.a (id int primary key); create table shop.never (id int primary key)",
    )
    .await;
    assert!(
        rowcast(&db.url, &["watch", "--schema", "shop", "--prefix", "s-", "--except", "never", "--future"]).await.0
    );
    let server = TestServer::start_with(&db.url, &[("heartbeat-seconds", "1")]);
    let mut first = server.subscribed("/ws/s-a").await;
    db.run("create table shop.b (id int primary key, parent int references shop.a); create table shop.\"user\" (id int primary key);
            create table shop.parts (id int primary key) partition by hash (id); create table shop.part partition of shop.parts for values with (modulus 1, remainder 0)")
        .await;
    let told = "select string_agg(name, ' ' order by name) from rowcast.channel";
    comes_to(&db, told, "s-a s-b s-parts s-user").await;
    let mut second = server.subscribed("/ws/s-b").await;
    db.run("insert into shop.a values (1); insert into shop.b values (2, 1)").await;
    assert_eq!(second.message().await["data"]["id"], 2);
    assert_eq!(first.message().await["data"]["id"], 1);
    assert_eq!(db.text("select state from rowcast.health where finding = 'new tables'").await, "ok");

    // one that was taken out stays out, until it is watched again
    db.run("select rowcast.unwatch('shop.b')").await;
    assert_eq!(db.text("select count(*) from rowcast.newcomer").await, "0");
    let reason = "select reason from rowcast.unwatched where \"table\" = 'shop.b'::regclass";
    assert_eq!(db.text(reason).await, "taken out by rowcast.unwatch");
    db.run("select * from rowcast.watch_schema('shop', prefix => 's-', except_tables => '{never}', future => true)")
        .await;
    assert_eq!(db.text(told).await, "s-a s-parts s-user", "also where the deployment states it again");
    db.run("select rowcast.watch('shop.b', channel => 's-b')").await;
    assert_eq!(db.text("select count(*) from rowcast.unwatched").await, "1", "never");

    // the end of it
    db.run("select rowcast.watch_schema('shop', future => false); create table shop.c (id int primary key)").await;
    assert_eq!(db.text("select count(*) from rowcast.newcomer").await, "0");
    db.run("call rowcast.unwatch_all()").await;
    server.stop().await.unwrap();
}

/// What took the name of a watched table may have columns that were excluded there.
#[tokio::test]
async fn a_table_that_took_a_watched_name_is_no_new_one() {
    let db = TestDatabase::new().await;
    db.run("create schema shop; create table shop.a (id int primary key, secret text); select rowcast.watch('shop.a', exclude => '{secret}');
            select rowcast.watch_schema('shop', future => true)").await;
    db.run("alter table shop.a rename to a_old; create table shop.a (id int primary key, secret text)").await;
    assert_eq!(db.text("select count(*) from rowcast.newcomer").await, "0");
    db.run("drop table shop.a_old").await;
    assert_eq!(db.text("select count(*) from rowcast.newcomer").await, "0");
    db.run(&db.text("select remedy from rowcast.unwatched").await).await;
    assert_eq!(db.text("select given_exclude from rowcast.channel").await, "{secret}");
}

#[tokio::test]
async fn the_configuration_is_printed_and_leads_to_the_same_one() {
    const TABLES: &str = "create schema shop; create table shop.\"Order\" (id int primary key, clinic int, who text, secret text, n int);
        create table shop.plain (id int primary key); create table shop.never (id int primary key); create table shop.users (id int primary key);
        create table pets (id int primary key, name text, user_id int, mail text)";
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run(
        r#"select rowcast.configure('retention', '3 hours'), rowcast.configure('notify', 'empty'), rowcast.configure('row_bytes', '16 MB'),
             rowcast.configure('order', 'any'), rowcast.configure('actor', 'hide'), rowcast.configure('brief_size', '2 GB'),
             rowcast.configure('brief_retention', '2 hours'), rowcast.configure('outbox_size', '3 GB');
           insert into rowcast.setting values ('capture', 'native');
           select rowcast.create_channel('news');
           select rowcast.watch('shop."Order"', channel => 'o''s', user_rule => 'select row.n from shop.users where id = row.id',
             notification => '{"k": "who", "it''s": "id"}', exclude => '{secret}', singular => 'bill', replicated => true);
           select rowcast.watch('pets', user_rule => 'user_id', columns => '{id,name,user_id}');
           select rowcast.watch_schema('shop', prefix => 's-', except_tables => '{never}', future => true);
           select rowcast.allow('pets', 'anon', 'name=eq.O''Hara', '{id,name}'); select rowcast.allow('o''s', 'vet', actor => true);
           alter table pets rename column name to "the name"; alter table pets rename to animals"#,
    )
    .await;
    let dump = "select string_agg(call, e'\\n') from rowcast.dump() call";
    let printed = db.text(dump).await;
    let other = TestDatabase::new().await;
    other.run(TABLES).await;
    other.run("alter table pets rename column name to \"the name\"; alter table pets rename to animals").await;
    // no other server may have the library, and the filter of a policy names a column that is another one now
    let calls: Vec<&str> = printed.lines().filter(|call| !call.starts_with("-- ")).collect();
    assert_eq!(calls.len() + 2, printed.lines().count(), "{printed}");
    assert_eq!(calls.iter().filter(|call| call.contains("rowcast.configure")).count(), 8, "{printed}");
    for call in &calls {
        other.run(call).await;
    }
    assert_eq!(other.text(dump).await, calls.join("\n"));
    let state =
        "select string_agg(format('%s %s %s', channel, state, replicated), ', ' order by channel) from rowcast.watched";
    assert_eq!(other.text(state).await, db.text(state).await);
}

/// An operator who restores runs what is printed: what is a comment there is one in all its lines.
#[tokio::test]
async fn what_cannot_be_stated_again_is_a_comment_in_all_its_lines() {
    let db = TestDatabase::new().await;
    db.run(
        r#"create table gone (id int primary key, u int);
           create table root (id int) partition by list (id); create table part (id int);
           select rowcast.watch('gone', user_rule => E'select row.u\n where row.u > 0'), rowcast.watch('part');
           drop table gone; alter table part rename to "x
alter role mallory superuser;--"; alter table root attach partition "x
alter role mallory superuser;--" default"#,
    )
    .await;
    let lines = "select string_agg(line, E'\\n') from rowcast.dump() call cross join regexp_split_to_table(call, E'[\\n\\r]') line
                  where call like '--%'";
    let printed = db.text(lines).await;
    assert_eq!(printed.lines().count(), 5, "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("-- ")), "{printed}");
}

#[tokio::test]
async fn what_logical_replication_writes_is_captured_where_it_is_asked_for() {
    let from = TestDatabase::new().await;
    if from.text("current_setting('wal_level')").await != "logical" {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the server needs wal_level = logical");
        return eprintln!("skipped: the server needs wal_level = logical");
    }
    let to = TestDatabase::new().await;
    let tables =
        "create table t (id int primary key, v text); create table p (id int primary key) partition by list (id);
        create table p1 partition of p default; create table calm (id int primary key)";
    from.run(tables).await;
    to.run(tables).await;
    from.run("create publication p for table t, p with (publish_via_partition_root = true)").await;
    to.run("select rowcast.watch('t'), rowcast.watch('p'), rowcast.watch('calm')").await;
    let server = TestServer::start(&to.url);
    let mut socket = server.subscribed("/ws/t").await;
    let (slot, name) = (format!("s_{}", std::process::id()), from.text("current_database()").await);
    from.run(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    let port = from.text("select coalesce(inet_server_port(), current_setting('port')::int)").await;
    to.run(&format!(
        "create subscription s connection 'host=127.0.0.1 port={port} user=postgres password=postgres dbname={name}'
           publication p with (create_slot = false, slot_name = '{slot}', copy_data = false)"
    ))
    .await;
    // nothing of it is captured, and it is said: with a remedy that works
    let drifts = "select string_agg(channel || ' ' || drift, ', ' order by channel) from rowcast.watched where drift is not null";
    let silent = "subscription s writes to it, and nothing of that is captured";
    assert_eq!(to.text(drifts).await, format!("p {silent}, t {silent}"));
    assert_eq!(to.text("select state from rowcast.health where finding = 'triggers'").await, "fail");
    from.run("insert into t values (1, 'unheard')").await;
    comes_to(&to, "select count(*) from t", "1").await;
    let remedies = to.text("select string_agg(remedy, ' ') from rowcast.watched").await;
    assert!(remedies.contains("replicated => true"), "{remedies}");
    for remedy in remedies.split_inclusive(';') {
        to.run(remedy).await;
    }
    assert_eq!(to.text(drifts).await, "");
    // a partition that comes later has the trigger in the same mode
    to.run("alter table p detach partition p1; create table p2 partition of p for values in (2)").await;
    from.run("insert into t values (2, 'a'); update t set v = 'b' where id = 2; insert into p values (2); truncate t")
        .await;
    let mut told = Vec::new();
    while told.last() != Some(&json!("truncated")) {
        let message = socket.message().await;
        if message["type"] == "realtime_update" {
            told.push(message["action"].clone());
        }
    }
    assert_eq!(told, [json!("created"), json!("updated"), json!("truncated")]);
    comes_to(&to, "select count(*) from rowcast.recent where channel = 'p' and action = 'created'", "1").await;
    // a trigger that somebody has set back
    to.run("alter table t enable trigger \"!rowcast\"").await;
    assert_eq!(to.text(drifts).await, "t triggers do not fire for what logical replication writes: !rowcast");
    to.run(&to.text("select remedy from rowcast.watched where channel = 't'").await).await;
    assert_eq!(to.text(drifts).await, "");
    server.stop().await.unwrap();
    to.run("alter subscription s disable; alter subscription s set (slot_name = none); drop subscription s").await;
    comes_to(&from, &format!("select active from pg_replication_slots where slot_name = '{slot}'"), "false").await;
    from.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
}

/// Rows that move with DDL are told by no trigger.
#[tokio::test]
async fn a_partition_that_comes_or_goes_with_its_rows_is_a_gap() {
    let db = TestDatabase::new().await;
    db.run(
        "create table ev (id int, day date, v text, primary key (id, day)) partition by range (day);
         create table ev_default partition of ev default; select rowcast.watch('ev'); insert into ev values (3, '2028-03-03', 'c')",
    )
    .await;
    let floor = "select coalesce(floor::text, '') from rowcast.channel";
    db.run("select rowcast.note_forms()").await;
    for (ddl, is_gap) in [
        ("create table ev_2028 (like ev including all);
          with m as (delete from ev_default where day >= '2028-01-01' returning *) insert into ev_2028 select * from m;
          alter table ev attach partition ev_2028 for values from ('2028-01-01') to ('2029-01-01')", true),
        ("create table ev_2029 partition of ev for values from ('2029-01-01') to ('2030-01-01')", false),
        ("create table ev_2030 partition of ev for values from ('2030-01-01') to ('2031-01-01') partition by range (day);
          create table ev_2030a partition of ev_2030 for values from ('2030-01-01') to ('2030-06-01')", false),
        ("insert into ev values (9, '2029-02-02', 'd'), (8, '2030-02-02', 'd')", false),
        ("create table ev_2031 as select 7 id, '2031-02-02'::date as day, 'x' v; alter table ev_2031 alter id set not null, alter day set not null;
          alter table ev attach partition ev_2031 for values from ('2031-01-01') to ('2032-01-01')", true),
        ("alter table ev rename to events; alter table ev_2031 rename to events_2031; create schema elsewhere; alter table events_2031 set schema elsewhere", false),
        ("alter table events detach partition ev_2028", true),
        ("drop table ev_2029", true),
        // one that stays is another one with other rows
        ("alter table events detach partition ev_2030; alter table events attach partition ev_2030 for values from ('2030-01-01') to ('2031-01-01')", true),
        ("create table ev_2033 (id int not null, day date not null, v text); insert into ev_2033 values (1, '2033-01-01');
          alter table events attach partition ev_2033 for values from ('2033-01-01') to ('2034-01-01')", true),
        ("create table new_2034 (like events including all); insert into new_2034 values (1, '2034-01-01'); alter table new_2034 rename to ev_2034;
          alter table events attach partition ev_2034 for values from ('2034-01-01') to ('2035-01-01')", true),
        ("create table ev_2035 partition of events for values from ('2035-01-01') to ('2036-01-01'); alter table ev_2035 rename to ev_35; alter table ev_35 owner to rowcast_relay", false),
        ("create index on events (v)", false),
        ("vacuum full ev_default", false),
    ] {
        let before = db.text(floor).await;
        // in one transaction
        db.run(ddl).await;
        db.run("select rowcast.note_forms()").await;
        assert_eq!(db.text(floor).await != before, is_gap, "{ddl}");
    }
}

#[tokio::test]
async fn an_open_page_loads_again_when_a_partition_is_attached() {
    let db = TestDatabase::new().await;
    db.run("create table ev (id int primary key) partition by range (id); create table ev_1 partition of ev for values from (1) to (10); select rowcast.watch('ev')").await;
    let server = TestServer::start_with(&db.url, &[("heartbeat-seconds", "1")]);
    let mut open = server.subscribed("/ws/ev").await;
    comes_to(&db, "select count(*) from rowcast.channel where form is null", "0").await;
    db.run("create table ev_2 (id int primary key); insert into ev_2 values (11)").await;
    db.run("alter table ev attach partition ev_2 for values from (10) to (20)").await;
    assert_eq!(open.gap().await, "policy");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_watched_partition_of_a_watched_table_is_shown() {
    let db = TestDatabase::new().await;
    db.run(
        "create table m (id int primary key) partition by range (id); create table m_1 (like m including all);
         select rowcast.watch('m_1'), rowcast.watch('m'); alter table m attach partition m_1 for values from (1) to (10); insert into m values (3)",
    )
    .await;
    let shown = "select string_agg(channel || ' ' || also_on::text || ' ' || state, ', ' order by channel) from rowcast.watched";
    assert_eq!(db.text(shown).await, "m {} live, m-1 {m} live");
    assert_eq!(
        db.text("select string_agg(channel, ' ' order by channel) from rowcast.recent where action = 'created'").await,
        "m m-1"
    );
    db.run("select rowcast.unwatch('m_1')").await;
    db.run("insert into m values (4)").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "3", "no longer twice");
}

#[tokio::test]
async fn a_publication_for_all_tables_is_not_given_ours_unasked() {
    let db = TestDatabase::empty().await;
    db.run("create publication every_table for all tables").await;
    let (ok, said) = rowcast(&db.url, &["migrate"]).await;
    assert!(!ok && said.contains("FOR ALL TABLES") && said.contains("every_table"), "{said}");
    assert_eq!(db.text("select to_regnamespace('rowcast')").await, "");
    let remedy = said.split("passes schema rowcast over: ").nth(1).expect(&said);
    db.run(remedy.lines().next().unwrap()).await;
    let (ok, said) = rowcast(&db.url, &["migrate"]).await;
    assert!(ok, "{said}");
    let finding = "select state || ' ' || detail from rowcast.health where finding = 'publications'";
    assert_eq!(db.text(finding).await, "warn FOR ALL TABLES, those of rowcast too: every_table");
    db.run("create table pets (id int primary key, secret text); select rowcast.watch('pets', exclude => '{secret}')")
        .await;
    let untold = "select string_agg(c.relname, ' ') from pg_class c
                   where c.relnamespace = 'rowcast'::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
                     and c.relname !~ '^outbox' and c.relreplident <> 'f'
                     and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)";
    assert_eq!(db.text(untold).await, "", "no row of these could be deleted or updated");
    db.run("drop publication every_table").await;
    assert_eq!(db.text(finding).await, "ok none has the tables of rowcast");
}

#[tokio::test]
async fn nothing_is_vacuumed_that_leaves_by_truncate() {
    let db = TestDatabase::new().await;
    let settings = "select string_agg(distinct array_to_string(reloptions, ' '), ', ') from pg_class where relname ~ '^outbox_[0-2]$'";
    assert_eq!(db.text(settings).await, "autovacuum_enabled=false");
}

/// The calls of a person beside those of a relay.
#[tokio::test]
async fn what_the_dba_states_is_not_overwritten_by_what_states_nothing() {
    let db = TestDatabase::new().await;
    db.run("create schema s; select rowcast.watch_schema('s', future => true); create table s.people (id int primary key, ssn text)").await;
    let (dba, relay) = (db.another_client().await, db.another_client().await);
    for call in [
        "select rowcast.watch_with_prefix('s.people', '')",
        "select rowcast.watch_newcomer('s.people')",
        "select count(*) from rowcast.watch_schema('s')",
    ] {
        dba.batch_execute(
            "begin; select rowcast.note_watch('s.people', null, null, null, '{ssn}', null, null, false, null)",
        )
        .await
        .unwrap();
        let waits = async {
            let waiting =
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            while db.text(waiting).await == "0" {
                tokio::task::yield_now().await;
            }
            dba.batch_execute("commit").await.unwrap();
        };
        let both = async { tokio::join!(relay.batch_execute(call), waits) };
        timeout(PATIENCE, Box::pin(both)).await.expect("it waits for the one before").0.unwrap();
        assert_eq!(db.text("select given_exclude from rowcast.channel").await, "{ssn}", "{call}");
        db.run("select rowcast.unwatch('s.people'); delete from rowcast.stated_table; delete from rowcast.seen_table")
            .await;
    }
}

/// Each of these might have columns that were excluded, or was taken out by hand.
#[tokio::test]
async fn what_has_been_there_is_no_new_table() {
    let db = TestDatabase::new().await;
    let app = db.text("select 'app_of_' || current_database()").await;
    db.run(&format!(
        "create role {app}; create schema s; create schema h; create table s.ev (id int, d int, secret text) partition by list (d); create table s.ev1 partition of s.ev for values in (1);
         create table s.acc (id int primary key, pw text); create table s.base (id int primary key, pw text); create table s.log (id int); create table s.tokens (id int); create table h.pw (id int);
         select rowcast.watch('s.ev', exclude => '{{secret}}'), rowcast.watch('s.acc', exclude => '{{pw}}'), rowcast.watch('s.base', exclude => '{{pw}}'), rowcast.watch('s.log');
         select rowcast.watch_schema('s', prefix => 's-', except_tables => '{{tokens}}', future => true); select rowcast.unwatch('s.log'); grant create, usage on schema s to {app}"
    ))
    .await;
    for ddl in [
        "alter table s.ev detach partition s.ev1",
        "alter table s.acc rename to acc_old; create table s.acc (id int primary key, pw text)",
        "drop table s.acc_old; drop table s.acc; create table s.acc (id int primary key, pw text)",
        "create table s.child () inherits (s.base)",
        "alter table s.log rename to log2",
        "alter table s.tokens rename to tokens_old",
        "alter table h.pw set schema s",
        "create table s.part partition of s.ev for values in (7)",
        "alter schema s rename to old_s; create schema s; create table s.q (id int)",
    ] {
        db.run(ddl).await;
        assert_eq!(db.text("select string_agg(\"table\"::text, ' ') from rowcast.newcomer").await, "", "{ddl}");
        db.run("select rowcast.note_tables()").await;
    }
    db.run(&format!("drop schema s cascade; alter schema old_s rename to s; set role {app}; create table s.theirs (id int); reset role; create table s.ours (id int)")).await;
    assert_eq!(
        db.text("select string_agg(\"table\"::text, ' ') from rowcast.newcomer").await,
        "s.ours",
        "of a role that the DBA has trusted with none"
    );
    let calls =
        db.text("select string_agg(call, e'\n') from rowcast.dump() call where call like '%watch_schema%'").await;
    for out in ["theirs", "log2", "tokens_old", "ev1", "pw", "child"] {
        assert!(calls.contains(out), "{out} is not told by the dump either: {calls}");
    }
    db.run(&format!("drop owned by {app} cascade; drop role {app}")).await;
}

#[tokio::test]
async fn a_channel_is_given_to_another_table_by_nobody_but_a_person() {
    let db = TestDatabase::new().await;
    db.run(
        "create table invoices (id int primary key, card text); select rowcast.watch('invoices', exclude => '{card}'); create schema scratch;
         select rowcast.watch_schema('scratch', future => true); drop table invoices; create table scratch.invoices (id int primary key, card text)",
    )
    .await;
    assert!(
        db.refused("select rowcast.watch_newcomer('scratch.invoices')").await.contains("channel invoices is taken")
    );
    db.run("create table invoices (id int primary key, card text)").await;
    db.run(&db.text("select remedy from rowcast.unwatched where \"table\" = 'invoices'::regclass").await).await;
    assert_eq!(
        db.text("select given_exclude from rowcast.channel where target = 'invoices'::regclass").await,
        "{card}"
    );
}

#[tokio::test]
async fn the_configuration_of_tables_that_are_gone_or_exchanged_hides_what_was_hidden() {
    let db = TestDatabase::new().await;
    db.run(
        "create schema s; create table s.acc (id int primary key, u text, pw text); create table s.swap (id int primary key, pw text); create table s.lost (id int primary key);
         create table s.gone (id int primary key, pw text); create table s.whole (id int primary key) partition by range (id); create table s.part (id int primary key);
         select rowcast.watch('s.acc', user_rule => 'u', exclude => '{pw}'), rowcast.watch('s.swap', exclude => '{pw}'), rowcast.watch('s.lost'), rowcast.watch('s.gone', exclude => '{pw}'),
                rowcast.watch('s.whole'), rowcast.watch('s.part');
         select rowcast.watch_schema('s', future => true);
         drop table s.acc; create table s.acc (id int primary key, u text, pw text);
         alter table s.swap rename to swap_old; create table s.swap (id int primary key, pw text);
         drop table s.lost; alter table s.gone drop column pw; alter table s.whole attach partition s.part for values from (1) to (9)",
    )
    .await;
    let printed = db.text("select string_agg(call, e'\n') from rowcast.dump() call").await;
    let other = TestDatabase::new().await;
    other.run("create schema s; create table s.acc (id int primary key, u text, pw text); create table s.swap (id int primary key, pw text); create table s.swap_old (id int primary key, pw text);
        create table s.gone (id int primary key); create table s.whole (id int primary key) partition by range (id); create table s.part partition of s.whole for values from (1) to (9)").await;
    other.run(&printed).await;
    let hidden =
        "select string_agg(target::text || given_exclude::text, ' ' order by target::text) from rowcast.channel";
    assert_eq!(other.text(hidden).await, "s.acc{pw} s.gone{} s.swap{pw} s.whole{}", "{printed}");
    assert_eq!(other.text("select user_column is not null from rowcast.channel where name = 'acc'").await, "true");
    for said in [
        "-- the table s.lost is gone",
        "-- s.part is a partition of s.whole",
        "-- of channel gone no column may leave that takes the name pw",
    ] {
        assert!(printed.contains(said), "{printed}");
    }
}

/// What cannot be stated anew is a comment, so that what follows it is stated.
#[tokio::test]
async fn the_configuration_that_names_columns_that_are_gone_can_be_run_as_a_whole() {
    let db = TestDatabase::new().await;
    let tables = "create table pets (id int primary key, title text, mail text, uid text); create table zoo (id int primary key)";
    db.run(&tables.replace("title", "name")).await;
    db.run(
        r#"select rowcast.watch('pets', user_rule => 'uid', notification => '{"pet": "name"}');
           select rowcast.allow('pets', 'vet', columns => '{id,mail}');
           select rowcast.watch('pets', user_rule => 'uid', notification => '{"pet": "name"}', exclude => '{mail}');
           alter table pets rename name to title; select rowcast.watch('zoo'); select rowcast.allow('zoo', 'vet')"#,
    )
    .await;
    let printed = db.text("select string_agg(call, e'\n') from rowcast.dump() call").await;
    for said in ["-- a column of its notification is gone", "-- a column is another one by now, gone or excluded"] {
        assert!(printed.contains(said), "{printed}");
    }
    let other = TestDatabase::new().await;
    other.run(tables).await;
    other.run(&printed).await;
    assert_eq!(other.text("select string_agg(channel, ' ') from rowcast.policy").await, "zoo", "{printed}");
    assert_eq!(other.text("select string_agg(name, ' ') from rowcast.channel").await, "zoo", "{printed}");
}

#[tokio::test]
async fn nobody_waits_for_what_takes_a_table_out() {
    let db = TestDatabase::new().await;
    db.run("create schema u; create table u.a (id int); create table u.b (id int); create table u.c (id int); select rowcast.watch_schema('u', future => true)").await;
    let (one, other) = (db.another_client().await, db.another_client().await);
    one.batch_execute("begin; select rowcast.unwatch('u.a')").await.unwrap();
    other
        .batch_execute("set lock_timeout = '1s'; select rowcast.unwatch('u.b')")
        .await
        .expect("another table of the schema");
    one.batch_execute("commit").await.unwrap();
    one.batch_execute("create table u.hot (id int)").await.unwrap();
    one.batch_execute("begin; insert into u.hot values (1)").await.unwrap();
    // a relay neither waits for a writer nor makes others wait
    other.batch_execute("select rowcast.unwatch('u.c')").await.unwrap();
    assert_eq!(db.text("select rowcast.watch_newcomer('u.hot') is null").await, "true");
    one.batch_execute("commit").await.unwrap();
    assert_eq!(db.text("select rowcast.watch_newcomer('u.hot')").await, "hot");
}

#[tokio::test]
async fn remedies_name_no_more_than_what_they_mend() {
    let db = TestDatabase::new().await;
    let (long, schema) = ("t".repeat(60), "s".repeat(55));
    db.run(&format!(
        "create table {long} (id int); select rowcast.watch('{long}'); create schema {schema}; create table {schema}.{long} (id int);
         create table p (id int primary key) partition by range (id); create table q (id int primary key); select rowcast.watch('p', replicated => true), rowcast.watch('q');
         alter table p attach partition q for values from (1) to (9); alter table q disable trigger user"
    ))
    .await;
    db.run(&db.text("select remedy from rowcast.unwatched").await).await;
    assert_eq!(db.text("select max(length(name)) from rowcast.channel").await, "100");
    let refused = db.refused(&format!("select rowcast.watch_schema('{schema}', future => true); create table {schema}.x{long} (id int); select rowcast.watch_with_prefix('{schema}.x{long}', repeat('p', 50))")).await;
    let (_, call) = refused.split_once("give it another name: ").expect(&refused);
    db.run(&format!("create table if not exists {schema}.x{long} (id int); {call}")).await;
    // each channel's own triggers
    for _ in 0..2 {
        db.run(
            &db.text("select coalesce(string_agg(remedy, ' '), '') from rowcast.watched where drift is not null").await,
        )
        .await;
    }
    assert_eq!(
        db.text(
            "select string_agg(tgname || tgenabled::text, ' ' order by tgname) from pg_trigger where tgrelid = 'q'::regclass"
        )
        .await,
        format!("!rowcastO !rowcast_{}A !rowcast_tO", db.text("'p'::regclass::oid").await)
    );
    assert_eq!(db.text("select count(drift) from rowcast.watched").await, "0");
}

#[tokio::test]
async fn a_schema_whose_future_tables_are_watched_and_that_is_renamed_is_told_and_can_be_forgotten() {
    let db = TestDatabase::new().await;
    db.run(
        "create schema shop; create schema gone; create table shop.skipped (id int primary key);
         select rowcast.watch_schema('shop', future => true, except_tables => '{skipped}');
         select rowcast.watch_schema('gone', future => true); select rowcast.allow('orders', 'member')",
    )
    .await;
    let finding = "from rowcast.health where finding = 'new tables'";
    assert_eq!(db.text(&format!("select state {finding}")).await, "ok");
    db.run(
        "alter schema shop rename to store; drop schema gone; create table store.orders (id int primary key);
         create schema shop; create table shop.secret (id int primary key)",
    )
    .await;
    assert_eq!(db.text(&format!("select state {finding}")).await, "warn");
    let detail = db.text(&format!("select detail {finding}")).await;
    assert!(detail.ends_with("gone; shop, which is store now"), "{detail}");
    // what cannot be stated anew is a comment, and what follows is stated
    let dump = db.text("select string_agg(d, E'\\n') from rowcast.dump() d").await;
    assert!(
        dump.contains("-- another schema has the name shop by now: ") && dump.contains("rowcast.allow('orders'"),
        "{dump}"
    );
    db.run(&dump).await;
    let remedy = db.text(&format!("select remedy {finding}")).await;
    db.run(&remedy).await;
    assert_eq!(db.text("select string_agg(name, ' ') from rowcast.watched_schema").await, "store");
    // the table that came meanwhile is a new one, and that of a schema which nobody named is none
    assert_eq!(db.text("select string_agg(\"table\"::text, ' ') from rowcast.newcomer").await, "store.orders");
    assert_eq!(db.text("select count(*) from rowcast.watched where \"table\" is not null").await, "0");
}
