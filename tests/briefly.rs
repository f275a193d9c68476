//! Tables whose changes are kept briefly: what they write shortens what is kept of no other table, is delivered as ever, and
//! where it is gone its own subscribers are told.

use serde_json::{Value, json};

use super::support::postgres::{TestDatabase, connect};
use super::support::redis::TestRedis;
use super::support::server::TestServer;
use super::support::socket::Socket;

/// A table that writes little, and one that writes much.
const TABLES: &str =
    "create table pets (id int primary key, name text); create table events (id int primary key, body text);
    select rowcast.watch('pets'), rowcast.watch('events'); select rowcast.keep_briefly('events')";
/// An hour of the default `brief_retention` passes, and of nothing else.
const OPENED_AN_HOUR_AGO: &str = "update rowcast.segment set opened_at = opened_at - interval '61 minutes'";
const CLOSED_AN_HOUR_AGO: &str = "update rowcast.segment set closed_at = closed_at - interval '61 minutes'";

async fn update(socket: &mut Socket) -> Value {
    let message = socket.message().await;
    assert_eq!(message["type"], "realtime_update", "{message}");
    message
}

fn cursor(message: &Value) -> String {
    message["cursor"].as_str().unwrap().to_owned()
}

/// What comes on a socket up to `subscribed`, that included.
async fn until_subscribed(socket: &mut Socket) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        messages.push(socket.message().await);
        if messages.last().unwrap()["type"] == "subscribed" {
            return messages;
        }
    }
}

/// No more is written to the segment that takes what is kept briefly.
async fn half_an_hour_passes(db: &TestDatabase) {
    db.run(OPENED_AN_HOUR_AGO).await;
    db.pruned("is closed").await;
}

/// What was written before is emptied.
async fn an_hour_passes(db: &TestDatabase) {
    db.run(CLOSED_AN_HOUR_AGO).await;
    db.pruned("is emptied").await;
}

