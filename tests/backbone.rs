//! Backbone: what a publisher reads arrives at every node, also when Redis, a publisher or the way between them fails.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::support::PATIENCE;
use super::support::postgres::{TestDatabase, connect};
use super::support::redis::TestRedis;
use super::support::server::TestServer;
use super::support::socket::Socket;

const COUNTERS: &str =
    "create table counters (k int primary key, v int not null default 0); select rowcast.watch('counters')";

async fn counters() -> TestDatabase {
    let db = TestDatabase::new().await;
    db.run(COUNTERS).await;
    db
}

fn publisher(db: &TestDatabase, redis: &TestRedis) -> TestServer {
    TestServer::start_with(&db.url, &[("publish", &redis.url())])
}

fn gateway(db_url: &str, redis: &TestRedis) -> TestServer {
    TestServer::start_with(db_url, &[("subscribe", &redis.url())])
}

/// Resumes from it come from the stream, nearly all of them.
fn forgetful_gateway(db_url: &str, redis: &TestRedis) -> TestServer {
    TestServer::start_with(db_url, &[("subscribe", &redis.url()), ("history-bytes", "65536")])
}

const SECRET: &str = "a secret of some length";

/// Of user 7.
fn token_of_a_clerk() -> String {
    token_of("clerk")
}

fn token_of(role: &str) -> String {
    let claims = json!({ "sub": "7", "role": role, "exp": 4_000_000_000_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

async fn write(db: &TestDatabase, keys: std::ops::Range<i32>) {
    for k in keys {
        db.run(&format!("insert into counters values ({k})")).await;
    }
}

/// The keys of the next messages, as many as asked for; of other messages, only `error` may come in between.
async fn keys(socket: &mut Socket, count: usize) -> Vec<i64> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let message = socket.message().await;
        match message["type"].as_str() {
            Some("realtime_update") => keys.push(message["data"]["k"].as_i64().unwrap()),
            Some("error") if message["code"] == "source_down" => {}
            _ => panic!("{message}"),
        }
    }
    keys
}

async fn until_down(socket: &mut Socket) {
    let message = socket.message().await;
    assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!("source_down")), "{message}");
}

async fn status_until(server: &TestServer, what: &str, wanted: Value) {
    let mut status = Value::Null;
    for _ in 0..400 {
        status = server.status().await;
        if status.pointer(what) == Some(&wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} is not {wanted}: {status}");
}

#[tokio::test]
async fn a_change_reaches_every_kind_of_node_and_its_cursor_is_good_on_each() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let nodes = [publisher(&db, &redis), gateway(&db.url, &redis), gateway("", &redis), TestServer::start(&db.url)];
    let mut sockets = Vec::new();
    for node in &nodes {
        sockets.push((node.subscribed("/ws/counters").await, node.subscribed("/ws/user/7").await));
    }
    write(&db, 1..3).await;
    db.run("select rowcast.notify('7', 'hello', '{\"a\": 1}')").await;
    let mut cursors = Vec::new();
    for (counters, user) in &mut sockets {
        let first = counters.message().await;
        assert_eq!(first["data"]["k"], 1, "{first}");
        assert_eq!(keys(counters, 1).await, [2]);
        assert_eq!(user.message().await["notification_type"], "hello");
        cursors.push(first["cursor"].as_str().unwrap().to_owned());
    }
    for cursor in cursors {
        for node in &nodes {
            let mut socket = node.socket(&format!("/ws/counters?since={cursor}")).await;
            assert_eq!(keys(&mut socket, 1).await, [2]);
            let subscribed = socket.message().await;
            assert_eq!((&subscribed["type"], &subscribed["recovered"]), (&json!("subscribed"), &json!(true)));
        }
    }
}

