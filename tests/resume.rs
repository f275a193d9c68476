//! Resume: nothing lost and nothing twice for a client that comes back, wherever it left off and whatever happened
//! meanwhile.

use std::net::SocketAddr;

use rowcast::demo::cluster::Cluster;
use rowcast::source::pool::Database;
use rowcast::source::retention;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::support::postgres::{TestDatabase, connect};
use super::support::server::TestServer;
use super::support::socket::Socket;

const PETS: &str = "create table pets (pet_id int primary key, user_id int, name text);
    select rowcast.watch('pets', user_rule => 'user_id')";

/// Half a day passes, so that the segment that takes new changes has done so for long enough.
const OPENED_LONG_AGO: &str = "update rowcast.segment set opened_at = opened_at - interval '13 hours'";
/// A day passes.
const CLOSED_LONG_AGO: &str = "update rowcast.segment set closed_at = closed_at - interval '25 hours'";

/// What comes before `subscribed`, and `subscribed`.
async fn until_subscribed(socket: &mut Socket) -> (Vec<Value>, Value) {
    let mut before = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "subscribed" {
            return (before, message);
        }
        before.push(message);
    }
}

fn pet_ids(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["data"]["pet_id"].as_i64().unwrap_or_else(|| panic!("{message}"))).collect()
}

fn cursor(message: &Value) -> String {
    message["cursor"].as_str().expect("a cursor").to_owned()
}

