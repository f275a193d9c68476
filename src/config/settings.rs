//! Every setting of `rowcast serve`: names, defaults, help.

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
        name: "schema",
        env: &["ROWCAST_SCHEMA"],
        default: Some("rowcast"),
        help: "schema in which rowcast is installed",
    },
    Setting {
        name: "publish",
        env: &["ROWCAST_PUBLISH"],
        default: None,
        help: "be a publisher candidate: the Redis whose Redis Stream carries the changes to all nodes",
    },
    Setting {
        name: "subscribe",
        env: &["ROWCAST_SUBSCRIBE"],
        default: None,
        help: "be a gateway: the Redis whose Redis Stream brings the changes; the database is asked only for snapshots and for changes that the Redis Stream no longer has",
    },
    Setting {
        name: "redis-stream",
        env: &["ROWCAST_REDIS_STREAM"],
        default: Some("rowcast"),
        help: "name of the Redis Stream: one for each database",
    },
    Setting {
        name: "stream-retention-seconds",
        env: &["ROWCAST_STREAM_RETENTION_SECONDS"],
        default: Some("3600"),
        help: "how long changes stay in the Redis Stream, for nodes and clients that come back",
    },
    Setting {
        name: "redis-ca",
        env: &["ROWCAST_REDIS_CA"],
        default: None,
        help: "PEM file with the roots to trust for rediss [default: the system's]",
    },
    Setting {
        name: "listen",
        env: &["ROWCAST_LISTEN"],
        default: None,
        help: "address and port of the server [default: 127.0.0.1:8000]",
    },
    Setting {
        name: "admin-listen",
        env: &["ROWCAST_ADMIN_LISTEN"],
        default: None,
        help: "address and port for metrics, status and health alone, without a token: listen answers those to an admin's token alone",
    },
    Setting {
        name: "otlp-endpoint",
        env: &["ROWCAST_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        default: None,
        help: "collector of OpenTelemetry, by OTLP over HTTP, that is told of transactions whose writers name their trace",
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
        name: "log-file",
        env: &["ROWCAST_LOG_FILE"],
        default: None,
        help: "file for the log instead of stderr; one a day with its date behind the name, and the last seven are kept",
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
        help: "the secret of tokens (HS256, HS384, HS512), or @FILE; several, one a line, while one replaces another; with any key, a policy must allow what is seen",
    },
    Setting {
        name: "jwt-public-key",
        env: &["ROWCAST_JWT_PUBLIC_KEY"],
        default: None,
        help: "the public key of tokens in PEM (RSA, P-256, P-384, P-521, Ed25519), or @FILE; several, one after the other",
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
        name: "tls-certificate",
        env: &["ROWCAST_TLS_CERTIFICATE"],
        default: None,
        help: "PEM file: serve https and wss with this certificate and its chain; a renewed one is taken up by itself",
    },
    Setting {
        name: "tls-key",
        env: &["ROWCAST_TLS_KEY"],
        default: None,
        help: "PEM file with the certificate's private key",
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
        help: "addresses and networks whose X-Forwarded-For is believed, with commas between them",
    },
    Setting {
        name: "proxy-protocol",
        env: &["ROWCAST_PROXY_PROTOCOL"],
        default: Some("false"),
        help: "each connection to listen begins with a header of the PROXY protocol, and comes from one of trusted-proxies",
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
        name: "max-connections-per-address",
        env: &["ROWCAST_MAX_CONNECTIONS_PER_ADDRESS"],
        default: Some("4096"),
        help: "connections of one address that are no sockets, not counting this machine's own and those of trusted proxies; 0 any number",
    },
    Setting {
        name: "max-unauthenticated-per-address",
        env: &["ROWCAST_MAX_UNAUTHENTICATED_PER_ADDRESS"],
        default: Some("100"),
        help: "sockets of one address that have neither token nor subscription yet; 0 any number",
    },
    Setting {
        name: "max-views-per-user",
        env: &["ROWCAST_MAX_VIEWS_PER_USER"],
        default: Some("2500"),
        help: "distinct filters and columns of one user, over all sockets; 0 any number",
    },
    Setting {
        name: "max-views-per-address",
        env: &["ROWCAST_MAX_VIEWS_PER_ADDRESS"],
        default: Some("20000"),
        help: "the same for all clients of one address that have no user; 0 any number",
    },
    Setting {
        name: "commands-per-second",
        env: &["ROWCAST_COMMANDS_PER_SECOND"],
        default: Some("100"),
        help: "commands of one client a second, and as many more at once; subscribe and unsubscribe besides, twice as many at once as a socket may have subscriptions",
    },
    Setting {
        name: "replay-bytes-per-second",
        env: &["ROWCAST_REPLAY_BYTES_PER_SECOND"],
        default: Some("0"),
        help: "bytes of snapshots and of what was missed that a client is sent in a second, 0 any number",
    },
    Setting { name: "max-sockets", env: &["ROWCAST_MAX_SOCKETS"], default: Some("100000"), help: "sockets in all" },
    Setting {
        name: "max-subscriptions",
        env: &["ROWCAST_MAX_SUBSCRIPTIONS"],
        default: Some("2500"),
        help: "subscriptions on one socket",
    },
    Setting {
        name: "log-bytes",
        env: &["ROWCAST_LOG_BYTES"],
        default: Some("4194304"),
        help: "bytes of the frame log of each view: how far a client may fall behind",
    },
    Setting {
        name: "view-bytes",
        env: &["ROWCAST_VIEW_BYTES"],
        default: Some("268435456"),
        help: "bytes of all frame logs together: beyond, the subscribers furthest behind are dropped",
    },
    Setting {
        name: "claim-bytes",
        env: &["ROWCAST_CLAIM_BYTES"],
        default: Some("67108864"),
        help: "bytes of what connected users have of claims that stand in tables: users that come beyond see nothing by them",
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
    Setting {
        name: "wait-seconds",
        env: &["ROWCAST_WAIT_SECONDS"],
        default: Some("300"),
        help: "how long a start waits for a database or a Redis that is away; then it ends",
    },
];
