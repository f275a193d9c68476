//! Command line: a clear error with the remedy, exit code non-zero, nothing half done.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::ChildStderr;

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

fn rowcast(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
    command
        .env("DATABASE_URL", url)
        .env_remove("ROWCAST_DATABASE_URL")
        .env("ROWCAST_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    command
}

async fn run(url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = rowcast(url);
    command.args(arguments);
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// `rowcast serve` as a process of its own, once it is live, with all that it logs.
struct Served {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStderr>>,
    log: Vec<serde_json::Value>,
    address: String,
}

impl Served {
    async fn start(url: &str, arguments: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(rowcast(url));
        command.args(["serve", "--log-format", "json"]).args(arguments);
        if !arguments.contains(&"--log") {
            command.args(["--log", "debug"]);
        }
        let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut served = Self { process, lines, log: Vec::new(), address: String::new() };
        while !served.log.iter().any(|line| line["event"] == "source_live") {
            assert!(served.reads().await, "it ended: {:?}", served.log);
        }
        served.address = served.log.iter().find_map(|line| line["address"].as_str()).expect("an address").to_owned();
        served
    }

    /// Reads a line of its log, which is JSON, if there is one more.
    async fn reads(&mut self) -> bool {
        let line = self.lines.next_line().await.unwrap();
        self.log.extend(line.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")));
        line.is_some()
    }

    fn terminate(&self) {
        Command::new("kill").arg(self.process.id().unwrap().to_string()).status().unwrap();
    }

    /// How it ended, and the whole log.
    async fn ended(mut self) -> (Option<i32>, Vec<serde_json::Value>) {
        while self.reads().await {}
        (self.process.wait().await.unwrap().code(), self.log)
    }
}

#[tokio::test]
async fn trouble_has_a_remedy_and_an_exit_code() {
    let empty = TestDatabase::empty().await;
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy_address = busy.local_addr().unwrap().to_string();
    let missing = empty.url.clone() + "_nosuch";
    for (url, arguments, code, expected) in [
        (&empty.url, vec!["serve"], 1, "no schema rowcast\n  -> run: rowcast migrate"),
        (&empty.url, vec!["watch", "public.pets"], 1, "run: rowcast migrate"),
        (&empty.url, vec!["serve", "--listen", &busy_address], 1, "choose another port with --listen"),
        (&empty.url, vec!["serve", "--listen", "nowhere", "--ping-seconds", "x"], 2, "--ping-seconds: x"),
        (
            &empty.url,
            vec!["tail", "pets", "--url", "http://127.0.0.1:1"],
            1,
            "is `rowcast serve` or `rowcast demo` running there",
        ),
        (&empty.url, vec!["doctor"], 1, "no schema rowcast"),
        (&missing, vec!["migrate"], 1, "does not exist (SQLSTATE 3D000)"),
        (
            &"postgres://nobody@127.0.0.1:1/x".to_owned(),
            vec!["serve", "--wait-seconds", "0"],
            1,
            "is Postgres running there?",
        ),
    ] {
        let (exit, text) = run(url, &arguments).await;
        assert_eq!(exit, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn watch_on_the_command_line_is_the_sql_call() {
    let db = TestDatabase::empty().await;
    db.run("create table pets (pet_id int primary key, user_id int, secret text)").await;
    let (exit, text) = run(&db.url, &["migrate"]).await;
    assert_eq!(exit, Some(0), "{text}");
    let arguments = ["watch", "public.pets", "--channel", "animals", "--user-rule", "user_id", "--exclude", "secret"];
    assert_eq!(run(&db.url, &arguments).await, (Some(0), "watching public.pets on channel animals\n".to_owned()));
    assert_eq!(
        db.text("select channel || ' ' || user_rule || ' ' || exclude::text from rowcast.watched").await,
        "animals user_id {secret}"
    );
    let (exit, text) = run(&db.url, &["watch", "public.nosuch"]).await;
    assert!(exit == Some(1) && text.contains("does not exist") && text.contains("-> name an existing table"), "{text}");
    let (exit, text) = run(&db.url, &["doctor"]).await;
    assert!(exit == Some(0) && text.contains("one to ourselves came back"), "{text}");
    assert_eq!(run(&db.url, &["unwatch", "public.pets"]).await.0, Some(0));
    assert_eq!(run(&db.url, &["unwatch", "public.pets"]).await.0, Some(1));
}

#[tokio::test]
async fn sigterm_drains_a_real_process_and_its_log_holds_no_row() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); select rowcast.watch('pets')").await;
    let process = Served::start(&db.url, &[]).await;
    let address = process.address.parse().unwrap();
    let mut socket = super::support::socket::Socket::connect(address, "/ws/pets", None).await.unwrap();
    assert_eq!(socket.message().await["type"], "subscribed");
    db.run("insert into pets values (1, 'a very secret name')").await;
    assert_eq!(socket.message().await["action"], "created");
    process.terminate();
    assert_eq!(socket.close_code().await, 1001);
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0));
    let log = serde_json::Value::from(log).to_string();
    assert!(log.contains("drained") && !log.contains("secret name"), "{log}");
}

#[tokio::test]
async fn the_rows_of_watched_tables_have_types() {
    let db = TestDatabase::new().await;
    db.run(
        "create type mood as enum ('calm', 'wild'); create domain weight as numeric not null; create domain kilo as weight;
         create type level as enum ('low'); create table pets (pet_id int primary key, mood mood, weight weight, tags text[],
           chip text, extra jsonb, file oid, kilos kilo[], level level);
         select rowcast.watch('pets', exclude => '{chip}'); select rowcast.create_channel('news')",
    )
    .await;
    let (code, text) = run(&db.url, &["types"]).await;
    assert_eq!(code, Some(0), "{text}");
    let body = text.split_once("interface Channels {\n").unwrap().1;
    assert_eq!(
        body,
        "  pets: {\n    pet_id: number;\n    mood: \"calm\" | \"wild\" | null;\n    weight: Numeric;\n    \
         tags: Array<string | null> | null;\n    extra: unknown | null;\n    file: string | null;\n    \
         kilos: Array<Numeric | null> | null;\n    level: \"low\" | null;\n  };\n}\n"
    );
    // a cast says what the JSON of a type is
    db.run(
        "create function level_json(level) returns json language sql immutable as $$ select json_build_object('level', $1::text) $$;
         create cast (level as json) with function level_json(level)",
    )
    .await;
    let (_, text) = run(&db.url, &["types"]).await;
    assert!(text.contains("    level: unknown | null;\n"), "{text}");
}

/// As in `rowcast doctor | head -1`.
#[tokio::test]
async fn a_closed_pipe_stops_nothing() {
    let db = TestDatabase::new().await;
    db.run("create table a (id int primary key); create table b (id int primary key)").await;
    for arguments in [&["watch", "--schema", "public"][..], &["doctor"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = rowcast(&db.url);
        command.args(arguments).stdout(writer).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_eq!(db.text("select count(*) from rowcast.watched").await, "2", "{arguments:?}");
    }
}

#[tokio::test]
async fn another_log_level_needs_no_restart() {
    let db = TestDatabase::new().await;
    let folder = std::env::temp_dir().join(format!("rowcast-{}-log", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (config, log) = (folder.join("rowcast.toml"), folder.join("rowcast.log"));
    let settings = |level: &str| format!("log = \"{level}\"\nlog_file = \"{}\"\n", log.display());
    std::fs::write(&config, settings("info")).unwrap();
    let written = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let logs = files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("rowcast.log."));
        logs.map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>()
    };
    let mut command = tokio::process::Command::from(rowcast(&db.url));
    let mut process = command.args(["serve", "--config", config.to_str().unwrap()]).kill_on_drop(true).spawn().unwrap();
    let until = |text: &'static str| async move {
        let shows = async {
            while !written().contains(text) {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(PATIENCE, shows).await.unwrap_or_else(|_| panic!("no {text}: {}", written()));
    };
    until("source_live").await;
    let hang_up = || Command::new("kill").args(["-HUP", &process.id().unwrap().to_string()]).status().unwrap();
    std::fs::write(&config, settings("no filter=[")).unwrap();
    hang_up();
    until("log_unchanged").await;
    // a log that shows less from now on, and one that shows more, both say so
    std::fs::write(&config, settings("warn")).unwrap();
    hang_up();
    until("\"log_changed\",\"log\":\"warn\"").await;
    std::fs::write(&config, settings("debug")).unwrap();
    hang_up();
    until("\"log_changed\",\"log\":\"debug\"").await;
    process.kill().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn tail_goes_on_where_it_was_when_the_server_comes_back() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); select rowcast.watch('pets')").await;
    let server = TestServer::start(&db.url);
    server.subscribed("/ws/pets").await;
    let address = server.address.to_string();
    let mut command = tokio::process::Command::from(rowcast(&db.url));
    let mut process = command
        .args(["tail", "pets", "--format", "line", "-n", "4", "--url", &format!("http://{address}")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().expect("a line");
    assert_eq!(next().await.trim(), "subscribed");
    db.run("insert into pets values (1, 'Luna')").await;
    assert!(next().await.ends_with(r#"created   pets {"pet_id":1,"name":"Luna"}"#));
    server.stop().await.unwrap();
    db.run("delete from pets").await;
    let server = TestServer::start_with(&db.url, &[("listen", &address)]);
    assert!(next().await.contains("deleted   pets"), "what was missed");
    assert_eq!(next().await.trim(), "subscribed");
    assert_eq!(process.wait().await.unwrap().code(), Some(0));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_stranger_sends_makes_no_line_of_the_log() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let process = Served::start(&db.url, &["--jwt-secret", "a secret of sixteen bytes or more"]).await;
    for (path, header) in [
        ("/ws/pets%0A%7B%22event%22:%22forged%22%7D", "x: y"),
        ("/ws/pets?token=%0A%7B%22event%22:%22forged%22%7D", "x: y"),
        ("/ws/pets?filter=%22,%22event%22:%22forged", "origin: \",\"event\":\"forged"),
        ("/ws/user/%1B%5B2Jforged", "authorization: Bearer \",\"event\":\"forged"),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(&process.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tcp.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 40"), "{path}: {}", String::from_utf8_lossy(&answer));
    }
    process.terminate();
    let (_, log) = process.ended().await;
    assert!(log.iter().all(|line| line["event"] != "forged"), "{log:?}");
    assert!(log.iter().filter(|line| line["event"] == "socket_refused" || line["event"] == "forbidden").count() >= 2);
}

/// systemd's protocol, on a socket of the test's own.
#[tokio::test]
async fn a_service_manager_is_told_how_the_server_is() {
    let db = TestDatabase::new().await;
    let folder = std::env::temp_dir().join(format!("rowcast-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("notify");
    let manager = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut datagram = [0; 1024];
        let length = manager.recv(&mut datagram).await.unwrap();
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    };
    let start = async |url: &str, watchdog: &str| {
        let mut command = tokio::process::Command::from(rowcast(url));
        command.args(["serve", "--log-format", "json"]).env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", watchdog).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    };
    // one whose database is away is ready all the same, and says what it waits for
    let mut waiting = start("postgres://nobody@127.0.0.1:1/nowhere", "30000000").await;
    let first = told().await;
    assert!(first.contains("READY=1") && first.contains("STATUS=no changes come"), "{first}");
    waiting.kill().await.unwrap();
    let mut running = start(&db.url, "100000").await;
    let (mut heard, mut beats) = (String::new(), 0);
    while !heard.contains("STATUS=live") || beats < 5 {
        let next = told().await;
        beats += usize::from(next.contains("WATCHDOG=1"));
        heard += &next;
    }
    assert!(heard.contains("READY=1"), "{heard}");
    Command::new("kill").arg(running.id().unwrap().to_string()).status().unwrap();
    while !told().await.contains("STOPPING=1") {}
    assert!(running.wait().await.unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

/// The service manager keeps the listening socket while it starts the server anew.
#[tokio::test]
async fn a_restart_on_a_passed_socket_refuses_nobody() {
    let db = TestDatabase::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        let passed = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        let command = rowcast(&db.url);
        // the first socket that is passed is descriptor 3
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve 3<&0 </dev/null"]).arg(command.get_program());
        shell.env("DATABASE_URL", &db.url).env("ROWCAST_LISTEN", "127.0.0.1:1").env("ROWCAST_DRAIN_SECONDS", "5");
        shell.stdin(passed).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    };
    let mut server = start();
    let ask = async move || {
        let mut tcp = tokio::net::TcpStream::connect(address).await.expect("a connection that is not refused");
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    ask().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..10 {
        asking.spawn(async move {
            for _ in 0..100 {
                ask().await;
            }
        });
    }
    for _ in 0..3 {
        Command::new("kill").arg(server.id().unwrap().to_string()).status().unwrap();
        assert!(server.wait().await.unwrap().success());
        server = start();
        ask().await;
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

/// Before a restart: what is wrong with the settings is said, and no database is asked.
#[tokio::test]
async fn settings_are_checked_without_a_database() {
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let check = async |arguments: &[&str]| run(nowhere, &[&["serve", "--check"], arguments].concat()).await;
    assert_eq!(check(&[]).await, (Some(0), "the settings can be used\n".to_owned()));
    assert_eq!(check(&["--otlp-endpoint", "http://127.0.0.1:4318"]).await.0, Some(0));
    for (arguments, wanted) in [
        (&["--ping-seconds", "no"][..], "no is no number from 1 to 3600"),
        (&["--log", "a=b=c"], "a=b=c is no filter"),
        (&["--database-url", "mysql://"], "mysql"),
        (&["--tls-certificate", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "/nowhere.pem"),
        (&["--jwt-public-key", "none"], "jwt-public-key"),
        (&["--otlp-endpoint", "collector:4317"], "collector:4317 is no address with http or https"),
        (&["--otlp-endpoint", "http://me:secret@collector"], "an address with a user in it is not taken"),
    ] {
        let (code, said) = check(arguments).await;
        assert!(code == Some(2) && said.contains(wanted) && !said.contains("secret"), "{arguments:?}: {code:?} {said}");
    }
}

/// A password is not for the environment: each command takes the URL as `serve` does.
#[tokio::test]
async fn the_url_of_the_database_may_stand_in_a_file() {
    let db = TestDatabase::new().await;
    let file = std::env::temp_dir().join(format!("rowcast-url-{}", std::process::id()));
    std::fs::write(&file, format!("{}\n", db.url)).unwrap();
    let (code, said) = run(&format!("@{}", file.display()), &["types"]).await;
    assert_eq!(code, Some(0), "{said}");
    std::fs::remove_file(&file).unwrap();
    let (code, said) = run("@/nowhere/url", &["types"]).await;
    assert!(code != Some(0) && said.contains("cannot read /nowhere/url"), "{code:?} {said}");
    // an empty one is none
    let mut command = rowcast(&db.url);
    command.arg("types").env("ROWCAST_DATABASE_URL", "");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Somebody on call reads the log at night: a database that is away is one event, each line says which it is, and the driver's
/// own lines, which have none, are not among them.
#[tokio::test]
async fn an_outage_of_the_database_is_one_event() {
    let db = TestDatabase::new().await;
    let rest = db.url.split_once('@').unwrap().1;
    let (behind, name) = rest.split_once('/').unwrap();
    let (listener, behind) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), behind.to_owned());
    let url = db.url.replace(rest, &format!("{}/{name}", listener.local_addr().unwrap()));
    // the way to the database, until it is cut
    let way = tokio::spawn(async move {
        let mut lines = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&behind).await.unwrap();
            lines.spawn(async move { _ = tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let mut served = Served::start(&url, &["--log", "info"]).await;
    let before = served.log.len();
    way.abort();
    // what looks each ten seconds finds it too
    let outage = async { while served.reads().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(13), outage).await;
    let events: Vec<_> = served.log.iter().map(|line| line["event"].as_str().unwrap_or("none")).collect();
    // a task that asks the database at the very moment may find the outage before the relay does
    let (of_relay, others): (Vec<&str>, Vec<&str>) =
        events[before..].iter().partition(|event| ["source_down", "reconnect_failed"].contains(event));
    assert_eq!(of_relay, ["source_down", "reconnect_failed"], "{:?}", &served.log[before..]);
    assert!(others.is_empty() || (others.len() == 1 && events[before] == others[0]), "{:?}", &served.log[before..]);
    assert!(served.log.iter().all(|line| line["event"].is_string()), "{:?}", served.log);
    // and says which of many servers writes it, by the name that is in the database
    let node = served.log[0]["node"].as_str().expect("a name");
    let version = env!("CARGO_PKG_VERSION");
    assert!(served.log.iter().all(|line| (&line["node"], &line["version"]) == (&node.into(), &version.into())));
    assert_eq!(db.text("select node from rowcast.node").await, node);
    for settings in [&["--log", "a=b=c"][..], &["--ping-seconds", "no"], &["--database-url", "mysql://"]] {
        let (_, said) = run(&db.url, &[&["serve", "--log-format", "json"], settings].concat()).await;
        let last: serde_json::Value = serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said}"));
        assert_eq!((&last["event"], &last["level"]), (&"ended".into(), &"ERROR".into()), "{said}");
    }
}

/// The socket unit names the port, so it decides who reaches it: the setting `listen`, which would be refused, says nothing.
#[tokio::test]
async fn a_passed_socket_beyond_this_machine_wants_a_key() {
    let db = TestDatabase::new().await;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let command = rowcast(&db.url);
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve 3<&0 </dev/null"]).arg(command.get_program());
    shell.env("DATABASE_URL", &db.url).stdin(std::os::fd::OwnedFd::from(listener));
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("beyond loopback") && said.contains("--jwt-secret"), "{said}");
}

/// What a container's health check runs: the image has no shell and no curl.
#[tokio::test]
async fn a_health_check_asks_the_server_beside_it() {
    let db = TestDatabase::new().await;
    let served = Served::start(&db.url, &[]).await;
    let port = served.address.rsplit(':').next().unwrap().to_owned();
    let ask = async |flag: &'static str| {
        let mut command = rowcast("");
        command.args(["status", flag]).env("ROWCAST_LISTEN", format!("0.0.0.0:{port}"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(ask("--healthy").await, (Some(0), "ok\n".to_owned()));
    assert_eq!(ask("--ready").await, (Some(0), "ready\n".to_owned()));
    served.terminate();
    served.ended().await;
    assert_eq!(ask("--healthy").await, (Some(1), String::new()));
}