async fn resumed(server: &TestServer, cursor: &str) -> (Socket, Vec<Value>, Value) {
    let mut socket = server.socket(&format!("/ws/pets?since={cursor}")).await;
    let (missed, subscribed) = until_subscribed(&mut socket).await;
    (socket, missed, subscribed)
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_and_then_the_stream() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 5, 'Luna')").await;
    let left = cursor(&socket.message().await);
    db.run("insert into pets values (2, 5, 'Nala'); insert into pets values (3, 6, 'Milo')").await;
    // what is not read yet when a client comes back is no replay, it comes as the stream
    assert_eq!(pet_ids(&[socket.message().await, socket.message().await]), [2, 3]);
    drop(socket);
    let (mut socket, missed, subscribed) = resumed(&server, &left).await;
    assert_eq!(pet_ids(&missed), [2, 3]);
    assert_eq!((&subscribed["recovered"], &subscribed["replayed"]), (&true.into(), &2.into()));
    db.run("insert into pets values (4, 5, 'Kira')").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 4);
    // nothing was missed: the cursor of `subscribed` is as good as that of a change
    let (_, missed, subscribed) = resumed(&server, &cursor(&subscribed)).await;
    assert_eq!((pet_ids(&missed), &subscribed["recovered"]), (vec![4], &true.into()));
    // a user's notifications, and one channel among several on a socket
    let mut user = server.socket(&format!("/ws/user/5?since={left}")).await;
    let (told, _) = until_subscribed(&mut user).await;
    assert_eq!(pet_ids(&told), [2, 4]);
    let mut many = server.socket("/ws").await;
    many.send(&format!(r#"{{"type":"subscribe","channel":"pets","since":"{left}","ref":7}}"#)).await;
    let (missed, subscribed) = until_subscribed(&mut many).await;
    assert_eq!((pet_ids(&missed), &subscribed["ref"]), (vec![2, 3, 4], &7.into()));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_place_inside_a_cut_is_kept_to_the_change() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets select i, 5, 'x' from generate_series(1, 5000) i").await;
    let mut cursors = Vec::new();
    for _ in 0..5000 {
        cursors.push(cursor(&socket.message().await));
    }
    db.run("insert into pets values (6000, 5, 'last')").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 6000);
    let wanted: Vec<i64> = (1..=5000).chain([6000]).collect();
    for at in [0, 1, 998, 999, 1000, 2500, 4998, 4999] {
        let (_, missed, _) = resumed(&server, &cursors[at]).await;
        assert_eq!(pet_ids(&missed), wanted[at + 1..], "from memory, after change {at}");
        // the cursors of the replay are as good as those of the stream
        if let Some(middle) = missed.get(missed.len() / 2) {
            let (_, rest, _) = resumed(&server, &cursor(middle)).await;
            assert_eq!(rest.len(), missed.len() - missed.len() / 2 - 1);
        }
    }
    server.stop().await.unwrap();
    // memory that holds nothing: everything comes from the outbox
    let server = TestServer::start_with(&db.url, &[("history-bytes", "65536")]);
    for at in [0, 998, 999, 1000, 4998, 4999] {
        let (_, missed, subscribed) = resumed(&server, &cursors[at]).await;
        assert_eq!(pet_ids(&missed), wanted[at + 1..], "from the outbox, after change {at}");
        assert_eq!(subscribed["replayed"], missed.len());
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_cursor_is_good_on_every_node_and_after_a_restart() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let (one, other) = (TestServer::start(&db.url), TestServer::start(&db.url));
    let mut socket = one.subscribed("/ws/pets").await;
    let mut place: Option<String> = None;
    for pet in 1..40 {
        db.run(&format!("insert into pets values ({pet}, 5, 'x')")).await;
        // the other node may not have read it yet: it must neither refuse the place nor send the change again
        let message = match place.take() {
            Some(place) => {
                let (mut socket, missed, _) = resumed(if pet % 2 == 0 { &other } else { &one }, &place).await;
                match missed.first() {
                    Some(message) => message.clone(),
                    None => socket.message().await,
                }
            }
            None => socket.message().await,
        };
        assert_eq!(message["data"]["pet_id"], pet);
        place = Some(cursor(&message));
    }
    one.stop().await.unwrap();
    other.stop().await.unwrap();
    db.run("insert into pets values (50, 5, 'while nobody was there')").await;
    let again = TestServer::start(&db.url);
    let (_, missed, _) = resumed(&again, &place.unwrap()).await;
    assert_eq!(pet_ids(&missed), [50]);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_cursor_that_cannot_be_honoured_is_answered_with_a_gap() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 5, 'Luna')").await;
    let good = cursor(&socket.message().await);
    let elsewhere = TestDatabase::new().await;
    elsewhere.run(PETS).await;
    let foreign = TestServer::start(&elsewhere.url);
    let of_another = cursor(&until_subscribed(&mut foreign.socket("/ws/pets").await).await.1);
    let parsed = rowcast::cursor::Cursor::parse(&good).unwrap();
    let future = rowcast::cursor::Snapshot::parse(&format!("{0}:{0}:", parsed.seen.xmax() + 1_000_000)).unwrap();
    let key: Vec<u8> = db.client.query_one("select cursor_key from rowcast.installation", &[]).await.unwrap().get(0);
    let seal = rowcast::seal::Seal::new(&key);
    let from_the_future = seal.put(&rowcast::cursor::Cursor { seen: future, inside: None, ..parsed.clone() }.token());
    let of_no_life = seal.put(&rowcast::cursor::Cursor { incarnation: 99, ..parsed }.token());
    for (token, reason) in [
        ("", "bad_cursor"),
        ("nonsense%F0%9F%90%88", "bad_cursor"),
        (&good[..good.len() - 2], "bad_cursor"),
        (&of_another, "bad_cursor"),
        (&from_the_future, "bad_cursor"),
        (&of_no_life, "failover"),
    ] {
        let (mut socket, gap, subscribed) = resumed(&server, token).await;
        assert_eq!((&gap[0]["type"], &gap[0]["reason"]), (&"gap".into(), &reason.into()), "{token}: {gap:?}");
        assert_eq!((gap.len(), &subscribed["recovered"]), (1, &false.into()));
        let pet = db.text("select max(pet_id) + 1 from pets").await;
        db.run(&format!("insert into pets values ({pet}, 5, 'live')")).await;
        assert_eq!(socket.message().await["data"]["pet_id"].to_string(), pet, "the stream goes on from now");
    }
    for path in ["/ws?since=x", "/ws/pets?snapshot=maybe", "/ws/pets?sinse=x", "/ws/user/1?snapshot=true"] {
        assert_eq!(server.get(path).await.0, 400, "{path}");
    }
    foreign.stop().await.unwrap();
    server.stop().await.unwrap();
}

/// A way to a database, and from some moment on to another one, as through a pooler, or by a name of the network. A connection
/// stays with the database that it was opened to.
struct Route {
    address: SocketAddr,
    leads_to: watch::Sender<(String, String)>,
    accepting: JoinHandle<()>,
}

