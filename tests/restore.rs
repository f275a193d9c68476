//! A database that was dumped and restored: tables and columns have other numbers, transactions too.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::support::postgres::TestDatabase;
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
