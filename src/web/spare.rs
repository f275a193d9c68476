//! What is answered when there is room for no more connections: whether the server is well, and nothing else. Owns the
//! few descriptors that are kept back for it, and the little time that each connection has there.
//!
//! A client that asks for a health path sends its request at once; one that only holds a connection is sent away after
//! a moment, so a flood of those delays the answer by less than a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::proxied::client_of;
use super::state::Web;

/// Connections at a time.
const PLACES: usize = 32;
/// One may hold its place for so long while others want it.
const AT_LEAST: Duration = Duration::from_millis(50);
/// And for so long in any case.
const WITHIN: Duration = Duration::from_secs(1);
/// Bytes of a request.
const HEAD: usize = 4096;

/// Connections that are answered in brief.
#[derive(Debug, Default)]
pub(super) struct SpareConnections {
    running: JoinSet<()>,
    /// oldest first; some may have ended
    places: VecDeque<(Instant, AbortHandle)>,
}

impl SpareConnections {
    /// Answers a connection, in the place of the oldest where all are taken.
    pub(super) async fn take(&mut self, tcp: TcpStream, web: &Arc<Web>) {
        while self.running.try_join_next().is_some() {}
        while self.running.len() >= PLACES {
            self.places.retain(|(_, place)| !place.is_finished());
            let Some((since, oldest)) = self.places.front() else { break };
            tokio::select! {
                _ = self.running.join_next() => {}
                () = sleep_until(*since + AT_LEAST) => {
                    oldest.abort();
                    let _ = self.running.join_next().await;
                }
            }
        }
        let web = web.clone();
        let place = self.running.spawn(async move {
            let _ = timeout(WITHIN, answer(tcp, &web)).await;
        });
        self.places.push_back((Instant::now(), place));
        self.places.retain(|(_, place)| !place.is_finished());
    }
}

async fn answer(mut tcp: TcpStream, web: &Web) -> std::io::Result<()> {
    // a proxy's health checks begin as all that it forwards does; which client it names does not matter here
    if web.admission.proxy_protocol {
        client_of(&mut tcp).await?;
    }
    match &web.tls {
        None => talk(tcp, web).await,
        Some(tls) => match tls.handshake(tcp).await {
            Some(secured) => talk(secured, web).await,
            None => Ok(()),
        },
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, web: &Web) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let is_ready = web.hub.is_live() && !web.shutdown.has_begun();
    let (status, text) = match path_of(&head) {
        Some(b"/healthz") => ("200 OK", "ok\n"),
        Some(b"/readyz") if is_ready => ("200 OK", "ready\n"),
        Some(b"/readyz") => ("503 Service Unavailable", "capture is not live\n"),
        _ => ("503 Service Unavailable", "all connections are in use: try again later\n"),
    };
    // spread over ten seconds, as other refusals are
    let after = fastrand::u16(1..=10);
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nretry-after: {after}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Of a GET, without its query.
fn path_of(head: &[u8]) -> Option<&[u8]> {
    let rest = head.strip_prefix(b"GET ")?;
    rest.split(|byte| matches!(byte, b' ' | b'?' | b'\r')).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_has_a_path() {
        assert_eq!(path_of(b"GET /healthz HTTP/1.1\r\n"), Some(&b"/healthz"[..]));
        assert_eq!(path_of(b"GET /readyz?full HTTP/1.1\r\n"), Some(&b"/readyz"[..]));
        assert_eq!(path_of(b"POST /healthz HTTP/1.1\r\n"), None);
        assert_eq!(path_of(b""), None);
    }
}
