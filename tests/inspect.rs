//! What a person can ask of a running server: how the database is, what became of a change.

use serde_json::{Value, json};

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const PETS: &str = "create table pets (pet_id int primary key, owner int, name text, chip text);
    select rowcast.watch('pets', user_rule => 'owner', exclude => '{chip}');
    create table drawers (id int primary key)";

async fn explained(server: &TestServer, id: &Value) -> Value {
    loop {
        let (status, text) = server.get(&format!("/explain/{id}")).await;
        if status == 200 {
            return serde_json::from_str(&text).unwrap();
        }
        assert!(status == 503 && text.contains("a moment ago"), "{status}: {text}");
    }
}

#[tokio::test]
async fn the_database_says_how_it_is_to_a_relay_with_the_least_rights() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let role = format!("inspector_{}", std::process::id());
    db.run(&format!("create role {role} login password 'secret' in role rowcast_relay")).await;
    let server = TestServer::start(&db.url_of(&role));
    let told: Value = loop {
        let (status, text) = server.get("/websocket/database").await;
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200, "{told}");
        if !told["nodes"].as_array().unwrap().is_empty() {
            break told;
        }
    };
    assert_eq!(told["watched"][0]["table"], "public.pets");
    assert_eq!((&told["watched"][0]["state"], &told["watched"][0]["exclude"]), (&json!("live"), &json!(["chip"])));
    assert_eq!(told["unwatched"][0]["table"], "public.drawers");
    assert_eq!(told["unwatched"][0]["remedy"], "select rowcast.watch('public.drawers');");
    // it is read again although somebody asks all the time
    db.run("select rowcast.watch('drawers')").await;
    let again = async {
        loop {
            let told: Value = serde_json::from_str(&server.get("/websocket/database").await.1).unwrap();
            if told["unwatched"] == json!([]) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.expect("news within ten seconds");
    let findings: Vec<_> = told["health"].as_array().unwrap().iter().map(|finding| &finding["finding"]).collect();
    assert!(findings.contains(&&json!("outbox")), "{findings:?}");
    assert_eq!(told["nodes"][0]["address"], server.address.to_string());
    assert_eq!(told["nodes"][0]["version"], env!("CARGO_PKG_VERSION"));
    server.stop().await.unwrap();
    db.run(&format!("drop role {role}")).await;
}

#[tokio::test]
async fn the_life_of_a_change_is_told_and_why_there_is_none() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut all = server.subscribed("/ws/pets").await;
    let _seven = server.subscribed("/ws/pets?filter=owner=eq.7&columns=name").await;
    let _eight = server.subscribed("/ws/pets?filter=owner=eq.8").await;
    let mut owner = server.subscribed("/ws/user/7").await;
    db.run("insert into pets values (1, 7, 'Luna', 'secret')").await;
    let id = all.message().await["id"].clone();
    owner.message().await;

    let told = explained(&server, &id).await;
    assert_eq!((&told["id"], &told["passed"]), (&id, &json!(true)));
    assert_eq!(told["captured"]["channel"], "pets");
    assert_eq!((&told["captured"]["action"], &told["captured"]["users"]), (&json!("created"), &json!(["7"])));
    let views: Vec<(&str, &Value)> = told["views"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| (view["watches"].as_str().unwrap(), &view["told"]))
        .collect();
    for (watches, outcome) in [
        ("pets", json!("created")),
        ("pets?filter=owner=eq.7&columns=name", json!("created")),
        ("pets?filter=owner=eq.8", Value::Null),
        ("user/7", json!("pet_created")),
    ] {
        assert!(views.contains(&(watches, &outcome)), "{watches}: {outcome} in {views:?}");
    }
    assert!(!told.to_string().contains("Luna") && !told.to_string().contains("secret"), "no row is in it");

    db.run("begin; insert into pets values (2, 7, 'Rex', null); rollback; select rowcast.create_channel('news')").await;
    let last: i64 = db.text("select last_value from rowcast.outbox_id").await.parse().unwrap();
    let silent = explained(&server, &json!(last)).await;
    assert!(silent["silent"].as_str().is_some_and(|why| why.contains("a channel")), "{silent}");
    let absent = explained(&server, &json!(last - 1)).await;
    assert!(absent["absent"].as_str().is_some_and(|why| why.contains("rolled back")), "{absent}");
    let absent = explained(&server, &json!(last + 5)).await;
    assert!(absent["absent"].as_str().is_some_and(|why| why.contains(&last.to_string())), "{absent}");
    assert_eq!(server.get("/explain/nonsense").await.0, 400);
}
