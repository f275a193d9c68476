//! What clients have not taken yet. Owns how much memory pages hold that were asked for by the command `rows` or over HTTP, and how
//! many subscriptions of one socket, and of one user, hold rows on their way to the present.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Hub, NoPage};
use crate::delivery::access::shares;
use crate::delivery::scope::page::ViewPage;
use crate::delivery::socket::writer::SocketWriter;
use crate::room::{Room, Taken};

/// Bytes in all, and those of one user, or of one address without a user.
const ALL: usize = 64 << 20;
const ONE: usize = 16 << 20;
/// A page of so many bytes is on its way in one piece, and counts for nothing.
const SMALL: usize = 64 * 1024;
/// A page over HTTP waits so long for memory.
const WITHIN: Duration = Duration::from_secs(5);

/// What subscriptions of one socket hold at a time: eight parts of rows or of what was missed, of about 1 MiB, or two pages of up to
/// 16 MiB, of which one is read while the other is written. A thousand at once would hold as much, a thousand times, for a client
/// that reads nothing.
const HELD_BY_SOCKET: usize = 8;
/// The same of one user, over all sockets.
const HELD_BY_USER: usize = 16;

/// What a subscription on its way to the present holds until its client has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// some of the rows, or of what was missed
    Part = 1,
    /// the page with which it begins
    Page = 4,
}

pub(super) fn room() -> Room {
    Room::new(ALL, ONE)
}

pub(super) fn held_by_sockets() -> Room {
    Room::new(Semaphore::MAX_PERMITS, HELD_BY_SOCKET)
}

pub(super) fn held_by_users() -> Room {
    Room::new(Semaphore::MAX_PERMITS, HELD_BY_USER)
}

impl Hub {
    /// Memory for a page until its client has taken it; waits a moment for it.
    pub(crate) async fn room_for(&self, asker: &Arc<str>, page: &ViewPage) -> Result<Option<Taken>, NoPage> {
        if page.size() <= SMALL {
            return Ok(None);
        }
        timeout(WITHIN, self.untaken.of(asker).take(page.size())).await.map(Some).map_err(|_| NoPage::Unanswered)
    }

    /// The same, at once: of a socket many pages may be asked for at a time, and those that waited would be the memory's.
    pub(crate) fn room_now(&self, asker: &Arc<str>, page: &ViewPage) -> Result<Option<Taken>, NoPage> {
        if page.size() <= SMALL {
            return Ok(None);
        }
        self.untaken.of(asker).take(page.size()).now_or_never().map(Some).ok_or(NoPage::Unanswered)
    }

    /// The turn of a subscription that is going to hold something: among those of its socket, and of its user. Ends when dropped.
    pub(crate) async fn turn_on(
        &self,
        socket: &Arc<SocketWriter>,
        asker: &Arc<str>,
        held: Untaken,
    ) -> [Option<Taken>; 2] {
        let of_socket = self.held_by_sockets.of(&format!("{:p}", Arc::as_ptr(socket)).into());
        let of_socket = of_socket.take(held as usize).await;
        // an address may be that of all clients
        let of_user =
            if shares::is_user(asker) { Some(self.held_by_users.of(asker).take(held as usize).await) } else { None };
        [Some(of_socket), of_user]
    }
}
