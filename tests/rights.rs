//! Who may do what in the database, and what is run with whose rights.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rowcast::demo::cluster::find_programs;
use rowcast::naming::Naming;
use rowcast::source::install;
use rowcast::source::pool::{Database, Purpose};

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

const SHADOWS: &str = include_str!("support/shadows.sql");

/// Every word of the SQL that is sent to the server.
fn words() -> String {
    fn collect(folder: &Path, into: &mut std::collections::BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|kind| kind == "sql" || kind == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
                into.extend(words.filter(|word| (2..60).contains(&word.len())).map(str::to_owned));
            }
        }
    }
    let mut words = std::collections::BTreeSet::new();
    for folder in ["sql", "src", "migrations"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut words);
    }
    words.into_iter().collect::<Vec<_>>().join(",")
}

/// A database in which `mallory` was there first, with a twin of whatever may be called.
async fn shadowed() -> (TestDatabase, String) {
    let db = TestDatabase::empty().await;
    let mallory = db.text("select 'mallory_of_' || current_database()").await;
    db.run(&format!(
        "create role {mallory} login password 'secret'; grant create, usage on schema public to {mallory}"
    ))
    .await;
    let hers = connect(&db.url_of(&mallory)).await;
    let names = format!("{{{}}}", words());
    hers.batch_execute("set search_path = pg_catalog; set client_min_messages = error").await.unwrap();
    hers.batch_execute(&SHADOWS.replace("$NAMES$", &names).replace("$MALLORY$", &mallory)).await.unwrap();
    // for every session from now on
    let database = db.text("select current_database()").await;
    db.run(&format!(
        "alter database {database} set search_path = public, pg_catalog;
         alter role postgres in database {database} set search_path = public, pg_catalog;
         create schema app; create table app.pets (pet_id int primary key, owner int, name text, stay interval, chip text);
         create table app.clerks (clerk int); create table app.notes (id int primary key, body text, weight float8)"
    ))
    .await;
    (db, mallory)
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 40) as u8 % 26)
    });
    letters.take(bytes).collect()
}

async fn rowcast(url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.env("DATABASE_URL", url).env_remove("ROWCAST_DATABASE_URL").args(arguments).stdin(Stdio::null());
    output(command).await
}

async fn psql(url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(find_programs().expect("Postgres' programs").join("psql"));
    command.args(["-qX", "-v", "ON_ERROR_STOP=1"]).args(arguments).arg(url).stdin(Stdio::null());
    output(command).await
}

