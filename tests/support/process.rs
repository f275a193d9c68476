//! `rowcast serve` as a process of its own: what it takes of the machine can be seen from outside.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::PATIENCE;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Started, and live; a client that is silent there is not taken for gone, and no log is shortened by time.
    /// `descriptors`: how many it may have, 0 as many as this process.
    pub(crate) async fn serve(url: &str, descriptors: u32, arguments: &[&str]) -> Self {
        let limit = if descriptors > 0 { format!("ulimit -n {descriptors}; ") } else { String::new() };
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "{limit}exec \"$0\" serve --log-format json --ping-seconds 600 --heartbeat-seconds 600 \"$@\""
                ),
                env!("CARGO_BIN_EXE_rowcast"),
            ])
            .args(arguments)
            .env("DATABASE_URL", url)
            .env("ROWCAST_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(text) = line["address"].as_str().filter(|_| line["event"] == "listening") {
                address = Some(text.parse().unwrap());
            }
            if line["event"] == "source_live" {
                break;
            }
        }
        // a log that nobody reads would stop it
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address: address.expect("an address") }
    }

    /// Bytes of memory that it has now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// The status that a path answers, its text, and after how long.
    pub(crate) async fn get(&self, path: &str) -> (u16, String, Duration) {
        let began = Instant::now();
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, tcp.read_to_string(&mut answer)).await;
        read.expect("an answer within thirty seconds").unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text).to_owned();
        (status, text, began.elapsed())
    }

    /// A socket whose client never reads, once it is one. It asks for the small buffers that a phone would have.
    pub(crate) async fn mute(&self, path: &str) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut tcp = socket.connect(self.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        tcp.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 101", "{path}");
        tcp
    }
}
