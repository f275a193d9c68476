//! Settings: one definition each, read from flags, environment and a TOML file, all mistakes reported at once. Owns
//! what is sound; names and defaults are in `settings`, what is understood in `reader`. Of the
//! stages it knows how an address or a key is read, and nothing else.

mod environment;
mod network;
mod reader;
mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use network::Network;
use reader::SettingsReader;
pub use reader::in_file;
pub use settings::{SETTINGS, Setting};
use tokio::sync::mpsc;

use crate::backbone::link::Link;
use crate::delivery::access::shares::Most;
use crate::errand::Errand;
use crate::error::Result;
use crate::naming::Naming;

/// Settings that were read and found sound.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is explained by its definition in SETTINGS")]
pub struct Config {
    /// `None`: a node that follows a stream and has no database
    pub database_url: Option<String>,
    pub schema: Naming,
    pub listen: SocketAddr,
    /// without a key everybody may see everything, also beyond this machine
    pub allow_anonymous: bool,
    /// `None`: metrics and status are answered where sockets are
    pub admin_listen: Option<SocketAddr>,
    pub log: String,
    pub log_json: Option<bool>,
    /// `None`: stderr
    pub log_file: Option<PathBuf>,
    pub heartbeat: Duration,
    pub ping: Duration,
    pub message_bytes: u32,
    pub max_sockets: i64,
    pub max_subscriptions: u32,
    pub log_bytes: u64,
    pub view_bytes: u64,
    /// bytes of the values of claims that stand in tables
    pub claim_bytes: u64,
    pub history_bytes: u64,
    pub drain: Duration,
    /// so long a start waits for a database that is away
    pub wait: Duration,
    pub keys: KeySettings,
    pub admission: Admission,
    pub most: Most,
    pub commands_per_second: NonZeroU32,
    /// 0: any number
    pub replay_bytes_per_second: u32,
    /// `None`: connections are not encrypted
    pub tls: Option<TlsFiles>,
    /// what this server is called in its log, in `rowcast.nodes`, and among the sessions of the database: eight digits by chance
    pub node: String,
    /// a collector of OpenTelemetry; `None`: no traces are told
    pub otlp_endpoint: Option<String>,
    /// `None`: this node reads Postgres itself
    pub backbone: Option<Backbone>,
    /// `rowcast demo`: the clinic's page is served, and this takes what it asks of the clinic's application
    pub application: Option<mpsc::Sender<Errand>>,
}

/// What tokens are checked with. The secret is in no log: `Debug` leaves it out.
#[derive(Clone, Default)]
#[allow(missing_docs, reason = "each is explained by its definition in SETTINGS")]
pub struct KeySettings {
    pub secrets: Vec<String>,
    pub public_keys: Vec<String>,
    pub jwks: Option<String>,
    pub audiences: Vec<String>,
    pub issuers: Vec<String>,
    pub leeway: Duration,
}

impl KeySettings {
    /// Whether there is any key: without one, everybody may see everything.
    pub fn is_some(&self) -> bool {
        !self.secrets.is_empty() || !self.public_keys.is_empty() || self.jwks.is_some()
    }
}

impl std::fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySettings").field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

/// PEM files of the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// the certificate, and those between it and a root
    pub certificate: String,
    /// its private key
    pub key: String,
}

/// The Redis Stream between nodes.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// the Redis
    pub link: Link,
    /// name of the stream
    pub stream: String,
    /// whether this node is a candidate for writing it
    pub publishes: bool,
    /// entries older than this leave the stream
    pub retention: Duration,
}

/// Who may open a socket.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// `Origin` headers that are allowed besides the server's own; `*` any
    pub origins: Vec<String>,
    /// proxies whose `X-Forwarded-For` is believed
    pub proxies: Vec<Network>,
    /// each connection begins with a header of the PROXY protocol, of one of the `proxies`
    pub proxy_protocol: bool,
    /// connections of one address at most that are no sockets; 0: any number
    pub connections_per_address: u32,
}

