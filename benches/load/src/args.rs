//! The command line. Owns the words, the defaults and what does not go together; knows not what is done with it.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use postgres::config::Host;

use crate::Outcome;

pub const HELP: &str = "\
Many WebSockets on one thread, and what they cost the server. Loopback only. Prints one JSON object at the end.

load idle   --url URL --server-pid PID [options]                     opens sockets and holds them
load fanout --url URL --server-pid PID --publish WHAT [options]      and publishes rows that they must receive
load follow --url URL --server-pid PID --expect ROWS [options]       and receives the rows of another load
load ask    --url URL --server-pid PID --say TEXT --answer TEXT [options]   and each of them asks for something

all
  --url ws://127.0.0.1:PORT/PATH
                      with {n} in it, which becomes the socket's number, row n is for socket n modulo N alone;
                      else every row is for every socket
  --tokens FILE       lines; in the path {token} becomes the line of the socket's number, modulo their number
  --addressed         row n is for socket n modulo N alone, as with {n}
  --connections N     sockets (1)
  --header TEXT       one more line of the handshake, 'Name: value'; repeatable
  --ready TEXT        a socket is open once a message with this text came; else when the handshake is answered
  --server-pid PID    the server: its memory and processor time, and its children's, are measured
  --database-pid PID  Postgres: its processor time is measured, and that of all its sessions
  --timeout S         for the whole run (120)
idle
  --hold S            how long (3)
  --key NAME          the first column of rows that come, a whole number: each row has to come to a socket once
fanout
  --publish pg        INSERTs into --table NAME (public.fan) of --dsn URL
  --publish http      a POST for each row to --post-url http://127.0.0.1:PORT/PATH
  --publishers C      connections that publish (1)
  --rows R            in one transaction (1)
  --body B            bytes of filling in a row (215: a row of about 300 bytes as JSON)
  --seconds S         how long rows are published (4)
  --window W          rows at most that were published and did not come to the slowest socket (32)
  --one-at-a-time     the same as --window 1
  --rate R            instead of a window: so many rows a second, by the clock, and latency
  --warm-up S         rows of the first S seconds do not count for latency (0)
  --spin              never sleeps: the server does not pay for waking this program
  --never-read K      so many more sockets, opened, with small buffers, and never read
  --peak              the greatest memory of the server and of the kernel's TCP meanwhile
follow
  --expect ROWS       so many come to each socket; the first may take as long as --timeout. Once all sockets are open,
                      it prints a line: open
  --publishers C      those of the load that publishes (1)
ask
  --say TEXT          the message that each socket sends, one socket after the other
  --within S          the time in which all of them do (10)
  --answer TEXT       a socket has its answer once a message with this text came
  --before TEXT       and it must have had a message with this text before, else it counts as `without`";

const FLAGS: [&str; 5] = ["help", "addressed", "one-at-a-time", "spin", "peak"];

/// What was asked for.
pub struct Args {
    pub url: Url,
    pub tokens: Vec<String>,
    addressed: bool,
    pub connections: usize,
    /// lines of the handshake, each with its end
    pub headers: String,
    pub ready: Option<String>,
    pub server_pid: u32,
    pub database_pid: Option<u32>,
    pub timeout: Duration,
    pub hold: Duration,
    /// the first column of rows that are counted
    pub key: Option<String>,
    /// `None`: nothing is published here
    pub publish: Option<Publish>,
    pub table: String,
    pub publishers: usize,
    pub rows: u64,
    /// filling of a row
    pub body: String,
    pub seconds: Duration,
    pub pace: Pace,
    pub warm_up: Duration,
    pub spin: bool,
    pub never_read: usize,
    pub peak: bool,
    /// rows that another load publishes
    pub follow: Option<u64>,
    /// `None`: the sockets ask for nothing
    pub ask: Option<Ask>,
}

/// What each socket asks for.
pub struct Ask {
    pub say: String,
    pub within: Duration,
    /// a part of the message that is the answer
    pub answer: String,
    /// a part of a message that comes before it
    pub before: Option<String>,
}