#[tokio::test]
async fn every_kind_of_node_says_when_it_has_come_to_a_position() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let nodes = [publisher(&db, &redis), gateway(&db.url, &redis), gateway("", &redis), TestServer::start(&db.url)];
    let mut first = nodes[3].subscribed("/ws/counters").await;
    let mut sockets = Vec::new();
    for node in &nodes {
        sockets.push(node.subscribed("/ws/counters").await);
    }
    for k in 1..20 {
        write(&db, k..k + 1).await;
        let cursor = first.message().await["cursor"].as_str().unwrap().to_owned();
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.send(&json!({"type": "sync", "cursor": cursor, "ref": k}).to_string()).await;
            assert_eq!(keys(socket, 1).await, [i64::from(k)], "node {number}");
            assert_eq!(socket.message().await, json!({"type": "synced", "ref": k}), "node {number}");
        }
    }
}

#[tokio::test]
async fn a_gateway_has_snapshots_where_it_has_a_database() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    write(&db, 1..4).await;
    let _publisher = publisher(&db, &redis);
    let (with, without) = (gateway(&db.url, &redis), gateway("", &redis));
    let mut socket = with.socket("/ws/counters?snapshot=true").await;
    let first = socket.message().await;
    assert_eq!((&first["type"], first["rows"].as_array().unwrap().len()), (&json!("snapshot"), 3));
    assert_eq!(socket.message().await["last"], true);
    assert_eq!(socket.message().await["type"], "subscribed");
    write(&db, 4..5).await;
    assert_eq!(keys(&mut socket, 1).await, [4]);
    let mut socket = without.socket("/ws/counters?snapshot=true").await;
    assert_eq!(socket.message().await["code"], "no_snapshot");
    assert_eq!(socket.message().await["type"], "subscribed");
    let (code, text) = without.get("/websocket/database").await;
    assert!(code == 503 && text.contains("has no database"), "{code} {text}");
}

#[tokio::test]
async fn a_large_cut_arrives_in_parts_and_in_order() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let gateway = gateway("", &redis);
    let mut socket = gateway.subscribed("/ws/counters").await;
    db.run("insert into counters select generate_series(1, 5000)").await;
    assert_eq!(keys(&mut socket, 5000).await, (1..=5000).collect::<Vec<_>>());
    let entries: u64 = redis.run("XLEN {rowcast}:changes").await;
    assert!(entries >= 5, "{entries} entries");
}

#[tokio::test]
async fn who_comes_back_from_beyond_memory_is_answered_from_the_stream_then_from_the_outbox() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let (with, without) = (forgetful_gateway(&db.url, &redis), forgetful_gateway("", &redis));
    let mut socket = without.subscribed("/ws/counters").await;
    write(&db, 0..1).await;
    let cursor = socket.message().await["cursor"].as_str().unwrap().to_owned();
    for from in (1..4000).step_by(500) {
        db.run(&format!("insert into counters select generate_series({from}, {})", from + 499)).await;
    }
    assert_eq!(keys(&mut socket, 4000).await.len(), 4000);
    for node in [&without, &with] {
        let mut socket = node.socket(&format!("/ws/counters?since={cursor}")).await;
        assert_eq!(keys(&mut socket, 4000).await, (1..=4000).collect::<Vec<_>>());
        assert_eq!(socket.message().await["replayed"], 4000);
        let (_, metrics) = node.get("/metrics").await;
        assert!(metrics.contains("rowcast_resumes_total{from=\"stream\"} 1"), "{metrics}");
    }
    let _: u64 = redis.run("XTRIM {rowcast}:changes MAXLEN 1").await;
    let mut socket = with.socket(&format!("/ws/counters?since={cursor}")).await;
    assert_eq!(keys(&mut socket, 4000).await, (1..=4000).collect::<Vec<_>>());
    assert_eq!(socket.message().await["recovered"], true);
    let mut socket = without.socket(&format!("/ws/counters?since={cursor}")).await;
    let gap = socket.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")));
    assert_eq!(socket.message().await["type"], "subscribed");
}

