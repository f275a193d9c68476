//! Capture: what the SQL side promises a DBA and an application.

use rowcast::source::catalog::Catalog;
use rowcast::source::install;
use rowcast::source::pool::Database;

use super::support::postgres::{TestDatabase, connect};

const PETS: &str = "create table pets (pet_id int primary key, user_id int, name text, secret text);";

async fn outbox(db: &TestDatabase) -> Vec<String> {
    let rows = db
        .client
        .query("select op::text || ' ' || coalesce(new::text, old::text, 'null') from rowcast.outbox where op <> 'C' order by id", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn native_code_that_is_not_there_is_explained_and_changes_nothing() {
    let db = TestDatabase::empty().await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    // as everywhere but in `make test-native`
    if std::env::var_os("ROWCAST_TEST_NATIVE").is_none() {
        let said = db.refused("select rowcast.configure('capture', 'native')").await;
        assert!(said.starts_with("this server does not have the library rowcast_capture | install it"), "{said}");
        assert_eq!(db.text("select count(*) from rowcast.setting where name = 'capture'").await, "0");
    }
    let said = db.refused("select rowcast.configure('capture', 'rust')").await;
    assert_eq!(said, "setting capture cannot be rust | it is one of: plpgsql, native");
    db.run(
        "create role plain_owner; grant all on schema rowcast to plain_owner; grant all on all tables in schema rowcast
            to plain_owner; grant execute on all functions in schema rowcast to plain_owner; set role plain_owner",
    )
    .await;
    let said = db.refused("select rowcast.configure('capture', 'native')").await;
    assert!(said.contains("native code is chosen by a superuser"), "{said}");
    db.run("reset role; drop owned by plain_owner; drop role plain_owner").await;
}

#[tokio::test]
async fn every_action_is_captured_in_the_writers_transaction() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    assert_eq!(db.text("rowcast.watch('pets')").await, "pets");
    db.run("insert into pets values (1, 5, 'Luna')").await;
    db.run("update pets set name = 'Nala'; update pets set name = name").await;
    db.run("begin; insert into pets values (2, 5, 'lost'); rollback").await;
    db.run("begin; savepoint s; insert into pets values (3, 5, 'lost'); rollback to s; insert into pets values (4, 5, 'kept'); commit").await;
    db.run("delete from pets where pet_id = 1; truncate pets").await;
    assert_eq!(
        outbox(&db).await,
        [
            r#"I {"pet_id":1,"user_id":5,"name":"Luna","secret":null}"#,
            r#"U {"pet_id":1,"user_id":5,"name":"Nala","secret":null}"#,
            r#"I {"pet_id":4,"user_id":5,"name":"kept","secret":null}"#,
            r#"D {"pet_id":1,"user_id":5,"name":"Nala","secret":null}"#,
            "T null",
        ]
    );
}

#[tokio::test]
async fn an_excluded_column_never_leaves_the_table_also_after_a_rename() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets', exclude => '{secret}')").await;
    db.run("insert into pets values (1, 5, 'Luna', 'hidden'); alter table pets rename secret to hush; update pets set name = 'Nala', hush = 'hidden2'").await;
    db.run("update pets set name = name").await;
    let captured = outbox(&db).await;
    assert_eq!(captured.len(), 2, "{captured:?}");
    let captured = captured.concat();
    assert!(captured.contains("Nala") && !captured.contains("hidden"), "{captured}");
    assert_eq!(
        db.text("select count(*) from rowcast.outbox where old::text like '%hidden%' or new::text like '%hidden%'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_user_rule_by_query_names_the_users_and_never_fails_the_write() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create table visits (visit_id int, pet_id int); insert into pets values (1, 5, 'Luna')").await;
    db.run("select rowcast.watch('visits', user_rule => 'select p.user_id from public.pets p where p.pet_id = row.pet_id')").await;
    db.run("insert into visits values (1, 1); update visits set visit_id = 2; update visits set visit_id = 2; delete from visits").await;
    assert_eq!(
        db.text("select string_agg(users::text, ' ' order by id) from rowcast.outbox where op <> 'C'").await,
        "{5} {5} {5}"
    );
    // with the rule's trigger off, the write goes through and nobody is taken for another row's user
    db.run("alter table visits disable trigger \"!!rowcast_users\"").await;
    db.run("insert into visits values (7, 1)").await;
    assert_eq!(db.text("select users from rowcast.outbox order by id desc limit 1").await, "");
    db.run("create table calls (pet_id int); select rowcast.watch('calls', user_rule => 'select 9')").await;
    db.run("begin; insert into calls values (1); insert into visits values (8, 1); commit").await;
    assert_eq!(db.text("select users from rowcast.outbox order by id desc limit 1").await, "");
    db.run("alter table visits enable trigger \"!!rowcast_users\"").await;
    // the application alters its own table: the rule breaks, its writes do not
    db.run("alter table pets rename user_id to owner_id; insert into visits values (3, 1)").await;
    assert_eq!(db.text("select users from rowcast.outbox where op = 'I' order by id desc limit 1").await, "{NULL}");
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_with_the_remedy_and_nothing_is_left() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create view v as select * from pets; create materialized view m as select * from pets; create sequence s")
        .await;
    db.run("create foreign data wrapper w; create server elsewhere foreign data wrapper w; create foreign table f (a int) server elsewhere").await;
    db.run(
        "create table parts (a int) partition by list (a); create table part_1 partition of parts for values in (1)",
    )
    .await;
    db.run("create table cats (cat_id int); create temp table scratch (a int)").await;
    db.run("create type mood as enum ('ok'); create function mood_json(mood) returns json language sql as 'select null::json'").await;
    db.run("create cast (mood as json) with function mood_json(mood); create table moods (a int, m mood[])").await;
    for (call, message) in [
        ("'v'", "it is a view | watch the tables that it reads"),
        ("'m'", "it is a view"),
        ("'f'", "it is a foreign table | "),
        ("'scratch'", "it is a temporary table"),
        ("'s'", "it is not a table"),
        ("'part_1'", "it is a partition of public.parts | select rowcast.watch('public.parts')"),
        ("'rowcast.outbox'", "it belongs to schema rowcast"),
        ("'moods'", "column m is of type public.mood, which has a cast to json"),
        ("'pets', user_rule => 'select nonsense from nowhere'", "its user rule is not a query that works"),
        (
            "'pets', user_rule => 'owner'",
            "user rule owner is neither a column of it nor a query | columns: pet_id, user_id",
        ),
        ("'pets', exclude => '{colour}'", "it has no column colour | columns: pet_id"),
        ("'pets', exclude => '{pet_id}'", "column pet_id is in its primary key"),
        ("'pets', notification => '{\"a\": \"b\"}'", "it has no column b"),
        ("'pets', channel => 'a/b'", "cannot be a channel's name"),
    ] {
        let refused = db.refused(&format!("select rowcast.watch({call})")).await;
        assert!(refused.contains(message), "{call}: {refused}");
    }
    assert!(db.refused("select rowcast.watch('nosuch')").await.contains("does not exist"));
    assert_eq!(db.text("select count(*) from rowcast.channel").await, "0");
    assert_eq!(db.text("select count(*) from pg_trigger where tgname like '!%'").await, "0");
    db.run("select rowcast.watch('pets')").await;
    assert!(db.refused("select rowcast.watch('cats', channel => 'pets')").await.contains("channel pets is taken by"));
}

#[tokio::test]
async fn watch_is_idempotent_and_unwatch_reverses_it() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets'); select rowcast.watch('pets', channel => 'animals', user_rule => 'user_id')")
        .await;
    assert_eq!(
        db.text("select channel || ' ' || state || ' ' || user_rule from rowcast.watched").await,
        "animals live user_id"
    );
    db.run("alter table pets disable trigger \"!rowcast\"").await;
    assert_eq!(
        db.text("select state || ': ' || drift from rowcast.watched").await,
        "off: triggers disabled: !rowcast; alter table pets enable trigger .."
    );
    assert_eq!(db.text("select state from rowcast.health where finding = 'triggers'").await, "fail");
    assert_eq!(db.text("rowcast.unwatch('pets')").await, "true");
    assert_eq!(db.text("rowcast.unwatch('pets')").await, "false");
    assert_eq!(
        db.text("select reason || ' ' || remedy from rowcast.unwatched where \"table\" = 'pets'::regclass").await,
        "not watched select rowcast.watch('pets');"
    );
}

