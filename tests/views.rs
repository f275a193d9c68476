//! Several views of a channel on one socket, told apart by their tags; and how one channel hears that a cut has ended.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::process::Process;
use super::support::server::TestServer;
use super::support::socket::Socket;

const PETS: &str = "create table pets (id int primary key, owner int, name text); select rowcast.watch('pets')";

async fn subscribe(socket: &mut Socket, wish: Value) {
    let mut command = json!({"type": "subscribe", "channel": "pets"});
    command.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    socket.send(&command.to_string()).await;
}

/// What the next messages tell, as view and id, until a socket's `cut`.
async fn until_cut(socket: &mut Socket) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    loop {
        let message = socket.message().await;
        match message["type"].as_str().unwrap() {
            "cut" => return told,
            "realtime_update" => {
                told.push((message["view"].as_str().unwrap_or_default().to_owned(), message["data"]["id"].clone()));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_socket_has_several_views_of_one_channel() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("insert into pets values (1, 1, 'a'), (2, 2, 'b')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws?cuts=true").await;
    let wishes = [
        json!({"snapshot": true}),
        json!({"view": "ones", "filter": "owner=eq.1", "snapshot": true}),
        json!({"view": "all-again", "snapshot": true}),
        json!({"filter": "owner=eq.2", "snapshot": true, "ref": 7}),
        json!({"view": "names", "columns": ["id", "name"], "old": true}),
    ];
    let mut rows: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut given = String::new();
    for wish in wishes {
        subscribe(&mut socket, wish.clone()).await;
        loop {
            let message = socket.message().await;
            let view = message["view"].as_str().unwrap_or_default().to_owned();
            match message["type"].as_str().unwrap() {
                "snapshot" => {
                    let ids = message["rows"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap());
                    rows.entry(view).or_default().extend(ids);
                }
                "subscribed" => {
                    assert_eq!(message["channel"], "pets");
                    if wish["ref"] == 7 {
                        given = view;
                    } else {
                        assert_eq!(view, wish["view"].as_str().unwrap_or_default());
                    }
                    break;
                }
                "cut" => {}
                _ => panic!("{message}"),
            }
        }
    }
    assert!(!given.is_empty(), "a narrowed view that has no name is given one");
    let ids = |view: &str| rows[view].clone();
    assert_eq!((ids(""), ids("ones"), ids("all-again"), ids(&given)), (vec![1, 2], vec![1], vec![1, 2], vec![2]));
    while socket.message().await["type"] != "cut" {}

    db.run("begin; insert into pets values (3, 1, 'c'); update pets set name = 'd' where id = 2; commit").await;
    let mut told = until_cut(&mut socket).await;
    told.sort_by_key(|(view, id)| (view.clone(), id.as_i64()));
    let mut right: Vec<(String, Value)> =
        [("", 2), ("", 3), ("all-again", 2), ("all-again", 3), ("names", 2), ("names", 3), ("ones", 3)]
            .map(|(view, id)| (view.to_owned(), json!(id)))
            .into();
    right.push((given.clone(), json!(2)));
    right.sort_by_key(|(view, id)| (view.clone(), id.as_i64()));
    assert_eq!(told, right);

    // each is left by itself, all by the channel
    socket.send(r#"{"type":"unsubscribe","channel":"pets","view":"ones","ref":1}"#).await;
    let left = socket.message().await;
    assert_eq!((&left["type"], &left["view"], &left["ref"]), (&json!("unsubscribed"), &json!("ones"), &json!(1)));
    db.run("insert into pets values (4, 1, 'e')").await;
    let views: Vec<String> = until_cut(&mut socket).await.into_iter().map(|(view, _)| view).collect();
    assert!(views.len() == 3 && !views.contains(&"ones".to_owned()), "{views:?}");
    socket.send(r#"{"type":"unsubscribe","channel":"pets","view":""}"#).await;
    assert_eq!(socket.message().await.get("view"), None);
    socket.send(r#"{"type":"unsubscribe","channel":"pets"}"#).await;
    let mut left = Vec::new();
    for _ in 0..3 {
        let message = socket.message().await;
        assert_eq!(message["type"], "unsubscribed");
        left.push(message["view"].as_str().unwrap_or_default().to_owned());
    }
    left.sort();
    let mut right = vec!["all-again".to_owned(), given, "names".to_owned()];
    right.sort();
    assert_eq!(left, right);
    socket.send(r#"{"type":"unsubscribe","channel":"pets"}"#).await;
    assert_eq!(socket.message().await["code"], "not_subscribed");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_view_has_a_good_name_once_on_a_socket() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?filter=owner=eq.1").await;
    let path = socket.message().await;
    assert_eq!((&path["type"], &path["view"]), (&json!("subscribed"), &Value::Null), "a path names one view");
    for (wish, answer) in [
        (json!({"view": "x"}), "subscribed"),
        (json!({"view": "x", "filter": "owner=eq.1"}), "already_subscribed"),
        (json!({}), "already_subscribed"),
        (json!({"filter": "owner=eq.1"}), "subscribed"),
        (json!({"filter": ["owner=eq.1"]}), "already_subscribed"),
        (json!({"view": ""}), "bad_message"),
        (json!({"view": "a b"}), "bad_message"),
        (json!({"view": "x".repeat(33)}), "bad_message"),
        (json!({"channel": "user/1", "view": "x"}), "bad_message"),
        (json!({"view": "bad", "filter": "colour=eq.1"}), "bad_filter"),
    ] {
        subscribe(&mut socket, wish.clone()).await;
        let message = socket.message().await;
        assert!(message["type"] == answer || message["code"] == answer, "{wish}: {message}");
    }
    // equal wishes have one name on every socket, so that sockets share the view
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut socket = server.socket("/ws").await;
        subscribe(&mut socket, json!({"filter": ["owner=eq.1", "id=gt.3"]})).await;
        names.push(socket.message().await["view"].clone());
        subscribe(&mut socket, json!({"filter": ["id=gt.3", "owner=eq.1"]})).await;
        assert_eq!(socket.message().await["code"], "already_subscribed");
    }
    assert!(names[0].is_string() && names[0] == names[1], "{names:?}");
    server.stop().await.unwrap();
}

/// A page comes back with all that it has, at once, and is not told that it is too fast.
#[tokio::test]
async fn two_thousand_views_of_a_channel_are_on_one_socket() {
    const VIEWS: usize = 2000;
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run(&format!("insert into pets select i, i, 'a' from generate_series(1, {VIEWS}) i")).await;
    // a process of its own: on one thread with it this client would take nothing while the server works for it
    let server = Process::serve(&db.url, 0, &[]).await;
    let mut socket = Socket::connect(server.address, "/ws?cuts=true", None).await.unwrap();
    let has_joined = |message: Value| match message["type"].as_str().unwrap() {
        "subscribed" => 1,
        "cut" => 0,
        _ => panic!("{message}"),
    };
    let mut joined = 0;
    for owner in 1..=VIEWS {
        subscribe(&mut socket, json!({"view": format!("v{owner}"), "filter": format!("owner=eq.{owner}")})).await;
        // as a browser does, which takes what has come while it asks: one that takes nothing for half a minute is gone
        while joined < VIEWS
            && let Some(message) = socket.message().now_or_never()
        {
            joined += has_joined(message);
        }
    }
    while joined < VIEWS {
        joined += has_joined(socket.message().await);
    }
    while socket.message().await["type"] != "cut" {}
    db.run("update pets set name = 'b' where id in (7, 1999)").await;
    let told = until_cut(&mut socket).await;
    assert_eq!(told.len(), 2, "{told:?}");
    for (view, id) in told {
        assert_eq!(view, format!("v{id}"));
    }
}

#[tokio::test]
async fn the_last_message_of_a_cut_says_so_on_each_channel() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create table visits (id int primary key); select rowcast.watch('visits')").await;
    let server = TestServer::start(&db.url);
    let (mut pets, before) = server.subscribed_at("/ws/pets").await;
    let mut ones = server.subscribed("/ws/pets?filter=owner=eq.1").await;
    let mut visits = server.subscribed("/ws/visits").await;
    db.run(
        "begin; insert into pets values (1, 1, 'a'), (2, 1, 'b'); insert into visits values (1);
         insert into pets values (3, 2, 'c'); insert into visits values (2); commit",
    )
    .await;
    let last = async |socket: &mut Socket, count| {
        let mut last = Vec::new();
        for _ in 0..count {
            let message = socket.any_message().await;
            if message["last"] == true {
                last.push(message["data"]["id"].as_i64().unwrap());
            }
        }
        last
    };
    assert_eq!(last(&mut pets, 3).await, [3]);
    assert_eq!(last(&mut ones, 2).await, [2]);
    assert_eq!(last(&mut visits, 2).await, [2]);
    db.run("insert into pets values (4, 1, 'd')").await;
    assert_eq!((last(&mut pets, 1).await, last(&mut ones, 1).await), (vec![4], vec![4]));
    // what was missed is one cut, from the place where the client was to where it is now
    let mut again = server.socket(&format!("/ws/pets?since={before}")).await;
    assert_eq!(last(&mut again, 4).await, [4]);
    assert_eq!(again.any_message().await["type"], "subscribed");
    server.stop().await.unwrap();
}

/// The end of a transaction of many parts is told where nothing of the channel is in the last of them.
#[tokio::test]
async fn a_channel_hears_of_an_end_that_lies_in_another_ones_rows() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create table visits (id int primary key, note text); select rowcast.watch('visits')").await;
    let server = TestServer::start_with(&db.url, &[("log-bytes", "16000000")]);
    let (mut pets, mut visits) = (server.subscribed("/ws/pets").await, server.subscribed("/ws/visits").await);
    db.run(
        "begin; insert into pets values (1, 1, 'a'); insert into visits select i, repeat('x', 500) from generate_series(1, 20000) i; commit",
    )
    .await;
    let pet = pets.any_message().await;
    assert_eq!((&pet["data"]["id"], &pet["last"]), (&json!(1), &Value::Null), "more of it may follow");
    let end = pets.any_message().await;
    assert_eq!((&end["type"], &end["channel"]), (&json!("cut"), &json!("pets")), "{end}");
    for id in 1..=20_000 {
        let visit = visits.any_message().await;
        assert_eq!((&visit["data"]["id"], visit["last"] == true), (&json!(id), id == 20_000));
    }
    // its cursor is a place like any other
    let cursor = end["cursor"].as_str().unwrap();
    let again = server.socket(&format!("/ws/pets?since={cursor}")).await.any_message().await;
    assert_eq!(
        (&again["type"], &again["recovered"], &again["replayed"]),
        (&json!("subscribed"), &json!(true), &json!(0))
    );
    db.run("insert into pets values (2, 1, 'a')").await;
    let next = pets.any_message().await;
    assert_eq!((&next["data"]["id"], &next["last"]), (&json!(2), &json!(true)));
    server.stop().await.unwrap();
}

/// Several views of a table that is no longer watched end at once, each by its name, and what else the socket has goes on.
#[tokio::test(flavor = "multi_thread")]
async fn each_view_of_a_channel_that_ends_is_told_so_and_the_others_go_on() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("create table visits (id int primary key, pet int); select rowcast.watch('visits')").await;
    let server = TestServer::start(&db.url);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = server.socket("/ws").await;
        subscribe(&mut socket, json!({})).await;
        for view in ["one", "two", "three"] {
            subscribe(&mut socket, json!({"channel": "visits", "view": view, "filter": "pet=gt.0"})).await;
        }
        for _ in 0..4 {
            assert_eq!(socket.message().await["type"], "subscribed");
        }
        sockets.push(socket);
    }
    db.run("select rowcast.unwatch('visits')").await;
    db.run("insert into pets values (1, 1, 'a')").await;
    for socket in &mut sockets {
        let (mut ended, mut pets) = (Vec::new(), 0);
        while ended.len() < 3 || pets < 1 {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "error" => {
                    assert_eq!((&message["code"], &message["channel"]), (&json!("unknown_channel"), &json!("visits")));
                    ended.push(message["view"].as_str().unwrap().to_owned());
                }
                "realtime_update" => pets += 1,
                _ => panic!("{message}"),
            }
        }
        ended.sort();
        assert_eq!(ended, ["one", "three", "two"]);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_may_leave_all_that_it_has_at_once() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start_with(&db.url, &[("commands-per-second", "5"), ("max-subscriptions", "400")]);
    let mut socket = server.socket("/ws").await;
    for kind in ["subscribe", "unsubscribe"] {
        for number in 0..400 {
            let command = json!({"type": kind, "channel": "pets", "view": format!("v{number}")});
            socket.send(&command.to_string()).await;
        }
        for _ in 0..400 {
            assert_eq!(socket.message().await["type"], format!("{kind}d"));
        }
    }
    // beside that, as many others as ever
    socket.send(r#"{"type":"ping","ref":1}"#).await;
    assert_eq!(socket.message().await["type"], "pong");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_in_the_place_of_the_last_change_ends_the_cut() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("select rowcast.configure('row_bytes', '4 MB')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets?filter=owner=eq.1").await;
    db.run("begin; insert into pets values (1, 1, 'a'); insert into pets values (2, 1, repeat('x', 5000000)); commit")
        .await;
    let first = socket.any_message().await;
    assert_eq!((&first["data"]["id"], &first["last"]), (&json!(1), &Value::Null));
    let gap = socket.any_message().await;
    assert_eq!((&gap["type"], &gap["last"]), (&json!("gap"), &json!(true)), "{gap}");
    server.stop().await.unwrap();
}
