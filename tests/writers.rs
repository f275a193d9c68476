//! Capture of everything SQL can do: whichever session writes, however.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::SinkExt as _;
use rowcast::source::client::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// What was captured since the last call: action, old and new image.
async fn captured(db: &TestDatabase) -> Vec<String> {
    let rows = db
        .client
        .query(
            "with taken as (delete from rowcast.outbox where op <> 'C' returning id, op, old, new)
             select concat_ws(' ', op::text, old::text, new::text) from taken order by id",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// SQLSTATE of a statement that must fail.
async fn sqlstate(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.code().expect("an error of the server").code().to_owned()
}

// Tables

#[tokio::test]
async fn a_row_needs_no_key_and_may_have_a_composite_one() {
    let db = TestDatabase::new().await;
    db.run("create table stays (pet int, night date, cage text, primary key (pet, night)); create table weights (kilos int)").await;
    db.run("select rowcast.watch('stays'), rowcast.watch('weights')").await;
    db.run("insert into stays values (1, '2024-01-15', 'A'); update stays set night = '2024-01-16'; delete from stays")
        .await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"pet":1,"night":"2024-01-15","cage":"A"}"#,
            r#"U {"pet":1,"night":"2024-01-15","cage":"A"} {"pet":1,"night":"2024-01-16","cage":"A"}"#,
            r#"D {"pet":1,"night":"2024-01-16","cage":"A"}"#,
        ]
    );
    // two equal rows are two changes
    db.run("insert into weights values (4), (4); update weights set kilos = 5; delete from weights").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"kilos":4}"#,
            r#"I {"kilos":4}"#,
            r#"U {"kilos":4} {"kilos":5}"#,
            r#"U {"kilos":4} {"kilos":5}"#,
            r#"D {"kilos":5}"#,
            r#"D {"kilos":5}"#,
        ]
    );
}

#[tokio::test]
async fn rows_of_all_partitions_are_captured_for_the_root() {
    let db = TestDatabase::new().await;
    db.run(
        "create table visits (id int, day date, kind text) partition by range (day);
         create table visits_old partition of visits for values from (minvalue) to ('2024-01-01');
         create table visits_new partition of visits for values from ('2024-01-01') to (maxvalue) partition by list (kind);
         create table visits_new_a partition of visits_new for values in ('a');
         create table visits_new_other partition of visits_new default;
         create table rooms (k int, v text) partition by hash (k);
         create table rooms_0 partition of rooms for values with (modulus 2, remainder 0);
         create table rooms_1 partition of rooms for values with (modulus 2, remainder 1)",
    )
    .await;
    db.run("select rowcast.watch('visits'), rowcast.watch('rooms')").await;
    db.run("insert into visits values (1, '2023-05-01', 'x'), (2, '2024-05-01', 'a'), (3, '2024-05-01', 'b')").await;
    assert_eq!(db.text("select count(distinct channel) from rowcast.outbox where op = 'I'").await, "1");
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1,"day":"2023-05-01","kind":"x"}"#,
            r#"I {"id":2,"day":"2024-05-01","kind":"a"}"#,
            r#"I {"id":3,"day":"2024-05-01","kind":"b"}"#,
        ]
    );
    // straight into a partition, also into one that was made later
    db.run("create table visits_new_c partition of visits_new for values in ('c')").await;
    db.run("insert into visits_new_c values (4, '2024-06-01', 'c'); update visits_old set kind = 'y'; delete from visits_new where id = 3").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":4,"day":"2024-06-01","kind":"c"}"#,
            r#"U {"id":1,"day":"2023-05-01","kind":"x"} {"id":1,"day":"2023-05-01","kind":"y"}"#,
            r#"D {"id":3,"day":"2024-05-01","kind":"b"}"#,
        ]
    );
    // a row that moves is deleted and created
    db.run("update visits set day = '2024-07-01', kind = 'a' where id = 1; truncate visits").await;
    assert_eq!(
        captured(&db).await,
        [r#"D {"id":1,"day":"2023-05-01","kind":"y"}"#, r#"I {"id":1,"day":"2024-07-01","kind":"a"}"#, "T",]
    );
    db.run("insert into rooms select i, 'v' from generate_series(1, 4) i; update rooms set v = 'w' where k = 3; delete from rooms where k = 4").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"k":1,"v":"v"}"#,
            r#"I {"k":2,"v":"v"}"#,
            r#"I {"k":3,"v":"v"}"#,
            r#"I {"k":4,"v":"v"}"#,
            r#"U {"k":3,"v":"v"} {"k":3,"v":"w"}"#,
            r#"D {"k":4,"v":"v"}"#,
        ]
    );
}