#[tokio::test]
async fn a_change_of_triggers_never_makes_readers_queue() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    let reader = db.another_client().await;
    reader.batch_execute("begin; select * from pets").await.unwrap();
    let other = db.another_client().await;
    other.batch_execute("set statement_timeout = '2s'").await.unwrap();
    let unwatch = db.client.batch_execute("select rowcast.unwatch('pets')");
    let reads = async {
        for _ in 0..50 {
            other.batch_execute("select * from pets").await.expect("a reader that waits less than two seconds");
        }
        reader.batch_execute("commit").await.unwrap();
    };
    let (unwatched, ()) = tokio::join!(unwatch, reads);
    unwatched.unwrap();
}

#[tokio::test]
async fn a_writer_needs_no_right_on_schema_rowcast() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    let role = format!("writer_{}", std::process::id());
    db.run(&format!("create role {role} login password 'secret'; grant insert on pets to {role}")).await;
    let writer = connect(&db.url_of(&role)).await;
    writer.batch_execute("insert into pets values (1)").await.unwrap();
    assert_eq!(outbox(&db).await.len(), 1);
    assert!(db.text("select actor from rowcast.recent where action = 'created'").await.starts_with(&role));
    for attempt in [
        "select * from rowcast.outbox",
        "insert into rowcast.outbox_0 (channel, op) values (1, 'I')",
        "select rowcast.notify('1', 'x', '{}')",
        "select rowcast.append(1, 'I', null, null, null, null)",
        "select * from rowcast.recent",
    ] {
        let error = writer.batch_execute(attempt).await.expect_err(attempt);
        assert_eq!(error.code().unwrap().code(), "42501", "{attempt}: {error}");
    }
    drop(writer);
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_shadowed_function_or_operator_does_not_run_as_the_capture_role() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    db.run(
        "create schema evil;
         create table evil.loot (who text);
         grant usage on schema evil to public; grant insert on evil.loot to public;
         create function evil.steal(text, text) returns bool language plpgsql as $$ begin insert into evil.loot values (current_user); return true; end $$;
         create operator evil.= (leftarg = text, rightarg = text, function = evil.steal);
         create operator evil.<> (leftarg = text, rightarg = text, function = evil.steal);
         create function evil.row_to_json(pets) returns json language plpgsql as $$ begin insert into evil.loot values (current_user); return null; end $$;
         create function evil.current_setting(text, bool) returns text language plpgsql as $$ begin insert into evil.loot values (current_user); return null; end $$;
         set search_path = evil, pg_catalog, public; insert into public.pets values (1); reset search_path",
    )
    .await;
    assert_eq!(db.text("select count(*) from evil.loot").await, "0");
    assert_eq!(outbox(&db).await.len(), 1);
}