/// Reads the settings. `flag` is a closure and `env` a map of the environment's variables, so that a test has its own; `file`
/// is the TOML file's text.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) with every mistake, one a line.
pub fn load(
    flag: impl Fn(&str) -> Option<String>,
    env: &BTreeMap<String, String>,
    file: Option<&str>,
) -> Result<Config> {
    let mut reader = SettingsReader::new(file, environment::mistakes(env.keys().map(String::as_str)));
    for setting in SETTINGS {
        let from_env = || {
            let given = |name: &&str| env.get(*name).filter(|v| !v.is_empty()).map(|v| (format!("${name}"), v.clone()));
            setting.env.iter().find_map(given)
        };
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
    let backbone = reader.backbone();
    let is_optional = backbone.as_ref().is_some_and(|backbone| !backbone.publishes);
    let config = Config {
        database_url: reader.database_url(is_optional),
        schema: reader.naming("schema"),
        backbone,
        listen: reader.listen(),
        allow_anonymous: reader.flag("allow-anonymous"),
        admin_listen: reader.address("admin-listen"),
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
        log_file: Some(reader.text("log-file")).filter(|path| !path.is_empty()).map(PathBuf::from),
        heartbeat: reader.seconds("heartbeat-seconds"),
        ping: reader.seconds("ping-seconds"),
        message_bytes: reader.number("message-bytes", 125, 64 << 20) as u32,
        max_sockets: reader.number("max-sockets", 1, 10_000_000).cast_signed(),
        max_subscriptions: reader.number("max-subscriptions", 1, 10_000) as u32,
        log_bytes: reader.number("log-bytes", 64 << 10, 4 << 30),
        view_bytes: reader.number("view-bytes", 1 << 20, 1 << 40),
        claim_bytes: reader.number("claim-bytes", 1 << 20, 1 << 40),
        history_bytes: reader.number("history-bytes", 64 << 10, 64 << 30),
        drain: reader.seconds("drain-seconds"),
        wait: Duration::from_secs(reader.number("wait-seconds", 0, 86_400)),
        keys: KeySettings {
            secrets: reader.secrets("jwt-secret"),
            public_keys: reader.pems("jwt-public-key"),
            jwks: reader.jwks("jwks"),
            audiences: reader.list("jwt-audience"),
            issuers: reader.list("jwt-issuer"),
            leeway: Duration::from_secs(reader.number("jwt-leeway-seconds", 0, 600)),
        },
        admission: Admission {
            origins: reader.origins("origins"),
            proxies: reader.networks("trusted-proxies"),
            proxy_protocol: reader.flag("proxy-protocol"),
            connections_per_address: reader.number("max-connections-per-address", 0, 10_000_000) as u32,
        },
        most: Most {
            sockets_per_address: reader.number("max-sockets-per-address", 0, 10_000_000) as u32,
            sockets_per_user: reader.number("max-sockets-per-user", 0, 10_000_000) as u32,
            strangers_per_address: reader.number("max-unauthenticated-per-address", 0, 10_000_000) as u32,
            views_per_user: reader.number("max-views-per-user", 0, 10_000_000) as u32,
            views_per_address: reader.number("max-views-per-address", 0, 10_000_000) as u32,
        },
        commands_per_second: NonZeroU32::new(reader.number("commands-per-second", 1, 100_000) as u32)
            .unwrap_or(NonZeroU32::MIN),
        replay_bytes_per_second: reader.number("replay-bytes-per-second", 0, u32::MAX.into()) as u32,
        tls: reader.tls_files(),
        node: format!("{:08x}", fastrand::u32(..)),
        otlp_endpoint: reader.web_address("otlp-endpoint"),
        application: None,
    };
    for (name, is_empty) in [
        ("jwt-secret", config.keys.secrets.is_empty()),
        ("jwt-public-key", config.keys.public_keys.is_empty()),
        ("jwks", config.keys.jwks.is_none()),
    ] {
        if is_empty && reader.values.contains_key(name) {
            reader.complain(
                name,
                "there is no key in it, so no token would be checked: put a key there, or leave the setting out",
            );
        }
    }
    if config.keys.secrets.iter().any(|secret| secret.len() < 16) {
        reader.complain("jwt-secret", "it is shorter than 16 bytes and can be guessed: openssl rand -hex 32");
    }
    for pem in &config.keys.public_keys {
        if let Err(what) = crate::delivery::access::auth::Key::pem(pem) {
            reader.complain("jwt-public-key", what);
        }
    }
    if !config.keys.is_some() {
        for name in ["jwt-audience", "jwt-issuer"] {
            if !reader.text(name).is_empty() {
                reader.complain(name, "no token is checked: there is no key (--jwt-secret, --jwt-public-key, --jwks)");
            }
        }
        if !config.admission.proxies.is_empty() && !reader.flag("allow-anonymous") {
            reader.complain("trusted-proxies", "others come by a proxy and every channel is open: give a key to check tokens with (--jwt-secret, --jwt-public-key, --jwks), or say --allow-anonymous");
        }
    }
    if config.admission.proxy_protocol && config.admission.proxies.is_empty() {
        reader.complain("proxy-protocol", "no proxy's header would be believed: name the proxies in trusted-proxies");
    }
    if config.admin_listen.is_some_and(|admin| admin == config.listen && admin.port() != 0) {
        reader.complain("admin-listen", &format!("{} is where listen is: choose another port", config.listen));
    }
    if !config.listen.ip().is_loopback() && !config.keys.is_some() && !reader.flag("allow-anonymous") {
        reader.complain(
            "listen",
            &format!("{} is beyond loopback and every channel is open: give a key to check tokens with (--jwt-secret, --jwt-public-key, --jwks), or say --allow-anonymous", config.listen),
        );
    }
    reader.finish(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[(&str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Config> {
        let find =
            |list: &[(&str, &str)], name: &str| list.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(|name| find(flags, name), &env, file)
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

    /// A check that is asked for and cannot be made is not left out.
    #[test]
    fn what_would_check_nothing_is_refused() {
        let key = ("jwt-secret", "a secret of enough letters");
        for (flags, env, refused) in [
            (&[("jwt-audience", "app")][..], &[URL][..], Some("--jwt-audience: no token is checked")),
            (&[("jwt-issuer", "https://issuer.example")], &[URL], Some("--jwt-issuer: no token is checked")),
            (&[("trusted-proxies", "127.0.0.1")], &[URL], Some("--trusted-proxies: others come by a proxy")),
            (&[("trusted-proxies", "127.0.0.1"), ("allow-anonymous", "true")], &[URL], None),
            (&[("trusted-proxies", "10.0.0.0/8, fd00::/8"), key], &[URL], None),
            (&[("trusted-proxies", "10.0.0.0/99"), key], &[URL], Some("10.0.0.0/99 is no address")),
            (&[key], &[URL, ("ROWCAST_JWKS_URL", "https://issuer.example/keys")], Some("is $ROWCAST_JWKS meant?")),
            (&[("jwks", "ftp://issuer.example/keys")], &[URL], Some("--jwks: ftp://issuer.example/keys")),
            (&[("origins", "clinic.example")], &[URL], Some("clinic.example is no origin")),
            (&[("origins", "https://clinic.example/")], &[URL], Some("is no origin")),
            (&[("origins", "https://*.clinic.example")], &[URL], Some("is no origin")),
            (&[("origins", "https://clinic.example:443")], &[URL], Some("is no origin")),
            (&[("origins", "http://clinic.example:80")], &[URL], Some("is no origin")),
            (&[("origins", "https://bücher.example")], &[URL], Some("is no origin")),
            (&[("origins", "https://clinic.example:8443, http://[::1]:3000, capacitor://localhost")], &[URL], None),
            (&[("jwks", "")], &[URL], Some("--jwks: there is no key")),
            (&[], &[URL, ("ROWCAST_JWT_SECRET", "")], None),
            (&[], &[("DATABASE_URL", "mysql://a/b")], Some("mysql")),
        ] {
            let error = with(flags, env, None).err().map(|error| error.to_string());
            match refused {
                None => assert_eq!(error, None, "{flags:?} {env:?}"),
                Some(refused) => {
                    assert!(
                        error.as_deref().is_some_and(|error| error.contains(refused)),
                        "{flags:?} {env:?}: {error:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_empty_file_or_list_of_keys_is_refused() {
        let path = std::env::temp_dir().join(format!("rowcast-empty-{}", std::process::id()));
        let named = format!("@{}", path.display());
        for text in ["", "\n \n"] {
            std::fs::write(&path, text).unwrap();
            for name in ["jwt-secret", "jwt-public-key", "publish", "subscribe", "database-url"] {
                let error = with(&[(name, &named)], &[URL], None).unwrap_err().to_string();
                assert!(error.contains(&format!("--{name}: there is no")), "{name}: {error}");
            }
        }
        std::fs::remove_file(path).unwrap();
        let error = with(&[], &[URL], Some("jwt_secret = []")).unwrap_err().to_string();
        assert!(error.contains("jwt-secret in the file: there is no key"), "{error}");
    }

    #[test]
    fn a_url_with_a_password_may_stand_in_a_file() {
        let path = std::env::temp_dir().join(format!("rowcast-url-{}", std::process::id()));
        std::fs::write(&path, "postgres://me:secret@localhost/clinic\n").unwrap();
        let named = format!("@{}", path.display());
        let config = with(&[], &[("DATABASE_URL", &named)], None).unwrap();
        assert_eq!(config.database_url.as_deref(), Some("postgres://me:secret@localhost/clinic"));
        std::fs::write(&path, "redis://:secret@localhost\n").unwrap();
        assert!(with(&[("publish", &named)], &[URL], None).unwrap().backbone.is_some());
        std::fs::remove_file(path).unwrap();
        assert!(
            with(&[], &[("DATABASE_URL", "@/nowhere/url")], None).unwrap_err().to_string().contains("/nowhere/url")
        );
    }

    #[test]
    fn several_keys_count_at_once() {
        let (old, new) = ("an old, long secret", "a new, long secret");
        let folder = std::env::temp_dir().join(format!("rowcast-secrets-{}", std::process::id()));
        std::fs::write(&folder, format!("{new}\n")).unwrap();
        let lines = format!("{old}\n@{}", folder.display());
        assert_eq!(with(&[("jwt-secret", &lines)], &[URL], None).unwrap().keys.secrets, [old, new]);
        std::fs::write(&folder, format!("{old}\n\n{new}")).unwrap();
        let named = format!("@{}", folder.display());
        assert_eq!(with(&[], &[URL, ("ROWCAST_JWT_SECRET", &named)], None).unwrap().keys.secrets, [old, new]);
        let file = format!("jwt_secret = [{old:?}, {new:?}]");
        assert_eq!(with(&[], &[URL], Some(&file)).unwrap().keys.secrets, [old, new]);
        let error = with(&[("jwt-secret", "a long, long secret\nshort")], &[URL], None).unwrap_err();
        assert!(error.to_string().contains("shorter than 16 bytes") && !error.to_string().contains("long, long"));
        let pem = include_str!("../tests/keys/rsa.public.pem");
        std::fs::write(&folder, pem).unwrap();
        let both = format!("{named}\n{pem}");
        assert_eq!(with(&[("jwt-public-key", &both)], &[URL], None).unwrap().keys.public_keys.len(), 2);
        assert!(with(&[("jwt-public-key", "no key")], &[URL], None).is_err());
        std::fs::remove_file(folder).unwrap();
    }

    #[test]
    fn a_password_is_never_repeated() {
        let error = with(&[], &[("DATABASE_URL", "postgres://me:s3cret@host:port/x")], None).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
        // the driver would take what follows the first @ for a host
        for url in [
            "postgres://me:tom@s3cret@host/x",
            "postgresql://me:tom@s3/cret@host/x",
            "jdbc:postgresql://host/x?user=me&password=tom@s3cret",
            "jdbc:postgresql://host:5432/x?user=me&password=s3cret@tom",
            "postgres://host/x?password=s3cret@tom",
            "postgres://me:tom@s3?cret@host/x?sslmode=require",
        ] {
            let error = with(&[], &[("DATABASE_URL", url)], None).unwrap_err();
            let told = format!("{error} {:?}", error.remedy());
            assert!(told.contains("%40") && !told.contains("s3cret") && !told.contains("tom"), "{told}");
        }
        for url in ["postgres://me:p?sslmode=x@host/db", "postgres://me:a/b@host/db?application_name=a@b"] {
            assert!(with(&[], &[("DATABASE_URL", url)], None).is_ok(), "{url}");
        }
    }
}
