//! Where the server listens. Owns the listening sockets: bound here, or passed by the service manager.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::service_manager;

/// Connections that wait to be accepted. A client whose first packet finds this full tries again after a second: with
/// the usual 128 that befell a storm of 256 at a time.
const BACKLOG: u32 = 4096;

/// Binds the configured address, or takes the socket that the service manager has passed.
///
/// # Errors
/// [`Kind::Io`] when the port is in use or not ours to take.
pub fn bind(config: &Config) -> Result<TcpListener> {
    if let Some(passed) = service_manager::passed_socket()? {
        let address = passed.local_addr().unwrap_or(config.listen);
        if !address.ip().is_loopback() && !config.keys.is_some() && !config.allow_anonymous {
            let text =
                format!("the socket that was passed is at {address}, beyond loopback, and every channel is open");
            let remedy = "give a key to check tokens with (--jwt-secret, --jwt-public-key, --jwks), say --allow-anonymous, or write ListenStream=127.0.0.1:8000";
            return Err(Error::new(Kind::Config, text).hint(remedy));
        }
        return Ok(passed);
    }
    listen_at(config.listen, "listen")
}

pub(super) fn listen_at(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    listen(address).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program listens there: stop it or choose another port with --{setting}")
            }
            std::io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with --{setting}"),
            _ => format!("choose an address of this machine with --{setting}"),
        };
        Error::new(Kind::Io, format!("cannot listen on {address}")).because(e).hint(hint)
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // a restarted server takes its port back while old connections of it are still in TIME_WAIT
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