#[tokio::test]
async fn a_partition_is_captured_from_attach_to_detach_whatever_its_columns_order() {
    let db = TestDatabase::new().await;
    db.run("create table visits (id int, note text, secret text) partition by list (id)").await;
    db.run("create table visits_1 partition of visits for values in (1)").await;
    db.run("select rowcast.watch('visits', exclude => '{secret}')").await;
    // with rows in it, with other attribute numbers, and one with partitions of its own
    db.run("create table visits_2 (secret text, gone int, note text, id int); alter table visits_2 drop gone").await;
    db.run("insert into visits_2 values ('hidden', 'before', 2); alter table visits attach partition visits_2 for values in (2)").await;
    db.run("create table visits_3 (note text, id int, secret text) partition by list (note); create table visits_3a (id int, secret text, note text)").await;
    db.run("alter table visits_3 attach partition visits_3a for values in ('a'); alter table visits attach partition visits_3 for values in (3)").await;
    assert!(captured(&db).await.is_empty(), "the rows that came with it are no change");
    db.run("update visits set note = 'after', secret = 'hidden too' where id = 2; insert into visits_2 values ('hidden', 'direct', 2)").await;
    db.run("insert into visits values (1, 'one', 'hidden'), (3, 'a', 'hidden'); delete from visits_3a; delete from visits where note = 'direct'").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"U {"secret":null,"note":"before","id":2} {"secret":null,"note":"after","id":2}"#,
            r#"I {"secret":null,"note":"direct","id":2}"#,
            r#"I {"id":1,"note":"one","secret":null}"#,
            r#"I {"id":3,"secret":null,"note":"a"}"#,
            r#"D {"id":3,"secret":null,"note":"a"}"#,
            r#"D {"secret":null,"note":"direct","id":2}"#,
        ]
    );
    db.run("alter table visits detach partition visits_2").await;
    db.run("alter table visits detach partition visits_1 concurrently").await;
    db.run("insert into visits_2 values ('hidden', 'x', 2); delete from visits_1").await;
    assert!(captured(&db).await.is_empty());
    assert_eq!(
        db.text("select string_agg(\"table\"::text, ' ' order by \"table\"::text) from rowcast.unwatched").await,
        "visits_1 visits_2"
    );
    db.run("alter table visits attach partition visits_1 for values in (1); insert into visits values (1, 'again', 'hidden')").await;
    assert_eq!(captured(&db).await, [r#"I {"id":1,"note":"again","secret":null}"#]);
}

#[tokio::test]
async fn children_by_plain_inheritance_are_named_until_they_are_watched() {
    let db = TestDatabase::new().await;
    db.run("create table animals (id int); create table pets (name text) inherits (animals)").await;
    db.run("select rowcast.watch('animals')").await;
    assert_eq!(
        db.text("select \"table\" || ' ' || reason || ': ' || remedy from rowcast.unwatched").await,
        "pets inherits from animals, whose triggers do not fire for it: select rowcast.watch('pets');"
    );
    db.run("insert into pets values (1, 'Luna'); insert into animals values (5); select rowcast.watch('pets')").await;
    // through the parent: each table's own rows, in its own channel
    db.run("update animals set id = id + 1").await;
    assert_eq!(db.text("select count(distinct channel) from rowcast.outbox where op = 'U'").await, "2");
    let mut changes = captured(&db).await;
    changes.sort();
    assert_eq!(
        changes,
        [r#"I {"id":5}"#, r#"U {"id":1,"name":"Luna"} {"id":2,"name":"Luna"}"#, r#"U {"id":5} {"id":6}"#]
    );
    assert_eq!(db.text("select count(*) from rowcast.unwatched").await, "0");
}

#[tokio::test]
async fn names_may_be_quoted_and_in_any_script() {
    let db = TestDatabase::new().await;
    db.run(r#"create schema "Çlínica"; create table "Çlínica"."Größe ""%s"" 'x'" ("Schlüssel ""a""" int primary key, "日本" text, "%s \ x" text, "select" text)"#).await;
    let table = r#"'"Çlínica"."Größe ""%s"" ''x''"'"#;
    assert!(db.refused(&format!("select rowcast.watch({table})")).await.contains("cannot be a channel's name"));
    db.run(&format!(
        r#"select rowcast.watch({table}, channel => 'größe', exclude => array['%s \ x', 'select'], user_rule => 'select row."日本"')"#
    ))
    .await;
    db.run(r#"insert into "Çlínica"."Größe ""%s"" 'x'" values (1, '猫', 'hidden', 'hidden'); update "Çlínica"."Größe ""%s"" 'x'" set "Schlüssel ""a""" = 2"#).await;
    assert_eq!(
        db.text("select string_agg(users::text, ' ') from rowcast.outbox where op in ('I', 'U')").await,
        "{猫} {猫}"
    );
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"Schlüssel \"a\"":1,"日本":"猫","%s \\ x":null,"select":null}"#,
            r#"U {"Schlüssel \"a\"":1,"日本":"猫","%s \\ x":null,"select":null} {"Schlüssel \"a\"":2,"日本":"猫","%s \\ x":null,"select":null}"#,
        ]
    );
    assert_eq!(
        db.text("select concat_ws(' ', channel, user_rule, exclude, state) from rowcast.watched").await,
        r#"größe select row."日本" {"%s \\ x",select} live"#
    );
}

// Values

#[tokio::test]
async fn generated_and_identity_columns_are_in_the_image() {
    let db = TestDatabase::new().await;
    db.run(
        "create table bills (id int generated always as identity, number int generated by default as identity (start 10),
           net int, gross int generated always as (net * 2) stored)",
    )
    .await;
    db.run("select rowcast.watch('bills')").await;
    db.run("insert into bills (net) values (1); update bills set net = 2; insert into bills overriding system value values (99, 98, 3)").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1,"number":10,"net":1,"gross":2}"#,
            r#"U {"id":1,"number":10,"net":1,"gross":2} {"id":1,"number":10,"net":2,"gross":4}"#,
            r#"I {"id":99,"number":98,"net":3,"gross":6}"#,
        ]
    );
}

#[tokio::test]
async fn a_value_of_any_type_is_the_same_text_under_any_settings_of_the_writer() {
    let db = TestDatabase::new().await;
    db.run(
        "create domain code as text check (value <> ''); create domain since as timestamptz; create type mood as enum ('ok', 'sad');
         create type spot as (label text, seen timestamptz, size interval);
         create table odd (id int primary key, d code, s since, m mood, ms mood[], n int[], ts timestamptz[], r int4range,
           tr tstzrange, dr daterange, mr int4multirange, sp spot, sps spot[], b bytea, x xml, v tsvector, q tsquery, p point,
           bx box, i interval, c money, t timestamptz, f float8, f4 float4, nu numeric, bt varbit, ip inet, dt date, tz timetz,
           j json, jb jsonb)",
    )
    .await;
    db.run("select rowcast.watch('odd')").await;
    let insert = r#"insert into odd values (1, 'x', '2024-01-15 10:30:00+00', 'sad', '{ok,sad}', '{{1,2},{3,4}}',
        array['2024-01-15 10:30:00+00'::timestamptz, 'infinity'], '[1,5)', '[2024-01-15 10:30:00+00,)', '[2024-01-15,2024-02-01)',
        '{[1,3),[5,7)}', row('a', '2024-01-15 10:30:00+00', '1 day 02:00:00'), array[row('a', '2024-01-15 10:30:00+00', '1 day')::spot],
        '\x00ff', '<a>&amp;</a>', to_tsvector('simple', 'a cat'), 'a & cat', '(0.1,2)', '((0,0),(1,1.5))',
        '1 year 2 days 03:04:05.6', 1234.5::money, '2024-01-15 10:30:00.5+00', 0.1, 0.1, 1.50, B'101', '10.0.0.1/8', '2024-01-15',
        '10:30:00+02', '{"a":1e200000, "a":"\u0000"}', '{"a": 1}')"#;
    let settings = [
        "timezone = 'UTC'",
        "timezone = 'Asia/Tokyo'",
        "timezone = 'GMT'",
        "intervalstyle = 'sql_standard'",
        "intervalstyle = 'postgres_verbose'",
        "intervalstyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "extra_float_digits = 3",
        "datestyle = 'German'",
        "datestyle = 'SQL, DMY'",
        "datestyle = 'Postgres, YMD'",
        "datestyle = 'ISO, DMY'",
        "xmlbinary = hex",
        "xmloption = document",
        "search_path = public, pg_temp",
        "plan_cache_mode = force_custom_plan",
        "plpgsql.extra_errors = 'all'",
        "default_transaction_isolation = serializable",
    ];
    for setting in settings {
        db.run(&format!("set {setting}")).await;
        db.run(&format!("{insert}; update odd set id = 2; delete from odd; reset all")).await;
    }
    let images = "(select old as image from rowcast.outbox where op <> 'C' union all select new from rowcast.outbox where op <> 'C') i
         where image is not null";
    assert_eq!(db.text(&format!("select count(*) from {images}")).await, (4 * settings.len()).to_string());
    assert_eq!(
        db.text(&format!(
            "select string_agg(distinct replace(image::text, '\"id\":2', '\"id\":1'), e'\n') from {images}"
        ))
        .await,
        concat!(
            r#"{"id":1,"d":"x","s":"2024-01-15T10:30:00+00:00","m":"sad","ms":["ok","sad"],"n":[[1,2],[3,4]],"#,
            r#""ts":["2024-01-15T10:30:00+00:00","infinity"],"r":"[1,5)","tr":"[\"2024-01-15 10:30:00+00\",)","#,
            r#""dr":"[2024-01-15,2024-02-01)","mr":"{[1,3),[5,7)}","#,
            r#""sp":{"label":"a","seen":"2024-01-15T10:30:00+00:00","size":"1 day 02:00:00"},"#,
            r#""sps":[{"label":"a","seen":"2024-01-15T10:30:00+00:00","size":"1 day"}],"b":"\\x00ff","x":"<a>&amp;</a>","#,
            r#""v":"'a':1 'cat':2","q":"'a' & 'cat'","p":"(0.1,2)","bx":"(1,1.5),(0,0)","i":"1 year 2 days 03:04:05.6","#,
            r#""c":"$1,234.50","t":"2024-01-15T10:30:00.5+00:00","f":0.1,"f4":0.1,"nu":1.50,"bt":"101","ip":"10.0.0.1/8","#,
            r#""dt":"2024-01-15","tz":"10:30:00+02","j":{"a":1e200000, "a":"\u0000"},"jb":{"a": 1}}"#,
        )
    );
}