#[tokio::test]
async fn the_same_row_gives_the_same_json_whoever_writes_it() {
    let db = TestDatabase::new().await;
    db.run("create table odd (a int, t timestamptz, i interval, b bytea, f float8, j json)").await;
    db.run("select rowcast.watch('odd')").await;
    let insert = r#"insert into odd values (1, '2024-01-15 10:30:00+00', '1 day 02:00:00', '\x00ff', 0.1, '{"a":1,  "a":"\u0000"}')"#;
    db.run(&format!("set timezone = 'UTC'; {insert}")).await;
    db.run(&format!("set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'; set bytea_output = 'escape'; set extra_float_digits = -10; set datestyle = 'German'; {insert}")).await;
    let captured = outbox(&db).await;
    assert_eq!(captured[0], captured[1]);
    assert!(captured[0].contains(r#"{"a":1,  "a":"\u0000"}"#), "json is kept byte for byte: {}", captured[0]);
}

/// Small rows, wide ones and large ones, and tables with and without something special, go different ways.
#[tokio::test]
async fn the_images_are_the_row_whatever_its_size_and_whatever_the_table() {
    for (column, settings) in [
        ("int", "reset all"),
        ("float8", "reset all"),
        ("float8", "set extra_float_digits = 3; set bytea_output = 'escape'"),
        ("interval", "set application_name = ''; set rowcast.actor = 'a job'"),
    ] {
        let db = TestDatabase::new().await;
        // what the application's own trigger says, which fires after ours
        db.run(&format!(
            "create table files (id int primary key, n {column}, body text, note text);
             create table told (seq serial, op text, old json, new json);
             create function tell() returns trigger language plpgsql as $$ begin
               if tg_op <> 'UPDATE' or old.* *<> new.* then
                 insert into told (op, old, new) values (left(tg_op, 1), row_to_json(old.*), row_to_json(new.*)); end if;
               return null; end $$;
             create trigger tell after insert or update or delete on files for each row execute function tell();
             create function noise(bytes int) returns text language sql as
               $$ select left(string_agg(md5(i::text || bytes), ''), bytes) from generate_series(1, bytes / 32 + 1) i $$;
             select rowcast.watch('files')"
        ))
        .await;
        db.run(settings).await;
        let sizes = "(values (1), (400), (880), (910), (940), (970), (1830), (1850), (1870), (1890), (1930), (1950), (1970), (1990), (2500), (9000)) s(size)";
        db.run(&format!("insert into files select row_number() over (), null, noise(size) from {sizes}")).await;
        db.run("update files set n = '1'; update files set n = n; update files set note = 'seen' where id % 2 = 0")
            .await;
        db.run(&format!("update files f set body = noise(n.size) from (select row_number() over (order by size desc) id, size from {sizes}) n where n.id = f.id")).await;
        db.run("begin; update files set note = noise(300), n = '2'; delete from files where id % 3 = 0; commit; delete from files").await;
        assert_eq!(db.text("select count(*) from told").await, "88", "{column}, {settings}");
        let differing = "with o as (select *, row_number() over (order by id) seq from rowcast.outbox where op <> 'C')
            select string_agg(concat(t.seq, ' ', t.op, ' ', octet_length(t.old::text), ' ', octet_length(t.new::text)), ', ')
              from told t full join o using (seq)
             where (t.op, t.new::text) is distinct from (o.op::text, o.new::text)
                or t.old::jsonb is distinct from case o.op when 'U' then o.new::jsonb || o.old::jsonb else o.old::jsonb end
                or (o.op <> 'U' and t.old::text is distinct from o.old::text)
                or o.actor is distinct from (select max(actor) from rowcast.outbox where op <> 'C')";
        assert_eq!(db.text(differing).await, "", "{column}, {settings}");
    }
}

#[tokio::test]
async fn no_payload_fails_the_write_and_a_transaction_rings_seventeen_times() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    let mut bells = db.bells().await;
    db.run("insert into pets values (0, 0, repeat('ü', 10000))").await;
    let big = bells.recv().await.unwrap();
    assert!(big.len() < 8000 && big.contains(r#""entity_type":"pets","op":"I""#) && !big.contains("data"), "{big}");
    db.run("insert into pets select i, i, 'x' from generate_series(1, 100) i").await;
    for _ in 0..16 {
        assert!(bells.recv().await.unwrap().contains(r#""data":{"pet_id""#));
    }
    assert_eq!(bells.recv().await.unwrap(), r#"{"more":true}"#);
    // a relay that is awake: nobody rings
    let relay = db.another_client().await;
    relay.batch_execute("select pg_advisory_lock(1919907683, 1)").await.unwrap();
    db.run("insert into pets values (1000); select pg_notify('rowcast', 'end')").await;
    assert_eq!(bells.recv().await.unwrap(), "end");
    db.run("select rowcast.configure('notify', 'always'); insert into pets values (1001)").await;
    assert!(bells.recv().await.unwrap().contains("1001"));
    db.run("select rowcast.configure('notify', 'empty'); insert into pets values (1002)").await;
    assert_eq!(db.text("rowcast.bell_mode()").await, "empty");
    assert!(db.refused("select rowcast.configure('notify', 'loud')").await.contains("it is one of"));
}

/// The lock that NOTIFY takes at commit obeys `lock_timeout`, and would fail the COMMIT.
#[tokio::test]
async fn a_writer_that_waits_for_no_lock_rings_nobody() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    let mut bells = db.bells().await;
    db.run("set lock_timeout = '100ms'; insert into pets values (1)").await;
    db.run("set lock_timeout = '5s'; insert into pets values (2)").await;
    assert!(bells.recv().await.unwrap().contains(r#""pet_id":2"#), "the first one rang nobody");
    assert_eq!(outbox(&db).await.len(), 2);
}

#[tokio::test]
async fn a_muted_transaction_is_not_captured_and_an_actor_is_kept() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets')").await;
    db.run("begin; set local rowcast.mute = on; insert into pets values (1); commit").await;
    db.run("begin; set local rowcast.actor = 'import job'; insert into pets values (2); commit").await;
    assert_eq!(outbox(&db).await.len(), 1);
    assert_eq!(db.text("select actor from rowcast.outbox where op = 'I'").await, "import job");
}

#[tokio::test]
async fn uninstall_leaves_nothing_behind() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.watch('pets', user_rule => 'select 1')").await;
    db.run("insert into pets values (1)").await;
    db.run("select rowcast.uninstall()").await;
    assert_eq!(db.text("select count(*) from pg_trigger where tgname like '!%'").await, "0");
    assert_eq!(db.text("select count(*) from pg_namespace where nspname = 'rowcast'").await, "0");
    db.run("insert into pets values (2)").await;
}

#[tokio::test]
async fn a_partition_that_is_being_detached_is_captured_whole() {
    let db = TestDatabase::new().await;
    db.run(
        "create table visits (id int, chip text, note text) partition by range (id);
         create table visits_1 partition of visits for values from (0) to (100);
         select rowcast.watch('visits', exclude => '{chip}'); insert into visits values (1, 'secret', 'here')",
    )
    .await;
    // somebody still reads the parent: the detachment has begun and waits
    let reader = db.another_client().await;
    reader.batch_execute("begin isolation level repeatable read; select from visits").await.unwrap();
    let detacher = db.another_client().await;
    let detaching = tokio::spawn(async move {
        detacher.batch_execute("alter table visits detach partition visits_1 concurrently").await
    });
    let pending = "select count(*) from pg_inherits where inhrelid = 'visits_1'::regclass and inhdetachpending";
    while db.text(pending).await != "1" {}
    db.run("insert into visits_1 values (2, 'secret', 'there'); update visits_1 set note = 'gone' where id = 2").await;
    let images = "select string_agg(new::text, ' ' order by id) from rowcast.outbox where op in ('I', 'U')";
    let told = db.text(images).await;
    assert_eq!(
        told,
        r#"{"id":1,"chip":null,"note":"here"} {"id":2,"chip":null,"note":"there"} {"id":2,"chip":null,"note":"gone"}"#
    );
    reader.batch_execute("commit").await.unwrap();
    detaching.await.unwrap().unwrap();
}

/// It had a trigger of its own for updates, until `watch` is called again.
#[tokio::test]
async fn a_table_that_an_earlier_version_watched_is_judged_by_what_is_captured() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int, name text); select rowcast.watch('pets')").await;
    db.run(
        r#"do $$
        declare definition text;
        begin
          select pg_get_triggerdef(oid) into definition from pg_trigger where tgrelid = 'pets'::regclass and tgname = '!rowcast';
          drop trigger "!rowcast" on pets;
          execute replace(definition, 'OR DELETE OR UPDATE', 'OR DELETE');
          execute replace(replace(replace(definition, 'INSERT OR DELETE OR ', ''), '"!rowcast"', '"!rowcast_u"'),
                          'ROW EXECUTE', 'ROW WHEN (old.* is distinct from new.*) EXECUTE');
        end $$"#,
    )
    .await;
    db.run("insert into pets values (1, 'Luna'); update pets set name = 'Nala'; update pets set name = 'Nala'").await;
    assert_eq!(db.text("select string_agg(op::text, '' order by id) from rowcast.outbox").await, "CIU");
    let state = "select state || coalesce(': ' || drift, '') from rowcast.watched";
    let pool = Database::parse(&db.url).unwrap().pool().unwrap();
    let on = Catalog::load(&pool, None).await.unwrap();
    let off = async || Catalog::load(&pool, None).await.unwrap().switched_off_since(&on).len();
    assert_eq!((db.text(state).await.as_str(), off().await), ("live", 0));
    db.run("alter table pets disable trigger user").await;
    assert_eq!(off().await, 1);
    db.run(&db.text("select remedy from rowcast.watched").await).await;
    assert_eq!((db.text(state).await.as_str(), off().await), ("live", 0));
    db.run("update pets set name = 'Bella'").await;
    assert_eq!(db.text("select string_agg(op::text, '' order by id) from rowcast.outbox").await, "CIUU");
    db.run("drop trigger \"!rowcast_u\" on pets").await;
    assert!(db.text(state).await.starts_with("off: triggers missing: !rowcast_u"), "{}", db.text(state).await);
    assert_eq!(off().await, 1);
    db.run(&db.text("select remedy from rowcast.watched").await).await;
    assert_eq!((db.text(state).await.as_str(), off().await), ("live", 0));
}

#[tokio::test]
async fn a_column_that_takes_an_excluded_ones_name_stays_in_and_the_remedy_keeps_it_in() {
    let db = TestDatabase::new().await;
    db.run(
        "create table users (id int primary key, name text, secret text); insert into users values (1, 'a', 'hidden')",
    )
    .await;
    db.run("select rowcast.watch('users', exclude => '{secret}')").await;
    // expand and contract
    db.run("begin; alter table users rename secret to secret_old; alter table users add secret text; update users set secret = secret_old; commit").await;
    db.run("update users set name = 'b'; alter table users drop secret_old; update users set name = 'c', secret = 'hidden2'").await;
    assert_eq!(db.text("select state from rowcast.health where finding = 'triggers'").await, "fail");
    let remedy = db.text("select remedy from rowcast.watched").await;
    assert!(remedy.contains("exclude => '{secret}'"), "{remedy}");
    db.run(&remedy).await;
    db.run("update users set name = 'd', secret = 'hidden3'").await;
    assert_eq!(db.text("select drift from rowcast.watched").await, "");
    // a column is copied, dropped, and the copy takes its name
    db.run("alter table users add copy bytea; alter table users drop secret; alter table users rename copy to secret")
        .await;
    db.run("update users set secret = 'hidden4'").await;
    db.run("begin isolation level repeatable read; update users set secret = 'hidden5'; commit").await;
    db.run("set bytea_output = 'escape'; update users set secret = 'hidden6'; delete from users").await;
    let remedy = db.text("select remedy from rowcast.watched").await;
    db.run(&remedy).await;
    db.run("insert into users values (2, 'e', 'hidden7')").await;
    assert_eq!(db.text("select drift from rowcast.watched").await, "");
    let captured = db.text("select string_agg(concat(old, new), ' ') from rowcast.outbox").await;
    assert!(captured.contains("\"e\"") && !captured.contains("hidden"), "{captured}");
    // hex of hidden
    assert!(!captured.contains("68696464656e"), "{captured}");
}

#[tokio::test]
async fn where_columns_are_given_a_new_one_stays_in() {
    let db = TestDatabase::new().await;
    db.run("create domain filled as text not null check (value <> '')").await;
    db.run("create table users (id int primary key, name text, hash text, tag filled) partition by list (id)").await;
    db.run("create table users_1 (hash text, tag filled, id int not null, name text); alter table users attach partition users_1 for values in (1)").await;
    db.run("select rowcast.watch('users', columns => '{id,name}')").await;
    db.run("insert into users values (1, 'a', 'hidden', 'hidden'); alter table users add totp text default 'hidden'")
        .await;
    db.run("update users set name = 'b'; alter table users rename name to label; update users set label = 'c', totp = 'hidden2'").await;
    db.run("begin isolation level repeatable read; select 1; update users set label = 'd', hash = 'hidden3'; commit")
        .await;
    db.run("set intervalstyle = 'iso_8601'; update users set label = repeat('e', 3000)").await;
    let captured = db.text("select string_agg(concat(old, new), ' ' order by id) from rowcast.outbox").await;
    assert!(
        captured.contains("\"label\":\"d\"") && captured.contains("eeee") && !captured.contains("hidden"),
        "{captured}"
    );
    assert_eq!(db.text("select string_agg(name, ' ' order by attnum) from rowcast.shown_column").await, "id label");
    assert!(
        db.text("select remedy from (select rowcast.watch('users', columns => '{id,label,totp}')) w, rowcast.watched")
            .await
            .is_empty()
    );
    for (call, message) in [
        ("columns => '{name}'", "it has no column name"),
        ("columns => '{label}'", "column id is in its primary key"),
        ("columns => '{id}', user_rule => 'label'", "which is excluded"),
        (
            "columns => '{id}', notification => '{\"l\": \"label\"}'",
            "its notification names column label, which is excluded",
        ),
        (
            "exclude => '{label}', notification => '{\"l\": \"label\"}'",
            "its notification names column label, which is excluded",
        ),
    ] {
        let refused = db.refused(&format!("select rowcast.watch('users', {call})")).await;
        assert!(refused.contains(message), "{call}: {refused}");
    }
}
