//! Native capture writes what capture in PL/pgSQL writes, and the two take turns while writers write. Needs the library of
//! native/ and a private cluster that finds it: `make test-native`.

use rowcast::source::install;
use tokio::sync::watch;

use super::support::postgres::TestDatabase;

const TABLES: &str = r#"
    create type mood as enum ('fine', 'so "so"');
    create domain short as text check (length(value) < 10);
    create type pair as (a int, b text);
    create type level as enum ('low', 'high');
    create function level_json(level) returns json language sql stable as $$ select json_build_object('level', $1::text, 'by', current_user) $$;
    create table odd (
      id int primary key, gone int, b bool, i2 int2, i8 int8, n numeric, f4 float4, f8 float8, t text, v varchar(9), c char(5),
      na name, u uuid, d date, ts timestamp, tz timestamptz, ti time, iv interval, js json, jb jsonb, m mood, s short, p pair,
      a int[], ta text[], by bytea, r int4range, ip inet, "Ünï ""q""" int, made int generated always as (id * 2) stored);
    alter table odd drop column gone;
    create table usual (
      k int primary key, i2 int2, gone text, i4 int, i8 int8, n numeric, f8 float8, t text, v varchar(9), c char(5), na name,
      u uuid, d date, ts timestamp, tz timestamptz, js json, jb jsonb, m mood, "Q""q\t" text, b bool);
    create schema app; create table app.things (id int);
    create table app.refs (id int primary key, thing regclass, things regclass[]);
    create table plain (k int primary key, v text);
    create table keyless (v int);
    create table cast_away (k int primary key, l level, ls level[]);
    create table briefly (k int primary key, v int);"#;

/// Whatever a row may hold, and whatever may happen to it.
const WRITES: &[&str] = &[
    r#"insert into odd values (1, true, -3, 9007199254740993, 'NaN', 'Infinity', '-0', E'a"\\\n\t\x01é😀', 'v', 'c', 'na',
         '11111111-2222-3333-4444-555555555555', 'infinity', '2024-02-29 12:00:00.5', '0001-01-01 00:00:00+00 BC', '24:00',
         '1 mon -3 days', '{ "a" : 1.0 ,"a":null}', '{"b": [1, 2.50]}', 'so "so"', 'short', row(1, null), '{1,null,3}',
         '{"a,b",NULL,""}', '\x00ff', '[1,5)', '10.0.0.1/8', 7)"#,
    "insert into odd (id) values (2)",
    "insert into odd (id, n, f8, d, ts, tz) values (3, 1e-200, 1e300, '4713-01-01 BC', '-infinity', 'infinity')",
    "update odd set n = 1.10, jb = '3', m = 'fine' where id = 1",
    "update odd set n = n",
    "update odd set f8 = '0', n = 1.1 where id = 1",
    "update odd set t = repeat('x', 100000) where id = 2",
    "update odd set t = repeat('compressible ', 100) where id = 3",
    "update odd set b = not b, t = (select string_agg(md5(i::text), '') from generate_series(1, 200) i) where id = 3",
    "set rowcast.actor = 'Zoë'; insert into plain values (1, 'a'); set rowcast.actor = ''; update plain set v = 'b'",
    "begin; select set_config('rowcast.actor', repeat('ß', 300), true); delete from plain; commit",
    "begin; set local rowcast.mute = 'on'; insert into plain values (2, 'muted'); commit",
    "set timezone = 'Asia/Tokyo'; set bytea_output = escape; update odd set b = true; reset timezone; reset bytea_output",
    "set application_name = ''; insert into keyless values (1), (2); set application_name = 'app'; update keyless set v = v",
    "delete from keyless where v = 1; truncate keyless",
    "begin; insert into plain values (3, 'kept'); savepoint s; insert into plain values (4, 'lost'); rollback to s;
     update plain set v = 'more' where k = 3; commit",
    "insert into plain select i, 'n' || i from generate_series(10, 60) i on conflict do nothing",
    "insert into plain values (10, 'x') on conflict (k) do update set v = excluded.v",
    "insert into briefly values (1, 1); update briefly set v = 2; delete from briefly",
    "alter table plain add column late int default 5; update plain set late = k where k < 12",
    "select rowcast.pause(); insert into plain values (100, 'paused'); select rowcast.resume(); delete from plain where k = 100",
    // a table with such a cast is refused, but nobody asks when the cast comes later
    "create cast (level as json) with function level_json(level);
     insert into cast_away values (1, 'low', '{low,high}'); update cast_away set l = 'high'; drop cast (level as json)",
    // all columns but some are as they were: their JSON is copied
    r#"insert into usual values (1, -32768, 'gone', -2147483648, -9223372036854775808, 1.50, 'NaN', E'a"\\\n\t\x01é', 'v', 'c',
         'na"me', '11111111-2222-3333-4444-555555555555', '2024-02-29', 'infinity', '2024-02-29 12:00:00.5+02',
         '{ "a" : 1.0 ,"a":null}', '{"b": [1, 2.50]}', 'so "so"', E'"\n', true)"#,
    "insert into usual (k, t) values (2, '')",
    "update usual set b = not b",
    "update usual set i2 = 32767, i4 = 0, i8 = 9223372036854775807, n = 1.5, f8 = -0.0::float8",
    r#"update usual set t = '"' where k = 1; update usual set t = E'\x7f\x1f' where k = 1; update usual set t = '' where k = 1"#,
    "update usual set b = null, t = null; update usual set b = true; update usual set t = repeat('same ', 60)",
    "update usual set k = k + 10, m = 'fine'",
    r#"alter table usual drop column gone, add column late text default E'l"'; update usual set c = 'd'; update usual set late = null"#,
    "alter table usual rename t to text; alter table usual alter i4 type bigint; update usual set v = 'w'",
    "update usual set v = v; delete from usual",
    // a name is told by a search path, which goes by the role
    "set search_path = app; insert into app.refs values (1, 'things', '{things}'); update app.refs set id = 2; reset search_path",
    "delete from odd",
];

