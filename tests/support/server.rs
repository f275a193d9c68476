//! A rowcast of the test's own, in this process, on a free port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rowcast::shutdown::{self, Trigger};
use rowcast::{config, error, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::socket::Socket;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    trigger: Trigger,
    running: JoinHandle<error::Result<()>>,
}

impl TestServer {
    pub(crate) fn start(database_url: &str) -> Self {
        Self::start_with(database_url, &[])
    }

    pub(crate) fn start_with(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let flag = |name: &str| match name {
            "database-url" => Some(database_url.to_owned()).filter(|url| !url.is_empty()),
            _ => settings
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
                .or_else(|| (name == "listen").then(|| "127.0.0.1:0".to_owned())),
        };
        let config = config::load(flag, &BTreeMap::new(), None).unwrap();
        let listener = serve::bind(&config).unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let running = tokio::spawn(serve::run(config, listener, shutdown));
        Self { address, trigger, running }
    }

    pub(crate) async fn socket(&self, path: &str) -> Socket {
        Socket::connect(self.address, path, None).await.unwrap()
    }

    /// A socket that is subscribed: its `subscribed` has been read.
    pub(crate) async fn subscribed(&self, path: &str) -> Socket {
        let mut socket = self.socket(path).await;
        let first = socket.message().await;
        assert_eq!(first["type"], "subscribed", "{first}");
        socket
    }

    /// One that asks for a snapshot: its rows, and the socket once it is subscribed.
    pub(crate) async fn subscribed_with_rows(&self, path: &str) -> (Vec<Value>, Socket) {
        let mut socket = self.socket(path).await;
        let mut rows = Vec::new();
        loop {
            let message = socket.message().await;
            match message["type"].as_str() {
                Some("snapshot") => rows.extend(message["rows"].as_array().unwrap().iter().cloned()),
                // they may be those of a moment ago, and what came since
                Some("realtime_update") if message["action"] == "created" => rows.push(message["data"].clone()),
                Some("subscribed") => return (rows, socket),
                _ => panic!("{message}"),
            }
        }
    }

    /// The same as [`Self::subscribed`], and the place where it begins.
    pub(crate) async fn subscribed_at(&self, path: &str) -> (Socket, String) {
        let mut socket = self.socket(path).await;
        let first = socket.message().await;
        assert_eq!(first["type"], "subscribed", "{first}");
        (socket, first["cursor"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.get_with(path, "").await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// Head and body of the answer to a request with these headers more, each with its end of line.
    pub(crate) async fn get_with(&self, path: &str, headers: &str) -> (String, String) {
        let (head, body) = self.get_bytes(path, headers).await;
        (head, String::from_utf8(body).unwrap())
    }

    /// The same where the body is no text.
    pub(crate) async fn get_bytes(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        answer.truncate(end);
        (String::from_utf8(answer).unwrap(), body)
    }

    pub(crate) async fn status_over_tls(&self, config: Arc<ClientConfig>) -> serde_json::Value {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(config).connect(name, tcp).await.unwrap();
        tls.write_all(b"GET /websocket/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub(crate) async fn status_as_admin(&self, token: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(&format!("/websocket/status?token={token}")).await.1).unwrap()
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/websocket/status").await.1).unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn stop_by_itself(self) -> error::Result<()> {
        self.running.await.unwrap()
    }

    /// Drains and says how the server ended.
    pub(crate) async fn stop(self) -> error::Result<()> {
        self.trigger.begin();
        self.running.await.unwrap()
    }
}
