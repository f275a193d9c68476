//! A WebSocket client that waits for what must come, and no longer than ten seconds.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::PATIENCE;

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn connect(address: SocketAddr, path: &str, protocol: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        Ok(Self(tokio_tungstenite::connect_async(request).await?.0))
    }

    pub(crate) async fn over_tls(address: SocketAddr, path: &str, config: Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let connector = Some(Connector::Rustls(config));
        let opened = client_async_tls_with_config(format!("wss://localhost{path}"), tcp, None, connector).await;
        Self(opened.unwrap().0)
    }

    /// The next message that is no heartbeat, and no end of a channel's part of a cut.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let message = self.any_message().await;
            if message["type"] != "cut" || message["channel"].is_null() {
                return message;
            }
        }
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn any_message(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] != "heartbeat" {
                        return message;
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// Waits for a gap, and says its reason. What DDL has done is noticed at the next look, ten seconds later.
    pub(crate) async fn gap(&mut self) -> String {
        let reason = async {
            loop {
                let text = self.next_text().await.expect("closed");
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "gap" {
                    return message["reason"].as_str().unwrap().to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, reason).await.expect("a gap")
    }

    /// The next heartbeat; nothing else may come before it.
    pub(crate) async fn heartbeat(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.next().await {
                let message: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(message["type"], "heartbeat", "{message}");
                return message;
            }
        }
    }

    /// The code of the close frame that ends the connection; messages before it are dropped.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a close code").code.into();
            }
        }
    }

    /// The next text, until the connection ends, however it does.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something in time");
            match next {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.raw(Message::text(text)).await;
    }

    /// Sends to a server that may close meanwhile.
    pub(crate) async fn try_send(&mut self, text: &str) {
        let _ = self.0.send(Message::text(text)).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next())
            .await
            .expect("a message in time")
            .expect("an open connection")
            .expect("a frame")
    }
}
