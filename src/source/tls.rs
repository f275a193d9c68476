//! Whether and how a connection to Postgres is encrypted. Owns what `sslmode` and `sslrootcert` of a database URL mean;
//! the handshake is rustls'.
//!
//! There is no encryption without a check: `require` verifies as `verify-full` does, since a certificate that nobody
//! checks keeps nobody out. Without an `sslmode` a connection is not encrypted. `prefer` and `allow` leave it to the
//! server, or to a stranger that answers in its place: they are refused.

use std::fmt;

use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};

/// What makes an encrypted stream of a plain one, where the server is asked for it.
#[derive(Clone)]
pub struct Connector(MakeRustlsConnect);
/// Its stream, encrypted or not.
pub type PostgresStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl MakeTlsConnect<Socket> for Connector {
    type Stream = PostgresStream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    /// A Unix socket has no name, and is asked for one although nothing will be encrypted.
    fn make_tls_connect(&mut self, domain: &str) -> std::result::Result<Self::TlsConnect, Self::Error> {
        let domain = if domain.is_empty() { "localhost" } else { domain };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, domain)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// A database URL without what only this file understands, whether it asks for encryption, and the connector for it.
///
/// # Errors
/// [`Kind::Config`] where the mode is unknown or said twice, or the roots cannot be read.
pub fn split(url: &str) -> Result<(String, SslMode, Connector)> {
    let mut ours: Vec<(String, String)> = Vec::new();
    let mut take = |name: String, value: String| {
        let is_ours = name == "sslmode" || name == "sslrootcert";
        if is_ours {
            ours.push((name, value));
        }
        is_ours
    };
    let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        without_query_parameters(url, &mut take)
    } else {
        without_words(url, &mut take)
    };
    let one = |name: &str| -> Result<Option<&str>> {
        let mut found = ours.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = found.next();
        if found.next().is_some() {
            return Err(Error::new(Kind::Config, format!("the database URL says {name} twice")));
        }
        Ok(first)
    };
    let (roots, mode) = (one("sslrootcert")?, one("sslmode")?.unwrap_or_default());
    let is_encrypted = match mode {
        "" | "disable" => false,
        "require" | "verify-ca" | "verify-full" => true,
        "allow" | "prefer" => {
            return Err(Error::new(Kind::Config, format!("sslmode={mode} does not say whether the connection is encrypted"))
                .hint("write sslmode=verify-full, or sslmode=disable where the network is trusted. For a certificate that no known authority has signed, name its root: sslrootcert=FILE"));
        }
        other => {
            return Err(Error::new(Kind::Config, format!("sslmode={other} is unknown"))
                .hint("disable or verify-full; require is the same as verify-full. For a certificate that no known authority has signed, name its root: sslrootcert=FILE"));
        }
    };
    let mut store = RootCertStore::empty();
    match roots.filter(|_| is_encrypted) {
        Some(path) => {
            let unfit = |what: String| Error::new(Kind::Config, format!("sslrootcert={path}: {what}"));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unfit(format!("{e}")))? {
                let certificate = certificate.map_err(|e| unfit(format!("{e}")))?;
                store.add(certificate).map_err(|e| unfit(format!("{e}")))?;
            }
            if store.is_empty() {
                return Err(unfit("there is no certificate in it, in PEM".into()));
            }
        }
        None if is_encrypted => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        None => {}
    }
    let config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    let mode = if is_encrypted { SslMode::Require } else { SslMode::Disable };
    Ok((rest, mode, Connector(MakeRustlsConnect::new(config))))
}

/// The query begins behind the password, which may have a question mark in it.
pub(super) fn without_query_parameters(url: &str, take: &mut impl FnMut(String, String) -> bool) -> String {
    let behind_password = url.find('@').unwrap_or_default();
    let Some(query) = url[behind_password..].find('?').map(|at| behind_password + at) else { return url.to_owned() };
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let kept = url[query + 1..].split('&').filter(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !take(decode(name), decode(value))
    });
    let kept = kept.collect::<Vec<_>>().join("&");
    if kept.is_empty() { url[..query].to_owned() } else { format!("{}?{kept}", &url[..query]) }
}

/// Words of the form `name = value` or `name='value'`, with `\\` before a quote or a backslash.
fn without_words(text: &str, take: &mut impl FnMut(String, String) -> bool) -> String {
    let (mut kept, mut letters) = (String::new(), text.chars().peekable());
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace() && *letter != '=') {
            name.push(letter);
        }
        if name.is_empty() {
            // what else there is is the library's to refuse
            kept.extend(letters);
            return kept.trim_end().to_owned();
        }
        while letters.next_if(|letter| letter.is_whitespace() || *letter == '=').is_some() {}
        let is_quoted = letters.next_if_eq(&'\'').is_some();
        let (mut value, mut raw) = (String::new(), String::new());
        while let Some(letter) = letters.next() {
            if (is_quoted && letter == '\'') || (!is_quoted && letter.is_whitespace()) {
                break;
            }
            raw.push(letter);
            if letter == '\\'
                && let Some(escaped) = letters.next()
            {
                raw.push(escaped);
                value.push(escaped);
            } else {
                value.push(letter);
            }
        }
        if !take(name.clone(), value) {
            let quote = if is_quoted { "'" } else { "" };
            kept.push_str(&format!("{name}={quote}{raw}{quote} "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out_wherever_it_stands() {
        for (url, rest, mode) in [
            ("postgres://me@host/db", "postgres://me@host/db", SslMode::Disable),
            ("postgres://me@host/db?sslmode=verify-full", "postgres://me@host/db", SslMode::Require),
            ("postgres://me@host/db?sslmode=disable&a=3", "postgres://me@host/db?a=3", SslMode::Disable),
            ("postgresql://me@host/db?a=3&sslmode=require", "postgresql://me@host/db?a=3", SslMode::Require),
            ("postgres://me:p?sslmode=disable@host/db", "postgres://me:p?sslmode=disable@host/db", SslMode::Disable),
            ("sslmode=require host=here", "host=here", SslMode::Require),
            ("host=here\tsslmode = 'require' dbname=db", "host=here dbname=db", SslMode::Require),
            (
                "host=here password='a sslmode=disable \\' b' sslmode=require",
                "host=here password='a sslmode=disable \\' b'",
                SslMode::Require,
            ),
            ("host=here dbname=sslmode", "host=here dbname=sslmode", SslMode::Disable),
        ] {
            let (left, asked, _) = split(url).unwrap();
            assert_eq!((left.as_str(), asked), (rest, mode), "{url}");
        }
        for wrong in
            ["postgres://me@host/db?sslmode=sometimes", "postgres://me@host/db?sslmode=disable&sslmode=require"]
        {
            assert!(split(wrong).is_err(), "{wrong}");
        }
        for undecided in ["prefer", "allow"] {
            let error = split(&format!("postgres://me@host/db?sslmode={undecided}")).unwrap_err();
            assert!(error.remedy().is_some_and(|remedy| remedy.contains("sslmode=disable")), "{error}");
        }
        let error = split("postgres://me@host/db?sslmode=require&sslrootcert=%2Fnowhere%2Fca.pem").unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