#[tokio::test]
async fn another_candidate_takes_over_where_the_last_one_ended() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let first = publisher(&db, &redis);
    status_until(&first, "/source/publishing", json!(true)).await;
    let second = publisher(&db, &redis);
    let gateway = gateway("", &redis);
    let mut socket = gateway.subscribed("/ws/counters").await;
    write(&db, 0..3).await;
    assert_eq!(keys(&mut socket, 3).await, [0, 1, 2]);
    assert_eq!(second.status().await["source"]["publishing"], false);
    first.stop().await.unwrap();
    write(&db, 3..6).await;
    assert_eq!(keys(&mut socket, 3).await, [3, 4, 5]);
    status_until(&second, "/source/publishing", json!(true)).await;
}

#[tokio::test]
async fn an_emptied_redis_loses_nothing() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let (with, without) = (gateway(&db.url, &redis), gateway("", &redis));
    let mut sockets = [with.subscribed("/ws/counters").await, without.subscribed("/ws/counters").await];
    for round in 0..3 {
        write(&db, round * 4..round * 4 + 2).await;
        let _: String = redis.run("FLUSHALL").await;
        write(&db, round * 4 + 2..round * 4 + 4).await;
    }
    for socket in &mut sockets {
        assert_eq!(keys(socket, 12).await, (0..12).collect::<Vec<_>>());
    }
}

/// By a script that names the wrong key, say. The second id is the highest there is: nothing can be appended after it.
#[tokio::test]
async fn a_stranger_who_appends_an_entry_of_a_time_to_come_stops_nobody() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let (publisher, gateway) = (publisher(&db, &redis), gateway("", &redis));
    let mut sockets = [publisher.subscribed("/ws/counters").await, gateway.subscribed("/ws/counters").await];
    for (turn, id) in (0..).zip(["18446744073709551615-1", "18446744073709551615-18446744073709551615"]) {
        let xadd = format!("XADD {{rowcast}}:changes {id} kind beat body nothing");
        let _: String = redis.run(&xadd).await;
        write(&db, turn..turn + 1).await;
        for socket in &mut sockets {
            assert_eq!(keys(socket, 1).await, [i64::from(turn)], "{id}");
        }
    }
    let entries: Vec<(String, Vec<String>)> = redis.run("XREVRANGE {rowcast}:changes + - COUNT 1").await;
    assert!(entries[0].0.len() < "18446744073709551615-1".len(), "the stream has begun again: {entries:?}");
    publisher.stop().await.unwrap();
    gateway.stop().await.unwrap();
}

/// As after an upgrade that was taken back: a publisher of a later version has written, and then one of this version again.
#[tokio::test]
async fn a_stream_of_a_later_format_is_said_and_gone_on_with_behind_it() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let (with, without) = (gateway(&db.url, &redis), gateway("", &redis));
    let mut sockets = [with.subscribed("/ws/counters").await, without.subscribed("/ws/counters").await];
    let later_publishes = async {
        loop {
            let _: String = redis.run("XADD {rowcast}:changes * at of to later kind later body {} format 2").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let are_told = async {
        for socket in &mut sockets {
            let told = socket.message().await;
            assert!(told["message"].as_str().is_some_and(|text| text.contains("later version")), "{told}");
        }
    };
    tokio::select! {
        () = later_publishes => {}
        () = are_told => {}
    }
    write(&db, 0..3).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 3).await, [0, 1, 2]);
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_of_and_loses_nothing() {
    let (db, mut redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let (with, without) = (gateway(&db.url, &redis), gateway("", &redis));
    let mut sockets = [with.subscribed("/ws/counters").await, without.subscribed("/ws/counters").await];
    write(&db, 0..2).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 2).await, [0, 1]);
    }
    redis.kill();
    for socket in &mut sockets {
        until_down(socket).await;
    }
    assert_eq!(without.get("/readyz").await.0, 503);
    write(&db, 2..5).await;
    redis.begin().await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 3).await, [2, 3, 4]);
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_after_many_changes_loses_nothing() {
    let (db, mut redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let without = gateway("", &redis);
    let mut socket = without.subscribed("/ws/counters").await;
    write(&db, 0..1).await;
    assert_eq!(keys(&mut socket, 1).await, [0]);
    redis.kill();
    until_down(&mut socket).await;
    // more transactions than a relay reads again that has no place
    db.run(
        "do $$ begin for k in 1..250 loop
           insert into counters select generate_series(k * 100 - 99, k * 100); commit;
         end loop; end $$",
    )
    .await;
    write(&db, 25_001..25_002).await;
    redis.begin().await;
    assert_eq!(keys(&mut socket, 25_001).await, (1..=25_001).collect::<Vec<_>>());
}

#[tokio::test]
async fn entries_that_redis_lost_are_written_again_and_told_once() {
    let (db, mut redis) = (counters().await, TestRedis::start_with(&["--save", "", "--appendonly", "no"]).await);
    let publisher = publisher(&db, &redis);
    let (with, without) = (gateway(&db.url, &redis), gateway("", &redis));
    let mut sockets = [with.subscribed("/ws/counters").await, without.subscribed("/ws/counters").await];
    write(&db, 0..2).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 2).await, [0, 1]);
    }
    let _: String = redis.run("SAVE").await;
    write(&db, 2..5).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 3).await, [2, 3, 4]);
    }
    redis.kill();
    redis.begin().await;
    write(&db, 5..7).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 2).await, [5, 6]);
    }
    drop(publisher);
}