/// Postgres leaves the schema out of a name that the session's search_path finds.
#[tokio::test]
async fn the_name_of_a_table_or_a_type_has_its_schema_whoever_writes_it() {
    let db = TestDatabase::new().await;
    db.run(
        "create type spot as (label text); create type pair as (a regproc, b int); create function own() returns int language sql as 'select 1'; create domain tab as regclass;
         create table refs (id int primary key, c regclass, ts regtype[], p pair, d tab); select rowcast.watch('refs')",
    )
    .await;
    for settings in
        ["timezone = 'UTC'", "timezone = 'Asia/Tokyo'", "search_path = pg_catalog", "bytea_output = 'escape'"]
    {
        db.run(&format!(
            "set {settings}; insert into public.refs values (1, 'public.refs', '{{public.spot}}', row('public.own', 1), 'public.refs');
             update public.refs set id = 2; delete from public.refs; reset all"
        ))
        .await;
    }
    let images = "select string_agg(distinct replace(i::text, '\"id\":2', '\"id\":1'), e'\n') from rowcast.outbox o
        cross join lateral unnest(array[o.old::text, o.new::text]) i where op <> 'C'";
    assert_eq!(
        db.text(images).await,
        r#"{"id":1,"c":"public.refs","ts":["public.spot"],"p":{"a":"public.own","b":1},"d":"public.refs"}"#
    );
}

#[tokio::test]
async fn numbers_and_times_without_end_are_captured() {
    let db = TestDatabase::new().await;
    db.run("create table edges (f float8, n numeric, d date, t timestamp)").await;
    db.run("select rowcast.watch('edges')").await;
    db.run("insert into edges values ('NaN', 'NaN', 'infinity', '-infinity'), ('-Infinity', 'Infinity', '0044-03-15 BC', '294276-12-31')").await;
    db.run("update edges set f = f, n = n; delete from edges where d = 'infinity'; update edges set f = 0; update edges set f = '-0'").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"f":"NaN","n":"NaN","d":"infinity","t":"-infinity"}"#,
            r#"I {"f":"-Infinity","n":"Infinity","d":"0044-03-15 BC","t":"294276-12-31T00:00:00"}"#,
            r#"D {"f":"NaN","n":"NaN","d":"infinity","t":"-infinity"}"#,
            r#"U {"f":"-Infinity","n":"Infinity","d":"0044-03-15 BC","t":"294276-12-31T00:00:00"} {"f":0,"n":"Infinity","d":"0044-03-15 BC","t":"294276-12-31T00:00:00"}"#,
            r#"U {"f":0,"n":"Infinity","d":"0044-03-15 BC","t":"294276-12-31T00:00:00"} {"f":-0,"n":"Infinity","d":"0044-03-15 BC","t":"294276-12-31T00:00:00"}"#,
        ]
    );
}

#[tokio::test]
async fn a_row_may_be_as_small_as_nothing_and_as_large_as_twenty_megabytes() {
    let db = TestDatabase::new().await;
    db.run("select rowcast.configure('row_bytes', '64 MB')").await;
    db.run("create table none (); create table scans (id int, page text, image bytea, secret text)").await;
    db.run("select rowcast.watch('none'), rowcast.watch('scans', exclude => '{secret}')").await;
    db.run("insert into none default values; delete from none").await;
    assert_eq!(captured(&db).await, ["I {}", "D {}"]);
    db.run("insert into scans values (1, repeat('ü', 10 * 1024 * 1024), null, repeat('hidden', 1000000)); update scans set id = 2").await;
    db.run("insert into scans values (3, '', decode(repeat('00ff', 5 * 1024 * 1024), 'hex')); delete from scans").await;
    assert_eq!(
        db.text("select string_agg(concat_ws(' ', op::text, octet_length(old::text), octet_length(new::text)), ', ' order by id) from rowcast.outbox where op <> 'C'").await,
        "I 20971551, U 12 20971551, I 20971552, D 20971551, D 20971552",
        "of an update's old image what differs"
    );
    assert_eq!(
        db.text("select bool_and(coalesce(new, old) ->> 'page' = repeat('ü', 10 * 1024 * 1024) or coalesce(new, old) ->> 'image' = '\\x' || repeat('00ff', 5 * 1024 * 1024)) from rowcast.outbox where op <> 'C'").await,
        "true"
    );
}

// Statements

#[tokio::test]
async fn an_upsert_is_what_it_did() {
    let db = TestDatabase::new().await;
    db.run("create table stock (id int primary key, n int); select rowcast.watch('stock')").await;
    db.run("insert into stock values (1, 1); insert into stock values (1, 2) on conflict (id) do update set n = excluded.n").await;
    db.run("insert into stock values (1, 2) on conflict (id) do update set n = excluded.n; insert into stock values (1, 3) on conflict do nothing").await;
    db.run("insert into stock values (2, 0), (1, 5) on conflict (id) do update set n = stock.n + excluded.n where stock.n < 100").await;
    db.run("insert into stock values (1, 9) on conflict (id) do update set n = 9 where stock.n > 100").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1,"n":1}"#,
            r#"U {"id":1,"n":1} {"id":1,"n":2}"#,
            r#"I {"id":2,"n":0}"#,
            r#"U {"id":1,"n":2} {"id":1,"n":7}"#,
        ]
    );
}

