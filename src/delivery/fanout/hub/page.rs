//! How a view's page is had: from a moment ago, or from the source, once for all clients that ask for the same. Owns
//! that no page is told which was read by rules that are no longer those.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::Hub;
use crate::cursor::Snapshot;
use crate::delivery::fanout::pages::PageKey;
use crate::delivery::scope::page::ViewPage;
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::view_key::ViewKey;
use crate::incarnations::Lineage;
use crate::request::{OrderBy, Ordering, PageAnswer, PageSpec, Request, Shown};
use crate::sync::lock;

/// How new a page has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Freshness<'a> {
    /// a client that gets it is told the changes since
    Replayed,
    /// a client that gets it is told the changes since this
    ReplayedFrom(&'a Snapshot),
    /// a client that gets it was told the changes up to when it asked
    Present,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPage {
    /// not in this order, or from this place; for people
    Unfit(String),
    /// there is no database, or the relay may not read the table
    Refused,
    /// the database refuses it for the moment: a lock, most likely
    Later,
    /// the source did not answer
    Unanswered,
    /// what may be seen has changed while it was read
    Outdated,
}

impl Hub {
    /// A page of a view, by the projection that it has now. The page may hold the order's columns alone of rows that are too large.
    ///
    /// # Errors
    /// [`NoPage`].
    pub(crate) async fn page(
        &self,
        key: &ViewKey,
        projection: &Arc<Projection>,
        spec: &PageSpec,
        freshness: Freshness<'_>,
        asker: &Arc<str>,
    ) -> Result<Arc<ViewPage>, NoPage> {
        let asked_at = Instant::now();
        if let Ordering::By(order) = &spec.ordering
            && self.shows_order(key, order).is_err()
        {
            // a column that is unknown here may have been made a moment ago
            self.wait_for_fresh_channels().await;
            self.shows_order(key, order).map_err(NoPage::Unfit)?;
        }
        let asked = PageKey { key: key.of_rows(), spec: spec.clone() };
        let mut slot = self.pages.slot(&asked, asked_at);
        let mut is_read = false;
        loop {
            // not inside the slot: there others, which want the same page, would wait for this asker's turn
            let turn = if slot.page.initialized() { None } else { self.turn_of(asker).await };
            let read = async {
                is_read = true;
                self.read_page(&asked, projection, asker, turn).await
            };
            let page = slot.page.get_or_try_init(|| read).await?.clone();
            // before a page of a moment ago is told, the stream has come to when it was asked for: what was committed by then follows
            // it, and a column that was excluded by then is known to be
            let is_of_now = is_read || slot.since >= asked_at;
            let is_known = is_of_now || self.wait_for_fresh_read().await;
            let seen = &page.boundary.cursor.seen;
            let is_new = is_of_now
                || match freshness {
                    Freshness::Replayed => true,
                    Freshness::ReplayedFrom(before) => seen.covers(before),
                    Freshness::Present => false,
                };
            let is_whole = is_known && self.pages.is_whole(&asked, &slot) && self.is_of_present(&page);
            // what its holder has of claims may be of later than that
            let is_untouched = || !key.has_members() && self.is_untouched(key, seen);
            if self.floor_of(key) == page.floor && is_whole && (is_new || is_untouched()) {
                if !is_read {
                    self.metrics.count_page(false);
                }
                return Ok(page);
            }
            if is_of_now {
                return Err(NoPage::Outdated);
            }
            slot = self.pages.instead(&asked, &slot, Instant::now());
        }
    }

    /// Whether it was read in the present incarnation of the server, as far as the source has told, and in the database that is
    /// followed.
    fn is_of_present(&self, page: &ViewPage) -> bool {
        let Lineage { epoch, incarnation } = page.boundary.cursor.lineage();
        self.incarnations()
            .is_none_or(|known| known.epoch == epoch && (!known.know(incarnation) || known.present() == incarnation))
    }

    /// Whether no change of a channel has come since; as far as memory reaches.
    fn is_untouched(&self, key: &ViewKey, seen: &Snapshot) -> bool {
        let (Some(channel), Some(cuts)) = (key.channel(), self.history_since(seen)) else { return false };
        let touches = |change: &crate::change::Change| {
            change.update.as_ref().is_some_and(|update| update.channel == *channel) && !seen.sees(change.tx)
        };
        !cuts.iter().any(|cut| cut.changes.iter().any(touches))
    }

    fn shows_order(&self, key: &ViewKey, order: &[OrderBy]) -> Result<(), String> {
        let ViewKey::Channel(name, selection) = key else { return Ok(()) };
        let state = lock(&self.state);
        let Some(columns) = state.channel(name) else { return Ok(()) };
        selection.shows_order(order.iter().map(|by| &*by.column), columns)
    }

    async fn read_page(
        &self,
        asked: &PageKey,
        projection: &Arc<Projection>,
        asker: &Arc<str>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Arc<ViewPage>, NoPage> {
        let Some(channel) = asked.key.channel().cloned() else { return Err(NoPage::Refused) };
        let floor = self.floor_of(&asked.key);
        let (answer, answered) = oneshot::channel();
        let showing = projection.clone();
        let shown = Shown::by(move |json, is_whole| {
            let shown = if is_whole { showing.row(json) } else { showing.key(json) };
            shown.map(|shown| shown.into_owned().into())
        });
        let (predicate, page) = (projection.predicate(), asked.spec.clone());
        let (asker, epoch) = (asker.clone(), self.database());
        let request = Request::Page { channel, epoch, predicate, page, shown, asker, answer, permit: turn };
        let _ = self.source.requests.send(request).await;
        let page = match answered.await {
            Ok(PageAnswer::Page(page)) => {
                self.metrics.count_page(true);
                page
            }
            Ok(PageAnswer::Unfit(what)) => return Err(NoPage::Unfit(told_of(&asked.key, what))),
            Ok(PageAnswer::Refused) => return Err(NoPage::Refused),
            Ok(PageAnswer::Later) => return Err(NoPage::Later),
            Err(_) => return Err(NoPage::Unanswered),
        };
        if self.floor_of(&asked.key) != floor {
            return Err(NoPage::Outdated);
        }
        // with the rest of the primary key. A client that is told no order is told the place of the last row, where more follow.
        // Nor may it choose a place: which rows lie behind that tells what is in their keys
        let has_place = page.more || asked.spec.bound.is_some();
        let is_told = asked.spec.ordering != Ordering::Key || (has_place && asked.key.has_grant());
        if is_told && self.shows_order(&asked.key, &page.order).is_err() {
            let text = "order needs the whole primary key, which is not among the columns that are shown";
            return Err(NoPage::Unfit(text.to_owned()));
        }
        let mut page = ViewPage::of(*page, floor);
        // an estimate is made of everybody's rows
        page.count = page.count.filter(|count| count.is_exact || !asked.key.has_grant());
        Ok(Arc::new(page))
    }
}

/// What a client is told of an order that cannot be had. A client that sees a part of the channel is not told what the table has
/// besides: the log says it.
fn told_of(key: &ViewKey, what: String) -> String {
    if !key.has_grant() {
        return what;
    }
    tracing::info!(event = "page_unfit", channel = %key.label(), what);
    "the rows cannot be had in this order, or from this place: the server's log says why".to_owned()
}
