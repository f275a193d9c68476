//! The bytes of a socket: a client's TCP connection, or this end of a pair whose other end is served by a task that
//! translates (TLS, server-sent events). Owns nothing but the choice.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::net::{TcpStream, UnixStream};

/// What a socket reads from and writes to.
#[derive(Debug)]
pub enum SocketStream {
    /// the client's own
    Tcp(TcpStream),
    /// one end of a pair inside this process
    Pair(UnixStream),
}

impl From<TcpStream> for SocketStream {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for SocketStream {
    fn from(end: UnixStream) -> Self {
        Self::Pair(end)
    }
}

impl SocketStream {
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Self::Tcp(tcp), [only]) => tcp.try_write(only),
            (Self::Tcp(tcp), many) => tcp.try_write_vectored(many),
            (Self::Pair(end), many) => end.try_write_vectored(many),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_read(buffer),
            Self::Pair(end) => end.try_read(buffer),
        }
    }

    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(context),
            Self::Pair(end) => end.poll_read_ready(context),
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write_ready(context),
            Self::Pair(end) => end.poll_write_ready(context),
        }
    }
}
