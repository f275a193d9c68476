//! Settings: one definition each, read from flags, environment and a TOML file, all mistakes reported at once. Owns
//! names and defaults; knows no stage.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// A setting as flag, environment variable and TOML key.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `--name` and, with `_` for `-`, the TOML key
    pub name: &'static str,
    /// environment variables, the first that is set counts
    pub env: &'static [&'static str],
    /// default
    pub default: Option<&'static str>,
    /// one line
    pub help: &'static str,
}

/// Every setting of `rowcast serve`. A flag wins over the environment, the environment over the file.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "database-url",
        env: &["ROWCAST_DATABASE_URL", "DATABASE_URL"],
        default: None,
        help: "Postgres, as postgres://user:password@host:5432/database",
    },
    Setting {
        name: "listen",
        env: &["ROWCAST_LISTEN"],
        default: None,
        help: "address and port of the server [default: 127.0.0.1:8000]",
    },
    Setting {
        name: "websocket-host",
        env: &["WEBSOCKET_HOST"],
        default: Some("127.0.0.1"),
        help: "address of the server, where listen is not given",
    },
    Setting {
        name: "websocket-port",
        env: &["WEBSOCKET_PORT"],
        default: Some("8000"),
        help: "port of the server, where listen is not given",
    },
    Setting {
        name: "allow-anonymous",
        env: &["ROWCAST_ALLOW_ANONYMOUS"],
        default: Some("false"),
        help: "serve addresses beyond loopback although every channel is open to everybody",
    },
    Setting {
        name: "log",
        env: &["ROWCAST_LOG"],
        default: Some("info"),
        help: "error, warn, info, debug or a tracing filter",
    },
    Setting {
        name: "websocket-debug",
        env: &["WEBSOCKET_DEBUG"],
        default: Some("false"),
        help: "the same as log = debug",
    },
    Setting {
        name: "log-format",
        env: &["ROWCAST_LOG_FORMAT"],
        default: Some("auto"),
        help: "human, json, or auto: human on a terminal",
    },
    Setting {
        name: "heartbeat-seconds",
        env: &["ROWCAST_HEARTBEAT_SECONDS"],
        default: Some("25"),
        help: "a channel that is silent this long sends a heartbeat",
    },
    Setting {
        name: "ping-seconds",
        env: &["ROWCAST_PING_SECONDS"],
        default: Some("30"),
        help: "a client is pinged this often, and dropped when it was silent since the last ping",
    },
    Setting {
        name: "message-bytes",
        env: &["ROWCAST_MESSAGE_BYTES"],
        default: Some("65536"),
        help: "largest message from a client",
    },
    Setting {
        name: "jwt-secret",
        env: &["ROWCAST_JWT_SECRET"],
        default: None,
        help: "the secret of tokens (HS256, HS384, HS512), or @FILE; with any key, a policy must allow what is seen",
    },
    Setting {
        name: "jwt-public-key",
        env: &["ROWCAST_JWT_PUBLIC_KEY"],
        default: None,
        help: "the public key of tokens in PEM (RSA, P-256, P-384, Ed25519), or @FILE",
    },
    Setting {
        name: "jwks",
        env: &["ROWCAST_JWKS"],
        default: None,
        help: "the key set of tokens: a URL or a file, kept current",
    },
    Setting {
        name: "jwt-audience",
        env: &["ROWCAST_JWT_AUDIENCE"],
        default: None,
        help: "a token must be for one of these (aud), with commas between them",
    },
    Setting {
        name: "jwt-issuer",
        env: &["ROWCAST_JWT_ISSUER"],
        default: None,
        help: "a token must be of one of these (iss), with commas between them",
    },
    Setting {
        name: "jwt-leeway-seconds",
        env: &["ROWCAST_JWT_LEEWAY_SECONDS"],
        default: Some("10"),
        help: "by which the issuer's clock and this one may differ",
    },
    Setting {
        name: "origins",
        env: &["ROWCAST_ORIGINS"],
        default: None,
        help: "web pages of these origins may connect, with commas between them, * any [default: the server's own]",
    },
    Setting {
        name: "trusted-proxies",
        env: &["ROWCAST_TRUSTED_PROXIES"],
        default: None,
        help: "addresses whose X-Forwarded-For is believed, with commas between them",
    },
    Setting {
        name: "max-sockets-per-address",
        env: &["ROWCAST_MAX_SOCKETS_PER_ADDRESS"],
        default: Some("0"),
        help: "sockets of one address; 0 any number",
    },
    Setting {
        name: "max-sockets-per-user",
        env: &["ROWCAST_MAX_SOCKETS_PER_USER"],
        default: Some("100"),
        help: "sockets of one user, by the token's sub; 0 any number",
    },
    Setting {
        name: "commands-per-second",
        env: &["ROWCAST_COMMANDS_PER_SECOND"],
        default: Some("100"),
        help: "commands of one client a second, and as many more at once",
    },
    Setting { name: "max-sockets", env: &["ROWCAST_MAX_SOCKETS"], default: Some("100000"), help: "sockets in all" },
    Setting {
        name: "max-subscriptions",
        env: &["ROWCAST_MAX_SUBSCRIPTIONS"],
        default: Some("100"),
        help: "channels on one socket",
    },
    Setting {
        name: "log-bytes",
        env: &["ROWCAST_LOG_BYTES"],
        default: Some("4194304"),
        help: "bytes of frames kept per channel: how far a client may fall behind",
    },
    Setting {
        name: "history-bytes",
        env: &["ROWCAST_HISTORY_BYTES"],
        default: Some("67108864"),
        help: "bytes of changes kept in memory: clients that come back within them cost the database nothing",
    },
    Setting {
        name: "drain-seconds",
        env: &["ROWCAST_DRAIN_SECONDS"],
        default: Some("10"),
        help: "time for sockets to go when the server ends",
    },
];

