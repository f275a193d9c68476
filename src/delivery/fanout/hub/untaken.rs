//! Pages that their clients have not taken yet. Owns how much memory those hold that were asked for by the command `rows` or over
//! HTTP, and how many subscriptions of one socket begin with a page at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Hub, NoPage};
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

/// Subscriptions of one socket that begin with a page: while one is written, the next one's is read. A thousand at once would hold
/// as many pages, of up to 16 MiB, for a client that reads none.
const BEGINNING: usize = 2;

pub(super) fn room() -> Room {
    Room::new(ALL, ONE)
}

pub(super) fn beginning() -> Room {
    Room::new(Semaphore::MAX_PERMITS, BEGINNING)
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

    /// The turn of a subscription that begins with a page, among those of its socket. Ends when dropped.
    pub(crate) async fn turn_on(&self, socket: &Arc<SocketWriter>) -> Taken {
        self.beginning.of(&format!("{:p}", Arc::as_ptr(socket)).into()).take(1).await
    }
}
