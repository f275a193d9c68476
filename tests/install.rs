//! Install: migrations and functions.

use rowcast::naming::Naming;
use rowcast::source::install;

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// Everything in schema rowcast, as text: what two ways of installing must agree on.
const DUMP: &str = "select string_agg(line, E'\\n' order by line) from (
    select 'function ' || p.oid::regprocedure || ' ' || pg_get_userbyid(p.proowner) || ' ' || coalesce(p.proacl::text, '') || md5(p.prosrc) from pg_proc p where pronamespace = 'rowcast'::regnamespace
    union all select 'column ' || c.oid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
      from pg_class c join pg_attribute a on a.attrelid = c.oid where c.relnamespace = 'rowcast'::regnamespace and a.attnum > 0
    union all select 'relation ' || c.oid::regclass || ' ' || coalesce(c.relacl::text, '') from pg_class c where c.relnamespace = 'rowcast'::regnamespace
    union all select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'rowcast'::regnamespace
    union all select 'history ' || version || ' ' || name || ' ' || checksum from rowcast.schema_history) lines(line)";

#[tokio::test]
async fn twenty_migrates_at_once_pass() {
    let db = TestDatabase::empty().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let url = db.url.clone();
        running.spawn(async move { install::migrate(&mut connect(&url).await).await });
    }
    let mut applied = 0;
    while let Some(migrated) = running.join_next().await {
        applied += migrated.unwrap().expect("a migrate").applied.len();
    }
    let once = db.text("select count(*) from rowcast.schema_history").await;
    assert_eq!(applied.to_string(), once, "each migration is applied once");
}

#[tokio::test]
async fn the_printed_script_installs_the_same() {
    let migrated = TestDatabase::new().await;
    let scripted = TestDatabase::empty().await;
    scripted.run(&install::script(&Naming::default())).await;
    assert_eq!(scripted.text(DUMP).await, migrated.text(DUMP).await);
    let again = install::migrate(&mut scripted.another_client().await).await.unwrap();
    assert!(again.applied.is_empty(), "a later migrate finds nothing to do");
}

#[tokio::test]
async fn every_function_and_view_has_a_comment() {
    let db = TestDatabase::new().await;
    let bare = "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p where pronamespace = 'rowcast'::regnamespace and obj_description(p.oid, 'pg_proc') is null";
    assert_eq!(db.text(bare).await, "");
}

/// One that the server does not know hides the message behind another one.
#[tokio::test]
async fn the_name_of_every_error_is_known_to_the_server() {
    let db = TestDatabase::empty().await;
    let script = install::script(&Naming::default());
    let names = script.split("errcode = '").skip(1).map(|rest| rest.split('\'').next().unwrap());
    let names: std::collections::BTreeSet<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let refused = db.refused(&format!("do $$ begin raise exception 'ours' using errcode = '{name}'; end $$")).await;
        assert_eq!(refused, "ours | no hint", "{name}");
    }
}

/// The database as a migrate of the next version leaves it: a table more.
const NEXT: &str = "create table rowcast.of_the_next (n int);
    insert into rowcast.schema_history values (99, 'future', '2026-01-01T00:00:00Z', '0')";
/// It takes away what programs of this version use.
const SERVES_NO_OLDER: &str =
    "create or replace function rowcast.serves() returns int language sql immutable as 'select 99'";

#[tokio::test]
async fn an_older_and_a_newer_schema_are_told_apart() {
    let db = TestDatabase::new().await;
    db.run(&format!("{NEXT}; {SERVES_NO_OLDER}")).await;
    let error = install::check(&db.client).await.unwrap_err();
    assert!(error.to_string().contains("newer than this rowcast"), "{error}");
    assert_eq!(error.remedy(), Some("update rowcast"));
    let error = install::migrate(&mut db.another_client().await).await.unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
    db.run("delete from rowcast.schema_history").await;
    assert_eq!(install::check(&db.client).await.unwrap_err().remedy(), Some("run: rowcast migrate"));
}

/// A fleet is upgraded node by node, and Postgres restarts before the last old one was replaced. Then the new version turns out
/// to be bad, and the old one is started again, with its migrate before it.
#[tokio::test]
async fn a_server_works_with_the_next_schema_and_may_be_gone_back_to() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    let (mut socket, _) = server.subscribed_at("/ws/pets").await;
    db.run(NEXT).await;
    let before = db.text(DUMP).await;
    db.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'rowcast %' and pid <> pg_backend_pid()")
        .await;
    let mut told = Vec::new();
    for pet in 1..=3 {
        db.run(&format!("insert into pets values ({pet})")).await;
    }
    while told.len() < 3 {
        let message = socket.message().await;
        match message["type"].as_str().unwrap() {
            "realtime_update" => told.push(message["data"]["pet_id"].as_i64().unwrap()),
            kind => assert!(kind == "error" && message["code"] == "source_down", "{message}"),
        }
    }
    assert_eq!(told, [1, 2, 3]);
    server.stop().await.unwrap();
    // back
    let migrated = install::migrate(&mut db.another_client().await).await.unwrap();
    assert_eq!((migrated.applied.len(), migrated.version, migrated.is_newer), (0, 99, true));
    assert_eq!(db.text(DUMP).await, before, "it stays as it is");
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (4)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 4);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn every_inspect_file_runs_as_the_relay() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets'); insert into pets values (1)")
        .await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/inspect");
    let psql = rowcast::demo::cluster::find_programs().expect("psql, from Postgres's own programs").join("psql");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut command = tokio::process::Command::new(&psql);
        command.args(["-qX", "-v", "ON_ERROR_STOP=1", "-v", "id=1", "-f"]).arg(&path).arg(&db.url);
        let output = command.env("PGOPTIONS", "-c role=rowcast_relay").output().await.unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        files += 1;
    }
    assert!(files >= 5, "{files} files in sql/inspect");
}

/// A dashboard's view on ours, with rights of its own.
#[tokio::test]
async fn a_view_that_is_built_on_one_of_rowcast_outlives_a_migrate() {
    let db = TestDatabase::new().await;
    db.run("create view monitoring as select * from rowcast.health; grant select on monitoring to public").await;
    install::migrate(&mut db.another_client().await).await.unwrap();
    assert_ne!(db.text("select count(*) from monitoring").await, "0");
    assert_eq!(db.text("select has_table_privilege('public', 'monitoring', 'select')").await, "true");
    // as one of an earlier version, which had other columns
    db.run("drop view monitoring, rowcast.cost; create view rowcast.cost as select 1 as one; create view monitoring as table rowcast.cost")
        .await;
    let error = install::migrate(&mut db.another_client().await).await.unwrap_err();
    assert!(error.remedy().unwrap_or_default().contains("drop them, migrate"), "{error}");
    db.run("drop view monitoring").await;
    install::migrate(&mut db.another_client().await).await.unwrap();
}
