//! One request over HTTP or HTTPS, for key sets, status pages and orders: small, and seldom. Owns the connection and the size of
//! what it takes; how long it may take is the caller's.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};

/// Larger answers are refused.
const BYTES: usize = 1 << 20;

/// The status and the text that a URL answers. Certificates are checked against the system's, or those of the file that
/// `SSL_CERT_FILE` names.
///
/// # Errors
/// [`Kind::Config`] where it is no URL, [`Kind::Connection`] where there is no answer.
pub async fn get(url: &str, authorization: Option<HeaderValue>) -> Result<(StatusCode, String)> {
    request(Method::GET, url, authorization).await
}

/// The same of a POST without a body.
///
/// # Errors
/// As [`get`].
pub async fn post(url: &str, authorization: Option<HeaderValue>) -> Result<(StatusCode, String)> {
    request(Method::POST, url, authorization).await
}

async fn request(method: Method, url: &str, authorization: Option<HeaderValue>) -> Result<(StatusCode, String)> {
    let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Bytes::new());
    let request = request.map_err(|_| Error::new(Kind::Config, format!("{url} is no URL")))?;
    let (parts, body) = send(request).await?.into_parts();
    let text = String::from_utf8(body.to_vec());
    let text = text.map_err(|_| Error::new(Kind::Connection, format!("cannot fetch {url}: the answer is no text")))?;
    Ok((parts.status, text))
}

/// Sends a request whose URI has a host, on a connection of its own, and gives what is answered.
///
/// # Errors
/// As [`get`].
pub async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>> {
    let uri = request.uri().clone();
    let failed = |what: &str| Error::new(Kind::Connection, format!("cannot fetch {uri}: {what}"));
    let (Some(host), secure) = (uri.host(), uri.scheme_str() == Some("https")) else {
        return Err(Error::new(Kind::Config, format!("{uri} names no host")).hint("http://127.0.0.1:8000, for example"));
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, port)).await.map_err(|e| failed("no connection").because(e))?;
    let authority = HeaderValue::from_str(uri.authority().map_or(host, |authority| authority.as_str()));
    let authority = authority.map_err(|_| failed("the host is no name"))?;
    request.headers_mut().insert(header::HOST, authority);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() = path.map_err(|_| failed("the path is none"))?;
    let request = request.map(Full::new);
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

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> std::result::Result<Response<Bytes>, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|e| format!("no HTTP: {e}"))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let (parts, body) = sender.send_request(request).await.map_err(|e| e.to_string())?.into_parts();
        let body = Limited::new(body, BYTES).collect().await.map_err(|e| e.to_string())?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let answer = answer.await;
    driver.abort();
    answer
}