/// Columns that a key includes are no part of it.
#[tokio::test]
async fn a_key_is_the_columns_by_which_it_is_unique() {
    let db = TestDatabase::new().await;
    db.run(
        "create table people (id int, mail text, n int, primary key (id) include (mail)); insert into people values (1, 'a', 1);
         select rowcast.watch('people'); create table staff (id int, mail text, primary key (id) include (mail));
         select rowcast.watch('staff', exclude => '{mail}')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let (mut all, mut some) =
        (server.subscribed("/ws/people").await, server.subscribed("/ws/people?changed=true&columns=id,n").await);
    db.run("update people set mail = 'b', n = 2").await;
    let told = all.message().await;
    assert_eq!((&told["data"], &told["old"]), (&json!({"id": 1, "mail": "b", "n": 2}), &Value::Null), "{told}");
    assert_eq!(some.message().await["data"], json!({"id": 1, "n": 2}));
    db.run("insert into staff values (1, 'a')").await;
    server.stop().await.unwrap();
}

/// Postgres computes it when it is read, and a trigger sees null: no client is told it, in no way.
#[tokio::test]
async fn a_virtual_generated_column_is_told_nowhere() {
    let db = TestDatabase::new().await;
    if db.text("current_setting('server_version_num')::int < 180000").await == "true" {
        eprintln!("skipped: this Postgres has no virtual generated columns");
        return;
    }
    db.run(
        "create table notes (id int primary key, owner text, private bool generated always as (owner is not null) virtual);
         select rowcast.watch('notes'); insert into notes (id, owner) values (1, 'eva')",
    )
    .await;
    let refused = db.refused("select rowcast.allow('notes', 'guest', 'private=not.is.true')").await;
    assert!(refused.contains("no column private"), "{refused}");
    let server = TestServer::start(&db.url);
    let (rows, mut socket) = server.subscribed_with_rows("/ws/notes?snapshot=true").await;
    assert_eq!(rows, [json!({"id": 1, "owner": "eva"})]);
    db.run("update notes set owner = 'tom'").await;
    assert_eq!(socket.message().await["data"], json!({"id": 1, "owner": "tom"}));
    let mut refused = server.subscribed("/ws").await;
    refused.send(r#"{"type":"subscribe","channel":"notes","filter":"private=is.true"}"#).await;
    assert_eq!(refused.message().await["code"], "bad_filter");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_merge_is_what_it_did() {
    let db = TestDatabase::new().await;
    if db.text("current_setting('server_version_num')::int < 150000").await == "true" {
        eprintln!("skipped: this Postgres has no MERGE");
        return;
    }
    db.run("create table stock (id int primary key, n int); insert into stock values (1, 1), (2, 2), (4, 4); select rowcast.watch('stock')").await;
    db.run(
        "merge into stock using (values (1, 9), (2, 0), (3, 7), (4, 4)) as came (id, n) on stock.id = came.id
           when matched and came.n = 0 then delete when matched then update set n = came.n
           when not matched then insert values (came.id, came.n)",
    )
    .await;
    let mut changes = captured(&db).await;
    changes.sort();
    assert_eq!(changes, [r#"D {"id":2,"n":2}"#, r#"I {"id":3,"n":7}"#, r#"U {"id":1,"n":1} {"id":1,"n":9}"#]);
}

#[tokio::test]
async fn a_copy_is_an_insert_of_each_row() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int, name text, secret text) partition by list (pet_id); create table pets_1 partition of pets for values in (1)").await;
    db.run("create table pets_2 (secret text, name text, pet_id int); alter table pets attach partition pets_2 for values in (2)").await;
    db.run("select rowcast.watch('pets', exclude => '{secret}')").await;
    let sink = db.client.copy_in::<bytes::Bytes>("copy pets from stdin").await.unwrap();
    let mut sink = pin!(sink);
    sink.send(bytes::Bytes::from_static(b"1\tLuna \\\\ \\N\thidden\n2\t\\N\thidden\n")).await.unwrap();
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
    assert_eq!(
        captured(&db).await,
        [r#"I {"pet_id":1,"name":"Luna \\ N","secret":null}"#, r#"I {"secret":null,"name":null,"pet_id":2}"#]
    );
}

#[tokio::test]
async fn what_foreign_keys_do_is_captured_after_what_caused_it() {
    let db = TestDatabase::new().await;
    db.run(
        "create table owners (id int primary key);
         create table pets (id int primary key, owner int references owners on update cascade on delete cascade);
         create table visits (id int primary key, pet int references pets on delete set null);
         create table bills (id int primary key, visit int default 0 references visits on delete set default);
         select rowcast.watch('owners'), rowcast.watch('pets'), rowcast.watch('visits'), rowcast.watch('bills');
         insert into owners values (1); insert into pets values (10, 1); insert into visits values (0, null), (100, 10);
         insert into bills values (1000, 100)",
    )
    .await;
    captured(&db).await;
    db.run("update owners set id = 2").await;
    db.run("delete from owners").await;
    db.run("delete from visits where id = 100; truncate owners cascade").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"U {"id":1} {"id":2}"#,
            r#"U {"id":10,"owner":1} {"id":10,"owner":2}"#,
            r#"D {"id":2}"#,
            r#"D {"id":10,"owner":2}"#,
            r#"U {"id":100,"pet":10} {"id":100,"pet":null}"#,
            r#"D {"id":100,"pet":null}"#,
            r#"U {"id":1000,"visit":100} {"id":1000,"visit":0}"#,
            "T",
            "T",
            "T",
            "T",
        ]
    );
}

#[tokio::test]
async fn what_views_rules_functions_and_cursors_write_is_captured() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key, n int); create view grown as select id, n from pets where n > 0 with check option;
         create table inbox (id int); create rule to_pets as on insert to inbox do instead insert into pets values (new.id, 1);
         create function adopt(int) returns void language sql as 'insert into pets values ($1, 1)';
         create procedure adopt_two() language plpgsql as $$ begin
           insert into pets values (30, 1); commit; insert into pets values (31, 1); rollback; insert into pets values (32, 1); end $$;
         select rowcast.watch('pets')",
    )
    .await;
    db.run("insert into grown values (20, 1); update grown set n = 2 where id = 20; insert into inbox values (21); select adopt(22)").await;
    db.run("with gone as (delete from pets where id = 20 returning *) insert into pets select id + 5, n from gone")
        .await;
    db.run("begin; declare c cursor for select * from pets where id = 21 for update; fetch c; update pets set n = 3 where current of c; commit").await;
    db.run("do $$ begin execute 'delete from pets where id = 21'; end $$").await;
    db.run("prepare take(int) as delete from pets where id = $1; execute take(22)").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":20,"n":1}"#,
            r#"U {"id":20,"n":1} {"id":20,"n":2}"#,
            r#"I {"id":21,"n":1}"#,
            r#"I {"id":22,"n":1}"#,
            r#"D {"id":20,"n":2}"#,
            r#"I {"id":25,"n":2}"#,
            r#"U {"id":21,"n":1} {"id":21,"n":3}"#,
            r#"D {"id":21,"n":3}"#,
            r#"D {"id":22,"n":1}"#,
        ]
    );
    db.run("call adopt_two()").await;
    assert_eq!(db.text("select count(distinct xid) from rowcast.outbox where op = 'I'").await, "2");
    assert_eq!(captured(&db).await, [r#"I {"id":30,"n":1}"#, r#"I {"id":32,"n":1}"#]);
}

#[tokio::test]
async fn what_the_applications_triggers_write_is_captured_in_the_order_in_which_it_happened() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key, n int, stamp text); create table log (pet int, n int);
         create function again() returns trigger language plpgsql as $$ begin
           if new.n < 3 then update pets set n = new.n + 1 where id = new.id; end if; return null; end $$;
         create function stamp() returns trigger language plpgsql as $$ begin
           if new.n = 100 then return null; end if; new.stamp := 'by a trigger'; return new; end $$;
         create function write_log() returns trigger language plpgsql as $$ begin insert into log select id, n from came; return null; end $$;
         create trigger again after insert or update on pets for each row execute function again();
         create trigger stamp before insert or update on pets for each row execute function stamp();
         create trigger write_log after insert on pets referencing new table as came for each statement execute function write_log();
         select rowcast.watch('pets'), rowcast.watch('log')",
    )
    .await;
    db.run("insert into pets values (1, 1); insert into pets values (2, 100)").await;
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1,"n":1,"stamp":"by a trigger"}"#,
            r#"U {"id":1,"n":1,"stamp":"by a trigger"} {"id":1,"n":2,"stamp":"by a trigger"}"#,
            r#"U {"id":1,"n":2,"stamp":"by a trigger"} {"id":1,"n":3,"stamp":"by a trigger"}"#,
            r#"I {"pet":1,"n":1}"#,
        ]
    );
}

