//! Pages of rows that a client asks for on an open socket. Owns their tasks, and that a page stands behind all that the socket was
//! told up to where it was read; what a page is of is the hub's.
//!
//! A client keeps its own version of each row that a change has touched since it asked, and takes the page's version of any
//! other. That is right because the page was read after the client asked (or nothing has changed since), and is
//! sent when the socket was written all changes up to it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::catch_up::JoinFailed;
use super::syncs::OnTheirWay;
use crate::delivery::access::auth::Identity;
use crate::delivery::fanout::hub::{Freshness, Hub, NoPage};
use crate::delivery::scope::label::Label;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::delivery::wire::frame::{self, CloseCode};
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::request::PageSpec;

/// So many a socket may wait for at a time.
const WAITING: usize = 32;
/// A client that takes nothing of its page for so long has its socket closed, and comes back.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// So often a page is read again, where what may be seen changes meanwhile.
const TRIES: u32 = 3;
/// For so long it is read again where what its reader has of claims has changed meanwhile.
const OUTDATED_WITHIN: Duration = Duration::from_secs(10);

/// The pages that a socket waits for.
#[derive(Default)]
pub(super) struct PendingPages {
    tasks: JoinSet<()>,
    on_their_way: Vec<OnItsWay>,
}

struct OnItsWay {
    label: Label,
    reference: Option<Value>,
    cancel: CancelFlag,
}

/// What a client asks for.
pub(super) struct Wish {
    pub(super) key: ViewKey,
    pub(super) spec: PageSpec,
    pub(super) reference: Option<Value>,
}

/// The client that asks, and where the answer goes.
#[derive(Clone)]
pub(super) struct PageReader {
    pub(super) hub: Arc<Hub>,
    pub(super) writer: Arc<SocketWriter>,
    /// `None` where everybody may see everything
    pub(super) who: Option<Arc<Identity>>,
    /// whose turn it is when the source is asked
    pub(super) asker: Arc<str>,
}

impl PendingPages {
    /// Sends one, behind `before`, unless too many are on their way.
    pub(super) fn send(&mut self, reader: PageReader, wish: Wish, before: Option<OnTheirWay>) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.on_their_way.retain(|page| page.cancel.is_shared());
        if self.tasks.len() >= WAITING {
            return false;
        }
        let cancel = CancelFlag::default();
        let (label, reference) = (wish.key.label(), wish.reference.clone());
        self.on_their_way.push(OnItsWay { label, reference, cancel: cancel.clone() });
        self.tasks.spawn(async move {
            if let Some(mut before) = before {
                let _ = before.recv().await;
            }
            answer(reader, wish, cancel).await
        });
        true
    }

    /// Whether none is on its way.
    pub(super) fn are_answered(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }

    /// Says nothing more of those that are meant.
    pub(super) fn cancel(&self, is_meant: impl Fn(&Label) -> bool) {
        for page in self.on_their_way.iter().filter(|page| is_meant(&page.label)) {
            page.cancel.void();
        }
    }

    /// Says nothing more of any: what their asker may see is another part now. The `ref` of each that was not answered.
    pub(super) fn call_off(&mut self) -> Vec<Option<Value>> {
        let pages = self.on_their_way.drain(..).filter(|page| page.cancel.is_shared());
        pages
            .map(|page| {
                page.cancel.void();
                page.reference
            })
            .collect()
    }
}

/// Why there is no page: code and text.
pub(crate) fn explain(key: &ViewKey, error: &NoPage) -> (&'static str, String) {
    match error {
        NoPage::Unfit(what) => ("bad_order", what.clone()),
        NoPage::Refused => {
            ("no_snapshot", format!("the rows of channel {} cannot be read: the server's log says why", key.label()))
        }
        NoPage::Later | NoPage::Unanswered | NoPage::Outdated => {
            ("unanswered", format!("the rows of channel {} could not be read in time: ask again", key.label()))
        }
    }
}

async fn answer(reader: PageReader, wish: Wish, cancel: CancelFlag) {
    let PageReader { hub, writer, who, asker } = reader;
    let Wish { key: asked, spec, reference } = wish;
    let reference = reference.as_ref();
    let refuse = async |code: &str, text: &str| {
        hub.metrics().errors.inc();
        let _ = writer.write(&frame::text_frame(&protocol::error(code, text, reference)), &cancel).await;
    };
    hub.wait_until_live().await;
    let (mut tries, began) = (0, Instant::now());
    while tries < TRIES {
        tries += 1;
        let (key, projection) = match hub.look_patiently(&asked, who.as_deref()).await {
            Ok(looked) => looked,
            Err(error) => {
                let (code, text) = JoinFailed::from(error).explain(&asked);
                return refuse(code, &text).await;
            }
        };
        let page = match hub.page(&key, &projection, &spec, Freshness::Present, &asker).await {
            Ok(page) => page,
            Err(NoPage::Outdated) => continue,
            // the connection to the database was lost, perhaps
            Err(NoPage::Unanswered) => {
                hub.wait_until_live().await;
                continue;
            }
            Err(error) => {
                let (code, text) = explain(&asked, &error);
                return refuse(code, &text).await;
            }
        };
        // from here on it waits for the client
        let Ok(_room) = hub.room_now(&asker, &page) else {
            drop(page);
            return refuse("unanswered", "too many pages wait for this client: ask again").await;
        };
        let Ok(boundary) = hub.written_up_to(&writer, &page.boundary.cursor.seen).await else {
            let (code, text) = explain(&asked, &NoPage::Unanswered);
            return refuse(code, &text).await;
        };
        if key.has_members() {
            hub.wait_until_settled(who.as_deref()).await;
        }
        // it was read in another incarnation of the server, or by rules that are no longer those
        let is_good =
            || hub.floor_of(&key) == page.floor && hub.permit(&asked, who.as_deref()).is_ok_and(|now| now == key);
        let is_of_now = !key.has_members() || hub.lets_in(&key, who.as_deref(), &page.boundary.cursor.seen);
        // whose members come and go all the time waits for a moment without
        if !is_of_now && began.elapsed() < OUTDATED_WITHIN {
            tries -= 1;
        }
        if boundary.cursor.lineage() != page.boundary.cursor.lineage() || !is_of_now || !is_good() {
            continue;
        }
        let cursor = hub.sealed(&page.boundary.token);
        let cursor = ResumeToken::of(&cursor, projection.mark()).to_string();
        let label = asked.label();
        let put = async |message: &str| {
            let written = timeout(TAKEN_WITHIN, writer.write(&frame::text_frame(message), &cancel)).await;
            if written.is_err() {
                writer.close(CloseCode::PastUnread, "too slow: a page was not taken");
            }
            matches!(written, Ok(Ok(())))
        };
        for part in page.parts.iter().rev().skip(1).rev() {
            if !put(&protocol::rows(&label, part, reference)).await {
                return;
            }
            // between two parts the client may have waited long
            if !is_good() {
                let (code, text) = explain(&asked, &NoPage::Outdated);
                return refuse(code, &text).await;
            }
        }
        if put(&protocol::last_rows(&label, &page, &cursor, reference)).await {
            writer.want_cut();
        }
        return;
    }
    let (code, text) = explain(&asked, &NoPage::Unanswered);
    refuse(code, &text).await;
}
