//! Whether and how a connection to Postgres is encrypted. Owns what `sslmode` and `sslrootcert` of a database URL mean;
//! the handshake is rustls'.
//!
//! There is no encryption without a check: `require` verifies as `verify-full` does, since a certificate that nobody
//! checks keeps nobody out. Without an `sslmode` a connection is not encrypted.

use std::fmt;

use tokio_postgres::Socket;
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
pub type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
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

/// A database URL without what only this file understands, and the connector for it.
///
/// # Errors
/// [`Kind::Config`] where the mode is unknown or the roots cannot be read.
pub fn split(url: &str) -> Result<(String, Connector)> {
    let mut url = url.to_owned();
    let roots = take(&mut url, "sslrootcert");
    let mode = take(&mut url, "sslmode").unwrap_or_default();
    let is_encrypted = match mode.as_str() {
        "" | "disable" | "allow" | "prefer" => false,
        "require" | "verify-ca" | "verify-full" => true,
        other => {
            return Err(Error::new(Kind::Config, format!("sslmode={other} is unknown"))
                .hint("disable or verify-full; require is the same as verify-full"));
        }
    };
    let separator = match (url.contains("://"), url.contains('?')) {
        (true, true) => '&',
        (true, false) => '?',
        (false, _) => ' ',
    };
    url.push_str(&format!("{separator}sslmode={}", if is_encrypted { "require" } else { "disable" }));
    let mut store = RootCertStore::empty();
    match roots.filter(|_| is_encrypted) {
        Some(path) => {
            let unfit = |what: String| Error::new(Kind::Config, format!("sslrootcert={path}: {what}"));
            for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| unfit(format!("{e}")))? {
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
    Ok((url, Connector(MakeRustlsConnect::new(config))))
}

/// Takes a parameter out of a URL's query or a list of `name=value`.
fn take(url: &mut String, name: &str) -> Option<String> {
    let start = url.match_indices(name).map(|(at, _)| at).find(|&at| {
        at > 0 && matches!(url.as_bytes()[at - 1], b'?' | b'&' | b' ') && url[at + name.len()..].starts_with('=')
    })?;
    let value = start + name.len() + 1;
    let end = url[value..].find(['&', ' ']).map_or(url.len(), |length| value + length);
    let taken = percent_encoding::percent_decode_str(&url[value..end]).decode_utf8_lossy().into_owned();
    // with what divides it from the next, or else from the one before
    if end < url.len() {
        url.replace_range(start..=end, "");
    } else {
        url.truncate(start - 1);
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out_wherever_it_stands() {
        for (url, plain) in [
            ("postgres://me@host/db", "postgres://me@host/db?sslmode=disable"),
            ("postgres://me@host/db?sslmode=verify-full", "postgres://me@host/db?sslmode=require"),
            (
                "postgres://me@host/db?sslmode=prefer&connect_timeout=3",
                "postgres://me@host/db?connect_timeout=3&sslmode=disable",
            ),
            (
                "postgres://me@host/db?connect_timeout=3&sslmode=require",
                "postgres://me@host/db?connect_timeout=3&sslmode=require",
            ),
            ("host=here sslmode=require dbname=db", "host=here dbname=db sslmode=require"),
            ("host=here dbname=sslmode", "host=here dbname=sslmode sslmode=disable"),
        ] {
            assert_eq!(split(url).unwrap().0, plain, "{url}");
        }
        assert!(split("postgres://me@host/db?sslmode=sometimes").is_err());
        let error = split("postgres://me@host/db?sslmode=require&sslrootcert=%2Fnowhere%2Fca.pem").unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