/// What capture has written, without what differs from run to run.
async fn captured_by(code: &str) -> Vec<String> {
    let db = TestDatabase::new().await;
    db.run(&format!("select rowcast.configure('capture', '{code}')")).await;
    db.run(TABLES).await;
    db.run("select rowcast.watch(t::regclass) from unnest(array['odd', 'usual', 'plain', 'keyless', 'briefly', 'cast_away', 'app.refs']) t")
        .await;
    db.run("select rowcast.keep_briefly('briefly')").await;
    db.run("set application_name = 'app'").await;
    for write in WRITES {
        db.run(write).await;
    }
    let rows = "select row(tableoid::regclass, row_number() over (order by id), channel, op, old, new, actor, users, depth,
                  cmin::text::int - lag(cmin::text::int, 1, cmin::text::int) over (partition by xid order by id))::text
                from (select tableoid, cmin, * from rowcast.outbox
                      union all select tableoid, cmin, * from rowcast.outbox_3) o where op not in ('C', 'P') order by id";
    let session = db.another_client().await;
    session.query(rows, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
#[ignore = "needs the library: make test-native"]
async fn native_code_captures_what_plpgsql_captures() {
    let (native, plpgsql) = (captured_by("native").await, captured_by("plpgsql").await);
    assert!(native.len() > 100, "{} rows", native.len());
    for (ours, theirs) in native.iter().zip(&plpgsql) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(native.len(), plpgsql.len());
}

#[tokio::test]
#[ignore = "needs the library: make test-native"]
async fn capture_changes_hands_while_writers_write() {
    let db = TestDatabase::new().await;
    db.run(
        "create table plain (k bigint generated always as identity primary key, v text); select rowcast.watch('plain')",
    )
    .await;
    let (over, until) = watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (client, until) = (db.another_client().await, until.clone());
        writers.spawn(async move {
            let mut written = 0_i64;
            while !*until.borrow() || written < 50 {
                written +=
                    i64::try_from(client.execute("insert into plain (v) values ('v')", &[]).await.unwrap()).unwrap();
            }
            written
        });
    }
    for code in ["plpgsql", "native"].repeat(10) {
        db.run(&format!("select rowcast.configure('capture', '{code}')")).await;
        db.run("insert into plain (v) values ('between')").await;
    }
    over.send_replace(true);
    let mut written = 20_i64;
    while let Some(more) = writers.join_next().await {
        written += more.unwrap();
    }
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, written.to_string());
    let language = "select string_agg(distinct l.lanname, ',') from pg_proc p join pg_language l on l.oid = p.prolang
                    where p.oid in ('rowcast.capture()'::regprocedure, 'rowcast.capture_brief()'::regprocedure)";
    assert_eq!(db.text(language).await, "c");
    // an update of rowcast leaves it to the operator, whichever role migrates
    install::migrate(&mut db.another_client().await).await.unwrap();
    assert_eq!(db.text(language).await, "c");
}

/// Indexes over expressions, constraints and triggers are the executor's.
#[tokio::test]
#[ignore = "needs the library: make test-native"]
async fn what_an_operator_puts_on_the_outbox_is_heeded() {
    let db = TestDatabase::new().await;
    db.run("select rowcast.configure('capture', 'native'); create table t (k int primary key)").await;
    db.run("select rowcast.watch('t'); create index on rowcast.outbox_0 ((new ->> 'k')); insert into t values (1)")
        .await;
    db.run(
        "create index updates on rowcast.outbox_0 (id) where op = 'U';
         insert into t values (2); update t set k = 3 where k = 2; set enable_seqscan = off",
    )
    .await;
    let updates = "select count(*) from rowcast.outbox_0 where op = 'U' and id > 0";
    assert_eq!(db.text(updates).await, "1");
    db.run("alter table rowcast.outbox_0 add constraint no_nine check (new ->> 'k' is distinct from '9')").await;
    assert!(db.refused("insert into t values (9)").await.contains("no_nine"));
}

/// A later version adds a column to the outbox while a writer waits for it.
#[tokio::test]
#[ignore = "needs the library: make test-native"]
async fn a_column_that_the_outbox_gets_while_a_writer_waits_is_left_to_plpgsql() {
    let db = TestDatabase::new().await;
    db.run(
        "select rowcast.configure('capture', 'native'); create table t (k int primary key); select rowcast.watch('t')",
    )
    .await;
    let writer = db.another_client().await;
    // it knows the installation from here on
    writer.batch_execute("insert into t values (1)").await.unwrap();
    let later = db.another_client().await;
    later.batch_execute("begin; alter table rowcast.outbox add column later text default 'said'").await.unwrap();
    let write = tokio::spawn(async move { writer.batch_execute("insert into t values (2)").await });
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while db.text(waiting).await != "1" {
        tokio::task::yield_now().await;
    }
    later.batch_execute("commit").await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(db.text("select string_agg(later, ',') from rowcast.outbox where op = 'I'").await, "said,said");
}

/// What the library calls may have another name in a later version, and a session keeps the library that it has loaded.
#[tokio::test]
#[ignore = "needs the library: make test-native"]
async fn what_a_later_version_calls_otherwise_is_left_to_plpgsql() {
    let db = TestDatabase::new().await;
    db.run(
        "select rowcast.configure('capture', 'native'); create table t (k int primary key); select rowcast.watch('t')",
    )
    .await;
    db.run(
        "insert into t values (1); alter function rowcast.bell_lock() rename to bell_number; insert into t values (2)",
    )
    .await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "2");
}
