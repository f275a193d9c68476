//! Text of a setting → its value, and every mistake in it. Owns what is understood and what is said of what is not.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Backbone, Config, Network, SETTINGS, TlsFiles};
use crate::backbone::link::Link;
use crate::error::{Error, Kind, Result};
use crate::naming::Naming;

/// A value that stands in a file, `@/run/secrets/url`: the file's name and its text; `None` where the value is what it says.
pub fn in_file(value: &str) -> Option<(&str, io::Result<String>)> {
    value.trim().strip_prefix('@').map(|path| (path, std::fs::read_to_string(path)))
}

pub(super) struct SettingsReader {
    pub(super) file: BTreeMap<String, String>,
    pub(super) values: BTreeMap<&'static str, (String, String)>,
    mistakes: Vec<String>,
}

impl SettingsReader {
    pub(super) fn new(file: Option<&str>, mistakes: Vec<String>) -> Self {
        let mut reader = Self { file: BTreeMap::new(), values: BTreeMap::new(), mistakes };
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
                    // keys hold commas
                    let between =
                        if key.starts_with("jwt_secret") || key.starts_with("jwt_public") { "\n" } else { "," };
                    let plain = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let text = value.as_array().map_or_else(
                        || plain(&value),
                        |values| values.iter().map(plain).collect::<Vec<_>>().join(between),
                    );
                    reader.file.insert(key, text);
                }
            }
        }
        reader
    }

    pub(super) fn text(&self, name: &'static str) -> String {
        self.values.get(name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    pub(super) fn complain(&mut self, name: &'static str, what: &str) {
        let origin = self.values.get(name).map_or(name, |(origin, _)| origin);
        self.mistakes.push(format!("{origin}: {what}"));
    }

    /// The value with what is in the files that its lines name with `@` in their place.
    fn expanded(&mut self, name: &'static str) -> String {
        let mut expanded = String::new();
        for line in self.text(name).lines() {
            match in_file(line) {
                None => expanded.push_str(line),
                Some((_, Ok(text))) => expanded.push_str(&text),
                Some((path, Err(error))) => self.complain(name, &format!("cannot read {path}: {error}")),
            }
            expanded.push('\n');
        }
        expanded
    }

    /// Secrets, one a line: while one takes the place of another, both count.
    pub(super) fn secrets(&mut self, name: &'static str) -> Vec<String> {
        let text = self.expanded(name);
        text.lines().map(str::trim).filter(|secret| !secret.is_empty()).map(str::to_owned).collect()
    }

    /// Keys in PEM, one after the other.
    pub(super) fn pems(&mut self, name: &'static str) -> Vec<String> {
        const BEGIN: &str = "-----BEGIN";
        let text = self.expanded(name);
        let (before, keys) = text.split_at(text.find(BEGIN).unwrap_or(text.len()));
        let keys = keys.split(BEGIN).skip(1).map(|key| format!("{BEGIN}{key}"));
        // what is no PEM is to be complained of
        keys.chain(Some(before.trim().to_owned()).filter(|rest| !rest.is_empty())).collect()
    }

    pub(super) fn tls_files(&mut self) -> Option<TlsFiles> {
        let files = TlsFiles { certificate: self.text("tls-certificate"), key: self.text("tls-key") };
        match (files.certificate.is_empty(), files.key.is_empty()) {
            (true, true) => return None,
            (false, true) => self.complain("tls-certificate", "its key is missing: give tls-key as well"),
            (true, false) => self.complain("tls-key", "its certificate is missing: give tls-certificate as well"),
            (false, false) => {}
        }
        Some(files)
    }

    pub(super) fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.text(name);
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Origins as browsers send them: what no browser sends would allow nobody.
    pub(super) fn origins(&mut self, name: &'static str) -> Vec<String> {
        let origins = self.list(name);
        for origin in &origins {
            let is_one = origin == "*" || origin == "null" || {
                let (scheme, rest) = origin.split_once("://").unwrap_or_default();
                // a browser leaves the usual port out, and writes letters beyond ASCII as xn--…
                let has_usual_port =
                    matches!((scheme, rest.rsplit_once(':')), ("http", Some((_, "80"))) | ("https", Some((_, "443"))));
                !rest.is_empty() && rest.is_ascii() && !has_usual_port && !rest.contains(['/', '?', '#', '@', '*'])
            };
            if !is_one {
                self.complain(
                    name,
                    &format!("{origin} is no origin as a browser sends it, such as https://clinic.example: name each host in full, without a path and without the usual port"),
                );
            }
        }
        origins
    }

    pub(super) fn networks(&mut self, name: &'static str) -> Vec<Network> {
        let mut networks = Vec::new();
        for item in self.list(name) {
            match Network::parse(&item) {
                Some(network) => networks.push(network),
                None => self.complain(
                    name,
                    &format!("{item} is no address, such as 10.0.0.1, and no network, such as 10.0.0.0/8"),
                ),
            }
        }
        networks
    }

    /// An address of keys, or a file.
    pub(super) fn jwks(&mut self, name: &'static str) -> Option<String> {
        let source = Some(self.text(name)).filter(|source| !source.is_empty())?;
        if source.split_once("://").is_some_and(|(scheme, _)| !matches!(scheme, "http" | "https")) {
            self.complain(name, &format!("{source} is neither http, nor https, nor a file"));
        }
        Some(source)
    }

    /// The address of a server that speaks HTTP; `None` where it is empty.
    pub(super) fn web_address(&mut self, name: &'static str) -> Option<String> {
        let url = Some(self.text(name)).filter(|url| !url.is_empty())?;
        let parsed: Option<hyper::Uri> = url.parse().ok();
        if parsed.as_ref().and_then(hyper::Uri::authority).is_some_and(|authority| authority.as_str().contains('@')) {
            // it is not printed: there may be a password in it
            self.complain(
                name,
                "an address with a user in it is not taken: OTEL_EXPORTER_OTLP_HEADERS has what is to be sent",
            );
            return None;
        }
        if parsed.is_none_or(|uri| uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https"))) {
            self.complain(name, &format!("{url} is no address with http or https: http://127.0.0.1:4318, for example"));
        }
        Some(url)
    }

    /// A URL, or `@` and the file in which it stands: it holds a password.
    fn url(&mut self, name: &'static str) -> String {
        let url = self.expanded(name).trim().to_owned();
        // one that cannot be read was complained of
        if url.is_empty() && matches!(in_file(&self.text(name)), Some((_, Ok(_)))) {
            self.complain(name, "there is no address in the file");
        }
        url
    }

    pub(super) fn number(&mut self, name: &'static str, least: u64, most: u64) -> u64 {
        let value = self.text(name);
        match value.replace('_', "").parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.complain(name, &format!("{value} is no number from {least} to {most}"));
                least
            }
        }
    }

    pub(super) fn seconds(&mut self, name: &'static str) -> Duration {
        Duration::from_secs(self.number(name, 1, 3600))
    }

    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        match self.text(name).to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" | "" => false,
            other => {
                self.complain(name, &format!("{other} is neither true nor false"));
                false
            }
        }
    }

    pub(super) fn backbone(&mut self) -> Option<Backbone> {
        let (publish, subscribe) = (self.url("publish"), self.url("subscribe"));
        let (name, url) = match (publish.is_empty(), subscribe.is_empty()) {
            (true, true) => return None,
            (true, false) => ("subscribe", subscribe),
            (false, true) => ("publish", publish),
            (false, false) if publish == subscribe => ("publish", publish),
            (false, false) => {
                self.complain("subscribe", "a node that publishes is fed by that stream: leave this one out");
                return None;
            }
        };
        let stream = self.text("redis-stream");
        if stream.is_empty() || stream.contains(['{', '}']) {
            self.complain("redis-stream", &format!("{stream:?} is no name: it has no braces, and is not empty"));
        }
        let retention = Duration::from_secs(self.number("stream-retention-seconds", 1, 31_536_000));
        let roots = self.text("redis-ca");
        let roots = (!roots.is_empty()).then(|| std::fs::read(&roots)).transpose();
        let roots = roots.unwrap_or_else(|error| {
            self.complain("redis-ca", &format!("cannot read the file: {error}"));
            None
        });
        match Link::parse(&url) {
            Ok(link) => {
                let link = link.trusting(roots);
                Some(Backbone { link, stream, publishes: name == "publish", retention })
            }
            Err(error) => {
                let remedy = error.remedy().unwrap_or_default().to_owned();
                self.complain(name, &format!("{error}: {remedy}"));
                None
            }
        }
    }

    pub(super) fn database_url(&mut self, is_optional: bool) -> Option<String> {
        let url = self.url("database-url");
        if url.is_empty() && is_optional {
            return None;
        }
        if url.is_empty() {
            self.mistakes.push(
                "no database: set DATABASE_URL or --database-url to postgres://user:password@host:5432/database".into(),
            );
        } else if let Err(error) = crate::source::pool::Database::parse(&url) {
            let remedy = error.remedy().map(|remedy| format!(": {remedy}")).unwrap_or_default();
            self.complain("database-url", &format!("{}{remedy}", crate::error::chain(&error)));
        }
        Some(url)
    }

    pub(super) fn naming(&mut self, name: &'static str) -> Naming {
        let schema = self.text(name);
        if schema.is_empty() {
            return Naming::default();
        }
        Naming::of_schema(&schema).unwrap_or_else(|error| {
            self.complain(name, &error.to_string());
            Naming::default()
        })
    }

    pub(super) fn listen(&mut self) -> SocketAddr {
        let fallback = SocketAddr::from(([127, 0, 0, 1], 8000));
        if !self.text("listen").is_empty() {
            return self.address("listen").unwrap_or(fallback);
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

    pub(super) fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        let address = self.text(name).replace("localhost", "127.0.0.1");
        let parsed = address.parse().ok();
        if parsed.is_none() && !address.is_empty() {
            self.complain(name, &format!("{address} is no address with a port, such as 127.0.0.1:8000"));
        }
        parsed
    }

    pub(super) fn finish(self, config: Config) -> Result<Config> {
        if self.mistakes.is_empty() {
            return Ok(config);
        }
        Err(Error::new(Kind::Config, format!("the settings cannot be used:\n  - {}", self.mistakes.join("\n  - "))))
    }
}