impl Route {
    async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leads_to, now) = watch::channel(place_of(url));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (there, name) = now.borrow().clone();
                tokio::spawn(async move {
                    // whichever end closes, or is not there
                    let _ = pass(client, &there, &name).await;
                });
            }
        });
        Self { address, leads_to, accepting }
    }

    /// Connections that are opened from now on lead to this database.
    fn lead_to(&self, url: &str) {
        self.leads_to.send_replace(place_of(url));
    }

    /// A database's URL, by this way.
    fn url(&self, url: &str) -> String {
        url.replace(&place_of(url).0, &self.address.to_string())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Host and port of a URL, and the name of its database.
fn place_of(url: &str) -> (String, String) {
    let (there, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    (there.to_owned(), name.to_owned())
}

/// Passes a connection on. Its first message names the database, which has this name there.
async fn pass(mut client: TcpStream, there: &str, name: &str) -> std::io::Result<()> {
    let mut postgres = TcpStream::connect(there).await?;
    let length = client.read_u32().await? as usize;
    let mut first = vec![0; length - 4];
    client.read_exact(&mut first).await?;
    let key = b"database\0";
    // one that cancels a statement names none
    if let Some(at) = first.windows(key.len()).position(|part| part == key) {
        let begin = at + key.len();
        let end = begin + first[begin..].iter().position(|byte| *byte == 0).unwrap();
        first = [&first[..begin], name.as_bytes(), &first[end..]].concat();
    }
    postgres.write_u32(first.len() as u32 + 4).await?;
    postgres.write_all(&first).await?;
    tokio::io::copy_bidirectional(&mut client, &mut postgres).await?;
    Ok(())
}

/// The relay keeps its connection, and each replay has one of its own. What a standby has is behind, and what another server has
/// under the same numbers of transactions is something else.
#[tokio::test]
async fn a_resume_that_is_read_on_another_server_does_not_seem_complete() {
    let folder = |what: &str| std::env::temp_dir().join(format!("rowcast-{what}-{}", std::process::id()));
    let start = async |what: &str| Cluster::start_with(&folder(what), &["fsync=off"]).await;
    let url = |cluster: &Cluster| cluster.url("postgres", "postgres");
    let with_pets = async |cluster: &Cluster| {
        let mut client = connect(&url(cluster)).await;
        rowcast::source::install::migrate(&mut client).await.unwrap();
        // a migration leaves its session with a search path of its own
        connect(&url(cluster)).await.batch_execute(PETS).await.unwrap();
    };
    let primary = match start("primary").await {
        Ok(primary) => primary,
        Err(error) => {
            assert!(!TestDatabase::is_private(), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    with_pets(&primary).await;
    // a standby that gets nothing of what comes
    primary.stop().await;
    std::fs::create_dir_all(folder("standby")).unwrap();
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(folder("primary").join("data")).arg(folder("standby"));
    assert!(copy.status().unwrap().success());
    std::fs::write(folder("standby").join("data/standby.signal"), "").unwrap();
    let primary = start("primary").await.unwrap();
    let (standby, another) = (start("standby").await.unwrap(), start("another").await.unwrap());
    with_pets(&another).await;

    let route = Route::to(&url(&primary)).await;
    // memory that holds nothing of a large cut: everything comes from the outbox
    let server = TestServer::start_with(&route.url(&url(&primary)), &[("history-bytes", "65536")]);
    let mut socket = server.subscribed("/ws/pets").await;
    let writer = connect(&url(&primary)).await;
    writer.batch_execute("insert into pets values (1, 5, 'Luna')").await.unwrap();
    let left = cursor(&socket.message().await);
    let many = "insert into pets select i, 5, repeat('x', 100) from generate_series(2, 2000) i";
    writer.batch_execute(many).await.unwrap();
    for pet in 2..=2000 {
        assert_eq!(socket.message().await["data"]["pet_id"], pet);
    }

    route.lead_to(&url(&standby));
    let path = format!("/ws/pets?since={left}");
    assert_eq!(server.socket(&path).await.next_text().await, None, "a standby may be about to have what it has not");
    assert_eq!(server.socket(&path).await.close_code().await, 4408, "the client comes back with its cursor");
    let asked = server.socket("/ws/pets?snapshot=true").await.next_text().await;
    assert_eq!(asked, None, "nor are there no rows for good");

    route.lead_to(&url(&another));
    let (_, gap, subscribed) = resumed(&server, &left).await;
    assert_eq!(subscribed["recovered"], false, "{gap:?}");
    assert_eq!((gap.len(), &gap[0]["type"], &gap[0]["reason"]), (1, &"gap".into(), &"failover".into()), "{gap:?}");

    route.lead_to(&url(&primary));
    let (_, missed, subscribed) = resumed(&server, &left).await;
    assert_eq!(pet_ids(&missed), (2..=2000).collect::<Vec<i64>>());
    assert_eq!(subscribed["recovered"], true);
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("rowcast_resumes_total{from=\"outbox\"} 1"), "{metrics}");
    server.stop().await.unwrap();
    for (what, cluster) in [("primary", primary), ("standby", standby), ("another", another)] {
        cluster.stop().await;
        std::fs::remove_dir_all(folder(what)).unwrap();
    }
}

/// A pooler whose name leads to another database of the same server. Both have the incarnations of that server, and the same numbers of
/// transactions.
#[tokio::test]
async fn a_resume_that_is_read_in_another_database_of_the_server_does_not_seem_complete() {
    let (db, another) = (TestDatabase::new().await, TestDatabase::new().await);
    for each in [&db, &another] {
        each.run(PETS).await;
        // a server was there, and has noted the incarnation
        let server = TestServer::start(&each.url);
        server.subscribed("/ws/pets").await;
        server.stop().await.unwrap();
    }
    let route = Route::to(&db.url).await;
    let server = TestServer::start_with(&route.url(&db.url), &[("history-bytes", "65536")]);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 5, 'Luna')").await;
    let left = cursor(&socket.message().await);
    another.run("insert into pets values (3000, 6, 'of another database')").await;
    db.run("insert into pets select i, 5, repeat('x', 100) from generate_series(2, 2000) i").await;
    for pet in 2..=2000 {
        assert_eq!(socket.message().await["data"]["pet_id"], pet);
    }
    route.lead_to(&another.url);
    let (_, told, subscribed) = resumed(&server, &left).await;
    assert_eq!(subscribed["recovered"], false, "{told:?}");
    assert_eq!((told.len(), &told[0]["type"]), (1, &"gap".into()), "{told:?}");
    // nor are rows of it told, all of them or a page
    let (status, body) = server.get("/rows/pets").await;
    assert_eq!((status, body.contains("another")), (503, false), "{body}");
    assert_eq!(server.socket("/ws/pets?snapshot=true").await.next_text().await, None);
    route.lead_to(&db.url);
    let (status, body) = server.get("/rows/pets").await;
    assert_eq!((status, body.contains("another"), body.contains("Luna")), (200, false, true));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_pruned_is_a_gap_and_what_was_kept_is_not() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 5, 'Luna')").await;
    let old = cursor(&socket.message().await);
    db.run("insert into pets values (2, 5, 'Nala')").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 2);
    // hours pass: the next segment is opened, the first one closed, and at last emptied
    let open = db.another_client().await;
    db.run(OPENED_LONG_AGO).await;
    db.pruned("segment 1 takes new changes").await;
    open.batch_execute("begin; insert into pets values (3, 5, 'Milo')").await.unwrap();
    db.pruned("segment 0 is closed").await;
    db.run("insert into pets values (4, 5, 'Kira')").await;
    let kept = cursor(&socket.message().await);
    db.run(CLOSED_LONG_AGO).await;
    db.pruned("segment 0 is emptied").await;
    open.batch_execute("commit").await.unwrap();
    assert_eq!(socket.message().await["data"]["pet_id"], 3, "a client that is connected notices nothing");
    // this process still has it in memory; one that starts now has neither
    let (_, missed, _) = resumed(&server, &old).await;
    assert_eq!(pet_ids(&missed), [2, 3, 4], "one cut, by id");
    server.stop().await.unwrap();
    let server = TestServer::start(&db.url);
    let (_, gap, _) = resumed(&server, &old).await;
    assert_eq!((&gap[0]["type"], &gap[0]["reason"]), (&"gap".into(), &"retention".into()));
    let (_, missed, subscribed) = resumed(&server, &kept).await;
    assert_eq!((pet_ids(&missed), &subscribed["recovered"]), (vec![3], &true.into()));
    server.stop().await.unwrap();
}

/// A machine's clock was 30 days ahead for a minute, in which a segment was opened and one was closed.
#[tokio::test]
async fn a_clock_that_was_ahead_costs_no_retention() {
    let db = TestDatabase::new().await;
    db.run(
        "select rowcast.write_to(1);
         update rowcast.segment set opened_at = clock_timestamp() + interval '30 days' where number = 1;
         update rowcast.segment set closed_at = clock_timestamp() + interval '30 days', closed = pg_current_snapshot() where number = 0;
         insert into rowcast.node (node, version, address, role, started_at, seen_at, sockets, lag_ms)
           values ('ghost', '0.1.0', '127.0.0.1:1', 'relay', now(), clock_timestamp() + interval '30 days', 0, 0)",
    )
    .await;
    db.pruned("nothing to do").await;
    assert_eq!(db.text("select last_value from rowcast.capture_state").await, "1");
    let ahead = "select count(*) from rowcast.segment where greatest(opened_at, closed_at) > clock_timestamp()";
    assert_eq!(db.text(ahead).await, "0");
    // also where a segment was closed alone
    db.run("update rowcast.segment set closed_at = clock_timestamp() + interval '30 days' where number = 0").await;
    db.pruned("nothing to do").await;
    assert_eq!(db.text(ahead).await, "0");
    // retention goes on from there
    db.run(OPENED_LONG_AGO).await;
    db.pruned("segment 2 takes new changes").await;
    db.run(CLOSED_LONG_AGO).await;
    db.pruned("segment 0 is emptied").await;
    let server = TestServer::start(&db.url);
    while db.text("select count(*) from rowcast.node where node = 'ghost'").await != "0" {}
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_segment_that_is_in_use_is_left_and_never_waited_for() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("insert into pets values (1, 5, 'Luna')").await;
    let writer = db.another_client().await;
    writer.batch_execute("begin; insert into pets values (2, 5, 'open')").await.unwrap();
    db.run(OPENED_LONG_AGO).await;
    assert_eq!(db.text("rowcast.prune()").await, "segment 1 takes new changes");
    assert_eq!(db.text("rowcast.prune()").await, "segment 0 is in use", "its writer has not ended");
    writer.batch_execute("commit").await.unwrap();
    assert_eq!(db.text("rowcast.prune()").await, "segment 0 is closed");
    db.run(CLOSED_LONG_AGO).await;
    let reader = db.another_client().await;
    reader.batch_execute("begin; select * from rowcast.outbox").await.unwrap();
    assert_eq!(db.text("rowcast.prune()").await, "segment 0 is in use", "somebody reads it");
    reader.batch_execute("commit").await.unwrap();
    // a session that had not seen the turn of the segments adds a row late: it must not be thrown away
    db.run("insert into rowcast.outbox_0 (channel, op, new) values (1, 'I', '{}')").await;
    assert_eq!(db.text("rowcast.prune()").await, "nothing to do");
    assert_eq!(db.text("select count(*) from rowcast.outbox_0 where op = 'I'").await, "3");
    db.run(CLOSED_LONG_AGO).await;
    assert!(db.text("rowcast.prune()").await.contains("segment 0 is emptied"));
    // a new migrate leaves new changes where they belong
    rowcast::source::install::migrate(&mut db.another_client().await).await.unwrap();
    db.run("insert into pets values (3, 5, 'Milo')").await;
    assert_eq!(
        db.text("select tableoid::regclass from rowcast.outbox order by id desc limit 1").await,
        "rowcast.outbox_1"
    );
    // too large counts as too old
    db.run("select rowcast.configure('outbox_size', '64 MB')").await;
    let noise = "(select string_agg(md5(random()::text || i || n), '') from generate_series(1, 30) n)";
    db.run(&format!("insert into pets select i, 5, {noise} from generate_series(10, 30000) i")).await;
    assert_eq!(db.text("rowcast.prune()").await, "segment 2 takes new changes");
}

#[tokio::test]
async fn a_snapshot_and_its_stream_have_no_seam() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, user_id int, name text, chip text, seen_at timestamptz)").await;
    db.run("select rowcast.watch('pets', exclude => '{chip}')").await;
    db.run("insert into pets select i, 5, 'x', 'secret', '2024-01-15 10:30:00.5+02' from generate_series(1, 3000) i")
        .await;
    let server = TestServer::start(&db.url);
    let writing = db.another_client().await;
    let writer = tokio::spawn(async move {
        for round in 0..300 {
            let pet = 1 + round * 7 % 3000;
            let sql = match round % 3 {
                0 => format!("update pets set name = name || 'y' where pet_id = {pet}"),
                1 => format!("delete from pets where pet_id = {pet}"),
                _ => format!("insert into pets values ({}, 6, 'new', 'secret', now())", 10_000 + round),
            };
            writing.batch_execute(&sql).await.unwrap();
        }
    });
    let mut copies = Vec::new();
    for _ in 0..5 {
        let mut socket = server.socket("/ws/pets?snapshot=true").await;
        let mut copy = std::collections::BTreeMap::new();
        let mut place = String::new();
        loop {
            let message = socket.message().await;
            match message["type"].as_str().unwrap() {
                "snapshot" => {
                    for row in message["rows"].as_array().unwrap() {
                        assert!(copy.insert(row["pet_id"].as_i64().unwrap(), row.clone()).is_none(), "a row twice");
                    }
                    assert_eq!(message["last"] == true, message.get("cursor").is_some());
                }
                "realtime_update" => apply(&mut copy, &message),
                "subscribed" => break assert_eq!(message["recovered"], false),
                other => panic!("{other}"),
            }
            if let Some(cursor) = message["cursor"].as_str() {
                place = cursor.to_owned();
            }
        }
        copies.push((socket, copy, place));
    }
    writer.await.unwrap();
    db.run("insert into pets values (99999, 1, 'the end')").await;
    let rows =
        db.client.query("select row_to_json(r)::text from (select pet_id, user_id, name, seen_at from pets) r", &[]);
    db.run("set timezone = 'UTC'").await;
    let rows = rows.await.unwrap();
    let table: std::collections::BTreeMap<i64, Value> = rows
        .iter()
        .map(|row| serde_json::from_str::<Value>(row.get(0)).unwrap())
        .map(|row| (row["pet_id"].as_i64().unwrap(), row))
        .collect();
    for (mut socket, mut copy, _) in copies {
        while !copy.contains_key(&99999) {
            apply(&mut copy, &socket.message().await);
        }
        assert_eq!(copy, table);
    }
    server.stop().await.unwrap();
}

