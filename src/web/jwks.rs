//! Keeps the key set of an issuer current, from a file or over HTTP. Owns when it is fetched; what a key is worth is
//! delivery's to say.
//!
//! It is read every five minutes, and when a token names a key that is not there, at most once in ten seconds: so an
//! issuer may rotate its keys without a restart, and strangers cannot make this server hammer the issuer. Where it
//! cannot be read, the last one goes on.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::delivery::auth::{Key, Keys};
use crate::error::{self, Error, Kind, Result};
use crate::shutdown::Shutdown;

const EVERY: Duration = Duration::from_secs(300);
const AT_LEAST: Duration = Duration::from_secs(10);
/// Until there is a first set, it is tried so often.
const FIRST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(10);
const BYTES: usize = 1 << 20;

/// Keeps the set current until the shutdown. `source`: `https://…`, `http://…`, or a file.
pub async fn run(source: String, keys: Arc<Keys>, mut shutdown: Shutdown) {
    let mut has_set = false;
    let mut failing = false;
    loop {
        match timeout(WITHIN, read(&source)).await.unwrap_or_else(|_| Err(slow(&source))) {
            Ok(set) => {
                if !has_set || failing {
                    tracing::info!(event = "keys_read", source = %source, keys = set.len());
                }
                (has_set, failing) = (true, false);
                keys.replace(set);
            }
            Err(error) => {
                if !failing {
                    tracing::error!(event = "keys_unreadable", error = error::chain(&error), has_older = has_set);
                }
                failing = true;
            }
        }
        let pause = if has_set { EVERY } else { FIRST };
        let asked = async {
            sleep(AT_LEAST.min(pause)).await;
            keys.misses_one().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = asked => {}
            () = shutdown.begun() => return,
        }
    }
}

fn slow(source: &str) -> Error {
    Error::new(Kind::Connection, format!("{source} does not answer within {} s", WITHIN.as_secs()))
}

async fn read(source: &str) -> Result<Vec<Key>> {
    let text = if source.starts_with("http://") || source.starts_with("https://") {
        fetch(source).await?
    } else {
        tokio::fs::read_to_string(source)
            .await
            .map_err(|e| Error::new(Kind::Io, format!("cannot read the key set {source}")).because(e))?
    };
    Key::set(&text).map_err(|what| Error::new(Kind::Config, format!("{source}: {what}")))
}

async fn fetch(url: &str) -> Result<String> {
    let failed = |what: &str| Error::new(Kind::Connection, format!("cannot fetch the key set {url}: {what}"));
    let uri: Uri = url.parse().map_err(|_| failed("this is no URL"))?;
    let (Some(host), secure) = (uri.host(), uri.scheme_str() == Some("https")) else {
        return Err(failed("the URL names no host"));
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|e| failed("no connection").because(e))?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed("the request cannot be made").because(e))?;
    if !secure {
        return ask(TokioIo::new(tcp), request).await.map_err(|e| failed(&e));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| failed("the host is no name"))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let tls = tls.map_err(|e| failed("no TLS connection").because(e))?;
    ask(TokioIo::new(tls), request).await.map_err(|e| failed(&e))
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> std::result::Result<String, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|e| format!("no HTTP: {e}"))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), BYTES).collect().await.map_err(|e| e.to_string())?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "the answer is no text".to_owned())
    };
    let answer = answer.await;
    driver.abort();
    answer
}