/// Where rows go.
pub enum Publish {
    Postgres(Box<postgres::Config>),
    Http(Url),
}

/// When the next row goes.
pub enum Pace {
    /// as soon as fewer than so many are under way
    Window(u64),
    /// by the clock, so many a second
    Rate(f64),
}

/// An address on this machine.
#[derive(Clone)]
pub struct Url {
    pub host: SocketAddrV4,
    pub path: String,
}

impl Args {
    /// Reads the command line; `None` where help is wanted.
    pub fn parse(words: impl Iterator<Item = String>) -> Outcome<Option<Self>> {
        let mut given = Given::read(words)?;
        if given.has("help") {
            return Ok(None);
        }
        let (command, kind) = (given.command.take(), given.text("publish"));
        let publish = match (command.as_deref(), kind.as_deref()) {
            (Some("idle" | "ask" | "follow"), None) => None,
            (Some("fanout"), Some("pg")) => Some(Publish::Postgres(Box::new(local_database(&given.must("dsn")?)?))),
            (Some("fanout"), Some("http")) => Some(Publish::Http(Url::parse(&given.must("post-url")?, "http://")?)),
            _ => {
                return Err(
                    "write load idle, follow or ask, or load fanout with --publish pg or http; see load --help".into(),
                );
            }
        };
        let ask = match command.as_deref() {
            Some("ask") => Some(Ask {
                say: given.must("say")?,
                within: given.seconds("within", 10.0)?,
                answer: given.must("answer")?,
                before: given.text("before"),
            }),
            _ => None,
        };
        let follow = if command.as_deref() == Some("follow") { Some(given.must("expect")?.parse()?) } else { None };
        let key = if command.as_deref() == Some("idle") { given.text("key") } else { None };
        let window = given.number("window", 32)?;
        let args = Self {
            url: Url::parse(&given.must("url")?, "ws://")?,
            tokens: match given.text("tokens") {
                Some(file) => std::fs::read_to_string(file)?.lines().map(str::to_owned).collect(),
                None => Vec::new(),
            },
            addressed: given.has("addressed"),
            connections: given.number("connections", 1)?,
            headers: given.all("header").iter().map(|line| format!("{line}\r\n")).collect(),
            ready: given.text("ready"),
            server_pid: given.must("server-pid")?.parse()?,
            database_pid: given.text("database-pid").map(|pid| pid.parse()).transpose()?,
            timeout: given.seconds("timeout", 120.0)?,
            hold: given.seconds("hold", 3.0)?,
            key,
            publish,
            table: given.text("table").unwrap_or_else(|| "public.fan".to_owned()),
            publishers: given.number("publishers", 1)?,
            rows: given.number("rows", 1)?,
            body: "measured every minute, nothing unusual; ".chars().cycle().take(given.number("body", 215)?).collect(),
            seconds: given.seconds("seconds", 4.0)?,
            pace: match given.text("rate") {
                Some(rate) => Pace::Rate(rate.parse()?),
                None => Pace::Window(if given.has("one-at-a-time") { 1 } else { window }),
            },
            warm_up: given.seconds("warm-up", 0.0)?,
            spin: given.has("spin"),
            never_read: given.number("never-read", 0)?,
            peak: given.has("peak"),
            follow,
            ask,
        };
        if let Some(name) = given.options.into_keys().next() {
            return Err(format!("--{name} is not known here; see load --help").into());
        }
        if args.connections == 0 || args.publishers == 0 || args.rows == 0 {
            return Err("--connections, --publishers and --rows begin at 1".into());
        }
        match args.pace {
            Pace::Window(window) if window < args.rows => Err("--window has no room for --rows".into()),
            Pace::Rate(rate) if args.rows != 1 || rate <= 0.0 => Err("--rate is for transactions of one row".into()),
            Pace::Window(_) | Pace::Rate(_) => Ok(Some(args)),
        }
    }