/// What a program that must succeed says.
async fn output(mut command: Command) -> String {
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

/// No twin was run, and none is part of what was installed. `db`'s own session has the ordinary search path.
async fn nothing_of_hers_was_run(db: &TestDatabase, mallory: &str, after: &str) {
    let called = db.text("select is_called from public.calls").await;
    assert_eq!(called, "false", "after {after} a shadow was run");
    let is_super = db.text(&format!("select rolsuper from pg_roles where rolname = '{mallory}'")).await;
    assert_eq!(is_super, "false", "after {after}");
    let hers = "select string_agg(distinct d.classid::regclass || ' ' || d.objid, ', ')
        from pg_depend d left join pg_proc p on p.oid = d.refobjid and d.refclassid = 'pg_proc'::regclass
        left join pg_operator o on o.oid = d.refobjid and d.refclassid = 'pg_operator'::regclass
        left join pg_class c on c.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
        left join pg_type t on t.oid = d.refobjid and d.refclassid = 'pg_type'::regclass
       where 'public'::regnamespace in (p.pronamespace, o.oprnamespace, c.relnamespace, t.typnamespace)
         and (d.classid, d.objid) in (select 'pg_proc'::regclass, oid from pg_proc where pronamespace = to_regnamespace('rowcast')
              union select 'pg_class'::regclass, oid from pg_class where relnamespace = to_regnamespace('rowcast')
              union select 'pg_rewrite'::regclass, r.oid from pg_rewrite r join pg_class c on c.oid = r.ev_class where c.relnamespace = to_regnamespace('rowcast')
              union select 'pg_attrdef'::regclass, a.oid from pg_attrdef a join pg_class c on c.oid = a.adrelid where c.relnamespace = to_regnamespace('rowcast')
              union select 'pg_constraint'::regclass, oid from pg_constraint where connamespace = to_regnamespace('rowcast'))";
    assert_eq!(db.text(hers).await, "", "after {after} something of schema rowcast depends on schema public");
}

#[tokio::test]
async fn whoever_was_first_in_the_search_path_is_called_by_nothing_of_ours() {
    let (db, mallory) = shadowed().await;
    let check = async |after: &str| nothing_of_hers_was_run(&db, &mallory, after).await;
    rowcast(&db.url, &["migrate"]).await;
    check("migrate").await;
    rowcast(&db.url, &["migrate"]).await;
    check("an upgrade").await;
    let capture = "select string_agg(format('%s of %s', proname, proowner::regrole), ', ') from pg_proc
        where pronamespace = 'rowcast'::regnamespace and proname like 'capture%' and prosecdef and proowner <> 'rowcast_capture'::regrole";
    assert_eq!(db.text(capture).await, "", "the functions of the triggers belong to a role that has nothing to take");
    let texts = "select string_agg(text, ' ') from (select pg_get_viewdef(oid) from pg_class where relnamespace = 'rowcast'::regnamespace and relkind = 'v'
        union all select pg_get_functiondef(oid) from pg_proc where pronamespace = 'rowcast'::regnamespace) t(text)";
    let text = db.text(texts).await;
    assert!(
        !text.contains("OPERATOR(public.") && !text.contains("public.format("),
        "no text of ours names what is hers"
    );
    // by the caller's search path, in which app is not; then by one in which it is
    let database = db.text("select current_database()").await;
    db.run(&format!("alter role postgres in database {database} set search_path = app, public, pg_catalog")).await;
    let rule = "select c.clerk from app.clerks c where c.clerk operator(pg_catalog.=) row.owner";
    rowcast(&db.url, &["watch", "pets", "--exclude", "chip", "--user-rule", rule]).await;
    assert_eq!(db.text("select target::text from rowcast.channel").await, "app.pets");
    db.run("insert into app.clerks values (7)").await;
    check("watch").await;
    rowcast(&db.url, &["doctor"]).await;
    rowcast(&db.url, &["types"]).await;
    check("doctor").await;
    let application = connect(&db.url).await;
    for write in [
        "insert into app.pets values (1, 7, 'Luna', '1 day', 'secret')",
        "set intervalstyle = 'iso_8601'; update app.pets set name = 'Nala'",
        "delete from app.pets; truncate app.pets",
        "insert into app.pets values (2, 7, 'Rex', null, null)",
    ] {
        application.batch_execute(write).await.unwrap();
    }
    check("writes").await;
    // each way through the trigger, which has the writer's search path
    rowcast(&db.url, &["watch", "notes"]).await;
    let [middle, large] = [noise(1_200), noise(30_000)];
    for write in [
        "reset all; insert into app.notes values (1, 'small', 0.5), (2, 'small', 1)",
        "update app.notes set weight = 2; update app.notes set weight = weight",
        &format!("update app.notes set body = '{middle}'"),
        "update app.notes set weight = 3",
        "set extra_float_digits = 0; set bytea_output = 'escape'; update app.notes set weight = 0.1",
        "begin isolation level repeatable read; insert into app.pets values (5, 7, 'Kim', null, 'secret'); commit",
        &format!(
            "update app.notes set body = '{large}'; insert into app.pets values (6, 7, '{large}', '1 day', 'secret')"
        ),
        "update app.notes set weight = 4; set rowcast.actor = 'somebody'; update app.pets set stay = '3 days'",
        "set rowcast.mute = 'on'; delete from app.notes; reset rowcast.mute; reset rowcast.actor",
        "delete from app.pets where pet_id operator(pg_catalog.>) 4; set application_name = ''; truncate app.notes",
    ] {
        application.batch_execute(write).await.unwrap();
        check(write).await;
    }
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?snapshot=true&filter=pet_id=eq.2").await;
    assert_eq!(socket.message().await["rows"][0]["name"], "Rex");
    while socket.message().await["type"] != "subscribed" {}
    application.batch_execute("insert into app.pets values (3, 7, 'Tom', null, null)").await.unwrap();
    server.get("/websocket/database").await;
    server.get("/explain/3").await;
    server.stop().await.unwrap();
    check("serve").await;
    let looks = ["health", "watched", "unwatched", "recent", "exposure", "nodes"];
    for view in looks {
        psql(&db.url, &["-c", &format!("select * from rowcast.{view}")]).await;
    }
    for call in [
        "rowcast.prune()",
        "rowcast.notify('7', 'hello', '{}')",
        "rowcast.allow('pets', 'vet', 'owner=eq.{sub}', '{pet_id,owner}')",
        "rowcast.revoke('7')",
        "rowcast.deny('pets', 'vet')",
        "rowcast.configure('notify', 'empty')",
        "rowcast.configure('retention', '2 hours')",
        "rowcast.create_channel('news')",
        "rowcast.publish('news', 'said', '{}')",
        "rowcast.drop_channel('news')",
        "rowcast.note_life()",
        "rowcast.note_durable()",
    ] {
        psql(&db.url, &["-c", &format!("select {call}")]).await;
        check(call).await;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/inspect");
    for entry in std::fs::read_dir(folder).unwrap() {
        psql(&db.url, &["-v", "id=1", "-f", entry.unwrap().path().to_str().unwrap()]).await;
    }
    check("the views").await;
    rowcast(&db.url, &["uninstall", "--yes"]).await;
    check("uninstall").await;
    assert_eq!(db.text("select count(*) from pg_namespace where nspname = 'rowcast'").await, "0");
}

#[tokio::test]
async fn nor_by_an_installation_of_another_name() {
    let (db, mallory) = shadowed().await;
    let database = db.text("select current_database()").await;
    db.run(&format!("alter role postgres in database {database} set search_path = app, public, pg_catalog")).await;
    rowcast(&db.url, &["--schema", "shady", "migrate"]).await;
    rowcast(&db.url, &["--schema", "shady", "watch", "pets", "--exclude", "chip", "--user-rule", "owner"]).await;
    rowcast(&db.url, &["--schema", "shady", "doctor"]).await;
    let application = connect(&db.url).await;
    application.batch_execute("insert into app.pets values (1, 7, 'Luna', '1 day', 'secret')").await.unwrap();
    let server = TestServer::start_with(&db.url, &[("schema", "shady")]);
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    assert_eq!(socket.message().await["rows"][0]["name"], "Luna");
    while socket.message().await["type"] != "subscribed" {}
    application.batch_execute("update app.pets set name = 'Rex'").await.unwrap();
    assert_eq!(socket.message().await["data"]["name"], "Rex");
    server.stop().await.unwrap();
    for view in ["health", "watched", "unwatched", "recent", "exposure", "nodes", "neighbour"] {
        psql(&db.url, &["-c", &format!("select * from shady.{view}")]).await;
    }
    rowcast(&db.url, &["--schema", "shady", "uninstall", "--yes"]).await;
    nothing_of_hers_was_run(&db, &mallory, "a life of shady").await;
}

#[tokio::test]
async fn the_printed_script_calls_nothing_of_the_search_path_and_leaves_it_as_it_was() {
    let (db, mallory) = shadowed().await;
    let file = std::env::temp_dir().join(format!("rowcast-{}-script.sql", std::process::id()));
    // with what else a database may have by default
    let text = format!("set standard_conforming_strings = off;\n{}", install::script(&Naming::default()));
    std::fs::write(&file, text).unwrap();
    psql(&db.url, &["-1", "-f", file.to_str().unwrap(), "-c", "create table as_before (id int)"]).await;
    std::fs::remove_file(&file).unwrap();
    nothing_of_hers_was_run(&db, &mallory, "the script").await;
    assert_eq!(
        db.text("select to_regclass('public.as_before') is not null").await,
        "true",
        "the search path is the caller's again"
    );
    rowcast(&db.url, &["migrate"]).await;
    nothing_of_hers_was_run(&db, &mallory, "migrate").await;
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_refused_with_the_remedy() {
    let db = TestDatabase::empty().await;
    let mallory = db.text("select 'mallory_of_' || current_database()").await;
    db.run(&format!("create role {mallory}; create schema rowcast authorization {mallory}")).await;
    let error = install::migrate(&mut db.another_client().await).await.unwrap_err();
    let (text, remedy) = (error.to_string(), error.remedy().unwrap_or_default().to_owned());
    assert!(text.contains(&format!("schema rowcast belongs to role {mallory}")), "{text}");
    assert!(remedy.contains("drop schema rowcast cascade"), "{remedy}");
    let script = db.refused(&install::script(&Naming::default())).await;
    assert!(script.contains(&format!("schema rowcast belongs to role {mallory}")), "{script}");
    assert_eq!(db.text("select count(*) from pg_class where relnamespace = 'rowcast'::regnamespace").await, "0");

    // a schema of ours with something of hers in it
    for hers in [
        "create function rowcast.origin() returns text language sql as 'select 1::text'",
        "create table rowcast.installation (id uuid)",
        "create domain rowcast.trick as text",
    ] {
        db.run(&format!(
            "drop schema rowcast cascade; create schema rowcast; grant create, usage on schema rowcast to {mallory};
             set role {mallory}; {hers}; reset role; revoke all on schema rowcast from {mallory}"
        ))
        .await;
        let error = install::migrate(&mut db.another_client().await).await.unwrap_err().to_string();
        assert!(error.contains("in schema rowcast is what others own") && error.contains(&mallory), "{error}");
    }
    db.run("drop schema rowcast cascade; create schema rowcast").await;
    install::migrate(&mut db.another_client().await).await.expect("an empty schema of the caller's");
}

/// As on a hosted server, where another database of it has rowcast.
#[tokio::test]
async fn whoever_lacks_a_role_of_ours_is_told_all_that_is_needed_at_once() {
    // the roles are there
    TestDatabase::new().await;
    let version: i32 = TestDatabase::empty().await.text("current_setting('server_version_num')").await.parse().unwrap();
    for may_create in ["nocreaterole", "createrole"] {
        let db = TestDatabase::empty().await;
        let owner = db.text("select 'dbo_of_' || current_database()").await;
        db.run(&format!("create role {owner} login password 'secret' {may_create}; alter database {} owner to {owner}; grant create on schema public to {owner}", db.text("select current_database()").await)).await;
        let mut theirs = connect(&db.url_of(&owner)).await;
        let migrated = install::migrate(&mut theirs).await;
        if may_create == "createrole" && version < 160_000 {
            migrated.expect("up to 15 CREATEROLE may grant any role");
        } else {
            let error = migrated.unwrap_err();
            let remedy = error.remedy().expect("a remedy");
            let (_, statements) = remedy.split_once("run: ").expect(remedy);
            assert_eq!(
                statements,
                format!("grant rowcast_capture to {owner}; grant rowcast_relay to {owner}; Then run it again")
            );
            assert!(db.text("select to_regnamespace('rowcast')").await.is_empty(), "nothing is left of it");
            db.run(statements.strip_suffix("Then run it again").unwrap()).await;
            install::migrate(&mut theirs).await.expect("with what was printed");
        }
        drop(theirs);
        let theirs = connect(&db.url_of(&owner)).await;
        theirs
            .batch_execute(
                "create table pets (id int primary key); select rowcast.watch('pets'); insert into pets values (1)",
            )
            .await
            .unwrap();
        assert_eq!(db.text("select count(*) from rowcast.recent where action = 'created'").await, "1");
        assert_eq!(theirs.query_one("select count(*) from rowcast.health", &[]).await.unwrap().get::<_, i64>(0), 14);
        theirs.batch_execute("select rowcast.uninstall()").await.unwrap();
        drop(theirs);
        db.run(&format!(
            "drop owned by {owner} cascade; alter database {} owner to postgres; drop role {owner}",
            db.text("select current_database()").await
        ))
        .await;
    }
}

/// An update takes no right away, and gives none.
#[tokio::test]
async fn whoever_may_call_an_earlier_version_may_call_this_one() {
    let db = TestDatabase::new().await;
    let (operator, other) = (
        db.text("select 'operator_of_' || current_database()").await,
        db.text("select 'other_of_' || current_database()").await,
    );
    db.run(&format!(
        "create role {operator}; create role {other};
         drop function rowcast.watch(regclass, text, text, jsonb, text[], text, text[], boolean);
         create function rowcast.watch(target regclass, channel text default null, user_rule text default null, notification jsonb default null,
           exclude text[] default '{{}}', singular text default null, columns text[] default null) returns text language sql as 'select null::text';
         create function rowcast.watch_schema(name text) returns int language sql as 'select 1';
         revoke all on function rowcast.watch(regclass, text, text, jsonb, text[], text, text[]) from public;
         grant execute on function rowcast.watch(regclass, text, text, jsonb, text[], text, text[]) to {operator};
         alter default privileges grant execute on functions to {other}"
    ))
    .await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    let may = |who: &str| {
        format!(
            "select has_function_privilege('{who}', 'rowcast.watch(regclass, text, text, jsonb, text[], text, text[], boolean)', 'execute')"
        )
    };
    assert_eq!((db.text(&may(&operator)).await, db.text(&may(&other)).await), ("true".to_owned(), "false".to_owned()));
    assert_eq!(db.text("select count(*) from pg_proc where pronamespace = 'rowcast'::regnamespace and proname in ('watch', 'watch_schema')").await, "2");
    db.run(&format!("drop owned by {operator}, {other} cascade; drop role {operator}; drop role {other}")).await;
}

#[tokio::test]
async fn a_failed_migrate_leaves_nothing() {
    let db = TestDatabase::empty().await;
    // the last thing that is made
    db.run("create schema rowcast; create function rowcast.origin() returns int language sql as 'select 1'").await;
    install::migrate(&mut db.another_client().await).await.unwrap_err();
    assert_eq!(db.text("select count(*) from pg_class where relnamespace = 'rowcast'::regnamespace").await, "0");
}

#[tokio::test]
async fn default_privileges_give_nobody_what_is_in_the_outbox() {
    let db = TestDatabase::empty().await;
    let other = db.text("select 'other_of_' || current_database()").await;
    db.run(&format!(
        "create role {other};
         alter default privileges grant all on tables to {other}; alter default privileges grant all on sequences to {other};
         alter default privileges grant execute on functions to {other}; alter default privileges grant all on schemas to {other}"
    ))
    .await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    let theirs = format!(
        "select string_agg(what, ', ') from (
           select 'schema' from pg_namespace n, aclexplode(n.nspacl) a where nspname = 'rowcast' and a.grantee = '{other}'::regrole
           union all select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a where c.relnamespace = 'rowcast'::regnamespace and a.grantee = '{other}'::regrole
           union all select p.oid::regprocedure::text from pg_proc p, aclexplode(p.proacl) a where p.pronamespace = 'rowcast'::regnamespace and a.grantee = '{other}'::regrole) t(what)"
    );
    assert_eq!(db.text(&theirs).await, "");
    // what the DBA has granted stays, on views too, which are made anew
    db.run(&format!(
        "grant usage on schema rowcast to {other}; grant execute on function rowcast.notify(text, text, jsonb) to {other}; grant select on rowcast.health to {other}"
    ))
    .await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    let kept = db.text(&theirs).await;
    assert_eq!(kept.split(", ").count() - kept.matches("text, ").count(), 3, "{kept}");
    db.run(&format!("drop owned by {other}; drop role {other}")).await;
}

#[tokio::test]
async fn everything_that_is_sent_at_migrate_is_ascii() {
    let script = install::script(&Naming::default());
    let odd: Vec<&str> = script.lines().filter(|line| !line.is_ascii()).collect();
    assert!(odd.is_empty(), "a database in EUC_JP or WIN1252 may have no such character: {odd:?}");
}

/// TRIGGER and TRUNCATE are enough to make our triggers, and not enough to take them away.
#[tokio::test]
async fn who_could_not_unwatch_may_not_watch() {
    let db = TestDatabase::new().await;
    let (installer, owner) = (
        db.text("select 'installer_of_' || current_database()").await,
        db.text("select 'owner_of_' || current_database()").await,
    );
    db.run(&format!(
        "create role {installer}; create role {owner}; create table pets (pet_id int primary key); alter table pets owner to {owner};
         grant trigger, truncate on pets to {installer};
         grant usage on schema rowcast to {installer}; grant execute on all functions in schema rowcast to {installer};
         grant all on all tables in schema rowcast to {installer}; grant all on all sequences in schema rowcast to {installer};
         set role {installer}"
    ))
    .await;
    let refused = db.refused("select rowcast.watch('pets')").await;
    assert!(refused.contains(&format!("it belongs to {owner}, and {installer} could not unwatch it")), "{refused}");
    assert!(refused.contains(&format!("grant {owner} to {installer};")), "{refused}");
    db.run(&format!("reset role; grant {owner} to {installer}; set role {installer}; select rowcast.watch('pets')"))
        .await;
    db.run("select rowcast.unwatch('pets'); reset role").await;
    db.run(&format!("drop owned by {installer}; drop table pets; drop role {installer}; drop role {owner}")).await;
}

#[tokio::test]
async fn a_new_owner_of_a_table_is_told_what_his_user_rule_needs_and_the_old_one_can_go() {
    let db = TestDatabase::new().await;
    let (alice, bob) = (
        db.text("select 'alice_of_' || current_database()").await,
        db.text("select 'bob_of_' || current_database()").await,
    );
    db.run(&format!(
        "create role {alice}; create role {bob}; grant usage on schema public to {alice}, {bob};
         create table inv (id int primary key, uid int); create table pay (id int primary key, inv int);
         alter table inv owner to {alice}; alter table pay owner to {alice}; insert into inv values (1, 7);
         select rowcast.watch('pay', user_rule => 'select i.uid from public.inv i where i.id = row.inv');
         grant usage on schema rowcast to {alice}" // as an earlier version did
    ))
    .await;
    let state = "select state || ': ' || coalesce(drift, 'none') from rowcast.watched where channel = 'pay'";
    assert_eq!(db.text(state).await, "live: none");
    db.run(&format!("alter table inv owner to {bob}; alter table pay owner to {bob}")).await;
    assert!(db.text(state).await.contains("another owner than its user rule"), "{}", db.text(state).await);
    db.run(&db.text("select remedy from rowcast.watched where channel = 'pay'").await).await;
    assert_eq!(db.text(state).await, "live: none");
    db.run(&format!("set role {bob}; insert into pay values (2, 1); reset role")).await;
    assert_eq!(db.text("select users::text from rowcast.outbox where op = 'I'").await, "{7}");
    db.run(&format!("revoke usage on schema public from {alice}; drop role {alice}")).await;

    // or by an update, without a look
    db.run(&format!("create role {alice}; alter table inv owner to {alice}; alter table pay owner to {alice}")).await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    assert_eq!(db.text(state).await, "live: none");
    db.run("select rowcast.unwatch('pay'); drop table pay; drop table inv").await;
    db.run(&format!("revoke usage on schema public from {bob}; drop role {alice}; drop role {bob}")).await;
}

/// As after a dump that was loaded where the roles did not exist: the superuser who loads it owns everything.
#[tokio::test]
async fn what_a_superuser_has_restored_is_given_back_to_its_owners_by_migrate() {
    let db = TestDatabase::new().await;
    let alice = db.text("select 'alice_of_' || current_database()").await;
    db.run(&format!(
        "create role {alice}; create table pay (id int primary key, uid int); alter table pay owner to {alice};
         select rowcast.watch('pay', user_rule => 'select row.uid');
         do $$ declare f regprocedure; begin
           for f in select oid from pg_proc where pronamespace = 'rowcast'::regnamespace loop execute format('alter routine %s owner to postgres', f); end loop;
         end $$"
    ))
    .await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    let owners = "select string_agg(p.proname || ' ' || pg_get_userbyid(p.proowner), ', ' order by p.proname)
        from pg_proc p where p.pronamespace = 'rowcast'::regnamespace and p.proname in ('capture', 'capture_truncate', 'notify', 'publish')";
    assert_eq!(
        db.text(owners).await,
        "capture rowcast_capture, capture_truncate rowcast_capture, notify rowcast_capture, publish rowcast_capture"
    );
    let rule = "select pg_get_userbyid(proowner) from pg_proc where pronamespace = 'rowcast'::regnamespace and proname like 'users_of_%'";
    assert_eq!(db.text(rule).await, alice);
    db.run(&format!("select rowcast.unwatch('pay'); drop table pay; drop role {alice}")).await;
}

#[tokio::test]
async fn what_is_taken_out_leaves_no_right_behind() {
    let db = TestDatabase::new().await;
    db.run(
        "create schema app; create table app.pets (id int primary key); create table app.users (id int primary key);
         select rowcast.watch('app.pets'); select rowcast.watch('app.users', exclude => '{}')",
    )
    .await;
    let rights = "select coalesce(string_agg(what, ' '), 'none') from (
        select 'schema' from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'app' and a.grantee = 'rowcast_relay'::regrole
        union all select 'table' from pg_class c, aclexplode(c.relacl) a where c.relnamespace = 'app'::regnamespace and a.grantee = 'rowcast_relay'::regrole) r(what)";
    assert_eq!(db.text(rights).await, "schema table table");
    db.run("select rowcast.unwatch('app.pets')").await;
    assert_eq!(db.text(rights).await, "schema table");
    db.run("select rowcast.unwatch('app.users')").await;
    assert_eq!(db.text(rights).await, "none");
}