// Transactions

#[tokio::test]
async fn what_a_deferred_trigger_writes_at_commit_is_in_the_same_transaction() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int); create table log (pet int, note text);
         create function late() returns trigger language plpgsql as $$ begin insert into log values (new.id, 'at commit'); return null; end $$;
         create constraint trigger late after insert on pets deferrable initially deferred for each row execute function late();
         select rowcast.watch('pets'), rowcast.watch('log')",
    )
    .await;
    db.run("begin; insert into pets values (1); insert into pets values (2); insert into log values (0, 'at once'); commit").await;
    assert_eq!(db.text("select count(distinct xid) from rowcast.outbox where op = 'I'").await, "1");
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1}"#,
            r#"I {"id":2}"#,
            r#"I {"pet":0,"note":"at once"}"#,
            r#"I {"pet":1,"note":"at commit"}"#,
            r#"I {"pet":2,"note":"at commit"}"#,
        ]
    );
}

#[tokio::test]
async fn what_was_rolled_back_leaves_nothing() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key, name text unique deferrable initially deferred); select rowcast.watch('pets')").await;
    db.run(
        "begin; insert into pets values (1, 'kept');
         savepoint a; insert into pets values (2, 'lost'); savepoint b; update pets set name = 'lost' where id = 1; release b; rollback to a;
         savepoint c; insert into pets values (3, 'kept too'); release c;
         do $$ begin begin insert into pets values (4, 'lost'); raise exception 'x'; exception when others then null; end; end $$;
         commit",
    )
    .await;
    assert_eq!(captured(&db).await, [r#"I {"id":1,"name":"kept"}"#, r#"I {"id":3,"name":"kept too"}"#]);
    // a key that is violated at commit
    assert_eq!(
        sqlstate(&db.client, "insert into pets select i, 'twice' from generate_series(10, 20) i").await,
        "23505"
    );
    // a write that lost against another one
    let other = db.another_client().await;
    other.batch_execute("begin isolation level repeatable read; insert into pets values (30, 'lost')").await.unwrap();
    db.run("update pets set name = 'won' where id = 1").await;
    assert_eq!(sqlstate(&other, "update pets set name = 'lost' where id = 1").await, "40001");
    other.batch_execute("rollback").await.unwrap();
    assert_eq!(captured(&db).await, [r#"U {"id":1,"name":"kept"} {"id":1,"name":"won"}"#]);
}

#[tokio::test]
async fn a_statement_that_is_cancelled_while_it_is_captured_leaves_nothing() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (id int primary key); select rowcast.watch('pets');
         create function cancel() returns trigger language plpgsql as $$ begin
           if new.id = 50 then perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(60); end if; return null; end $$;
         create trigger cancel after insert on pets for each row execute function cancel()",
    )
    .await;
    let drawn = db.text("select last_value from rowcast.outbox_id").await.parse::<i64>().unwrap();
    assert_eq!(sqlstate(&db.client, "insert into pets select i from generate_series(1, 100) i").await, "57014");
    let drawn_then = db.text("select last_value from rowcast.outbox_id").await.parse::<i64>().unwrap();
    assert_eq!(drawn_then - drawn, 50, "it was cancelled in the midst of it");
    assert!(captured(&db).await.is_empty());
    assert_eq!(
        db.text("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()").await,
        "0"
    );
    db.run("insert into pets values (51)").await;
    assert_eq!(captured(&db).await, [r#"I {"id":51}"#]);
}

#[tokio::test]
async fn a_prepared_transaction_is_captured_when_it_is_committed() {
    let db = TestDatabase::new().await;
    if db.text("current_setting('max_prepared_transactions')").await == "0" {
        eprintln!("skipped: max_prepared_transactions is 0");
        return;
    }
    let name = format!("rowcast_test_{}", std::process::id());
    db.run("create table pets (id int primary key); select rowcast.configure('notify', 'never'); select rowcast.watch('pets')").await;
    db.run(&format!("begin; insert into pets values (1); prepare transaction '{name}'")).await;
    assert!(captured(&db).await.is_empty());
    db.run(&format!("commit prepared '{name}'")).await;
    assert_eq!(captured(&db).await, [r#"I {"id":1}"#]);
    db.run(&format!("begin; delete from pets; prepare transaction '{name}'")).await;
    db.run(&format!("rollback prepared '{name}'")).await;
    assert!(captured(&db).await.is_empty());
}

// Sessions

#[tokio::test]
async fn a_writer_with_few_rights_is_captured_with_all_columns_but_the_excluded() {
    let db = TestDatabase::new().await;
    let role = format!("clerk_{}", std::process::id());
    db.run(&format!(
        "create role {role} login password 'secret'; create schema app; revoke all on schema app from public; grant usage on schema app to {role};
         create domain app.code as text not null check (value <> ''); create type app.spot as (a int, seen timestamptz);
         create table app.pets (id int primary key, chip app.code, spot app.spot, weight interval);
         alter table app.pets enable row level security; create policy own on app.pets to {role} using (id < 10) with check (true);
         grant insert, delete, select (id), update (weight) on app.pets to {role};
         select rowcast.watch('app.pets', exclude => '{{chip}}', user_rule => 'select row.id')"
    ))
    .await;
    let clerk = connect(&db.url_of(&role)).await;
    clerk
        .batch_execute("insert into app.pets values (1, 'hidden', row(1, '2024-01-15 10:30:00+00'), '1 day')")
        .await
        .unwrap();
    clerk.batch_execute("set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'").await.unwrap();
    clerk
        .batch_execute("update app.pets set weight = '2 days' where id > 0; delete from app.pets where id > 0")
        .await
        .unwrap();
    assert_eq!(
        db.text("select string_agg(distinct users::text || actor, ' ') from rowcast.outbox where op <> 'C'")
            .await
            .split('/')
            .next()
            .unwrap(),
        format!("{{1}}{role}")
    );
    assert_eq!(
        captured(&db).await,
        [
            r#"I {"id":1,"spot":{"a":1,"seen":"2024-01-15T10:30:00+00:00"},"weight":"1 day"}"#,
            r#"U {"id":1,"spot":{"a":1,"seen":"2024-01-15T10:30:00+00:00"},"weight":"1 day"} {"id":1,"spot":{"a":1,"seen":"2024-01-15T10:30:00+00:00"},"weight":"2 days"}"#,
            r#"D {"id":1,"spot":{"a":1,"seen":"2024-01-15T10:30:00+00:00"},"weight":"2 days"}"#,
        ]
    );
    drop(clerk);
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_session_can_mute_itself_name_itself_and_act_as_a_replica() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int); select rowcast.watch('pets')").await;
    db.run("begin; set local rowcast.mute = on; insert into pets values (1); truncate pets; set local rowcast.mute = off; insert into pets values (2); commit").await;
    db.run("insert into pets values (3)").await;
    db.run("set rowcast.mute = on").await;
    db.run("insert into pets values (4)").await;
    db.run("reset rowcast.mute").await;
    db.run("begin; set local session_replication_role = replica; insert into pets values (5); truncate pets; commit")
        .await;
    assert_eq!(captured(&db).await, [r#"I {"id":2}"#, r#"I {"id":3}"#]);
    db.run("set rowcast.actor = 'nightly \"job\" ü'").await;
    db.run("insert into pets values (6)").await;
    db.run("set rowcast.actor = ''; set application_name = 'import'").await;
    db.run("insert into pets values (7)").await;
    db.run("set application_name = ''").await;
    db.run("truncate pets").await;
    assert_eq!(
        db.text("select string_agg(replace(actor, session_user, 'USER'), ', ' order by id) from rowcast.outbox where op <> 'C'").await,
        "nightly \"job\" ü, USER/import, USER"
    );
}

// Excluded columns

#[tokio::test]
async fn an_excluded_column_is_nowhere_in_the_outbox_however_it_is_written() {
    for kind in ["text", "code", "text[]", "spot", "json"] {
        let db = TestDatabase::new().await;
        let secret = match kind {
            "text[]" => "array['hidden']",
            "spot" => "row('hidden', 1)",
            "json" => "'{\"a\": \"hidden\"}'",
            _ => "'hidden'",
        };
        db.run("create domain code as text not null check (value <> ''); create type spot as (a text, b int)").await;
        db.run(&format!("create table owners (id int primary key); create table pets (id int primary key, secret {kind} default {secret}, owner int references owners on delete cascade, i interval)")).await;
        db.run("insert into owners values (1); select rowcast.watch('pets', exclude => '{secret}', user_rule => 'select row.id')").await;
        for settings in ["reset all", "set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'"] {
            db.run(settings).await;
            db.run("insert into pets values (1), (2), (3)").await;
            db.run(&format!("insert into pets values (1) on conflict (id) do update set secret = {secret}, owner = 1; update pets set secret = {secret}, id = id + 10")).await;
            // a rename, seen by the next statement of the same transaction and by a session that wrote before
            db.run("begin; alter table pets rename secret to hush; insert into pets values (4); update pets set i = '1 day'; commit").await;
            db.run("update pets set i = '2 days'; delete from owners; delete from pets; insert into owners values (1)")
                .await;
            db.run("alter table pets rename hush to secret").await;
        }
        let text = "concat(o, o.old, o.new, o.users)";
        assert_eq!(db.text("select count(*) from rowcast.outbox where op <> 'C'").await, "40", "{kind}");
        assert_eq!(
            db.text(&format!("select count(*) from rowcast.outbox o where {text} like '%hidden%'")).await,
            "0",
            "{kind}"
        );
        assert_eq!(
            db.text(&format!("select count(*) from rowcast.outbox o where {text} like '%2 days%'")).await,
            "16",
            "{kind}"
        );
        // the column is dropped: there is nothing left to hide
        db.run("alter table pets drop secret; insert into pets values (5)").await;
        assert!(
            db.text("select new from rowcast.outbox where op = 'I' order by id desc limit 1")
                .await
                .starts_with(r#"{"id":5,"#)
        );
    }
}

#[tokio::test]
async fn an_excluded_column_is_not_in_the_bell_either() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key, secret text); select rowcast.watch('pets', exclude => '{secret}'); select rowcast.configure('notify', 'always')").await;
    let mut bells = db.bells().await;
    db.run("insert into pets values (1, 'hidden'); update pets set id = 2; delete from pets").await;
    for id in [1, 2, 2] {
        let bell = bells.recv().await.unwrap();
        assert!(bell.contains(&format!(r#""data":{{"id":{id},"secret":null}}"#)), "{bell}");
    }
}

#[tokio::test]
async fn an_excluded_column_that_is_renamed_beside_an_open_transaction_stays_excluded() {
    let db = TestDatabase::new().await;
    db.run("create domain code as text not null; create table pets (id int, secret text, name text); create table cats (id int, secret code, name text)").await;
    db.run("select rowcast.watch('pets', exclude => '{secret}'), rowcast.watch('cats', exclude => '{secret}')").await;
    let other = db.another_client().await;
    for isolation in ["read committed", "repeatable read", "serializable"] {
        other.batch_execute(&format!("begin isolation level {isolation}; select 1")).await.unwrap();
        db.run("alter table pets rename secret to hush; alter table pets rename name to title; alter table pets add c int default 7").await;
        db.run("alter table cats rename secret to hush; alter table cats rename name to title; alter table cats add c int default 7").await;
        other
            .batch_execute("insert into pets values (1, 'hidden'); insert into cats values (1, 'hidden'); commit")
            .await
            .unwrap();
        db.run(
            "alter table pets rename hush to secret; alter table pets rename title to name; alter table pets drop c",
        )
        .await;
        db.run(
            "alter table cats rename hush to secret; alter table cats rename title to name; alter table cats drop c",
        )
        .await;
    }
    for change in captured(&db).await {
        assert!(change.ends_with(r#""title":null,"c":7}"#) && !change.contains("hidden"), "{change}");
    }
}

#[tokio::test]
async fn beside_an_excluded_column_the_others_keep_their_values_and_may_all_be_gone() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int, secret text); select rowcast.watch('pets', exclude => '{secret}')").await;
    db.run("insert into pets values (1, 'hidden'); alter table pets add legs int default 4").await;
    db.run("update pets set id = 2; alter table pets add eyes int default 2; delete from pets").await;
    assert_eq!(
        captured(&db).await,
        [r#"I {"id":1,"secret":null}"#, r#"U {"id":1,"legs":4} {"id":2,"legs":4}"#, r#"D {"id":2,"legs":4,"eyes":2}"#,]
    );
    db.run("create domain code as text not null; create table codes (secret code, id int); select rowcast.watch('codes', exclude => '{secret}')").await;
    db.run("alter table codes drop id; insert into codes values ('hidden')").await;
    assert_eq!(captured(&db).await, ["I {}"]);
}

#[tokio::test]
async fn a_user_rule_goes_on_in_open_sessions_when_a_columns_type_changes() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int, owner int); select rowcast.watch('pets', user_rule => 'select row.owner')")
        .await;
    db.run("insert into pets values (1, 5)").await;
    db.run("alter table pets alter owner type bigint").await;
    db.run("insert into pets values (2, 5); delete from pets").await;
    assert_eq!(
        db.text("select string_agg(users::text, ' ') from rowcast.outbox where op <> 'C'").await,
        "{5} {5} {5} {5}"
    );
}

#[tokio::test]
async fn a_table_that_is_watched_itself_can_be_attached_to_a_watched_one() {
    let db = TestDatabase::new().await;
    db.run("create table visits (id int, note text) partition by list (id); select rowcast.watch('visits', user_rule => 'select 100 + row.id')").await;
    db.run("create table visits_1 (id int, note text); select rowcast.watch('visits_1', user_rule => 'select row.id')")
        .await;
    db.run("alter table visits attach partition visits_1 for values in (1)").await;
    db.run("insert into visits values (1, 'x')").await;
    assert_eq!(
        db.text("select string_agg(users::text, ' ' order by users) from rowcast.outbox where op = 'I'").await,
        "{1} {101}"
    );
    db.run("alter table visits_1 disable trigger user").await;
    assert_eq!(
        db.text("select string_agg(state, ' ') from rowcast.watched where drift like '%disabled%'").await,
        "off off"
    );
    db.run("alter table visits_1 enable trigger user; select rowcast.unwatch('visits_1')").await;
    assert_eq!(db.text("select channel || ' ' || state from rowcast.watched").await, "visits live");
}

#[tokio::test]
async fn a_column_or_table_that_is_gone_is_said_and_a_new_table_takes_its_channel() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int, secret text); select rowcast.watch('pets', exclude => '{secret}', user_rule => 'select 1')").await;
    db.run("alter table pets drop secret; alter table pets add secret text").await;
    assert!(
        db.text("select drift from rowcast.watched")
            .await
            .starts_with("another column has, or had, the name of an excluded one: secret")
    );
    db.run("alter table pets rename secret to other").await;
    assert!(db.text("select drift from rowcast.watched").await.starts_with("an excluded column is gone"));
    db.run("drop table pets; create table pets (id int); select rowcast.watch('pets')").await;
    assert_eq!(db.text("select channel || ' ' || state from rowcast.watched").await, "pets live");
    assert_eq!(db.text("select count(*) from pg_proc where proname like 'users_of_%'").await, "0");
}

// While the application writes

/// A client that runs the same statements over and over until it is stopped. Each must succeed.
struct Writer {
    stop: Arc<AtomicBool>,
    rounds: watch::Receiver<u32>,
    task: JoinHandle<u32>,
}

impl Writer {
    fn start(client: Client, statements: &'static [&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (count, rounds) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut made = 0;
            while !stopped.load(Ordering::Relaxed) {
                for statement in statements {
                    client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
                }
                made += 1;
                count.send_replace(made);
            }
            made
        });
        Self { stop, rounds, task }
    }

    /// Waits until it has begun and ended two more rounds.
    async fn goes_on(&mut self) {
        let before = *self.rounds.borrow();
        self.rounds.wait_for(|made| *made >= before + 3).await.expect("a writer whose statements succeed");
    }

    /// How many rounds it made.
    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn a_table_may_be_altered_moved_and_renamed_while_it_is_written() {
    const ROUND: &[&str] = &[
        "insert into door (id) values (nextval('ids'))",
        "update door set n = 1 where id = currval('ids')",
        "delete from door where id = currval('ids')",
    ];
    let db = TestDatabase::new().await;
    // the application writes through a view, which finds the table under whatever name
    db.run(
        "create table pets (id int primary key, n int, name text default 'Luna', weight int default 3,
           born interval default '1 day', secret text default 'hidden');
         create view door as select id, n from pets; create sequence ids; select rowcast.watch('pets', exclude => '{secret}')",
    )
    .await;
    let deviating = db.another_client().await;
    deviating.batch_execute("set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'").await.unwrap();
    let mut writers = [Writer::start(db.another_client().await, ROUND), Writer::start(deviating, ROUND)];
    for change in [
        "alter table pets add colour text default 'black'",
        "alter table pets add legs int",
        "alter table pets drop name",
        "alter table pets rename weight to grams",
        "alter table pets alter grams type numeric(6, 1) using grams * 1000",
        "alter table pets rename secret to hush",
        "alter table pets alter hush type varchar(20)",
        "create index on pets (n)",
        "create schema clinic; alter table pets set schema clinic",
        "alter table clinic.pets rename to animals",
    ] {
        db.run(change).await;
        for writer in &mut writers {
            writer.goes_on().await;
        }
    }
    let mut rounds = 0;
    for writer in writers {
        rounds += writer.stop().await;
    }
    assert_eq!(
        db.text("select concat_ws(' ', count(*) filter (where op = 'I'), count(*) filter (where op = 'U'), count(*) filter (where op = 'D')) from rowcast.outbox").await,
        format!("{rounds} {rounds} {rounds}")
    );
    assert_eq!(
        db.text(r#"select string_agg(distinct regexp_replace(new::text, '"id":\d+', '"id":0'), ' ') from rowcast.outbox where op = 'I' and new::text like '%"hush"%'"#).await,
        r#"{"id":0,"n":null,"grams":3.0,"born":"1 day","hush":null,"colour":"black","legs":null}"#
    );
    assert_eq!(db.text("select count(*) from rowcast.outbox where concat(old, new) like '%hidden%'").await, "0");
    assert_eq!(
        db.text(r#"select concat_ws(' ', "table", channel, exclude, state, drift) from rowcast.watched"#).await,
        "clinic.animals pets {hush} live snapshots are not possible: the relay may not read a column that was added"
    );
}

#[tokio::test]
async fn partitions_come_and_go_while_the_others_are_written() {
    const ROUND: &[&str] =
        &["insert into visits values (1, 'new')", "update visits set note = 'old'", "delete from visits_1"];
    let db = TestDatabase::new().await;
    db.run("create table visits (id int, note text) partition by list (id); create table visits_1 partition of visits for values in (1)").await;
    db.run("create table visits_3 (note text, id int); select rowcast.watch('visits')").await;
    let mut writer = Writer::start(db.another_client().await, ROUND);
    for change in [
        "create table visits_2 partition of visits for values in (2)",
        "alter table visits attach partition visits_3 for values in (3)",
        "alter table visits add cost int default 5",
        "alter table visits detach partition visits_3",
        "alter table visits detach partition visits_2 concurrently",
        "drop table visits_2",
        "alter table visits rename note to remark; alter table visits rename remark to note",
    ] {
        db.run(change).await;
        writer.goes_on().await;
    }
    let rounds = writer.stop().await;
    assert_eq!(
        db.text("select concat_ws(' ', count(*) filter (where op = 'I'), count(*) filter (where op = 'U'), count(*) filter (where op = 'D')) from rowcast.outbox").await,
        format!("{rounds} {rounds} {rounds}")
    );
    assert_eq!(
        db.text("select new from rowcast.outbox where op = 'I' order by id desc limit 1").await,
        r#"{"id":1,"note":"new","cost":5}"#
    );
}

#[tokio::test]
async fn a_table_may_be_dropped_while_it_is_written() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int); create table cats (id int); select rowcast.watch('pets', user_rule => 'select row.id'), rowcast.watch('cats')").await;
    let mut others = Writer::start(db.another_client().await, &["insert into cats values (1)"]);
    let client = db.another_client().await;
    let (count, mut written) = watch::channel(0);
    let task = tokio::spawn(async move {
        for made in 1.. {
            if let Err(error) = client.batch_execute("insert into pets values (1)").await {
                return error.code().map(|code| code.code().to_owned());
            }
            count.send_replace(made);
        }
        None
    });
    written.wait_for(|made| *made >= 3).await.unwrap();
    db.run("drop table pets").await;
    assert_eq!(task.await.unwrap().as_deref(), Some("42P01"), "what it would be without rowcast");
    others.goes_on().await;
    let cats = others.stop().await;
    let pets = *written.borrow();
    assert_eq!(
        db.text("select string_agg(n::text, ' ' order by channel) from (select channel, count(*) n from rowcast.outbox where op = 'I' group by channel) c").await,
        format!("{pets} {cats}")
    );
    // what is left is said with the remedy, and the remedy works
    let drift = db.text("select drift from rowcast.watched where channel = 'pets'").await;
    db.run(drift.split_once(" is gone: ").unwrap().1).await;
    assert_eq!(db.text("select string_agg(channel, ' ') from rowcast.watched").await, "cats");
}

#[tokio::test]
async fn a_connection_whose_login_role_was_dropped_writes_on() {
    let db = TestDatabase::new().await;
    let (group, login) = (format!("app_{}", std::process::id()), format!("v1_{}", std::process::id()));
    db.run(&format!(
        "create role {group}; create role {login} login password 'secret' in role {group}; alter role {login} set role = '{group}'"
    ))
    .await;
    db.run(&format!(
        "create table orders (id int primary key); alter table orders owner to {group}; select rowcast.watch('orders')"
    ))
    .await;
    let leased = super::support::postgres::connect(&db.url_of(&login)).await;
    leased.batch_execute("insert into orders values (1)").await.unwrap();
    db.run(&format!("drop role {login}")).await;
    leased
        .batch_execute(
            "insert into orders values (2); set application_name = ''; insert into orders values (3); truncate orders",
        )
        .await
        .unwrap();
    assert_eq!(
        db.text("select count(*) || ' ' || string_agg(distinct split_part(actor, '/', 1), ' ') from rowcast.outbox where op in ('I', 'T')").await,
        format!("4 {login}"),
        "by the name that it had"
    );
    db.run(&format!("drop table orders; drop role {group}")).await;
}

#[tokio::test]
async fn no_size_of_a_row_fails_a_write() {
    let db = TestDatabase::new().await;
    db.run("create table files (id int primary key, name text, body text); select rowcast.watch('files')").await;
    db.run("create table notes (id int, body text, secret text); select rowcast.watch('notes', exclude => '{secret}')")
        .await;
    for statement in [
        // a control character is six bytes of JSON: two images of 570 MB do not fit into a row of the outbox
        "insert into files values (1, 'n', repeat(chr(1), 95000000))",
        "update files set name = 'm'",
        "delete from files",
        // JSON of more than a gigabyte
        "insert into notes values (1, repeat(chr(1), 180000000), 'x')",
        "insert into notes values (2, 'x', repeat(chr(1), 180000000))",
    ] {
        db.run(statement).await;
    }
    assert_eq!(
        db.text("select string_agg(concat_ws(' ', op::text, old, new), ', ' order by id) from rowcast.outbox where op <> 'C'").await,
        r#"i {"id":1}, u {"id":1} {"id":1}, d {"id":1}, i {}, I {"id":2,"body":"x"}"#
    );
}

#[tokio::test]
async fn an_event_trigger_of_the_application_does_not_stop_pruning() {
    for (function, at) in [
        ("raise exception 'no DDL today'", "ddl_command_start"),
        ("insert into log_ddl values (now(), tg_tag)", "ddl_command_end"),
    ] {
        let db = TestDatabase::new().await;
        db.run("create table pets (id int); select rowcast.watch('pets'); create table public.log_ddl (at timestamptz, tag text)").await;
        db.run(&format!(
            "create function audit() returns event_trigger language plpgsql as $$ begin {function}; end $$"
        ))
        .await;
        db.run(&format!("create event trigger audit on {at} execute function audit()")).await;
        db.run("update rowcast.segment set opened_at = now() - interval '2 days' where opened_at is not null").await;
        assert_eq!(db.text("rowcast.prune()").await, "segment 1 takes new changes");
        db.run("insert into pets values (1)").await;
        assert_eq!(
            db.text("select tableoid::regclass from rowcast.outbox order by id desc limit 1").await,
            "rowcast.outbox_1"
        );
    }
}

#[tokio::test]
async fn a_schema_is_watched_without_making_its_writers_wait() {
    let db = TestDatabase::new().await;
    db.run("do $$ begin for i in 100 .. 199 loop execute format('create table t_%s (id serial primary key)', i); end loop; end $$").await;
    // one transaction that stays open concerns its own table alone
    let holder = db.another_client().await;
    holder.batch_execute("begin; insert into t_150 default values").await.unwrap();
    let writer = db.another_client().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut longest = std::time::Duration::ZERO;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let began = std::time::Instant::now();
            writer.batch_execute("insert into t_100 default values").await.unwrap();
            longest = longest.max(began.elapsed());
        }
        longest
    });
    let refused = db.another_client().await.batch_execute("call rowcast.watch_each('public')").await;
    assert!(refused.is_ok(), "{refused:?}");
    assert_eq!(db.text("select string_agg(\"table\"::text, ' ') from rowcast.unwatched").await, "t_150");
    holder.batch_execute("commit").await.unwrap();
    db.run("select rowcast.watch_schema('public')").await;
    assert_eq!(db.text("select count(*) from rowcast.watched where state = 'live'").await, "100");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let longest = writing.await.unwrap();
    assert!(longest < std::time::Duration::from_secs(1), "a writer waited {longest:?}");
}

