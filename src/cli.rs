//! The command line. Owns commands, flags and what is printed; each command is a few lines over the library.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

use crate::config::{self, Config, SETTINGS};
use crate::demo::{self, Postgres};
use crate::error::{Error, Kind, Result};
use crate::serve;
use crate::shutdown::{self, Trigger};
use crate::source::doorbell::Doorbell;
use crate::source::install;
use crate::source::pool::{Database, Purpose};

const DATABASE_HELP: &str = "Postgres, as postgres://user:password@host:5432/database [env: DATABASE_URL]";
const SERVER_HELP: &str = "address of a running rowcast";
const SERVER: &str = "http://127.0.0.1:8000";

/// The command line's definition.
pub fn command() -> Command {
    let database = || Arg::new("database-url").long("database-url").value_name("URL").help(DATABASE_HELP);
    let url = || Arg::new("url").long("url").value_name("URL").default_value(SERVER).help(SERVER_HELP);
    Command::new("rowcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Committed Postgres row changes, written by anyone, on WebSockets within milliseconds")
        .after_help("Start with `rowcast demo`. With a database of your own: migrate, watch, serve.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve")
                .about("Relay committed changes to WebSockets")
                .arg(
                    Arg::new("config")
                        .long("config")
                        .value_name("FILE")
                        .help("TOML file with the settings below, _ for - [env: ROWCAST_CONFIG]"),
                )
                .args(SETTINGS.iter().map(setting_arg)),
        )
        .subcommand(
            Command::new("demo")
                .about("A veterinary clinic on a private Postgres, live, with nothing to configure")
                .arg(
                    Arg::new("dir")
                        .long("dir")
                        .value_name("FOLDER")
                        .default_value(".rowcast/demo")
                        .help("where the private Postgres lives"),
                )
                .arg(Arg::new("reset").long("reset").action(ArgAction::SetTrue).help("forget that folder and exit"))
                .args(SETTINGS.iter().map(setting_arg)),
        )
        .subcommand(
            Command::new("migrate").about("Install schema rowcast, or bring it to this version").arg(database()),
        )
        .subcommand(Command::new("sql").about("Print what migrate would run on an empty database"))
        .subcommand(
            Command::new("watch")
                .about("Capture every change of a table; the same as select rowcast.watch(..)")
                .arg(Arg::new("table").help("such as public.pets").required_unless_present("schema"))
                .arg(
                    Arg::new("schema")
                        .long("schema")
                        .value_name("NAME")
                        .conflicts_with("table")
                        .help("every table of a schema that is not watched yet"),
                )
                .arg(
                    Arg::new("channel")
                        .long("channel")
                        .value_name("NAME")
                        .help("default: the table's name with _ as -"),
                )
                .arg(
                    Arg::new("user-rule")
                        .long("user-rule")
                        .value_name("COLUMN|QUERY")
                        .help("column of the user to notify, or a query over row"),
                )
                .arg(
                    Arg::new("notification")
                        .long("notification")
                        .value_name("JSON")
                        .help("key in the notification's data: column"),
                )
                .arg(
                    Arg::new("exclude")
                        .long("exclude")
                        .value_name("COLUMN")
                        .value_delimiter(',')
                        .action(ArgAction::Append)
                        .help("columns that never leave the table"),
                )
                .arg(Arg::new("singular").long("singular").value_name("WORD").help("pet in pet_created"))
                .arg(database()),
        )
        .subcommand(
            Command::new("unwatch")
                .about("Stop capturing a table; the same as select rowcast.unwatch(..)")
                .arg(Arg::new("table").required(true))
                .arg(database()),
        )
        .subcommand(Command::new("status").about("What a running rowcast says of itself").arg(url()))
        .subcommand(
            Command::new("tail")
                .about("Print the messages of a channel, one a line")
                .arg(Arg::new("channel").required(true).help("pets, or user/123"))
                .arg(
                    Arg::new("count")
                        .short('n')
                        .long("count")
                        .value_name("N")
                        .value_parser(clap::value_parser!(u64))
                        .help("end after this many messages"),
                )
                .arg(url()),
        )
        .subcommand(Command::new("doctor").about("Look for what is or will be wrong, with the remedy").arg(database()))
}

