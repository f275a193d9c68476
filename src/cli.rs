//! The command line. Owns what each command does and prints, a few lines over the library; the words are `grammar`.

/// Prints a line. A reader that has closed the pipe has read enough; what is to be done is done all the same.
macro_rules! say {
    ($($text:tt)+) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)+);
    }};
}

mod ask;
mod doctor;
mod explain;
mod grammar;
mod logs;
mod probe;
mod tail;
mod types;

use std::io::Write as _;

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use tokio::signal::unix::{SignalKind, signal};

pub use grammar::command;

use crate::config::{self, Config};
use crate::demo::{self, Postgres};
use crate::error::{self, Error, Kind, Result};
use crate::naming::Naming;
use crate::serve;
use crate::shutdown::{self, Trigger};
use crate::source::client::Client;
use crate::source::install;
use crate::source::pool::{Database, Purpose};

/// Prints a text, as [`say!`] a line.
fn show(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Runs a command.
///
/// # Errors
/// What went wrong, with its remedy; the exit code is non-zero.
pub async fn run(matches: &ArgMatches) -> Result<()> {
    let schema = text(matches, "schema");
    match matches.subcommand() {
        Some(("serve", arguments)) => {
            // an operator who asked for JSON reads nothing else
            let format =
                text(arguments, "log-format").map(Into::into).or_else(|| std::env::var_os("ROWCAST_LOG_FORMAT"));
            let is_json = format.is_some_and(|format| format == "json");
            let told = |error| if is_json { logs::end(error) } else { error };
            let config = load_config(arguments, schema, None).map_err(told)?;
            if arguments.get_flag("check") {
                logs::check(&config).and_then(|()| serve::check(&config)).map_err(told)?;
                say!("the settings can be used");
                return Ok(());
            }
            let logs = logs::start(&config).map_err(told)?;
            let is_json = config.log_json == Some(true);
            let (trigger, shutdown) = shutdown::channel();
            let serve = async {
                let listener = serve::bind(&config)?;
                end_on_signal(trigger)?;
                tokio::select! {
                    ended = serve::run(config, listener, shutdown) => ended,
                    Err(error) = logs.follow(|| load_config(arguments, schema, None)) => Err(error),
                }
            };
            let ended = Box::pin(serve).await;
            ended.map_err(|error| if is_json { logs::tell(error) } else { error })
        }
        Some(("demo", arguments)) => demo(arguments).await,
        Some(("migrate", arguments)) if arguments.get_flag("print-grants") => {
            show(&install::grants(&naming(arguments, schema)?));
            Ok(())
        }
        Some(("migrate", arguments)) => migrate(arguments, schema).await,
        Some(("sql", arguments)) => {
            let naming = naming(arguments, schema)?;
            let script = match text(arguments, "file") {
                None => install::script(&naming),
                Some(path) => {
                    let text = std::fs::read_to_string(path);
                    let text = text.map_err(|e| Error::new(Kind::Io, format!("cannot read {path}")).because(e))?;
                    naming.of(&text).into_owned()
                }
            };
            // `rowcast sql | head` closes early
            show(&script);
            Ok(())
        }
        Some(("watch", arguments)) => watch(arguments, schema).await,
        Some(("unwatch", arguments)) => unwatch(arguments, schema).await,
        Some(("uninstall", arguments)) => uninstall(arguments, schema).await,
        Some(("status", arguments)) => {
            let url = text(arguments, "url").unwrap_or_default();
            let asked = ["behind", "healthy", "ready"].into_iter().find(|flag| arguments.get_flag(flag));
            let (page, url) = match asked {
                Some("behind") => ("/websocket/behind", url.to_owned()),
                Some(health) => {
                    let named = arguments.value_source("url") == Some(ValueSource::CommandLine);
                    let listen = std::env::var("ROWCAST_LISTEN").ok().filter(|_| !named);
                    let page = if health == "ready" { "/readyz" } else { "/healthz" };
                    (page, listen.and_then(|listen| ask::beside(&listen)).unwrap_or_else(|| url.to_owned()))
                }
                None => ("/websocket/status", url.to_owned()),
            };
            show(&ask::get(&url, page, token(arguments).as_deref()).await?);
            Ok(())
        }
        Some(("kick", arguments)) => {
            let url = text(arguments, "url").unwrap_or_default();
            let what = if arguments.contains_id("user") { "user" } else { "channel" };
            let name = text(arguments, what).unwrap_or_default();
            show(&ask::kick(url, what, name, token(arguments).as_deref()).await?);
            Ok(())
        }
        Some(("tail", arguments)) => {
            let left = arguments.get_one::<u64>("count").copied().unwrap_or(u64::MAX);
            let (url, channel) = (text(arguments, "url"), text(arguments, "channel"));
            let form =
                if text(arguments, "format") == Some("line") { tail::TailFormat::Line } else { tail::TailFormat::Json };
            let filters = arguments.get_many::<String>("filter").unwrap_or_default();
            let mut asked: Vec<_> = filters.map(|filter| ("filter", filter.clone())).collect();
            asked.extend(text(arguments, "columns").map(|columns| ("columns", columns.to_owned())));
            let flags = ["snapshot", "old", "cuts"].into_iter().filter(|name| arguments.get_flag(name));
            asked.extend(flags.map(|name| (name, "true".to_owned())));
            let since = text(arguments, "since").map(str::to_owned);
            let wanted =
                tail::Wanted { channel: channel.unwrap_or_default(), asked, since, left, form, silence: tail::SILENCE };
            tail::follow(url.unwrap_or_default(), wanted, token(arguments).as_deref()).await
        }
        Some(("explain", arguments)) if arguments.contains_id("as") => {
            let (_, client) = connect(arguments, schema).await?;
            install::check(&client).await?;
            let asked = ["channel", "as", "key"].map(|name| text(arguments, name));
            show(&explain::who_sees(&client, asked).await?);
            Ok(())
        }
        Some(("explain", arguments)) => {
            let id = arguments.get_one::<i64>("id").copied().unwrap_or_default();
            let url = text(arguments, "url").unwrap_or_default();
            ask::explain(url, id, token(arguments).as_deref(), arguments.get_flag("json")).await
        }
        Some(("types", arguments)) => {
            let (_, client) = connect(arguments, schema).await?;
            install::check(&client).await?;
            show(&types::of(&client).await?);
            Ok(())
        }
        Some(("doctor", arguments)) => {
            let (database, mut client) = connect(arguments, schema).await?;
            let (url, token) = (text(arguments, "url").unwrap_or_default(), token(arguments));
            let way = arguments.get_flag("probe").then_some(probe::Way { url, token: token.as_deref() });
            doctor::examine(&database, &mut client, way).await
        }
        _ => Err(Error::new(Kind::Config, "no such command").hint("rowcast --help")),
    }
}

fn token(arguments: &ArgMatches) -> Option<String> {
    text(arguments, "token").map(str::to_owned).or_else(|| std::env::var("ROWCAST_TOKEN").ok())
}

fn text<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a str> {
    arguments.get_one::<String>(name).map(String::as_str)
}

/// The installation that is meant: by `--schema` behind the command, but for `watch`, where that is the application's; by the
/// one before it; by the environment.
fn naming(arguments: &ArgMatches, schema: Option<&str>) -> Result<Naming> {
    let own = arguments.try_get_one::<String>("installation").ok().flatten();
    let name = own.cloned().or_else(|| schema.map(str::to_owned)).or_else(|| std::env::var("ROWCAST_SCHEMA").ok());
    name.filter(|name| !name.is_empty()).map_or_else(|| Ok(Naming::default()), |name| Naming::of_schema(&name))
}

fn load_config(arguments: &ArgMatches, schema: Option<&str>, database_url: Option<&str>) -> Result<Config> {
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
        let given = arguments.try_get_one::<String>(name).ok().flatten().cloned();
        given.or_else(|| match name {
            "schema" => schema.map(str::to_owned),
            "database-url" => database_url.map(str::to_owned),
            _ => None,
        })
    };
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    config::load(flag, &env.collect(), file.as_deref())
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
    let mut config = load_config(arguments, Some(""), Some("postgres://postgres@127.0.0.1/clinic"))?;
    if text(arguments, "log").is_none() && std::env::var_os("ROWCAST_LOG").is_none() {
        config.log = "warn".into();
    }
    let _logs = logs::start(&config)?;
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

async fn connect(arguments: &ArgMatches, schema: Option<&str>) -> Result<(Database, Client)> {
    let url = text(arguments, "database-url")
        .map(str::to_owned)
        .or_else(|| {
            let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
            given("ROWCAST_DATABASE_URL").or_else(|| given("DATABASE_URL"))
        })
        .ok_or_else(|| {
            Error::new(Kind::Config, "no database")
                .hint("set DATABASE_URL or --database-url to postgres://user:password@host:5432/database")
        })?;
    let url = match config::in_file(&url) {
        None => url,
        Some((path, text)) => {
            text.map_err(|e| Error::new(Kind::Config, format!("cannot read {path}")).because(e))?.trim().to_owned()
        }
    };
    let database = Database::parse(&url)?.with_naming(naming(arguments, schema)?);
    let client = database.client(Purpose::Command).await?;
    Ok((database, client))
}

async fn migrate(arguments: &ArgMatches, schema: Option<&str>) -> Result<()> {
    let (database, mut client) = connect(arguments, schema).await?;
    let migrated = install::migrate(&mut client).await?;
    let what = if migrated.applied.is_empty() { "was at" } else { "is now at" };
    let also = match migrated.is_newer {
        true => "of a later rowcast: it serves this one, and was left as it is",
        false => "functions are current",
    };
    let schema = database.naming().schema();
    say!("{database}: schema {schema} {what} version {}, {also}", migrated.version);
    if let Some((owner, remedy)) = install::locked_out_owner(&client).await? {
        say!(
            "The database belongs to {owner}, whose pg_dump fails from now on: it may not read schema {schema}.\n  \
             If {owner} makes the backups: {remedy}"
        );
    }
    Ok(())
}

async fn watch(arguments: &ArgMatches, schema: Option<&str>) -> Result<()> {
    let (database, client) = connect(arguments, schema).await?;
    install::check(&client).await?;
    if let Some(schema) = text(arguments, "schema") {
        return watch_schema(&client, schema, arguments).await;
    }
    let table = text(arguments, "table").unwrap_or_default();
    let exclude: Vec<&str> = arguments.get_many::<String>("exclude").unwrap_or_default().map(String::as_str).collect();
    let columns: Option<Vec<&str>> =
        arguments.get_many::<String>("columns").map(|columns| columns.map(String::as_str).collect());
    let number = named(&database, table).await?;
    let row = client
        .query_one(
            "select rowcast.watch($1::oid::regclass, $2, $3, $4::text::jsonb, $5, $6, $7, $8)",
            &[
                &number,
                &text(arguments, "channel"),
                &text(arguments, "user-rule"),
                &text(arguments, "notification"),
                &exclude,
                &text(arguments, "singular"),
                &columns,
                &arguments.get_flag("replicated"),
            ],
        )
        .await
        .map_err(|e| Error::database("watch", e))?;
    say!("watching {table} on channel {}", row.get::<_, &str>(0));
    Ok(())
}

/// Each table in a transaction of its own: a writer waits for the triggers of one table, not for those of the schema.
async fn watch_schema(client: &Client, schema: &str, arguments: &ArgMatches) -> Result<()> {
    let explain = |e| Error::database("watch", e);
    let except: Option<Vec<&str>> =
        arguments.get_many::<String>("except").map(|tables| tables.map(String::as_str).collect());
    let future = arguments.get_flag("future").then_some(true);
    let stated = client
        .query_one(
            "select prefix, except_tables from rowcast.state_schema($1, $2, $3, $4)",
            &[&schema, &text(arguments, "prefix"), &except, &future],
        )
        .await
        .map_err(explain)?;
    let (prefix, except): (&str, Vec<&str>) = (stated.get(0), stated.get(1));
    let tables = client
        .query("select w::oid, w::text from unnest(rowcast.unwatched_of($1, $2)) w", &[&schema, &except])
        .await
        .map_err(explain)?;
    if tables.is_empty() {
        say!("every table of schema {schema} is watched already");
    }
    let mut refused = 0;
    for table in &tables {
        let (number, name): (u32, &str) = (table.get(0), table.get(1));
        match client.query_one("select rowcast.watch_with_prefix($1::oid::regclass, $2)", &[&number, &prefix]).await {
            Ok(row) => match row.get::<_, Option<&str>>(0) {
                Some(channel) => say!("watching {name} on channel {channel}"),
                None => say!("{name} was watched by somebody else meanwhile"),
            },
            Err(error) => {
                refused += 1;
                let error = Error::database(format_args!("{name} is not watched"), error);
                let remedy = error.remedy().map(|remedy| format!("\n  {remedy}")).unwrap_or_default();
                eprintln!("{}{remedy}", error::chain(&error));
            }
        }
    }
    if refused > 0 {
        let what = format!("{refused} of {} tables of schema {schema} are not watched", tables.len());
        return Err(Error::new(Kind::Database, what).hint("each line above says what to do; the others are watched"));
    }
    Ok(())
}

async fn unwatch(arguments: &ArgMatches, schema: Option<&str>) -> Result<()> {
    let (database, client) = connect(arguments, schema).await?;
    install::check(&client).await?;
    let table = text(arguments, "table").unwrap_or_default();
    let number = named(&database, table).await?;
    let row = client
        .query_one("select rowcast.unwatch($1::oid::regclass)", &[&number])
        .await
        .map_err(|e| Error::database("unwatch", e))?;
    if row.get(0) {
        say!("{table} is no longer watched");
        Ok(())
    } else {
        Err(Error::new(Kind::Database, format!("{table} was not watched"))
            .hint(database.naming().of("select * from rowcast.watched;")))
    }
}

/// The number of a table that is named as the caller's search path has it, or of one that is gone, by its number.
async fn named(database: &Database, table: &str) -> Result<u32> {
    if let Ok(number) = table.parse() {
        return Ok(number);
    }
    database.table(table).await?.ok_or_else(|| {
        Error::new(Kind::Database, format!("relation {table} does not exist"))
            .hint("name an existing table with its schema, such as public.pets")
    })
}

/// Takes everything out again: each table in a transaction of its own, then the schema.
async fn uninstall(arguments: &ArgMatches, schema: Option<&str>) -> Result<()> {
    let (database, client) = connect(arguments, schema).await?;
    let explain = |e| Error::database("uninstall", e);
    if !arguments.get_flag("yes") {
        return Err(Error::new(
            Kind::Config,
            format!("this drops schema {} from {database}, with everything it captured", database.naming().schema()),
        )
        .hint(database.naming().of("rowcast uninstall --yes")));
    }
    client.batch_execute("select rowcast.refuse_beside_relays()").await.map_err(explain)?;
    // without a transaction around it, in which it could not commit
    client.batch_execute("call rowcast.unwatch_all()").await.map_err(explain)?;
    client.batch_execute("select rowcast.uninstall()").await.map_err(explain)?;
    say!("{database}: {} is gone, with everything it captured", database.naming().schema());
    Ok(())
}