#[tokio::test]
async fn a_forgotten_mute_is_seen() {
    let db = TestDatabase::new().await;
    let role = format!("etl_{}", std::process::id());
    db.run(&format!("create role {role}; create table pets (id int); select rowcast.watch('pets')")).await;
    assert_eq!(db.text("select drift from rowcast.watched").await, "");
    db.run(&format!("alter role {role} set rowcast.mute = 'on'")).await;
    assert!(db.text("select drift from rowcast.watched").await.contains(&role));
    assert!(
        db.text("select detail from rowcast.health where finding = 'triggers' and state = 'warn'")
            .await
            .contains(&role)
    );
    let remedy = db.text("select remedy from rowcast.watched").await;
    db.run(&remedy).await;
    assert_eq!(db.text("select drift from rowcast.watched").await, "");
    db.run(&format!("drop role {role}")).await;
    // for everybody, of the whole cluster: so it is not committed
    db.run("begin; alter role all set rowcast.mute = 'on'").await;
    assert!(db.text("select drift from rowcast.watched").await.contains("everybody"));
    let remedy = db.text("select remedy from rowcast.watched").await;
    db.run(&remedy).await;
    assert_eq!(db.text("select drift from rowcast.watched").await, "");
    db.run("rollback").await;
}

#[tokio::test]
async fn a_table_that_cannot_be_watched_as_it_is_does_not_keep_the_others_of_its_schema_out() {
    let db = TestDatabase::new().await;
    db.run(r#"create table "user" (id int); create table "Order" (id int); create table "order" (id int); create table pets (id int)"#).await;
    db.run("create type mood as enum ('ok'); create function mood_json(mood) returns json language sql as 'select null::json'").await;
    db.run("create cast (mood as json) with function mood_json(mood); create table moods (m mood)").await;
    db.run("select rowcast.watch_schema('public')").await;
    assert_eq!(
        db.text(r#"select string_agg("table"::text, ' ' order by channel) from rowcast.watched"#).await,
        r#""Order" pets"#
    );
    db.run("select rowcast.watch('\"user\"', channel => 'users')").await;
    db.run("insert into pets values (1); insert into \"user\" values (1)").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "2");
}