fn apply(copy: &mut std::collections::BTreeMap<i64, Value>, message: &Value) {
    let id = message["data"]["pet_id"].as_i64().unwrap();
    match message["action"].as_str().unwrap() {
        "created" => assert!(copy.insert(id, message["data"].clone()).is_none(), "{message}"),
        "updated" => assert!(copy.insert(id, message["data"].clone()).is_some(), "{message}"),
        "deleted" => assert!(copy.remove(&id).is_some(), "{message}"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_snapshot_has_the_rows_whose_changes_are_captured_and_no_others() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key); create table strays (found text) inherits (pets);
         create table parts (pet_id int) partition by list (pet_id);
         create table parts_1 partition of parts for values in (1);
         insert into pets values (1); insert into strays values (2); insert into parts values (1);
         select rowcast.watch('pets'), rowcast.watch('parts')",
    )
    .await;
    let server = TestServer::start(&db.url);
    for channel in ["pets", "parts"] {
        let mut socket = server.socket(&format!("/ws/{channel}?snapshot=true")).await;
        let (messages, _) = until_subscribed(&mut socket).await;
        assert_eq!(messages[0]["rows"], serde_json::json!([{"pet_id": 1}]), "{channel}");
    }
    // and where the relay may not read them, it says so and goes on
    db.run("revoke select on pets from rowcast_relay").await;
    server.stop().await.unwrap();
    let role = format!("relay_{}", std::process::id());
    db.run(&format!("create role {role} login password 'secret' in role rowcast_relay")).await;
    let server = TestServer::start(&db.url_of(&role));
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    let (messages, _) = until_subscribed(&mut socket).await;
    assert_eq!((&messages[0]["type"], &messages[0]["code"]), (&"error".into(), &"no_snapshot".into()));
    db.run("insert into pets values (3)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 3);
    server.stop().await.unwrap();
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn since_and_snapshot_together_are_whatever_works() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("insert into pets values (1, 5, 'Luna'); select rowcast.create_channel('news')").await;
    let server = TestServer::start(&db.url);
    let mut socket = server.socket("/ws/pets?snapshot=true&since=nonsense").await;
    let (messages, subscribed) = until_subscribed(&mut socket).await;
    let types: Vec<&str> = messages.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["gap", "snapshot", "snapshot"]);
    let mut socket = server.socket(&format!("/ws/pets?snapshot=true&since={}", cursor(&subscribed))).await;
    let (messages, subscribed) = until_subscribed(&mut socket).await;
    assert_eq!((messages.len(), &subscribed["recovered"]), (0, &true.into()));
    // a channel without a table has an empty snapshot
    let mut socket = server.socket("/ws/news?snapshot=true").await;
    let (messages, _) = until_subscribed(&mut socket).await;
    assert_eq!((messages.len(), &messages[0]["rows"]), (1, &Value::Array(vec![])));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_storm_of_reconnects_asks_the_database_nothing() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    let server = TestServer::start(&db.url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (0, 5, 'Luna')").await;
    let left = cursor(&socket.message().await);
    db.run("insert into pets select i, 5, 'x' from generate_series(1, 100) i").await;
    server.stop().await.unwrap();
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let replays = "select count(*) from pg_stat_activity where application_name like 'rowcast replay%' and datname = current_database()";
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (address, path) = (server.address, format!("/ws/pets?since={left}"));
        storm.spawn(async move {
            let mut socket = Socket::connect(address, &path, None).await.unwrap();
            let (missed, _) = until_subscribed(&mut socket).await;
            assert_eq!(pet_ids(&missed), (1..=100).collect::<Vec<i64>>());
            socket
        });
    }
    let mut sockets = Vec::new();
    while let Some(socket) = storm.join_next().await {
        sockets.push(socket.unwrap());
        assert_eq!(db.text(replays).await, "0", "memory was filled at the start");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn one_row_has_one_story_also_where_the_trigger_told_it_otherwise() {
    let db = TestDatabase::new().await;
    db.run(
        "create table visits (k int primary key, v int);
         create function again() returns trigger language plpgsql as $$
           begin if new.v < 100 then update visits set v = v + 100 where k = new.k; end if; return null; end $$;
         create trigger \"!!again\" after insert or update on visits for each row execute function again();
         create table parts (k int, p text, v int, primary key (k, p)) partition by list (p);
         create table parts_a partition of parts for values in ('a');
         create table parts_b (v int, p text not null, k int not null);
         alter table parts attach partition parts_b for values in ('b');
         create table moves (k int primary key, v int) partition by range (k);
         create table moves_1 partition of moves for values from (0) to (10);
         create table moves_2 partition of moves for values from (10) to (20);
         select rowcast.watch('visits'), rowcast.watch('parts'), rowcast.watch('moves')",
    )
    .await;
    let server = TestServer::start(&db.url);
    let mut visits = server.subscribed("/ws/visits").await;
    db.run("insert into visits values (1, 0); update visits set v = 5").await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let message = visits.message().await;
        told.push(format!("{} {}", message["action"].as_str().unwrap(), message["data"]["v"]));
    }
    assert_eq!(told, ["created 0", "updated 100", "updated 5", "updated 105"]);
    let mut parts = server.subscribed("/ws/parts").await;
    db.run("insert into parts values (1, 'a', 1), (2, 'a', 2); update parts set p = 'b'").await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let message = parts.message().await;
        told.push(format!("{} {} {}", message["action"].as_str().unwrap(), message["data"]["k"], message["old"]));
    }
    assert_eq!(
        told,
        ["created 1 null", "created 2 null", r#"updated 1 {"k":1,"p":"a"}"#, r#"updated 2 {"k":2,"p":"a"}"#]
    );
    // where the key is all in the column by which it moves, nothing says that it is the same row
    let mut moves = server.subscribed("/ws/moves").await;
    db.run("insert into moves values (1, 1); update moves set k = 11").await;
    for action in ["created", "deleted", "created"] {
        assert_eq!(moves.message().await["action"], action);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_move_between_partitions_is_one_change_wherever_a_part_of_its_cut_ends() {
    let db = TestDatabase::new().await;
    db.run(
        "create table parts (pet_id int, p text, primary key (pet_id, p)) partition by list (p);
         create table parts_a partition of parts for values in ('a');
         create table rooms (room_id int);
         select rowcast.watch('parts', channel => 'pets'), rowcast.watch('rooms')",
    )
    .await;
    // two writers at once: between the halves of each move lies a row of the other one
    let other = db.another_client().await;
    let of = "select c.id from rowcast.channel c where c.name =";
    db.run("begin").await;
    other.batch_execute("begin").await.unwrap();
    db.run(&format!(
        "insert into rowcast.outbox_0 (id, channel, op, old) select 1000 + i * 4, ({of} 'pets'), 'D', json_build_object('pet_id', i, 'p', 'a') from generate_series(1, 5000) i;
         insert into rowcast.outbox_0 (id, channel, op, new) select 1002 + i * 4, ({of} 'pets'), 'I', json_build_object('pet_id', i, 'p', 'b') from generate_series(1, 5000) i"
    ))
    .await;
    let sql = format!(
        "insert into rowcast.outbox_0 (id, channel, op, new) select 1001 + i * 4, ({of} 'rooms'), 'I', '{{}}' from generate_series(1, 5000) i"
    );
    other.batch_execute(&sql).await.unwrap();
    let server = TestServer::start(&db.url);
    let mut live = server.subscribed("/ws/pets").await;
    let (_, _, subscribed) = resumed(&server, "").await;
    other.batch_execute("commit").await.unwrap();
    db.run("commit").await;
    let mut heard = Vec::new();
    for _ in 0..5000 {
        heard.push(live.message().await);
    }
    let (_, from_memory, _) = resumed(&server, &cursor(&subscribed)).await;
    server.stop().await.unwrap();
    let again = TestServer::start(&db.url);
    let (_, from_what_was_read_at_the_start, _) = resumed(&again, &cursor(&subscribed)).await;
    again.stop().await.unwrap();
    let small = TestServer::start_with(&db.url, &[("history-bytes", "65536")]);
    let (_, from_the_outbox, _) = resumed(&small, &cursor(&subscribed)).await;
    small.stop().await.unwrap();
    for (how, messages) in [
        ("live", heard),
        ("memory", from_memory),
        ("start", from_what_was_read_at_the_start),
        ("outbox", from_the_outbox),
    ] {
        let odd: Vec<&Value> = messages.iter().filter(|message| message["action"] != "updated").collect();
        assert!(odd.is_empty(), "{how}: {} such as {}", odd.len(), odd[0]);
        assert!(pet_ids(&messages) == (1..=5000).collect::<Vec<i64>>(), "{how}");
    }
}

#[tokio::test]
async fn who_does_not_read_a_snapshot_does_not_hold_up_the_others() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text); select rowcast.watch('pets');
         create table few (id int primary key); select rowcast.watch('few');
         set rowcast.mute = on; insert into pets select i, repeat('x', 2000) from generate_series(1, 15000) i; insert into few values (1)",
    )
    .await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/few").await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(server.socket("/ws/pets?snapshot=true").await);
    }
    let replays = "select count(*) from pg_stat_activity where datname = current_database()
        and application_name like 'rowcast replay%' and wait_event = 'ClientWrite'";
    while db.text(replays).await != "3" {}
    let mut reader = server.socket("/ws/few?snapshot=true").await;
    let first = reader.message().await;
    assert_eq!(
        (&first["type"], &first["rows"]),
        (&"snapshot".into(), &serde_json::json!([{"id": 1}])),
        "within ten seconds"
    );
    drop(unread);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_comes_no_faster_than_it_may() {
    let db = TestDatabase::new().await;
    db.run(
        "create table pets (pet_id int primary key, name text); select rowcast.watch('pets');
         set rowcast.mute = on; insert into pets select i, repeat('x', 1000) from generate_series(1, 200) i",
    )
    .await;
    let server = TestServer::start_with(&db.url, &[("replay-bytes-per-second", "150000")]);
    let began = std::time::Instant::now();
    let mut socket = server.socket("/ws/pets?snapshot=true").await;
    let (messages, _) = until_subscribed(&mut socket).await;
    let rows: usize = messages.iter().filter_map(|message| Some(message["rows"].as_array()?.len())).sum();
    assert_eq!(rows, 200);
    assert!(began.elapsed().as_secs_f64() > 1.0, "200 kB at 150 kB/s took {:?}", began.elapsed());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_storm_from_beyond_memory_costs_the_database_a_few_reads() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    db.run("insert into pets values (0, 5, 'first')").await;
    let server = TestServer::start_with(&db.url, &[("history-bytes", "65536"), ("ping-seconds", "600")]);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1, 5, 'second')").await;
    let since = cursor(&socket.message().await);
    for k in 0..1000 / 500 {
        let ids = format!("generate_series({}, {})", 2 + k * 500, 1 + (k + 1) * 500);
        db.run(&format!("insert into pets select i, 5, 'x' from {ids} i")).await;
    }
    for _ in 0..1000 {
        socket.message().await;
    }
    let sessions = "select sessions from pg_stat_database where datname = current_database()";
    let before: i64 = db.text(sessions).await.parse().unwrap();
    let path = format!("/ws/pets?since={since}&columns=pet_id");
    let mut clients = Vec::new();
    // not more: this process reads for all, and one that waits until the others have read would lose its turn
    for _ in 0..50 {
        clients.push(server.socket(&path).await);
    }
    let reading = clients.iter_mut().map(async |client| {
        for pet in 2..=1001 {
            assert_eq!(client.message().await["data"]["pet_id"], pet);
        }
        assert_eq!(client.message().await["replayed"], 1000);
    });
    futures_util::future::join_all(reading).await;
    db.run("select pg_stat_clear_snapshot()").await;
    let after: i64 = db.text(sessions).await.parse().unwrap();
    assert!(after - before < 20, "{} sessions for 50 clients", after - before);
}

