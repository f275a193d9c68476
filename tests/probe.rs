//! `rowcast doctor --probe`: a message goes the whole way, or the part that is broken is named.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const SECRET: &str = "a secret that only the tests know";

/// The exit code, and the lines about the probe.
async fn probe(database: &str, server: &str, token: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command.args(["doctor", "--probe", "--url", server]).env("DATABASE_URL", database).env_remove("ROWCAST_TOKEN");
    command.args(token.iter().flat_map(|token| ["--token", token])).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines =
        text.split_once(" probe ").map(|(before, after)| before.rsplit('\n').next().unwrap().to_owned() + after);
    (output.status.code(), lines.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))))
}

fn address(server: &TestServer) -> String {
    format!("http://{}", server.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_arrives_is_timed() {
    let db = TestDatabase::new().await;
    db.run("create table pets (id int primary key); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    let (code, told) = probe(&db.url, &address(&server), None).await;
    assert!(code == Some(0) && told.starts_with("ok") && told.contains("written and committed in "), "{told}");
    assert!(told.contains(" ms later"), "{told}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_the_way_that_is_broken_is_named() {
    let (db, other) = (TestDatabase::new().await, TestDatabase::new().await);
    let role = format!("prober_{}", std::process::id());
    db.run(&format!("create role {role} login password 'secret' in role rowcast_relay")).await;
    // no server
    let (code, told) = probe(&db.url, "http://127.0.0.1:1", None).await;
    assert!(code == Some(1) && told.contains("cannot connect to ws://127.0.0.1:1"), "{told}");
    assert!(told.contains("-> is `rowcast serve` or `rowcast demo` running there?"), "{told}");
    // the server of another database
    let server = TestServer::start(&other.url);
    let (_, told) = probe(&db.url, &address(&server), None).await;
    assert!(told.starts_with("fail") && told.contains("reads another database"), "{told}");
    server.stop().await.unwrap();
    // nothing is captured
    let server = TestServer::start(&db.url);
    db.run("select rowcast.pause()").await;
    let (_, told) = probe(&db.url, &address(&server), None).await;
    assert!(told.contains("the message was not captured") && told.contains("where finding = 'capture';"), "{told}");
    db.run("select rowcast.resume()").await;
    // a role that may not write it; what is printed lets it
    let (_, told) = probe(&db.url_of(&role), &address(&server), None).await;
    let grant = told.split_once("run: ").unwrap_or_else(|| panic!("{told}")).1.lines().next().unwrap();
    db.run(grant).await;
    let (_, told) = probe(&db.url_of(&role), &address(&server), None).await;
    assert!(told.starts_with("ok"), "{told}");
    server.stop().await.unwrap();
    // a server that has lost its database
    let server = TestServer::start(&db.url_of(&role));
    server.subscribed("/ws/user/1").await;
    db.run(&format!(
        "alter role {role} nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
    ))
    .await;
    let (_, told) = probe(&db.url, &address(&server), None).await;
    assert!(told.contains("takes sockets and reads no changes"), "{told}");
    server.stop().await.unwrap();
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_read_is_told_from_one_that_does() {
    // it takes the processes of Postgres to stop one of them
    if !TestDatabase::is_private() {
        return;
    }
    let db = TestDatabase::new().await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/user/1").await;
    let reader = db.text("select pid from pg_stat_activity where datname = current_database() and application_name like 'rowcast read %'").await;
    let signal = |name: &str| assert!(Command::new("kill").args([name, &reader]).status().unwrap().success());
    signal("-STOP");
    let (code, told) = probe(&db.url, &address(&server), None).await;
    signal("-CONT");
    assert!(code == Some(1) && told.contains("has not read it"), "{told}");
    assert!(told.contains("-> its log says why; where it says nothing, restart it"), "{told}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_are_checked_the_tokens_own_user_is_told() {
    let db = TestDatabase::new().await;
    let server = TestServer::start_with(&db.url, &[("jwt-secret", SECRET)]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = |claims: serde_json::Value| {
        let mut all = json!({"exp": now + 600, "role": "admin"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    };
    let (code, told) = probe(&db.url, &address(&server), Some(&token(json!({"sub": "dba"})))).await;
    assert!(code == Some(0) && told.starts_with("ok"), "{told}");
    for refused in [None, Some(token(json!({})))] {
        let (code, told) = probe(&db.url, &address(&server), refused.as_deref()).await;
        assert!(code == Some(1) && told.contains("the server closed the socket"), "{told}");
        assert!(told.contains("-> where tokens are checked: a token whose role is admin, with a sub"), "{told}");
    }
    server.stop().await.unwrap();
}