async fn segments(db: &TestDatabase) -> String {
    db.text("select string_agg(distinct c.name || ' ' || o.tableoid::regclass, ', ' order by c.name || ' ' || o.tableoid::regclass)
               from rowcast.outbox o join rowcast.channel c on c.id = o.channel where o.op <> 'C'").await
}

#[tokio::test]
async fn a_table_that_is_kept_briefly_shortens_the_past_of_no_other() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut events) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/events").await);
    db.run("insert into pets values (1, 'Luna'); insert into events values (1, 'one')").await;
    let (pet, event) = (cursor(&update(&mut pets).await), cursor(&update(&mut events).await));
    assert_eq!(segments(&db).await, "events rowcast.outbox_3, pets rowcast.outbox_0");
    db.run("insert into pets values (2, 'Nala'); update events set body = 'two'; truncate events").await;
    assert_eq!(update(&mut pets).await["data"]["id"], 2);
    assert_eq!(update(&mut events).await["old"], Value::Null);
    assert_eq!(update(&mut events).await["action"], "truncated");
    half_an_hour_passes(&db).await;
    db.run("insert into events values (3, 'three')").await;
    let kept = cursor(&update(&mut events).await);
    an_hour_passes(&db).await;
    assert_eq!(segments(&db).await, "events rowcast.outbox_4, pets rowcast.outbox_0");
    // a client that is connected notices nothing, and in memory it is still there
    let mut back = server.socket(&format!("/ws/events?since={event}")).await;
    let told = until_subscribed(&mut back).await;
    assert_eq!((told.len(), &told[3]["recovered"]), (4, &json!(true)), "{told:?}");
    server.stop().await.unwrap();
    // one that starts now has it no longer; of the other table everything, and of this one what came since
    let server = TestServer::start(&db.url);
    let mut back = server.socket(&format!("/ws/pets?since={pet}")).await;
    let told = until_subscribed(&mut back).await;
    assert_eq!((&told[0]["data"]["id"], &told[1]["recovered"], told.len()), (&json!(2), &json!(true), 2));
    let mut back = server.socket(&format!("/ws/events?since={event}")).await;
    let told = until_subscribed(&mut back).await;
    assert_eq!((&told[0]["type"], &told[0]["reason"], told.len()), (&json!("gap"), &json!("retention"), 2), "{told:?}");
    let mut back = server.socket(&format!("/ws/events?since={kept}")).await;
    db.run("insert into events values (4, 'four')").await;
    assert_eq!(until_subscribed(&mut back).await.last().unwrap()["recovered"], true);
    // users are not concerned
    let mut user = server.socket(&format!("/ws/user/7?since={pet}")).await;
    assert_eq!(until_subscribed(&mut user).await[0]["recovered"], true);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_was_away_for_too_long_tells_a_gap_on_that_channel_alone() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    let server = TestServer::start(&db.url);
    let (mut pets, mut events) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/events").await);
    db.run("insert into events values (1, 'one')").await;
    let event = cursor(&update(&mut events).await);
    let name = db.text("current_database()").await;
    let elsewhere = connect(&db.url.replace(&name, "postgres")).await;
    elsewhere.batch_execute(&format!("alter database {name} allow_connections false")).await.unwrap();
    db.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()").await;
    assert_eq!(pets.message().await["code"], "source_down");
    assert_eq!(events.message().await["code"], "source_down");
    db.run("insert into pets values (1, 'Luna'); insert into events values (2, 'missed')").await;
    half_an_hour_passes(&db).await;
    an_hour_passes(&db).await;
    db.run("insert into events values (3, 'kept')").await;
    elsewhere.batch_execute(&format!("alter database {name} allow_connections true")).await.unwrap();
    assert_eq!(update(&mut pets).await["data"]["name"], "Luna");
    let gap = events.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")), "{gap}");
    assert_eq!(update(&mut events).await["data"]["body"], "kept");
    // so is a client that comes back from before, also where memory reaches
    let mut back = server.socket(&format!("/ws/events?since={event}")).await;
    let told = until_subscribed(&mut back).await;
    assert_eq!((&told[0]["type"], &told[0]["reason"]), (&json!("gap"), &json!("retention")), "{told:?}");
    db.run("insert into pets values (2, 'Nala'); insert into events values (4, 'next')").await;
    assert_eq!(update(&mut pets).await["data"]["name"], "Nala");
    assert_eq!(update(&mut events).await["data"]["body"], "next", "and not a second gap");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_table_that_writes_more_than_its_share_loses_its_own_changes_and_says_so() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("select rowcast.configure('brief_size', '64 MB')").await;
    for round in 0..4 {
        let noise = "(select string_agg(md5(random()::text || i || n), '') from generate_series(1, 200) n)";
        db.run(&format!("insert into events select i + {round} * 3000, {noise} from generate_series(1, 3000) i")).await;
    }
    db.run("insert into events values (-1, 'left out'); insert into pets values (1, 'Luna')").await;
    assert_eq!(db.text("select count(*) from rowcast.outbox where new::text like '%left out%'").await, "0");
    assert_eq!(db.text("select count(*) from rowcast.outbox where new::text like '%Luna%'").await, "1");
    let size = "select sum(pg_total_relation_size(s)) from unnest(array['rowcast.outbox_3', 'rowcast.outbox_4', 'rowcast.outbox_5']::regclass[]) s";
    let bytes: u64 = db.text(size).await.parse().unwrap();
    assert!(bytes > 64 << 20 && bytes < 2 * (64 << 20), "{} MiB", bytes >> 20);
    let found = "select string_agg(finding || ' ' || state, ', ' order by finding) from rowcast.health where finding in ('brief outbox', 'capture', 'outbox')";
    assert_eq!(db.text(found).await, "brief outbox fail, capture ok, outbox ok");
    let server = TestServer::start(&db.url);
    let (mut pets, mut events) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/events").await);
    // the first call opens another segment, and changes are captured again; the full one is closed and emptied, unless
    // the relay is reading it
    while db.text(found).await != "brief outbox ok, capture ok, outbox ok" {
        db.run("select rowcast.prune()").await;
    }
    db.run("insert into events values (-2, 'again'); insert into pets values (2, 'Nala')").await;
    let gap = events.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")), "{gap}");
    assert_eq!(update(&mut pets).await["data"]["name"], "Nala", "no gap");
    let mut told = events.message().await;
    while told["type"] == "gap" {
        told = events.message().await; // transactions that ran then have ended
    }
    assert_eq!(told["data"]["body"], "again");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn whether_a_table_is_kept_briefly_is_stated_and_outlives_a_watch() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("select rowcast.configure('brief_retention', '10 minutes'), rowcast.configure('brief_size', '2 GB')").await;
    db.run("select rowcast.watch('events', exclude => '{body}'); insert into events values (1, 'hidden')").await;
    assert_eq!(segments(&db).await, "events rowcast.outbox_3");
    assert_eq!(db.text("select new from rowcast.outbox where op = 'I'").await, r#"{"id":1,"body":null}"#);
    let stated = db.text("select string_agg(d, E'\n') from rowcast.dump() d").await;
    for call in [
        "select rowcast.configure('brief_retention', '10 minutes');",
        "select rowcast.configure('brief_size', '2 GB');",
        "select rowcast.keep_briefly('public.events');",
    ] {
        assert!(stated.contains(call), "{stated}");
    }
    assert_eq!(db.text("select string_agg(channel, ',') from rowcast.watched where briefly").await, "events");
    let detail = db.text("select detail from rowcast.health where finding = 'brief outbox'").await;
    assert!(detail.ends_with("of 1 tables whose changes are kept for 00:10:00"), "{detail}");
    // back: what is in its outbox may go before the rest, so its subscribers load again
    let server = TestServer::start(&db.url);
    let mut events = server.subscribed("/ws/events").await;
    db.run("select rowcast.keep_briefly('events', false); insert into events values (2, 'x')").await;
    assert_eq!(events.message().await["reason"], "policy");
    assert_eq!(update(&mut events).await["data"], json!({"id": 2}));
    assert_eq!(segments(&db).await, "events rowcast.outbox_0, events rowcast.outbox_3");
    assert_eq!(db.text("select count(*) from rowcast.health where finding = 'brief outbox'").await, "1");
    server.stop().await.unwrap();
    for (call, says) in [
        ("select rowcast.keep_briefly('pg_class')", "not watched"),
        ("select rowcast.configure('brief_retention', '1 second')", "brief_retention cannot be 1 second"),
        ("select rowcast.watch('pets', user_rule => 'name'); select rowcast.keep_briefly('pets')", "it notifies users"),
        ("select rowcast.keep_briefly('events'), rowcast.watch('events', user_rule => 'body')", "with a user rule"),
    ] {
        let refused = db.refused(call).await;
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test]
async fn a_pause_is_for_tables_that_are_kept_briefly_too() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("select rowcast.pause(); insert into events values (1, 'left out'); select rowcast.prune(); insert into events values (2, 'too')").await;
    db.run("select rowcast.resume(); insert into events values (3, 'again')").await;
    assert_eq!(db.text("select string_agg(new ->> 'body', ',') from rowcast.outbox where op = 'I'").await, "again");
}