/// It reads nothing of what it empties, and writers do not wait for the transaction that has emptied it.
#[tokio::test]
async fn a_prune_that_is_not_committed_yet_keeps_no_writer_waiting() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    for turn in ["segment 1 takes new changes", "segment 2 takes new changes"] {
        db.run(
            "insert into pets select max(pet_id) + 1, 5, 'x' from (select 0 as pet_id union select pet_id from pets) p",
        )
        .await;
        db.run(OPENED_LONG_AGO).await;
        db.pruned(turn).await;
    }
    db.run(&format!("{CLOSED_LONG_AGO}; {OPENED_LONG_AGO}")).await;
    let pruner = db.another_client().await;
    pruner.batch_execute("begin").await.unwrap();
    let done: String = pruner.query_one("select rowcast.prune()", &[]).await.unwrap().get(0);
    assert!(done.contains("segment 0 is emptied"), "{done}");
    let read = "select pg_stat_get_xact_tuples_returned('rowcast.outbox_0'::regclass)";
    assert_eq!(pruner.query_one(read, &[]).await.unwrap().get::<_, i64>(0), 0, "it was read as a whole");
    let writer = db.another_client().await;
    writer.batch_execute("set lock_timeout = '1s'; insert into pets values (9, 5, 'x')").await.unwrap();
    pruner.batch_execute("commit").await.unwrap();
    // its turn comes
    db.pruned("segment 0 takes new changes").await;
}

/// What a server empties takes new changes at once: between two of its calls a minute passes, and the outbox might be full.
#[tokio::test]
async fn a_segment_that_a_server_empties_takes_new_changes_at_once() {
    let db = TestDatabase::new().await;
    db.run(PETS).await;
    for turn in ["segment 1 takes new changes", "segment 2 takes new changes"] {
        db.run("insert into pets select count(*), 5, 'x' from pets").await;
        db.run(OPENED_LONG_AGO).await;
        db.pruned(turn).await;
    }
    db.run(&format!("{CLOSED_LONG_AGO}; {OPENED_LONG_AGO}")).await;
    let pool = Database::parse(&db.url).unwrap().pool().unwrap();
    let done = retention::prune(&pool).await.unwrap();
    assert!(done.contains("segment 0 is emptied") && done.contains("segment 0 takes new changes"), "{done}");
}
