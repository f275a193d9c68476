//! Filters and columns: a client that asks for a part of a channel gets it, live, in a snapshot and after coming back.

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

const PETS: &str = "create type mood as enum ('calm', 'wild');
    create table pets (pet_id int primary key, owner int, name text, mood mood, weight numeric, seen_at timestamptz, chip text);
    select rowcast.watch('pets', exclude => '{chip}')";

/// action and row
fn told(message: &Value) -> (String, Value) {
    assert_eq!(message["type"], "realtime_update", "{message}");
    (message["action"].as_str().unwrap().to_owned(), message["data"].clone())
}

/// Says that nothing came until now.
async fn silent(socket: &mut Socket) {
    socket.send(r#"{"type":"ping"}"#).await;
    assert_eq!(socket.message().await["type"], "pong");
}

#[tokio::test]
async fn a_row_is_told_to_those_whose_filter_it_satisfies_and_as_it_crosses() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut seven = server.subscribed("/ws/pets?filter=owner=eq.7&columns=pet_id,owner,name").await;
    let mut heavy = server.subscribed("/ws/pets?filter=weight=gte.10&filter=mood=in.(wild)&old=true").await;
    let mut all = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 7, 'Luna', 'calm', 4.5, now(), 'secret'), (2, 8, 'Rex', 'wild', 30.50, null, 'secret')").await;
    assert_eq!(told(&seven.message().await), ("created".into(), json!({"pet_id": 1, "owner": 7, "name": "Luna"})));
    let rex = heavy.message().await;
    assert_eq!((&rex["action"], &rex["data"]["name"]), (&json!("created"), &json!("Rex")));

    db.run("update pets set owner = 7 where pet_id = 2").await;
    let entered = seven.message().await;
    assert_eq!(told(&entered), ("entered".into(), json!({"pet_id": 2, "owner": 7, "name": "Rex"})));
    assert_eq!((entered.get("changed"), entered.get("old")), (None, None));
    let updated = heavy.message().await;
    assert_eq!((&updated["action"], &updated["old"]), (&json!("updated"), &json!({"owner": 8})));

    // nothing that seven sees differs
    db.run("update pets set weight = 31 where pet_id = 2").await;
    assert_eq!(heavy.message().await["old"], json!({"weight": 30.50}));
    db.run("update pets set owner = 9, name = 'Gone' where pet_id = 2").await;
    let left = seven.message().await;
    assert_eq!(told(&left), ("left".into(), json!({"pet_id": 2, "owner": 7, "name": "Rex"})), "as it was");
    assert_eq!((left.get("changed"), left.get("old")), (None, None));
    heavy.message().await;
    db.run("delete from pets where pet_id = 2; delete from pets where pet_id = 1").await;
    assert_eq!(told(&seven.message().await), ("deleted".into(), json!({"pet_id": 1, "owner": 7, "name": "Luna"})));
    assert_eq!(heavy.message().await["action"], "deleted");
    db.run("truncate pets").await;
    for socket in [&mut seven, &mut heavy] {
        assert_eq!(socket.message().await["action"], "truncated");
        silent(socket).await;
    }
    let mut actions = Vec::new();
    for _ in 0..8 {
        actions.push(all.message().await["action"].clone());
    }
    assert_eq!(
        actions,
        ["created", "created", "updated", "updated", "updated", "deleted", "deleted", "truncated"],
        "a client that asks for nothing is told of everything, and of no crossing"
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_and_a_replay_are_seen_through_the_filter() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run(
        "insert into pets select n, n % 10, 'pet ' || n, 'calm', n / 10.0, now(), 'x' from generate_series(1, 1000) n",
    )
    .await;
    let server = TestServer::start(&db.url);
    for (filter, count) in [
        ("owner=eq.7", 100),
        ("owner=in.(7,8.0)", 200),
        ("owner=eq.7.5", 0),
        ("owner=gte.8", 200),
        ("name=eq.pet%207", 1),
        ("name=like.pet%2099*", 11),
        ("mood=neq.calm", 0),
        ("weight=lte.1.50", 15),
        ("seen_at=gt.2020-01-01T00:00:00Z", 1000),
    ] {
        let mut socket = server.socket(&format!("/ws/pets?snapshot=true&columns=pet_id&filter={filter}")).await;
        let mut rows = Vec::new();
        loop {
            let message = socket.message().await;
            if message["type"] == "subscribed" {
                break;
            }
            assert_eq!(message["type"], "snapshot", "{filter}: {message}");
            rows.extend(message["rows"].as_array().unwrap().clone());
        }
        assert_eq!(rows.len(), count, "{filter}");
        assert!(rows.iter().all(|row| row.as_object().unwrap().keys().eq(["pet_id"])), "{filter}");
    }

    let mut socket = server.socket("/ws").await;
    socket.send(r#"{"type":"subscribe","channel":"pets","filter":["owner=eq.7"],"columns":["pet_id"]}"#).await;
    let left = socket.message().await["cursor"].as_str().unwrap().to_owned();
    drop(socket);
    let mut last = server.subscribed("/ws/pets?filter=pet_id=eq.3000").await;
    db.run("update pets set owner = 7 where pet_id = 8; update pets set owner = 6 where pet_id = 17; update pets set name = 'x' where pet_id = 27; delete from pets where pet_id = 37; insert into pets select n, 1, 'pet ' || n, 'calm', n, now(), 'x' from generate_series(2001, 3000) n").await;
    assert_eq!(last.message().await["action"], "created", "the server has read them all");
    let back =
        json!({"type": "subscribe", "channel": "pets", "filter": "owner=eq.7", "columns": "pet_id", "since": left});
    // a second server whose memory does not reach back so far reads the outbox
    let other = TestServer::start_with(&db.url, &[("history-bytes", "65536")]);
    for server in [&server, &other] {
        let mut socket = server.socket("/ws").await;
        socket.send(&back.to_string()).await;
        assert_eq!(told(&socket.message().await), ("entered".into(), json!({"pet_id": 8})));
        assert_eq!(told(&socket.message().await), ("left".into(), json!({"pet_id": 17})));
        assert_eq!(told(&socket.message().await), ("deleted".into(), json!({"pet_id": 37})));
        let subscribed = socket.message().await;
        assert_eq!((&subscribed["recovered"], &subscribed["replayed"]), (&json!(true), &json!(3)));
    }
    other.stop().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_says_why() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws").await;
    for (filter, part) in [
        ("colour=eq.red", "there is no column colour; there are: pet_id, owner, name, mood, weight, seen_at"),
        ("chip=eq.x", "there is no column chip"),
        ("owner=eq.me", "me is no integer"),
        ("owner=like.1", "like does not fit"),
        ("owner", "column=operator.value"),
    ] {
        socket
            .send(&json!({"type": "subscribe", "channel": "pets", "filter": filter, "ref": filter}).to_string())
            .await;
        let answer = socket.message().await;
        assert_eq!((&answer["code"], &answer["ref"]), (&json!("bad_filter"), &json!(filter)));
        assert!(answer["message"].as_str().unwrap().contains(part), "{answer}");
        let path = format!("/ws/pets?filter={filter}");
        let mut refused = Socket::connect(server.address, &path, Some("rowcast.v1")).await.unwrap();
        assert_eq!(refused.close_code().await, 4400, "{filter}");
    }
    socket.send(r#"{"type":"subscribe","channel":"pets","columns":["pet_id","chip"]}"#).await;
    assert_eq!(socket.message().await["code"], "bad_filter");
    socket.send(r#"{"type":"subscribe","channel":"user/5","filter":"a=eq.1"}"#).await;
    assert_eq!(socket.message().await["code"], "bad_message");
    socket.send(r#"{"type":"subscribe","channel":"user/5"}"#).await;
    assert_eq!(socket.message().await["channel"], "user/5", "users are on one socket with channels");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_filter_whose_column_goes_away_ends_and_is_not_silent() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut by_weight = server.subscribed("/ws/pets?filter=weight=gte.10").await;
    let mut by_owner = server.subscribed("/ws/pets?filter=owner=eq.7").await;
    // watch tells the relay that the channel is another one now
    db.run("alter table pets drop column weight; alter table pets alter owner type text; select rowcast.watch('pets')")
        .await;
    assert_eq!(by_weight.close_code().await, 4400);
    db.run("insert into pets values (1, '7', 'Luna')").await;
    // its rows are other ones now: where the server had seen them before, it says so
    let message = loop {
        let message = by_owner.message().await;
        if message["type"] != "gap" {
            break message;
        }
    };
    assert_eq!(message["data"]["owner"], "7", "the same filter, compared as what the column is now");
    server.stop().await.unwrap();
}