fn setting_arg(setting: &config::Setting) -> Arg {
    let mut help = setting.help.to_owned();
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    help.push_str(&format!(" [env: {}]", setting.env.join(", ")));
    let arg = Arg::new(setting.name).long(setting.name).value_name("VALUE").help(help);
    if setting.default == Some("false") { arg.num_args(0..=1).default_missing_value("true") } else { arg }
}

/// Runs a command.
///
/// # Errors
/// What went wrong, with its remedy; the exit code is non-zero.
pub async fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("serve", arguments)) => {
            let config = load_config(arguments, None)?;
            start_logs(&config)?;
            let (trigger, shutdown) = shutdown::channel();
            let listener = serve::bind(&config).await?;
            end_on_signal(trigger)?;
            serve::run(config, listener, shutdown).await
        }
        Some(("demo", arguments)) => demo(arguments).await,
        Some(("migrate", arguments)) => migrate(arguments).await,
        Some(("sql", _)) => {
            print!("{}", install::script());
            Ok(())
        }
        Some(("watch", arguments)) => watch(arguments).await,
        Some(("unwatch", arguments)) => unwatch(arguments).await,
        Some(("status", arguments)) => {
            print!("{}", get(text(arguments, "url").unwrap_or_default(), "/websocket/status").await?);
            Ok(())
        }
        Some(("tail", arguments)) => tail(arguments).await,
        Some(("doctor", arguments)) => doctor(arguments).await,
        _ => Err(Error::new(Kind::Config, "no such command").hint("rowcast --help")),
    }
}

fn text<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a str> {
    arguments.get_one::<String>(name).map(String::as_str)
}

fn load_config(arguments: &ArgMatches, database_url: Option<&str>) -> Result<Config> {
    let path = arguments
        .try_get_one::<String>("config")
        .ok()
        .flatten()
        .cloned()
        .or_else(|| std::env::var("ROWCAST_CONFIG").ok());
    let file = path
        .map(|path| {
            std::fs::read_to_string(&path)
                .map_err(|e| Error::new(Kind::Config, format!("cannot read the configuration file {path}")).because(e))
        })
        .transpose()?;
    let flag = |name: &str| {
        let given = text(arguments, name).map(str::to_owned);
        given.or_else(|| database_url.filter(|_| name == "database-url").map(str::to_owned))
    };
    config::load(flag, |name| std::env::var(name).ok(), file.as_deref())
}

fn start_logs(config: &Config) -> Result<()> {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .map_err(|e| Error::new(Kind::Config, format!("log = {} is no filter", config.log)).because(e))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let terminal = std::io::stderr().is_terminal();
    if config.log_json.unwrap_or(!terminal) {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(terminal).init();
    }
    Ok(())
}

/// The first SIGINT or SIGTERM drains, the second ends at once.
fn end_on_signal(trigger: Trigger) -> Result<()> {
    let explain = |e| Error::new(Kind::Io, "cannot listen for signals").because(e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(explain)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(explain)?;
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tracing::info!(event = "shutdown");
        trigger.begin();
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(130);
    });
    Ok(())
}

async fn demo(arguments: &ArgMatches) -> Result<()> {
    let folder = PathBuf::from(text(arguments, "dir").unwrap_or(".rowcast/demo"));
    if arguments.get_flag("reset") {
        return match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(Kind::Io, format!("cannot remove {}", folder.display())).because(e))
            }
            _ => Ok(()),
        };
    }
    // a DATABASE_URL of the environment is somebody's database: the demo fills only what it is given by name
    let given = text(arguments, "database-url").map(str::to_owned);
    let mut config = load_config(arguments, Some("postgres://postgres@127.0.0.1/clinic"))?;
    if text(arguments, "log").is_none() && std::env::var_os("ROWCAST_LOG").is_none() {
        config.log = "warn".into();
    }
    start_logs(&config)?;
    let (trigger, shutdown) = shutdown::channel();
    let (stop, stopped) = shutdown::channel();
    end_on_signal(trigger)?;
    let postgres = given.map_or(Postgres::Private(folder), Postgres::Given);
    let mut asked = shutdown;
    let running = demo::run(postgres, config, &stop, stopped);
    let mut running = std::pin::pin!(running);
    tokio::select! {
        ended = running.as_mut() => return ended,
        () = asked.begun() => stop.begin(),
    }
    running.await
}

