//! What can be typed: commands, flags and their help. Owns the words; knows not what they do.

use clap::{Arg, ArgAction, ArgGroup, Command};

use crate::config::{self, SETTINGS};

const DATABASE_HELP: &str =
    "Postgres, as postgres://user:password@host:5432/database [env: ROWCAST_DATABASE_URL, DATABASE_URL]";
const SCHEMA_HELP: &str = "schema in which rowcast is installed [default: rowcast] [env: ROWCAST_SCHEMA]";
const SERVER_HELP: &str = "address of a running rowcast";
const SERVER: &str = "http://127.0.0.1:8000";

/// The command line's definition.
pub fn command() -> Command {
    let database = || Arg::new("database-url").long("database-url").value_name("URL").help(DATABASE_HELP);
    let schema = || Arg::new("installation").long("schema").value_name("NAME").help(SCHEMA_HELP);
    let url = || Arg::new("url").long("url").value_name("URL").default_value(SERVER).help(SERVER_HELP);
    Command::new("rowcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Committed Postgres row changes, written by anyone, on WebSockets within milliseconds")
        .after_help("Start with `rowcast demo`. With a database of your own: migrate, watch, serve.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(Arg::new("schema").long("schema").value_name("NAME").help(SCHEMA_HELP))
        .subcommand(
            Command::new("serve")
                .about("Relay committed changes to WebSockets")
                .arg(
                    Arg::new("config")
                        .long("config")
                        .value_name("FILE")
                        .help("TOML file with the settings below, _ for - [env: ROWCAST_CONFIG]"),
                )
                .arg(
                    Arg::new("check")
                        .long("check")
                        .action(ArgAction::SetTrue)
                        .help("only say whether the settings and the files that they name can be used: asks no database"),
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
                .args(SETTINGS.iter().filter(|setting| setting.name != "schema").map(setting_arg)),
        )
        .subcommand(
            Command::new("migrate")
                .about("Install rowcast, or bring it to this version")
                .arg(
                    Arg::new("print-grants")
                        .long("print-grants")
                        .action(clap::ArgAction::SetTrue)
                        .help("only print the roles and rights that it makes"),
                )
                .arg(schema())
                .arg(database()),
        )
        .subcommand(
            Command::new("sql")
                .about("Print what migrate would run on an empty database")
                .arg(
                    Arg::new("file")
                        .help("a file of sql/inspect instead, in the words of an installation of another name"),
                )
                .arg(schema()),
        )
        .subcommand(
            Command::new("watch")
                .about("Capture every change of a table; the same as select rowcast.watch(..)")
                .arg(Arg::new("table").help("such as public.pets").required_unless_present("schema"))
                .arg(
                    Arg::new("schema")
                        .long("schema")
                        .value_name("NAME")
                        .conflicts_with_all([
                            "table",
                            "channel",
                            "user-rule",
                            "notification",
                            "exclude",
                            "columns",
                            "singular",
                            "replicated",
                        ])
                        .help("every table of a schema that is not watched yet, each in a transaction of its own"),
                )
                .arg(
                    Arg::new("prefix")
                        .long("prefix")
                        .value_name("TEXT")
                        .requires("schema")
                        .help("what the channels' names begin with, such as t2-"),
                )
                .arg(
                    Arg::new("except")
                        .long("except")
                        .value_name("TABLE")
                        .value_delimiter(',')
                        .action(ArgAction::Append)
                        .requires("schema")
                        .help("tables of the schema that are left out"),
                )
                .arg(
                    Arg::new("future")
                        .long("future")
                        .action(ArgAction::SetTrue)
                        .requires("schema")
                        .help("also the tables that are added later, which serve watches within ten seconds"),
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
                .arg(
                    Arg::new("columns")
                        .long("columns")
                        .value_name("COLUMN")
                        .value_delimiter(',')
                        .action(ArgAction::Append)
                        .help("the only columns that may leave; one that is added later stays in"),
                )
                .arg(Arg::new("singular").long("singular").value_name("WORD").help("pet in pet_created"))
                .arg(
                    Arg::new("replicated")
                        .long("replicated")
                        .action(ArgAction::SetTrue)
                        .help("also what a subscription of logical replication writes"),
                )
                .arg(database()),
        )
        .subcommand(
            Command::new("unwatch")
                .about("Stop capturing a table; the same as select rowcast.unwatch(..)")
                .arg(Arg::new("table").required(true))
                .arg(schema())
                .arg(database()),
        )
        .subcommand(
            Command::new("uninstall")
                .about("Remove rowcast from a database, with everything it captured: one table in a transaction")
                .arg(Arg::new("yes").long("yes").help("Do it").action(ArgAction::SetTrue))
                .arg(schema())
                .arg(database()),
        )
        .subcommand(
            Command::new("status")
                .about("What a running rowcast says of itself")
                .arg(
                    Arg::new("behind")
                        .long("behind")
                        .action(ArgAction::SetTrue)
                        .help("the subscribers that have not taken everything yet: messages, bytes, milliseconds"),
                )
                .arg(
                    Arg::new("healthy")
                        .long("healthy")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("behind")
                        .help("only whether it answers, for a container's health check; without --url the port of ROWCAST_LISTEN on this machine"),
                )
                .arg(
                    Arg::new("ready")
                        .long("ready")
                        .action(ArgAction::SetTrue)
                        .conflicts_with_all(["behind", "healthy"])
                        .help("only whether it is live, as a load balancer asks"),
                )
                .arg(url())
                .arg(token()),
        )
        .subcommand(
            Command::new("kick")
                .about("Close the sockets of a user or of a channel on one node; their clients come back")
                .arg(Arg::new("user").long("user").value_name("ID").help("of this user's token, or notifications"))
                .arg(Arg::new("channel").long("channel").value_name("CHANNEL").help("that follow this channel"))
                .group(ArgGroup::new("whom").args(["user", "channel"]).required(true))
                .arg(url().help("address of the server's admin-listen, or of the server with an admin's token"))
                .arg(token()),
        )
        .subcommand(
            Command::new("tail")
                .about("Print the messages of a channel, one a line, also over lost connections")
                .arg(Arg::new("channel").required(true).help("pets, or user/123"))
                .arg(
                    Arg::new("count")
                        .short('n')
                        .long("count")
                        .value_name("N")
                        .value_parser(clap::value_parser!(u64))
                        .help("end after this many messages"),
                )
                .arg(
                    Arg::new("filter")
                        .long("filter")
                        .value_name("CONDITION")
                        .action(clap::ArgAction::Append)
                        .help("only rows for which it holds, such as user_id=eq.123; all of them, where repeated"),
                )
                .arg(
                    Arg::new("columns")
                        .long("columns")
                        .value_name("NAMES")
                        .help("only these, with commas between them"),
                )
                .arg(Arg::new("since").long("since").value_name("CURSOR").help("what was missed since then first"))
                .arg(
                    Arg::new("format")
                        .long("format")
                        .value_parser(["json", "line"])
                        .default_value("json")
                        .help("messages as they come, or time, action, channel and row"),
                )
                .arg(
                    Arg::new("snapshot")
                        .long("snapshot")
                        .action(clap::ArgAction::SetTrue)
                        .help("the current rows first"),
                )
                .arg(
                    Arg::new("cuts")
                        .long("cuts")
                        .action(clap::ArgAction::SetTrue)
                        .help("a message after each transaction"),
                )
                .arg(
                    Arg::new("old")
                        .long("old")
                        .action(clap::ArgAction::SetTrue)
                        .help("what was there before an update"),
                )
                .arg(url())
                .arg(token()),
        )
        .subcommand(
            Command::new("explain")
                .about("The life of one change: captured, delivered, to whom, or why not; or why somebody sees a row or not")
                .arg(
                    Arg::new("id")
                        .required_unless_present("as")
                        .value_parser(clap::value_parser!(i64).range(1..))
                        .help("the id of a message, or of rowcast.recent"),
                )
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("as the server tells it"))
                .arg(
                    Arg::new("as")
                        .long("as")
                        .value_name("CLAIMS")
                        .requires("channel")
                        .conflicts_with("id")
                        .help("why a client with these claims sees rows of --channel, or not: {\"sub\":\"7\",\"role\":\"vet\"}"),
                )
                .arg(Arg::new("channel").long("channel").value_name("CHANNEL").requires("as").help("of --as"))
                .arg(
                    Arg::new("key")
                        .long("key")
                        .value_name("KEY")
                        .requires("as")
                        .help("of --as: whether this row is seen: {\"pet_id\":1}"),
                )
                .arg(url())
                .arg(token())
                .arg(schema())
                .arg(database()),
        )
        .subcommand(
            Command::new("types")
                .about("Print TypeScript types of the watched tables, for rowcast-client")
                .arg(schema())
                .arg(database()),
        )
        .subcommand(
            Command::new("doctor")
                .about("Look for what is or will be wrong, with the remedy")
                .arg(
                    Arg::new("probe")
                        .long("probe")
                        .action(ArgAction::SetTrue)
                        .help("send a message the whole way, from a transaction to a socket of --url"),
                )
                .arg(url())
                .arg(token())
                .arg(schema())
                .arg(database()),
        )
}

fn token() -> Arg {
    Arg::new("token").long("token").value_name("JWT").help("where tokens are checked; better in ROWCAST_TOKEN")
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
