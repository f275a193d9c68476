//! Pages of rows that a client asks for on an open socket. Owns their tasks, and that a page stands behind all that the socket was
//! told up to where it was read; what a page is of is the hub's.
//!
//! A client keeps its own version of each row that a change has touched since it asked, and takes the page's version of any
//! other. That is right because the page was read after the client asked (or nothing has changed since), and is
//! sent when the socket was written all changes up to it.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;

use super::catch_up::Failed;
use crate::delivery::access::auth::Identity;
use crate::delivery::fanout::hub::{Freshness, Hub, NoPage};
use crate::delivery::scope::label::Label;
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::{CancelFlag, SocketWriter};
use crate::delivery::wire::frame;
use crate::delivery::wire::protocol;
use crate::delivery::wire::resume_token::ResumeToken;
use crate::request::PageSpec;

/// So many a socket may wait for at a time.
const WAITING: usize = 32;
/// So often a page is read again, where what may be seen changes meanwhile.
const TRIES: u32 = 3;

/// The pages that a socket waits for.
#[derive(Default)]
pub(super) struct Pages {
    tasks: JoinSet<()>,
    flags: Vec<(Label, CancelFlag)>,
}

/// What a client asks for.
pub(super) struct Wish {
    pub(super) key: ViewKey,
    pub(super) spec: PageSpec,
    pub(super) reference: Option<Value>,
}

/// Who asks, and where the answer goes.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) hub: Arc<Hub>,
    pub(super) writer: Arc<SocketWriter>,
    /// `None` where everybody may see everything
    pub(super) who: Option<Arc<Identity>>,
    /// whose turn it is when the source is asked
    pub(super) party: Arc<str>,
}

impl Pages {
    /// Sends one, unless too many are on their way.
    pub(super) fn send(&mut self, asker: Asker, wish: Wish) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.flags.retain(|(_, flag)| flag.is_shared());
        if self.tasks.len() >= WAITING {
            return false;
        }
        let cancel = CancelFlag::default();
        self.flags.push((wish.key.label(), cancel.clone()));
        self.tasks.spawn(async move { answer(asker, wish, cancel).await });
        true
    }

    /// Whether none is on its way.
    pub(super) fn are_answered(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }

    /// Says nothing more of those that are meant.
    pub(super) fn cancel(&self, is_meant: impl Fn(&Label) -> bool) {
        for (_, flag) in self.flags.iter().filter(|(label, _)| is_meant(label)) {
            flag.void();
        }
    }
}

/// Why there is no page: code and text.
pub(crate) fn explain(key: &ViewKey, error: &NoPage) -> (&'static str, String) {
    match error {
        NoPage::Unfit(what) => ("bad_order", what.clone()),
        NoPage::Refused => {
            ("no_snapshot", format!("the rows of channel {} cannot be read: the server's log says why", key.label()))
        }
        NoPage::Unanswered | NoPage::Outdated => {
            ("unanswered", format!("the rows of channel {} could not be read in time: ask again", key.label()))
        }
    }
}

async fn answer(asker: Asker, wish: Wish, cancel: CancelFlag) {
    let Asker { hub, writer, who, party } = asker;
    let Wish { key: asked, spec, reference } = wish;
    let reference = reference.as_ref();
    let refuse = async |code: &str, text: &str| {
        hub.metrics().errors.inc();
        let _ = writer.write(&frame::text_frame(&protocol::error(code, text, reference)), &cancel).await;
    };
    hub.wait_until_live().await;
    for _ in 0..TRIES {
        let (key, projection) = match hub.look_patiently(&asked, who.as_deref()).await {
            Ok(looked) => looked,
            Err(error) => {
                let (code, text) = Failed::from(error).explain(&asked);
                return refuse(code, &text).await;
            }
        };
        let page = match hub.page(&key, &projection, &spec, Freshness::Present, &party).await {
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
        let Ok(boundary) = hub.written_up_to(&writer, &page.boundary.cursor.seen).await else {
            let (code, text) = explain(&asked, &NoPage::Unanswered);
            return refuse(code, &text).await;
        };
        // it was read in another incarnation of the server, or by rules that are no longer those
        let is_good = boundary.cursor.incarnation == page.boundary.cursor.incarnation
            && hub.floor_of(&key) == page.floor
            && hub.permit(&asked, who.as_deref()).is_ok_and(|now| now == key);
        if !is_good {
            continue;
        }
        let cursor = hub.sealed(&page.boundary.token);
        let cursor = ResumeToken::of(&cursor, projection.mark()).to_string();
        let label = asked.label();
        for part in page.parts.iter().rev().skip(1).rev() {
            let message = protocol::rows(&label, part, reference);
            if writer.write(&frame::text_frame(&message), &cancel).await.is_err() {
                return;
            }
        }
        let message = protocol::last_rows(&label, &page, &cursor, reference);
        if writer.write(&frame::text_frame(&message), &cancel).await.is_ok() {
            writer.want_cut();
        }
        return;
    }
    let (code, text) = explain(&asked, &NoPage::Unanswered);
    refuse(code, &text).await;
}
