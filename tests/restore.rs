//! A database that was dumped and restored: tables and columns have other numbers, transactions too.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rowcast::demo::cluster::Cluster;
use rowcast::source::install;
use serde_json::json;

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;

/// Postgres' own program of this name, where there is one.
fn program(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("ROWCAST_PG_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = named.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
    all.into_iter().find(|file| file.exists())
}

/// Pipes a dump of one database into another; `false` where the programs for it are missing, or older than the server.
async fn restore(from: &TestDatabase, to: &TestDatabase) -> bool {
    let (Some(dump), Some(psql)) = (program("pg_dump"), program("psql")) else { return false };
    let version = Command::new(&dump).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let major: u32 = version.split([' ', '.']).find_map(|word| word.parse().ok()).expect(&version);
    let server: u32 = from.text("current_setting('server_version_num')::int / 10000").await.parse().unwrap();
    if major < server {
        return false;
    }
    let mut dumping = Command::new(dump).arg(&from.url).stdout(Stdio::piped()).spawn().unwrap();
    let restored = Command::new(psql)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", &to.url])
        .stdin(dumping.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(restored.success() && dumping.wait().unwrap().success());
    true
}

const MISSING: &str = "pg_dump and psql of the server's version are missing";

/// What pg_dump says of a database; none where the program is missing or older than the server.
pub(super) async fn dumped(db: &TestDatabase, url: &str, arguments: &[&str]) -> Option<Result<String, String>> {
    let pg_dump = program("pg_dump")?;
    let version = Command::new(&pg_dump).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let major: u32 = version.split([' ', '.']).find_map(|word| word.parse().ok()).expect(&version);
    let server: u32 = db.text("current_setting('server_version_num')::int / 10000").await.parse().unwrap();
    if major < server {
        return None;
    }
    let output = Command::new(pg_dump).args(arguments).arg(url).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Some(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
}

fn skip() {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{MISSING}");
    eprintln!("skipped: {MISSING}");
}

#[tokio::test]
async fn the_owner_of_a_database_can_dump_it_once_he_is_given_what_is_printed() {
    let db = TestDatabase::empty().await;
    let owner = db.text("select 'owner_of_' || current_database()").await;
    db.run(&format!(
        "create role {owner} login password 'secret'; alter database {} owner to {owner}; alter schema public owner to {owner};
         set role {owner}; create table pets (id int primary key); reset role",
        db.text("select quote_ident(current_database())").await
    ))
    .await;
    let theirs = db.url_of(&owner);
    match dumped(&db, &theirs, &[]).await {
        None => return skip(),
        Some(before) => _ = before.expect("it could before"),
    }
    let rowcast = || Command::new(env!("CARGO_BIN_EXE_rowcast")).args(["migrate", "--database-url", &db.url]).output();
    let said = String::from_utf8(rowcast().unwrap().stdout).unwrap();
    db.run("select rowcast.watch('pets'); insert into pets values (1)").await;
    assert!(dumped(&db, &theirs, &[]).await.unwrap().unwrap_err().contains("permission denied for schema rowcast"));
    let doctor = Command::new(env!("CARGO_BIN_EXE_rowcast")).args(["doctor", "--database-url", &db.url]).output();
    let doctor = String::from_utf8(doctor.unwrap().stdout).unwrap();
    assert!(doctor.contains("warn  backups"), "{doctor}");
    let (_, remedy) = said.split_once(&format!("If {owner} makes the backups: ")).expect(&said);
    db.run(remedy).await;
    let dump = dumped(&db, &theirs, &[]).await.unwrap().expect("with the rights that are printed");
    assert!(dump.contains("CREATE TABLE rowcast.outbox"));
    // a table of a later version is one that this role may read as well
    db.run(
        "drop table rowcast.tally cascade; delete from rowcast.schema_history where version = 5;
            alter table rowcast.installation drop column tallied, drop column tallied_at; alter table rowcast.node drop column unread cascade",
    )
    .await;
    let said = String::from_utf8(rowcast().unwrap().stdout).unwrap();
    assert!(said.contains("version 7") && !said.contains("backups"), "{said}");
    dumped(&db, &theirs, &[]).await.unwrap().expect("after an update");
    db.run(&format!("alter database {} owner to postgres; alter schema public owner to postgres; drop owned by {owner} cascade; drop role {owner}",
        db.text("select quote_ident(current_database())").await)).await;
}

#[tokio::test]
async fn uninstall_leaves_what_was_there_before() {
    let db = TestDatabase::empty().await;
    let role = db.text("select 'app_of_' || current_database()").await;
    db.run(&format!(
        "create role {role}; create schema app; grant usage on schema app to {role};
         create table app.pets (id int primary key, name text, secret text, user_id int); grant select (id) on app.pets to {role};
         create table app.days (id int, day date, primary key (id, day)) partition by range (day); create table app.day_default partition of app.days default;
         create table app.users (id int primary key, clinic int); alter table app.users owner to {role};
         create table app.staff (user_id int, clinic int);
         create table \"Odd \"\"Name\"\"\" (id int primary key);
         create function app.f() returns trigger language plpgsql as 'begin return new; end'; create trigger f before update on app.pets for each row execute function app.f();
         alter table app.pets enable always trigger f"
    ))
    .await;
    let Some(before) = dumped(&db, &db.url, &["--schema-only"]).await else { return skip() };
    install::migrate(&mut db.another_client().await).await.unwrap();
    db.run(
        "select rowcast.watch('app.pets', user_rule => 'select u.id from app.users u where u.clinic = row.user_id', exclude => '{secret}', replicated => true),
                rowcast.watch('app.days'), rowcast.watch('app.users', columns => '{id}'), rowcast.allow('pets', 'anon');
         select rowcast.claim('clinics', 'select clinic from app.staff where user_id = {sub}::int');
         select rowcast.watch_schema('public', future => true); insert into app.pets values (1); insert into app.days values (1, '2028-01-01')",
    )
    .await;
    let during = dumped(&db, &db.url, &["--schema-only"]).await.unwrap().unwrap();
    assert!(during.contains("!rowcast"));
    for way in ["select rowcast.uninstall()", "program"] {
        if way == "program" {
            install::migrate(&mut db.another_client().await).await.unwrap();
            db.run("select rowcast.watch('app.pets', user_rule => 'user_id', exclude => '{secret}'), rowcast.watch('app.days')").await;
            let uninstall = ["uninstall", "--yes", "--database-url", &db.url];
            assert!(Command::new(env!("CARGO_BIN_EXE_rowcast")).args(uninstall).status().unwrap().success());
        } else {
            db.run(way).await;
        }
        // a newer pg_dump has a line of chance in it
        let lines =
            |text: &str| text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect::<Vec<_>>();
        let after = dumped(&db, &db.url, &["--schema-only"]).await.unwrap().unwrap();
        assert_eq!(lines(&after), lines(before.as_ref().unwrap()), "{way}");
    }
    db.run(&format!("drop owned by {role} cascade; drop role {role}")).await;
}

/// A second demo in the same folder; and what a pid file of before a crash of the machine names.
#[tokio::test]
async fn a_private_postgres_that_is_in_use_is_left_alone() {
    let folder = std::env::temp_dir().join(format!("rowcast-alone-{}", std::process::id()));
    let cluster = match Cluster::start_with(&folder, &["fsync=off"]).await {
        Ok(cluster) => cluster,
        Err(error) => {
            assert!(!TestDatabase::is_private(), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    let refused = Cluster::start_with(&folder.join("../").join(folder.file_name().unwrap()), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("another process uses the Postgres in"), "{refused}");
    assert!(refused.remedy().unwrap().contains("--dir"));
    connect(&cluster.url("postgres", "postgres")).await;
    cluster.stop().await;
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let data = folder.canonicalize().unwrap().join("data");
    let named = format!("{}\n{}\n0\n1\n\n\n\n", stranger.id(), data.display());
    std::fs::write(data.join("postmaster.pid"), named).unwrap();
    // Postgres itself may refuse it
    if let Ok(cluster) = Cluster::start_with(&folder, &[]).await {
        cluster.stop().await;
    }
    assert!(stranger.try_wait().unwrap().is_none(), "it lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Roles are the cluster's, so it needs one of its own.
#[tokio::test]
async fn the_last_of_two_databases_takes_the_roles_away() {
    let folder = std::env::temp_dir().join(format!("rowcast-two-{}", std::process::id()));
    let cluster = match Cluster::start_with(&folder, &["fsync=off"]).await {
        Ok(cluster) => cluster,
        Err(error) => {
            assert!(!TestDatabase::is_private(), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    let postgres = connect(&cluster.url("postgres", "postgres")).await;
    let mut databases = Vec::new();
    for name in ["one", "two"] {
        postgres.batch_execute(&format!("create database {name}")).await.unwrap();
        let mut client = connect(&cluster.url("postgres", name)).await;
        client.batch_execute("create table public.t (id int primary key)").await.unwrap();
        install::migrate(&mut client).await.unwrap();
        client.batch_execute("select rowcast.watch('public.t')").await.unwrap();
        databases.push(client);
    }
    postgres
        .batch_execute("revoke connect on database two from public; grant connect on database two to rowcast_relay")
        .await
        .unwrap();
    let left = "select (select coalesce(string_agg(nspname || ' ' || nspacl::text, ' '), '') from pg_namespace where nspacl::text ~ 'rowcast')
        || (select coalesce(string_agg(relname || ' ' || relacl::text, ' '), '') from pg_class where relacl::text ~ 'rowcast')
        || (select coalesce(string_agg(datname || ' ' || datacl::text, ' '), '') from pg_database where datacl::text ~ 'rowcast')";
    let roles = "select count(*)::int from pg_roles where rolname ~ '^rowcast_'";
    for (client, roles_left) in databases.iter().zip([2, 0]) {
        client.batch_execute("select rowcast.uninstall()").await.unwrap();
        if roles_left > 0 {
            let may = "select has_database_privilege('rowcast_relay', 'two', 'connect')";
            assert!(client.query_one(may, &[]).await.unwrap().get::<_, bool>(0), "the other installation needs it");
        }
        let rights: String = client.query_one(left, &[]).await.unwrap().get(0);
        assert!(rights.is_empty() || roles_left > 0 && rights.starts_with("two "), "{rights}");
        assert_eq!(client.query_one(roles, &[]).await.unwrap().get::<_, i32>(0), roles_left);
    }
    drop((postgres, databases));
    cluster.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A framework's structure.sql, loaded into its test database.
#[tokio::test]
async fn a_dump_without_data_is_refused_with_the_remedy() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let Some(dump) = dumped(&db, &db.url, &["--schema-only"]).await else { return skip() };
    let copy = TestDatabase::empty().await;
    let file = std::env::temp_dir().join(format!("rowcast-structure-{}.sql", std::process::id()));
    std::fs::write(&file, dump.unwrap()).unwrap();
    let loaded = Command::new(program("psql").unwrap())
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .arg(&copy.url)
        .stdout(Stdio::null())
        .status();
    assert!(loaded.unwrap().success());
    std::fs::remove_file(&file).unwrap();
    copy.run("insert into pets values (1)").await;
    let error = install::migrate(&mut copy.another_client().await).await.unwrap_err();
    assert!(error.to_string().contains("it comes from a dump without data"), "{error}");
    let remedy = error.remedy().unwrap().split(", and run again").next().unwrap().to_owned();
    copy.run(&remedy).await;
    install::migrate(&mut copy.another_client().await).await.unwrap();
    copy.run("select rowcast.watch('pets'); insert into pets values (2)").await;
    assert_eq!(copy.text("select count(*) from rowcast.recent where action = 'created'").await, "1");
}

#[tokio::test]
async fn a_restored_table_tells_nothing_until_it_is_watched_again_and_its_writers_never_mind() {
    let db = TestDatabase::new().await;
    // a dropped column: those behind it have other numbers after a dump
    db.run(
        "create table pets (gone int, pet_id int primary key, owner text, chip text, name text, stay interval);
         alter table pets drop column gone;
         select rowcast.watch('pets', user_rule => 'owner', exclude => '{chip}');
         insert into pets values (1, '7', 'secret', 'Luna')",
    )
    .await;
    let copy = TestDatabase::empty().await;
    if !restore(&db, &copy).await {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "pg_dump and psql of the server's version are missing");
        return eprintln!("skipped: pg_dump and psql of the server's version are missing");
    }
    // the outbox of another server, whose transactions this one has yet to begin
    copy.run(
        "insert into rowcast.outbox_0 (xid, channel, op, new) select '900000000000', id, 'I', '{\"pet_id\":9}' from rowcast.channel;
         update rowcast.installation set floor = '900000000000:900000000000:'",
    )
    .await;
    let server = TestServer::start(&copy.url);
    let publisher = "select rowcast.create_channel('news')";
    copy.run(publisher).await;
    server.subscribed("/ws/news").await;
    assert_eq!(server.get("/sse/pets").await.0, 404, "its columns are not what they were");
    copy.run("insert into pets values (2, '8', 'secret', 'Rex'); update pets set name = 'Nala'; delete from pets where pet_id = 2").await;
    assert_eq!(
        copy.text("select count(*) from rowcast.outbox where new::text like '%secret%' or old::text like '%secret%'")
            .await,
        "0"
    );
    assert_eq!(copy.text("select state from rowcast.watched where channel = 'pets'").await, "off");
    let status = server.status().await;
    assert!(status["source"]["outbox_rows"].as_u64().unwrap() < 20, "nothing is read again and again: {status}");

    copy.run(&copy.text("select remedy from rowcast.watched where channel = 'pets'").await).await;
    assert_eq!(copy.text("select exclude from rowcast.watched where channel = 'pets'").await, "{chip}");
    let mut owner = server.subscribed("/ws/user/8").await;
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    let rows = socket.message().await;
    assert_eq!(rows["rows"][0], serde_json::json!({"pet_id": 1, "owner": "7", "name": "Nala", "stay": null}), "{rows}");
    while socket.message().await["type"] != "subscribed" {}
    copy.run("insert into pets values (3, '8', 'secret', 'Tom')").await;
    let created = socket.message().await;
    assert_eq!((&created["data"]["name"], created["data"].get("chip")), (&"Tom".into(), None), "{created}");
    assert_eq!(owner.message().await["data"]["name"], "Tom");
    server.stop().await.unwrap();
}

/// As a dump of one table brings it: its triggers name a channel by its number.
#[tokio::test]
async fn a_table_with_triggers_of_another_installation_is_told_on_no_channel_of_this_one() {
    let (db, copy) = (TestDatabase::empty().await, TestDatabase::empty().await);
    for each in [&db, &copy] {
        install::migrate(&mut each.another_client().await).await.unwrap();
    }
    db.run("create table salaries (id int primary key, amount int); select rowcast.watch('salaries')").await;
    copy.run("create table pets (id int primary key); select rowcast.watch('pets'); create table salaries (id int primary key, amount int)")
        .await;
    let triggers = "select string_agg(pg_get_triggerdef(oid), ';') from pg_trigger where tgrelid = 'salaries'::regclass and not tgisinternal";
    copy.run(&db.text(triggers).await).await;
    let server = TestServer::start(&copy.url);
    let mut pets = server.subscribed("/ws/pets").await;
    copy.run("insert into salaries values (1, 90000); insert into pets values (7)").await;
    assert_eq!(pets.message().await["data"], json!({ "id": 7 }));
    server.stop().await.unwrap();
}