/// What is left out while the outbox is full is gone for every table that is kept briefly, at every node.
#[tokio::test]
async fn every_table_that_is_kept_briefly_is_told_on_every_node() {
    let (db, redis) = (TestDatabase::new().await, TestRedis::start().await);
    db.run(TABLES).await;
    db.run("create table clicks (id int primary key); select rowcast.watch('clicks'); select rowcast.keep_briefly('clicks')")
        .await;
    let nodes = [
        TestServer::start_with(&db.url, &[("publish", &redis.url())]),
        TestServer::start_with(&db.url, &[("subscribe", &redis.url())]),
        TestServer::start(&db.url),
    ];
    let mut sockets = Vec::new();
    for node in &nodes {
        for channel in ["events", "clicks"] {
            sockets.push(node.subscribed(&format!("/ws/{channel}")).await);
        }
    }
    db.run("select rowcast.note_left_out(true)").await;
    db.run("insert into events values (1, 'x'); insert into clicks values (1)").await;
    for socket in &mut sockets {
        let mut message = socket.message().await;
        assert_eq!((&message["type"], &message["reason"]), (&json!("gap"), &json!("retention")), "{message}");
        while message["type"] == "gap" {
            message = socket.message().await;
        }
        assert_eq!(message["data"]["id"], 1, "{message}");
    }
    drop(sockets);
    for node in nodes {
        node.stop().await.unwrap();
    }
}