#[tokio::test]
async fn a_full_redis_shortens_the_stream_and_goes_on() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    db.run("alter table counters add text text").await;
    let _publisher = publisher(&db, &redis);
    let gateway = gateway("", &redis);
    let mut socket = gateway.subscribed("/ws/counters").await;
    let _: String = redis.run("CONFIG SET maxmemory-policy noeviction").await;
    let _: String = redis.run("CONFIG SET maxmemory 4mb").await;
    for k in 0..80 {
        db.run(&format!("insert into counters values ({k}, 0, repeat('x', 100000))")).await;
        assert_eq!(keys(&mut socket, 1).await, [k]);
    }
}

/// A way to Redis that can be held up.
struct Way {
    address: std::net::SocketAddr,
    passing: tokio::sync::watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passing, passes) = tokio::sync::watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let mut passes = passes.clone();
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    loop {
                        tokio::select! {
                            // first, so that nothing slips through. What was read may be lost: a partition, and then a
                            // broken connection
                            biased;
                            _ = passes.wait_for(|passes| !passes) => {}
                            _ = tokio::io::copy_bidirectional(&mut here, &mut there) => return,
                        }
                        if passes.wait_for(|passes| *passes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, passing, accepting }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[tokio::test]
async fn a_publisher_that_was_cut_off_cannot_write_when_it_is_back() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let way = Way::to(redis.port()).await;
    let first = TestServer::start_with(&db.url, &[("publish", &format!("redis://{}", way.address))]);
    status_until(&first, "/source/publishing", json!(true)).await;
    let gateway = gateway("", &redis);
    let mut socket = gateway.subscribed("/ws/counters").await;
    write(&db, 0..2).await;
    assert_eq!(keys(&mut socket, 2).await, [0, 1]);
    way.passing.send_replace(false);
    write(&db, 2..4).await;
    let second = publisher(&db, &redis);
    assert_eq!(keys(&mut socket, 2).await, [2, 3]);
    status_until(&second, "/source/publishing", json!(true)).await;
    way.passing.send_replace(true);
    write(&db, 4..6).await;
    assert_eq!(keys(&mut socket, 2).await, [4, 5]);
    // both serve what is in the stream; the one that was cut off may have to catch up
    let mut socket = first.subscribed("/ws/counters").await;
    write(&db, 6..7).await;
    while keys(&mut socket, 1).await != [6] {}
}

#[tokio::test]
async fn the_stream_of_another_database_is_left_alone() {
    let (db, other, redis) = (counters().await, counters().await, TestRedis::start().await);
    let first = publisher(&db, &redis);
    status_until(&first, "/status", json!("live")).await;
    let second = publisher(&other, &redis);
    let mut socket = second.socket("/ws/counters").await;
    other.run("insert into counters values (100)").await;
    first.stop().await.unwrap();
    write(&db, 1..2).await;
    let first = publisher(&db, &redis);
    status_until(&first, "/source/publishing", json!(true)).await;
    assert_eq!(socket.message().await["type"], "subscribed");
    assert_eq!(keys(&mut socket, 1).await, [1], "what the stream holds is of the first database");
}