    /// The path of a socket.
    pub fn path(&self, number: usize) -> String {
        let path = self.url.path.replace("{n}", &number.to_string());
        match self.tokens.get(number.checked_rem(self.tokens.len()).unwrap_or_default()) {
            Some(token) => path.replace("{token}", token),
            None => path,
        }
    }

    /// Whether a row is for one socket alone.
    pub fn is_addressed(&self) -> bool {
        self.addressed || self.url.path.contains("{n}")
    }
}

/// Options as they were typed; each is gone once it was asked for.
struct Given {
    command: Option<String>,
    options: HashMap<String, Vec<String>>,
}

impl Given {
    fn read(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut given = Self { command: None, options: HashMap::new() };
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(name) => {
                    let value = if FLAGS.contains(&name) { Some(String::new()) } else { words.next() };
                    let value = value.ok_or_else(|| format!("--{name} has no value"))?;
                    given.options.entry(name.to_owned()).or_default().push(value);
                }
                None if given.command.is_none() => given.command = Some(word),
                None => return Err(format!("{word} is not understood; see load --help").into()),
            }
        }
        Ok(given)
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        self.options.remove(name).unwrap_or_default()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    fn has(&mut self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn must(&mut self, name: &str) -> Result<String, String> {
        self.text(name).ok_or_else(|| format!("--{name} is missing"))
    }

    fn number<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, String> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse::<T>().map_err(|error| format!("--{name} {text}: {error}"))
    }

    fn seconds(&mut self, name: &str, default: f64) -> Result<Duration, String> {
        Duration::try_from_secs_f64(self.number(name, default)?).map_err(|error| format!("--{name}: {error}"))
    }
}

impl Url {
    fn parse(text: &str, scheme: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: write {scheme}127.0.0.1:PORT/PATH; only this machine is loaded");
        let rest = text.strip_prefix(scheme).ok_or_else(wrong)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host: SocketAddrV4 = host.replace("localhost", "127.0.0.1").parse().map_err(|_| wrong())?;
        if !host.ip().is_loopback() {
            return Err(wrong());
        }
        Ok(Self { host, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
    }
}

/// Reads a connection string.
fn local_database(dsn: &str) -> Outcome<postgres::Config> {
    let config: postgres::Config = dsn.parse()?;
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    };
    // hostaddr would win over the name
    if dsn.contains("hostaddr") || !config.get_hosts().iter().all(is_local) {
        return Err("--dsn: only a database of this machine is loaded, by its socket or 127.0.0.1".into());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        assert!(Url::parse("ws://10.0.0.1:80/", "ws://").is_err());
        assert!(Url::parse("ws://127.0.0.1:80@10.0.0.1:80/", "ws://").is_err());
        let url = Url::parse("ws://localhost:8000/ws/fan?filter=owner=eq.{n}", "ws://").unwrap();
        assert_eq!((url.host.port(), url.path.as_str()), (8000, "/ws/fan?filter=owner=eq.{n}"));
        assert!(local_database("postgres://me@%2Frun%2Fpg/bench").is_ok());
        assert!(local_database("host=127.0.0.1 user=me").is_ok());
        assert!(local_database("host=db.example.org user=me").is_err());
        assert!(local_database("host=localhost hostaddr=10.0.0.1 user=me").is_err());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let parse = |more: &str| {
            let line = format!("fanout --url ws://127.0.0.1:1/ --server-pid 1 --publish pg --dsn host=/run {more}");
            Args::parse(line.split_whitespace().map(str::to_owned)).is_ok_and(|args| args.is_some())
        };
        assert!(parse("--window 16 --rows 4 --spin"));
        for wrong in [
            "--one-at-a-time --rows 4",
            "--rate 10 --rows 4",
            "--rows",
            "--rows four",
            "--row 4",
            "--say x",
            "--key id",
            "--expect 4",
            "idle",
        ] {
            assert!(!parse(wrong), "{wrong}");
        }
    }
}