/// Ids are drawn from one sequence, so each table may get nothing but odd ones.
#[tokio::test]
async fn tables_that_write_in_turns_are_bounded_each() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run(
        "select rowcast.configure('brief_size', '64 MB');
         create function also() returns trigger language plpgsql as $$ begin
           insert into pets values (new.id, null); return null; end $$;
         create trigger also after insert on events for each row execute function also()",
    )
    .await;
    for parity in 0..2 {
        db.run("truncate pets, events").await;
        db.run(&format!(
            "select case when nextval('rowcast.outbox_id') % 2 = {parity} then nextval('rowcast.outbox_id') end"
        ))
        .await;
        for round in 0..4 {
            let noise = "(select string_agg(md5(random()::text || i || n), '') from generate_series(1, 40) n)";
            db.run(&format!("insert into events select i + {round} * 20000, {noise} from generate_series(1, 20000) i"))
                .await;
        }
        let size = "select pg_total_relation_size('rowcast.outbox_3')";
        let bytes: u64 = db.text(size).await.parse().unwrap();
        assert!(bytes < 128 << 20, "ids of parity {parity}: {} MiB", bytes >> 20);
    }
}

#[tokio::test]
async fn a_call_leaves_no_setting_behind_and_outlives_a_pause_that_was_rolled_back() {
    let db = TestDatabase::new().await;
    db.run("create table events (id int primary key); select rowcast.watch('events')").await;
    let waits = "select current_setting('lock_timeout')";
    let before = db.text(waits).await;
    db.run("begin; select rowcast.pause(); rollback; select rowcast.prune()").await;
    db.run("begin; select rowcast.keep_briefly('events')").await;
    assert_eq!(db.text(waits).await, before);
    db.run("commit; insert into events values (1)").await;
    assert_eq!(segments(&db).await, "events rowcast.outbox_3");
    // beside a prune
    let db = TestDatabase::new().await;
    db.run("create table events (id int primary key); select rowcast.watch('events')").await;
    let other = db.another_client().await;
    other.batch_execute("begin; lock table rowcast.segment in share row exclusive mode").await.unwrap();
    let refused = db.refused("select rowcast.keep_briefly('events')").await;
    assert!(refused.contains("rowcast.segment is in use by pid") && refused.contains("call it again"), "{refused}");
}

/// As where a dump without the outbox is loaded into another cluster.
#[tokio::test]
async fn a_floor_of_another_cluster_is_noticed() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("update rowcast.installation set brief_floor = '900000000:900000000:', brief_floored_by = '899999999'")
        .await;
    let server = TestServer::start(&db.url);
    let mut events = server.subscribed("/ws/events").await;
    db.run("insert into events values (1, 'one')").await;
    assert_eq!(update(&mut events).await["data"]["id"], 1, "no gap");
    assert_eq!(db.text("select brief_floor is null from rowcast.installation").await, "true");
    server.stop().await.unwrap();
}