#[tokio::test]
async fn policies_and_revocations_travel_in_the_stream() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let url = redis.url();
    let publisher = TestServer::start_with(&db.url, &[("publish", &url), ("jwt-secret", SECRET)]);
    let gateway = TestServer::start_with("", &[("subscribe", &url), ("jwt-secret", SECRET)]);
    let token = token_of_a_clerk();
    let path = format!("/ws/counters?token={token}");
    while !matches!(gateway.get("/readyz").await.0, 200) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = Socket::connect(gateway.address, &path, None).await.is_err();
    assert!(refused, "no policy, no access");
    db.run("select rowcast.allow('counters', 'clerk', 'k=lt.10')").await;
    let mut socket = loop {
        match Socket::connect(gateway.address, &path, None).await {
            Ok(socket) => break socket,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(socket.message().await["type"], "subscribed");
    db.run("insert into counters values (50), (5)").await;
    assert_eq!(keys(&mut socket, 1).await, [5]);
    db.run("select rowcast.revoke('7')").await;
    assert_eq!(socket.close_code().await, 4401);
    drop(publisher);
}

#[tokio::test]
async fn the_outbox_keeps_what_a_node_has_not_read() {
    let db = counters().await;
    db.run("insert into rowcast.setting values ('retention', '1 second')").await;
    db.run("select rowcast.note_node('a', '0', 'here', 'publisher', now(), 0, 0, pg_current_snapshot())").await;
    write(&db, 0..1).await;
    // half of the retention later another segment is opened, and the first one is closed
    let mut done = String::new();
    for _ in 0..200 {
        done = db.text("rowcast.prune()").await;
        if done.contains("is kept") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(done.contains("is kept: a node has not read it yet"), "{done}");
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "1");
    db.pruned("is emptied").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where op = 'I'").await, "0");
}

/// The end of its first cut may be far, where it is large or, as here, Redis takes nothing for a while. Until then nothing says how
/// far the outbox was read but where the Redis Stream ends.
#[tokio::test]
async fn what_waits_for_a_publisher_that_takes_over_outlives_the_retention() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let first = publisher(&db, &redis);
    // nobody answers its pings for a while
    let gateway = TestServer::start_with("", &[("subscribe", &redis.url()), ("ping-seconds", "600")]);
    let mut socket = gateway.subscribed("/ws/counters").await;
    write(&db, 0..1).await;
    assert_eq!(keys(&mut socket, 1).await, [0]);
    first.stop().await.unwrap();
    // two days pass without a publisher, and the one that was is no longer counted as one that lives
    write(&db, 1..4).await;
    db.run("delete from rowcast.node; update rowcast.segment set opened_at = opened_at - interval '13 hours'").await;
    db.pruned("segment 1 takes new changes").await;
    db.pruned("segment 0 is closed").await;
    db.run("update rowcast.segment set closed_at = closed_at - interval '25 hours'").await;
    let relays = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'rowcast read%'";
    while db.text(relays).await != "0" {}

    let _: String = redis.run("CLIENT PAUSE 600000 WRITE").await;
    let _second = publisher(&db, &redis);
    // its relay begins where the stream ends; what the node notes after that says so
    while db.text(relays).await == "0" {}
    let moment = db.text("clock_timestamp()").await;
    let noted = format!("select count(*) from rowcast.node where seen_at > '{moment}'");
    while db.text(&noted).await == "0" {}
    let mut done = String::new();
    while !["segment 0 is kept", "segment 0 is emptied"].iter().any(|end| done.contains(end)) {
        done = db.text("rowcast.prune()").await;
    }
    assert!(done.contains("segment 0 is kept: a node has not read it yet"), "{done}");
    let _: String = redis.run("CLIENT UNPAUSE").await;
    assert_eq!(keys(&mut socket, 3).await, [1, 2, 3], "nothing is missing, and no gap is told");
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said_at_the_start() {
    let redis = TestRedis::start_with(&["--requirepass", "right", "--save", ""]).await;
    for url in [redis.url().replace("redis://", "redis://:wrong@"), redis.url()] {
        let server = TestServer::start_with("", &[("subscribe", &url)]);
        let ended = tokio::time::timeout(PATIENCE, server.stop_by_itself()).await;
        let error = ended.expect("it waits for nothing").unwrap_err();
        let text = format!("{} {}", rowcast::error::chain(&error), error.remedy().unwrap_or_default());
        assert!(text.contains("check user and password") && !text.contains("wrong@"), "{text}");
    }
}

/// Two nodes, one with a database and one without, are cut off while 5,000 changes are written; of the stream, `keep`
/// entries are left when they are back, and nothing new comes.
async fn of_the_stream_is_left(keep: u64, and_a_beat: bool) {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let way = Way::to(redis.port()).await;
    let way_to_redis = format!("redis://{}", way.address);
    let publisher = publisher(&db, &redis);
    let with = TestServer::start_with(&db.url, &[("subscribe", &way_to_redis)]);
    let without = TestServer::start_with("", &[("subscribe", &way_to_redis)]);
    let mut written = publisher.subscribed("/ws/counters").await;
    let mut sockets = [with.subscribed("/ws/counters").await, without.subscribed("/ws/counters").await];
    write(&db, 0..1).await;
    assert_eq!(keys(&mut written, 1).await, [0]);
    for socket in &mut sockets {
        assert_eq!(keys(socket, 1).await, [0]);
    }
    way.passing.send_replace(false);
    for socket in &mut sockets {
        until_down(socket).await;
    }
    db.run("insert into counters select generate_series(1, 5000)").await;
    // a publisher serves what is in the stream
    keys(&mut written, 5000).await;
    let whole: u64 = redis.run("XLEN {rowcast}:changes").await;
    while and_a_beat && redis.run::<u64>("XLEN {rowcast}:changes").await == whole {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _: u64 = redis.run(&format!("XTRIM {{rowcast}}:changes MAXLEN {keep}")).await;
    way.passing.send_replace(true);
    assert_eq!(keys(&mut sockets[0], 5000).await, (1..=5000).collect::<Vec<_>>(), "the rest is in the outbox");
    let gap = sockets[1].message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")));
    write(&db, 6000..6001).await;
    for socket in &mut sockets {
        assert_eq!(keys(socket, 1).await, [6000]);
    }
}

#[tokio::test]
async fn a_cut_whose_first_parts_are_gone_is_not_taken_for_a_whole_one() {
    Box::pin(of_the_stream_is_left(3, false)).await;
}

#[tokio::test]
async fn what_the_stream_has_lost_is_not_left_to_the_next_change() {
    Box::pin(of_the_stream_is_left(1, true)).await;
}

#[tokio::test]
async fn a_resume_from_the_stream_passes_where_the_publisher_connected_again() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let _publisher = publisher(&db, &redis);
    let gateway = forgetful_gateway("", &redis);
    let mut socket = gateway.subscribed("/ws/counters").await;
    write(&db, 0..1).await;
    let cursor = socket.message().await["cursor"].as_str().unwrap().to_owned();
    for round in 0..3 {
        let from = 1 + round * 2000;
        db.run(&format!("insert into counters select generate_series({from}, {})", from + 1999)).await;
        // transactions that nobody is told of, and then another connection
        db.run("select pg_current_xact_id()").await;
        db.run("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name like 'rowcast read%'").await;
    }
    write(&db, 6001..6002).await;
    assert_eq!(keys(&mut socket, 6001).await.len(), 6001);
    let mut back = gateway.socket(&format!("/ws/counters?since={cursor}")).await;
    assert_eq!(keys(&mut back, 6001).await, (1..=6001).collect::<Vec<_>>());
    let subscribed = back.message().await;
    assert_eq!((&subscribed["recovered"], &subscribed["replayed"]), (&json!(true), &json!(6001)));
}

#[tokio::test]
async fn a_publisher_that_is_silent_loses_its_place() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let stopped = db.another_client().await;
    stopped.batch_execute("set application_name = 'rowcast publish 00000000'").await.unwrap();
    let take = "select rowcast.take_publishing('00000000', (select backend_start from pg_stat_activity where pid = pg_backend_pid()), false)";
    assert!(stopped.query_one(take, &[]).await.unwrap().get::<_, bool>(0));
    let server = publisher(&db, &redis);
    status_until(&server, "/source/publishing", json!(true)).await;
    assert!(stopped.batch_execute("select 1").await.is_err(), "its session is ended");
}