/// What a role or a database sets for its sessions is the application's.
#[tokio::test]
async fn no_setting_of_a_role_or_a_database_reaches_our_sessions() {
    let db = TestDatabase::new().await;
    let database = db.text("select current_database()").await;
    let hostile = [
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_deferrable", "on"),
        // on a busy machine a session needs some time to say its own
        ("statement_timeout", "200ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
        ("idle_session_timeout", "2s"),
        ("search_path", "nowhere"),
        ("standard_conforming_strings", "off"),
        ("backslash_quote", "off"),
        ("transform_null_equals", "on"),
        ("array_nulls", "off"),
        ("quote_all_identifiers", "on"),
        ("row_security", "off"),
        ("xmlbinary", "hex"),
        ("TimeZone", "Asia/Kathmandu"),
        ("DateStyle", "German, DMY"),
        ("IntervalStyle", "iso_8601"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-15"),
        ("enable_indexscan", "off"),
        ("enable_bitmapscan", "off"),
        ("plan_cache_mode", "force_custom_plan"),
        ("client_encoding", "LATIN1"),
    ];
    db.run("create table pets (pet_id int primary key, name text, weight float8, at timestamptz, stay interval, photo bytea)").await;
    for (name, value) in hostile {
        db.run(&format!("alter database {database} set {name} = '{value}'")).await;
    }
    let client = Database::parse(&db.url).unwrap().client(Purpose::Command).await.unwrap();
    for (name, value) in hostile {
        let row = client.query_one("select pg_catalog.current_setting($1)", &[&name]).await.unwrap();
        assert_ne!(row.get::<_, &str>(0), value, "{name}");
    }
    rowcast(&db.url, &["migrate"]).await;
    rowcast(&db.url, &["watch", "public.pets"]).await;
    rowcast(&db.url, &["doctor"]).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    let row = serde_json::json!({"pet_id": 1, "name": "Zoë", "weight": 0.1, "at": "2024-01-15T10:30:00+00:00", "stay": "1 day", "photo": "\\x00ff"});
    db.run("insert into pets values (1, 'Zoë', 0.1, '2024-01-15 10:30+00', '1 day', '\\x00ff')").await;
    assert_eq!(socket.message().await["data"], row);
    let mut late = server.socket("/ws/pets?snapshot=true&filter=name=eq.Zo%C3%AB").await;
    assert_eq!(late.message().await["rows"][0], row);
    // longer than the sessions would live
    for id in 2..6 {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        db.run(&format!("insert into pets values ({id})")).await;
        assert_eq!(socket.message().await["data"]["pet_id"], id);
    }
    assert_eq!(server.status().await["source"]["reconnects"], 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn no_serializable_writer_fails_because_a_relay_reads() {
    let db = TestDatabase::new().await;
    let database = db.text("select current_database()").await;
    db.run(&format!(
        "create table conf (id int primary key, v int); insert into conf values (1, 0);
         create table pets (id int primary key, name text); select rowcast.watch('pets');
         alter database {database} set default_transaction_isolation = 'serializable'"
    ))
    .await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    let (one, other) = (db.another_client().await, db.another_client().await);
    for round in 0..18 {
        one.batch_execute("begin; select v from conf where id = 1").await.unwrap();
        let id = round * 2;
        let wrote =
            format!("begin; update conf set v = v + 1 where id = 1; insert into pets values ({id}, 'b'); commit");
        other.batch_execute(&wrote).await.unwrap();
        // the relay has read it
        assert_eq!(socket.message().await["data"]["id"], id);
        let id = id + 1;
        one.batch_execute(&format!("insert into pets values ({id}, 'a'); commit")).await.expect("no 40001");
        assert_eq!(socket.message().await["data"]["id"], id);
    }
    server.stop().await.unwrap();
}

/// The role of a monitoring tool reads what it was granted, and no rows.
#[tokio::test]
async fn a_monitoring_role_reads_the_views_that_it_was_granted() {
    let db = TestDatabase::new().await;
    let (monitor, reader) = (
        db.text("select 'monitor_of_' || current_database()").await,
        db.text("select 'reader_of_' || current_database()").await,
    );
    let grants = include_str!("../docs/reference/operations.md")
        .split("```sql\n")
        .find_map(|block| block.split_once("```").map(|(sql, _)| sql).filter(|sql| sql.contains("to monitor;")))
        .expect("the grants of a monitoring role in docs/reference/operations.md");
    db.run(&format!(
        "create table pets (id int primary key, name text); select rowcast.watch('pets'); insert into pets values (1, 'Rex');
         create table cats (id int primary key); select rowcast.allow('pets', 'vet');
         select rowcast.watch_schema('public', except_tables => '{{cats}}', future => true);
         create role {monitor} login password 'secret'; create role {reader} login password 'secret' in role pg_read_all_data; {}",
        grants.replace("to monitor;", &format!("to {monitor};"))
    ))
    .await;
    let theirs = connect(&db.url_of(&monitor)).await;
    for view in ["health", "watched", "unwatched", "nodes", "exposure", "cost"] {
        theirs.simple_query(&format!("select * from rowcast.{view}")).await.unwrap_or_else(|e| panic!("{view}: {e:?}"));
    }
    for view in ["recent", "outbox"] {
        let error = theirs.simple_query(&format!("select * from rowcast.{view}")).await.expect_err(view);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{view}");
    }
    let theirs = connect(&db.url_of(&reader)).await;
    let views = db.text("select string_agg(relname, ' ') from pg_class where relnamespace = 'rowcast'::regnamespace and relkind = 'v'").await;
    for view in views.split(' ') {
        theirs.simple_query(&format!("select * from rowcast.{view}")).await.unwrap_or_else(|e| panic!("{view}: {e:?}"));
    }
    drop(theirs);
    db.run(&format!("drop owned by {monitor}, {reader}; drop role {monitor}, {reader}")).await;
}

#[tokio::test]
async fn a_role_that_was_granted_a_call_may_make_it_and_reads_nothing() {
    let db = TestDatabase::new().await;
    let role = db.text("select 'auth_of_' || current_database()").await;
    db.run(&format!(
        "create table pets (id int primary key); select rowcast.watch('pets');
         create role {role}; grant usage on schema rowcast to {role};
         grant execute on function rowcast.revoke(text), rowcast.deny(text, text),
           rowcast.allow(text, text, text, text[], boolean) to {role};
         set role {role}; select rowcast.revoke('7'), rowcast.allow('pets', 'vet', 'id=eq.{{sub}}', '{{id}}'), rowcast.deny('pets', 'vet')"
    ))
    .await;
    for table in ["outbox", "revoked", "policy"] {
        let refused = db.refused(&format!("select * from rowcast.{table}")).await;
        assert!(refused.contains("permission denied"), "{refused}");
    }
    db.run("reset role").await;
    assert_eq!(db.text("select user_id from rowcast.revoked").await, "7");
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}