async fn connect(arguments: &ArgMatches) -> Result<(Database, Client)> {
    let url = text(arguments, "database-url")
        .map(str::to_owned)
        .or_else(|| std::env::var("ROWCAST_DATABASE_URL").ok())
        .or_else(|| std::env::var("DATABASE_URL").ok())
        .ok_or_else(|| {
            Error::new(Kind::Config, "no database")
                .hint("set DATABASE_URL or --database-url to postgres://user:password@host:5432/database")
        })?;
    let database = Database::parse(&url)?;
    let client = database.client(Purpose::Command).await?;
    Ok((database, client))
}

async fn migrate(arguments: &ArgMatches) -> Result<()> {
    let (database, mut client) = connect(arguments).await?;
    let migrated = install::migrate(&mut client).await?;
    let what = if migrated.applied.is_empty() { "was at" } else { "is now at" };
    println!("{database}: schema rowcast {what} version {}, functions are current", migrated.version);
    Ok(())
}

async fn watch(arguments: &ArgMatches) -> Result<()> {
    let (_, client) = connect(arguments).await?;
    install::check(&client).await?;
    if let Some(schema) = text(arguments, "schema") {
        let rows = client
            .query("select target::text, channel from rowcast.watch_schema($1)", &[&schema])
            .await
            .map_err(|e| Error::database("watch", e))?;
        for row in &rows {
            println!("watching {} on channel {}", row.get::<_, &str>(0), row.get::<_, &str>(1));
        }
        if rows.is_empty() {
            println!("every table of schema {schema} is watched already");
        }
        return Ok(());
    }
    let table = text(arguments, "table").unwrap_or_default();
    let exclude: Vec<&str> = arguments.get_many::<String>("exclude").unwrap_or_default().map(String::as_str).collect();
    let row = client
        .query_one(
            "select rowcast.watch($1::text::regclass, $2, $3, $4::text::jsonb, $5, $6)",
            &[
                &table,
                &text(arguments, "channel"),
                &text(arguments, "user-rule"),
                &text(arguments, "notification"),
                &exclude,
                &text(arguments, "singular"),
            ],
        )
        .await
        .map_err(|e| no_table(Error::database("watch", e)))?;
    println!("watching {table} on channel {}", row.get::<_, &str>(0));
    Ok(())
}

async fn unwatch(arguments: &ArgMatches) -> Result<()> {
    let (_, client) = connect(arguments).await?;
    install::check(&client).await?;
    let table = text(arguments, "table").unwrap_or_default();
    let row = client
        .query_one("select rowcast.unwatch($1::text::regclass)", &[&table])
        .await
        .map_err(|e| no_table(Error::database("unwatch", e)))?;
    if row.get(0) {
        println!("{table} is no longer watched");
        Ok(())
    } else {
        Err(Error::new(Kind::Database, format!("{table} was not watched")).hint("select * from rowcast.watched;"))
    }
}

fn no_table(error: Error) -> Error {
    if error.to_string().contains("42P01") && error.remedy().is_none() {
        return error.hint("name an existing table with its schema, such as public.pets");
    }
    error
}