#[tokio::test]
async fn a_publisher_whose_session_nobody_may_end_loses_its_place_all_the_same() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let role = db.text("select 'of_' || current_database()").await;
    db.run(&format!("create role {role} login password 'secret' in role rowcast_relay")).await;
    // a superuser's, which the relay's role may not end
    let stopped = db.another_client().await;
    stopped.batch_execute("set application_name = 'rowcast publish 00000000'").await.unwrap();
    let take = "select rowcast.take_publishing('00000000', (select backend_start from pg_stat_activity where pid = pg_backend_pid()), false)";
    assert!(stopped.query_one(take, &[]).await.unwrap().get::<_, bool>(0));
    let server = TestServer::start_with(&db.url_of(&role), &[("publish", &redis.url())]);
    status_until(&server, "/source/publishing", json!(true)).await;
    assert!(!stopped.query_one(take, &[]).await.unwrap().get::<_, bool>(0), "and is told so when it wakes up");
}

/// In an upgrade, for as long as one of them lives.
#[tokio::test]
async fn a_publisher_of_the_version_before_is_heeded_and_a_stranger_with_its_lock_is_not() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let role = db.text("select 'of_' || current_database()").await;
    db.run(&format!("create role {role} login password 'secret'")).await;
    let stranger = connect(&db.url_of(&role)).await;
    stranger
        .batch_execute("set application_name = 'rowcast publish 00000000'; select pg_advisory_lock(1919907683, 7)")
        .await
        .unwrap();
    let server = publisher(&db, &redis);
    status_until(&server, "/source/publishing", json!(true)).await;
    server.stop().await.unwrap();
    drop(stranger);
    while db.text("select count(*) from pg_locks where locktype = 'advisory' and objid = 7 and database = (select oid from pg_database where datname = current_database())").await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let old = db.another_client().await;
    old.batch_execute("set application_name = 'rowcast publish 11111111'; select pg_advisory_lock(1919907683, 7)")
        .await
        .unwrap();
    let mine = "select rowcast.take_publishing('22222222', (select backend_start from pg_stat_activity where pid = pg_backend_pid()), false)";
    assert_eq!(db.text(mine).await, "false");
    drop(old);
    while db.text(mine).await != "true" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let old = db.another_client().await;
    assert!(!old.query_one("select pg_try_advisory_lock(1919907683, 7)", &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_revocation_whose_entry_is_gone_is_heard_of() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    db.run("select rowcast.allow('counters', 'clerk')").await;
    let way = Way::to(redis.port()).await;
    let publisher = TestServer::start_with(&db.url, &[("publish", &redis.url()), ("jwt-secret", SECRET)]);
    let url = format!("redis://{}", way.address);
    let gateway = TestServer::start_with("", &[("subscribe", &url), ("jwt-secret", SECRET)]);
    let token = token_of_a_clerk();
    while gateway.get("/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // of another user, days ago
    let _: u64 = redis.run("HSET {rowcast}:state revoked/8 1000-0").await;
    let mut socket = gateway.subscribed(&format!("/ws/counters?token={token}")).await;
    way.passing.send_replace(false);
    until_down(&mut socket).await;
    let before: u64 = redis.run("XLEN {rowcast}:changes").await;
    db.run("select rowcast.revoke('7')").await;
    write(&db, 0..1).await;
    while redis.run::<u64>("XLEN {rowcast}:changes").await < before + 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // what the gateway reads first says only that the publisher lives
    let written: u64 = redis.run("XLEN {rowcast}:changes").await;
    while redis.run::<u64>("XLEN {rowcast}:changes").await == written {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _: u64 = redis.run("XTRIM {rowcast}:changes MAXLEN 1").await;
    write(&db, 1..2).await;
    way.passing.send_replace(true);
    // an attempt to connect that was held up is given up after five seconds
    while gateway.get("/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(socket.close_code().await, 4401);
    let remembered: (bool, bool) =
        (redis.run("HEXISTS {rowcast}:state revoked/7").await, redis.run("HEXISTS {rowcast}:state revoked/8").await);
    assert_eq!(remembered, (true, false));
    drop(publisher);
}

/// It tries again and again to read from the outbox what the stream has lost, and follows the stream meanwhile.
#[tokio::test]
async fn a_gateway_whose_database_is_away_hears_of_revocations() {
    let (db, redis) = (counters().await, TestRedis::start().await);
    let role = db.text("select 'of_' || current_database()").await;
    db.run(&format!("create role {role} superuser login password 'secret'; select rowcast.allow('counters', 'clerk')"))
        .await;
    let way = Way::to(redis.port()).await;
    let publisher = TestServer::start_with(&db.url, &[("publish", &redis.url()), ("jwt-secret", SECRET)]);
    let url = format!("redis://{}", way.address);
    let gateway = TestServer::start_with(&db.url_of(&role), &[("subscribe", &url), ("jwt-secret", SECRET)]);
    while gateway.get("/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut socket = gateway.subscribed(&format!("/ws/counters?token={}", token_of_a_clerk())).await;
    way.passing.send_replace(false);
    until_down(&mut socket).await;
    // beats are entries too, and a publisher that waits for the commit writes one each second
    let cuts = async || {
        let entries: Vec<(String, Vec<String>)> = redis.run("XRANGE {rowcast}:changes - +").await;
        entries.iter().filter(|(_, fields)| fields.iter().any(|field| field == "cut")).count()
    };
    let before = cuts().await;
    db.run("insert into counters select generate_series(1, 5000)").await;
    while cuts().await < before + 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _: u64 = redis.run("XTRIM {rowcast}:changes MAXLEN 1").await;
    let away = format!(
        "alter role {role} nologin; select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{role}'"
    );
    db.run(&away).await;
    way.passing.send_replace(true);
    let admin = token_of("admin");
    let reconnects = async || gateway.status_as_admin(&admin).await["source"]["reconnects"].as_u64().unwrap();
    let before = reconnects().await;
    let tries = async {
        while reconnects().await < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // up to five seconds lie between two tries, and each asks the database in vain
    tokio::time::timeout(Duration::from_secs(120), tries).await.expect("it tries again and again");
    db.run("select rowcast.revoke('7')").await;
    assert_eq!(socket.close_code().await, 4401);
    drop(publisher);
}

/// As at the boot of a cluster, or while Redis fails over.
#[tokio::test]
async fn a_start_waits_for_a_redis_that_is_away() {
    let (db, mut redis) = (counters().await, TestRedis::start().await);
    redis.kill();
    let ended = [("subscribe", &*redis.url()), ("wait-seconds", "0")];
    let error = TestServer::start_with("", &ended).stop_by_itself().await.unwrap_err();
    assert_eq!(error.kind(), rowcast::error::Kind::Connection, "{error}");
    let nodes = [publisher(&db, &redis), gateway("", &redis)];
    for node in &nodes {
        assert_eq!((node.get("/healthz").await.0, node.get("/readyz").await.0), (200, 503));
    }
    redis.begin().await;
    let mut counters = nodes[1].subscribed("/ws/counters").await;
    write(&db, 0..1).await;
    assert_eq!(keys(&mut counters, 1).await, [0]);
    for node in nodes {
        node.stop().await.unwrap();
    }
}