/// Settings that were read and found sound.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is explained by its definition in SETTINGS")]
pub struct Config {
    pub database_url: String,
    pub listen: SocketAddr,
    pub log: String,
    pub log_json: Option<bool>,
    pub heartbeat: Duration,
    pub ping: Duration,
    pub message_bytes: u32,
    pub max_sockets: i64,
    pub max_subscriptions: u32,
    pub log_bytes: u64,
    pub history_bytes: u64,
    pub drain: Duration,
    pub keys: KeySettings,
    pub admission: Admission,
    pub commands_per_second: NonZeroU32,
    /// `rowcast demo`: also the clinic's page is served
    pub is_demo: bool,
}

/// What tokens are checked with. The secret is in no log: `Debug` leaves it out.
#[derive(Clone, Default)]
#[allow(missing_docs, reason = "each is explained by its definition in SETTINGS")]
pub struct KeySettings {
    pub secret: Option<String>,
    pub public_key: Option<String>,
    pub jwks: Option<String>,
    pub audiences: Vec<String>,
    pub issuers: Vec<String>,
    pub leeway: Duration,
}

impl KeySettings {
    /// Whether there is any key: without one, everybody may see everything.
    pub fn is_some(&self) -> bool {
        self.secret.is_some() || self.public_key.is_some() || self.jwks.is_some()
    }
}

impl std::fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySettings").field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

/// Who may open a socket.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "each is explained by its definition in SETTINGS")]
pub struct Admission {
    pub origins: Vec<String>,
    pub proxies: Vec<IpAddr>,
    pub sockets_per_address: u32,
    pub sockets_per_user: u32,
}