async fn tail(arguments: &ArgMatches) -> Result<()> {
    let url = text(arguments, "url").unwrap_or(SERVER).trim_end_matches('/').replacen("http", "ws", 1);
    let channel = text(arguments, "channel").unwrap_or_default();
    let mut left = arguments.get_one::<u64>("count").copied().unwrap_or(u64::MAX);
    let target = format!("{url}/ws/{channel}");
    let mut request = target
        .as_str()
        .into_client_request()
        .map_err(|e| Error::new(Kind::Config, format!("{target} is no address of a server")).because(e))?;
    request
        .headers_mut()
        .insert(hyper::header::SEC_WEBSOCKET_PROTOCOL, hyper::header::HeaderValue::from_static("rowcast.v1"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| {
        Error::new(Kind::Connection, format!("cannot connect to {target}"))
            .because(e)
            .hint("is `rowcast serve` or `rowcast demo` running there? --url names another address")
    })?;
    while left > 0 {
        match socket.next().await {
            Some(Ok(Message::Text(message))) => {
                println!("{message}");
                left -= 1;
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                return Err(Error::new(
                    Kind::Protocol,
                    format!("the server closed: {} ({})", frame.reason, u16::from(frame.code)),
                ));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Error::new(Kind::Connection, "the connection is lost").because(error)),
            None => return Err(Error::new(Kind::Connection, "the connection is lost")),
        }
    }
    let _ = socket.close(None).await;
    let _ = socket.flush().await;
    Ok(())
}

/// One GET, without a client library: status pages are short and the server is ours.
async fn get(url: &str, path: &str) -> Result<String> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let explain = |e: std::io::Error| {
        Error::new(Kind::Connection, format!("cannot ask {host}"))
            .because(e)
            .hint("is `rowcast serve` or `rowcast demo` running there? --url names another address")
    };
    let mut tcp = tokio::net::TcpStream::connect(host).await.map_err(explain)?;
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .map_err(explain)?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), tcp.read_to_string(&mut answer))
        .await
        .map_err(|_| Error::new(Kind::Connection, format!("{host} does not answer")))?
        .map_err(explain)?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .ok_or_else(|| Error::new(Kind::Protocol, format!("{host} does not speak HTTP")))
}

async fn doctor(arguments: &ArgMatches) -> Result<()> {
    let (database, client) = connect(arguments).await?;
    let mut failed = 0;
    let mut report = |state: &str, finding: &str, detail: &str, remedy: Option<&str>| {
        println!("{state:<5} {finding:<22} {detail}");
        if let Some(remedy) = remedy {
            println!("      {:<22} -> {remedy}", "");
        }
        failed += u32::from(state == "fail");
    };
    let version: i32 = client
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .map_err(|e| Error::database("cannot ask the server's version", e))?
        .get(0);
    let (state, remedy) =
        if version < 140_000 { ("fail", Some("rowcast needs Postgres 14 or later")) } else { ("ok", None) };
    report(state, "server version", &format!("{}.{}", version / 10_000, version % 10_000), remedy);
    if let Err(error) = install::check(&client).await {
        report("fail", "schema", &error.to_string(), error.remedy());
        return Err(Error::new(Kind::Schema, "1 finding needs action"));
    }
    report("ok", "schema", "installed, this version", None);
    let may_read: bool = client
        .query_one("select has_table_privilege('rowcast.outbox', 'select') and has_table_privilege('rowcast.channel', 'select')", &[])
        .await
        .map_err(|e| Error::database("cannot ask for rights", e))?
        .get(0);
    let (state, remedy) =
        if may_read { ("ok", None) } else { ("fail", Some("make this role a member of rowcast_relay")) };
    report(state, "rights", "read the outbox and the channels", remedy);
    match Doorbell::listen(&database).await {
        Ok(bell) if bell.works() => report("ok", "notifications", "one to ourselves came back", None),
        Ok(_) => report(
            "fail",
            "notifications",
            "one to ourselves did not come back",
            Some("DATABASE_URL is a transaction pooler: connect to Postgres itself"),
        ),
        Err(error) => report("fail", "notifications", &error.to_string(), error.remedy()),
    }
    if may_read {
        let rows = client
            .query("select finding, state, detail, remedy from rowcast.health", &[])
            .await
            .map_err(|e| Error::database("cannot read rowcast.health", e))?;
        for row in rows {
            report(row.get(1), row.get(0), row.get(2), row.get(3));
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Database, "1 finding needs action")),
        many => Err(Error::new(Kind::Database, format!("{many} findings need action"))),
    }
}
