//! The service manager, as systemd is one: a socket that it passes, and what it is told. Owns both protocols (sd_listen_fds,
//! sd_notify); without a service manager it does nothing.

use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Kind, Result};
use crate::shutdown::Shutdown;

/// The listening socket that it has passed. It stays open while the server is started anew: connections wait in it, and none is
/// refused.
///
/// # Errors
/// [`Kind::Io`] where what it has passed is no listening TCP socket.
pub(crate) fn passed_socket() -> Result<Option<TcpListener>> {
    let explain = |e| {
        Error::new(Kind::Io, "the service manager has passed what is no listening TCP socket")
            .because(e)
            .hint("in the socket unit, write ListenStream= with a port, or an address and a port")
    };
    let Some(passed) = ListenFd::from_env().take_tcp_listener(0).map_err(explain)? else { return Ok(None) };
    passed.set_nonblocking(true).map_err(explain)?;
    TcpListener::from_std(passed).map(Some).map_err(explain)
}

/// Tells it that the server listens, whether it is live, that it is there still, and that it ends. Runs until the shutdown.
pub(crate) async fn run(mut live: watch::Receiver<bool>, mut shutdown: Shutdown) {
    // a server that waits for its database answers what is asked of its health, and lets sockets wait
    tell(&[NotifyState::Ready, status(*live.borrow_and_update())]);
    // the beat is the runtime's: one that is stuck is started anew. Twice in the time, as sd_watchdog_enabled(3) advises
    let mut beats = sd_notify::watchdog_enabled().map(|within| interval((within / 2).max(SHORTEST)));
    if let Some(beats) = &mut beats {
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let beat = async {
            match &mut beats {
                Some(beats) => _ = beats.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = beat => tell(&[NotifyState::Watchdog]),
            Ok(()) = live.changed() => tell(&[status(*live.borrow_and_update())]),
            () = shutdown.begun() => return tell(&[NotifyState::Stopping, NotifyState::Status("draining")]),
        }
    }
}

/// Of the watchdog.
const SHORTEST: Duration = Duration::from_millis(1);

fn status(is_live: bool) -> NotifyState<'static> {
    NotifyState::Status(if is_live { "live" } else { "no changes come: not connected to the database, or to Redis" })
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(event = "service_manager_deaf", %error);
    }
}