/// Reads the settings. `flag` and `env` are closures, so tests need no environment; `file` is the TOML file's text.
///
/// # Errors
/// [`Kind::Config`] with every mistake, one a line.
pub fn load(
    flag: impl Fn(&str) -> Option<String>,
    env: impl Fn(&str) -> Option<String>,
    file: Option<&str>,
) -> Result<Config> {
    let mut reader = Reader::new(file);
    for setting in SETTINGS {
        let from_env =
            || setting.env.iter().find_map(|name| env(name).filter(|v| !v.is_empty()).map(|v| (format!("${name}"), v)));
        let from_file = || {
            reader
                .file
                .get(&setting.name.replace('-', "_"))
                .map(|v| (format!("{} in the file", setting.name), v.clone()))
        };
        let given = flag(setting.name).map(|v| (format!("--{}", setting.name), v)).or_else(from_env).or_else(from_file);
        if let Some(value) = given.or_else(|| setting.default.map(|v| (setting.name.to_owned(), v.to_owned()))) {
            reader.values.insert(setting.name, value);
        }
    }
    let config = Config {
        database_url: reader.database_url(),
        listen: reader.listen(),
        log: if reader.flag("websocket-debug") { "debug".into() } else { reader.text("log") },
        log_json: match reader.text("log-format").as_str() {
            "auto" => None,
            "human" => Some(false),
            "json" => Some(true),
            other => {
                reader.complain("log-format", &format!("{other} is none of human, json, auto"));
                None
            }
        },
        heartbeat: reader.seconds("heartbeat-seconds"),
        ping: reader.seconds("ping-seconds"),
        message_bytes: reader.number("message-bytes", 125, 64 << 20) as u32,
        max_sockets: reader.number("max-sockets", 1, 10_000_000).cast_signed(),
        max_subscriptions: reader.number("max-subscriptions", 1, 10_000) as u32,
        log_bytes: reader.number("log-bytes", 64 << 10, 4 << 30),
        history_bytes: reader.number("history-bytes", 64 << 10, 64 << 30),
        drain: reader.seconds("drain-seconds"),
        keys: KeySettings {
            secret: reader.secret("jwt-secret"),
            public_key: reader.secret("jwt-public-key"),
            jwks: Some(reader.text("jwks")).filter(|source| !source.is_empty()),
            audiences: reader.list("jwt-audience"),
            issuers: reader.list("jwt-issuer"),
            leeway: Duration::from_secs(reader.number("jwt-leeway-seconds", 0, 600)),
        },
        admission: Admission {
            origins: reader.list("origins"),
            proxies: reader.addresses("trusted-proxies"),
            sockets_per_address: reader.number("max-sockets-per-address", 0, 10_000_000) as u32,
            sockets_per_user: reader.number("max-sockets-per-user", 0, 10_000_000) as u32,
        },
        commands_per_second: NonZeroU32::new(reader.number("commands-per-second", 1, 100_000) as u32)
            .unwrap_or(NonZeroU32::MIN),
        is_demo: false,
    };
    if config.keys.secret.as_ref().is_some_and(|secret| secret.len() < 16) {
        reader.complain("jwt-secret", "it is shorter than 16 bytes and can be guessed: openssl rand -hex 32");
    }
    if let Some(pem) = &config.keys.public_key
        && let Err(what) = crate::delivery::auth::Key::pem(pem)
    {
        reader.complain("jwt-public-key", what);
    }
    if !config.listen.ip().is_loopback() && !config.keys.is_some() && !reader.flag("allow-anonymous") {
        reader.complain(
            "listen",
            &format!("{} is beyond loopback and every channel is open: give a key to check tokens with (--jwt-secret, --jwt-public-key, --jwks), or say --allow-anonymous", config.listen),
        );
    }
    reader.finish(config)
}

struct Reader {
    file: BTreeMap<String, String>,
    values: BTreeMap<&'static str, (String, String)>,
    mistakes: Vec<String>,
}

impl Reader {
    fn new(file: Option<&str>) -> Self {
        let mut reader = Self { file: BTreeMap::new(), values: BTreeMap::new(), mistakes: Vec::new() };
        match file.map(toml::from_str::<toml::Table>) {
            None => {}
            Some(Err(error)) => reader.mistakes.push(format!("the configuration file is no TOML: {}", error.message())),
            Some(Ok(table)) => {
                for (key, value) in table {
                    if !SETTINGS.iter().any(|setting| setting.name.replace('-', "_") == key) {
                        let known: Vec<_> = SETTINGS.iter().map(|s| s.name.replace('-', "_")).collect();
                        reader.mistakes.push(format!(
                            "the configuration file has {key}, which is no setting; there are: {}",
                            known.join(", ")
                        ));
                    }
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    reader.file.insert(key, text);
                }
            }
        }
        reader
    }

    fn text(&self, name: &'static str) -> String {
        self.values.get(name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn complain(&mut self, name: &'static str, what: &str) {
        let origin = self.values.get(name).map_or(name, |(origin, _)| origin);
        self.mistakes.push(format!("{origin}: {what}"));
    }

    /// The value, or what is in the file that it names with `@`.
    fn secret(&mut self, name: &'static str) -> Option<String> {
        let value = self.text(name);
        let Some(path) = value.strip_prefix('@') else { return Some(value).filter(|value| !value.is_empty()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                self.complain(name, &format!("cannot read {path}: {error}"));
                None
            }
        }
    }

    fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.text(name);
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn addresses(&mut self, name: &'static str) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for item in self.list(name) {
            match item.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => self.complain(name, &format!("{item} is no address, such as 10.0.0.1")),
            }
        }
        addresses
    }

    fn number(&mut self, name: &'static str, least: u64, most: u64) -> u64 {
        let value = self.text(name);
        match value.replace('_', "").parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.complain(name, &format!("{value} is no number from {least} to {most}"));
                least
            }
        }
    }

    fn seconds(&mut self, name: &'static str) -> Duration {
        Duration::from_secs(self.number(name, 1, 3600))
    }

    fn flag(&mut self, name: &'static str) -> bool {
        match self.text(name).to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" | "" => false,
            other => {
                self.complain(name, &format!("{other} is neither true nor false"));
                false
            }
        }
    }

    fn database_url(&mut self) -> String {
        let url = self.text("database-url");
        if url.is_empty() {
            self.mistakes.push(
                "no database: set DATABASE_URL or --database-url to postgres://user:password@host:5432/database".into(),
            );
        } else if let Err(error) = crate::source::pool::Database::parse(&url) {
            self.complain("database-url", &crate::error::chain(&error));
        }
        url
    }

    fn listen(&mut self) -> SocketAddr {
        let fallback = SocketAddr::from(([127, 0, 0, 1], 8000));
        let listen = self.text("listen");
        if !listen.is_empty() {
            let listen = listen.replace("localhost", "127.0.0.1");
            return listen.parse().unwrap_or_else(|_| {
                self.complain("listen", &format!("{listen} is no address with a port, such as 127.0.0.1:8000"));
                fallback
            });
        }
        let host = self.text("websocket-host").replace("localhost", "127.0.0.1");
        let port = self.number("websocket-port", 0, 65535) as u16;
        match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => {
                self.complain("websocket-host", &format!("{host} is no address, such as 127.0.0.1"));
                fallback
            }
        }
    }

    fn finish(self, config: Config) -> Result<Config> {
        if self.mistakes.is_empty() {
            return Ok(config);
        }
        Err(Error::new(Kind::Config, format!("the settings cannot be used:\n  - {}", self.mistakes.join("\n  - "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[(&str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Config> {
        let find =
            |list: &[(&str, &str)], name: &str| list.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        load(|name| find(flags, name), |name| find(env, name), file)
    }

    const URL: (&str, &str) = ("DATABASE_URL", "postgres://me@localhost/clinic");

    #[test]
    fn flag_wins_over_environment_over_file() {
        let file = Some("listen = \"127.0.0.1:1\"\nping_seconds = 7");
        assert_eq!(with(&[], &[URL], file).unwrap().listen.port(), 1);
        assert_eq!(with(&[], &[URL], file).unwrap().ping, Duration::from_secs(7));
        assert_eq!(with(&[], &[URL, ("ROWCAST_LISTEN", "127.0.0.1:2")], file).unwrap().listen.port(), 2);
        let flags = [("listen", "localhost:3")];
        assert_eq!(with(&flags, &[URL, ("ROWCAST_LISTEN", "127.0.0.1:2")], file).unwrap().listen.port(), 3);
    }

    #[test]
    fn the_clinics_variables_work() {
        let env = [URL, ("WEBSOCKET_HOST", "::1"), ("WEBSOCKET_PORT", "9000"), ("WEBSOCKET_DEBUG", "True")];
        let config = with(&[], &env, None).unwrap();
        assert_eq!(config.listen, "[::1]:9000".parse().unwrap());
        assert_eq!(config.log, "debug");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let file = Some("log_bites = 3\ndrain_seconds = \"soon\"");
        let error = with(&[("max-sockets", "-1")], &[("ROWCAST_LISTEN", "here")], file).unwrap_err().to_string();
        for part in [
            "no database",
            "log_bites",
            "drain-seconds in the file: soon",
            "--max-sockets: -1",
            "$ROWCAST_LISTEN: here",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn beyond_loopback_needs_a_word() {
        let env = [URL, ("ROWCAST_LISTEN", "0.0.0.0:8000")];
        assert!(with(&[], &env, None).unwrap_err().to_string().contains("--allow-anonymous"));
        assert!(with(&[("allow-anonymous", "true")], &env, None).is_ok());
    }

    #[test]
    fn a_password_is_never_repeated() {
        let error = with(&[], &[("DATABASE_URL", "postgres://me:s3cret@host:port/x")], None).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
