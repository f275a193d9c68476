//! Pages of rows that were read a moment ago, for all clients that ask for the same. Owns how long one is kept and how
//! many bytes all of them have; knows no socket, and not how a page is read.
//!
//! | the client | may have a page that was read |
//! |---|---|
//! | a client that is told the changes since the page | up to a second ago |
//! | a client that has the changes already | after it asked; or before, where no change of the channel came since |

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use crate::delivery::scope::page::ViewPage;
use crate::delivery::scope::view_key::ViewKey;
use crate::request::PageSpec;
use crate::sync::lock;

/// A page is kept so long.
const KEPT: Duration = Duration::from_secs(1);
/// All that are kept have so many bytes at most.
const BYTES: usize = 32 << 20;
/// And there are so many at most.
const PAGES: usize = 1_000;

/// What a page is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) key: ViewKey,
    pub(super) spec: PageSpec,
}

/// A page that is there, or is being read for the first client that asked.
#[derive(Debug, Clone)]
pub(super) struct PageSlot {
    /// it is read after this
    pub(super) since: Instant,
    pub(super) page: Arc<OnceCell<Arc<ViewPage>>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pages {
    slots: Mutex<HashMap<PageKey, PageSlot>>,
    /// when a channel's subscribers were last told that something is missing: `None` stands for all channels
    gaps: Mutex<HashMap<Option<Arc<str>>, Instant>>,
}

/// A page that was begun before a gap is given to nobody after it. None is on its way for so long.
const GAPS_KEPT: Duration = Duration::from_secs(120);

impl Pages {
    /// The one that was asked for last, if that is not too long ago; else a new one.
    pub(super) fn slot(&self, asked: &PageKey, now: Instant) -> PageSlot {
        let mut slots = lock(&self.slots);
        match slots.get(asked).filter(|slot| slot.since + KEPT >= now) {
            Some(slot) => slot.clone(),
            None => Self::put(&mut slots, asked, now),
        }
    }

    /// A new one in the place of one that is too old; the one that somebody else has put there meanwhile.
    pub(super) fn instead(&self, asked: &PageKey, old: &PageSlot, now: Instant) -> PageSlot {
        let mut slots = lock(&self.slots);
        match slots.get(asked).filter(|slot| !Arc::ptr_eq(&slot.page, &old.page)) {
            Some(slot) => slot.clone(),
            None => Self::put(&mut slots, asked, now),
        }
    }

    fn put(slots: &mut HashMap<PageKey, PageSlot>, asked: &PageKey, now: Instant) -> PageSlot {
        Self::sweep_in(slots, now);
        let mut held: usize = slots.values().filter_map(|slot| slot.page.get()).map(|page| page.size()).sum();
        while slots.len() >= PAGES || held > BYTES {
            let Some(oldest) = slots.iter().min_by_key(|(_, slot)| slot.since).map(|(asked, _)| asked.clone()) else {
                break;
            };
            let gone = slots.remove(&oldest).and_then(|slot| slot.page.get().map(|page| page.size()));
            held = held.saturating_sub(gone.unwrap_or_default());
        }
        let slot = PageSlot { since: now, page: Arc::default() };
        slots.insert(asked.clone(), slot.clone());
        slot
    }

    fn sweep_in(slots: &mut HashMap<PageKey, PageSlot>, now: Instant) {
        slots.retain(|_, slot| slot.since + KEPT >= now);
    }

    /// Something is missing on a channel, or on all: what was read before that may lack it, and no change tells.
    pub(super) fn note_gap(&self, channel: Option<Arc<str>>, now: Instant) {
        let mut gaps = lock(&self.gaps);
        gaps.retain(|_, at| *at + GAPS_KEPT >= now);
        gaps.insert(channel, now);
    }

    /// Whether nothing is known to be missing on its channel since it was begun.
    pub(super) fn is_whole(&self, asked: &PageKey, slot: &PageSlot) -> bool {
        self.has_no_gap(asked.key.channel(), slot.since)
    }

    /// Whether nothing is known to be missing on a channel since a moment, which is not too long ago.
    pub(super) fn has_no_gap(&self, channel: Option<&Arc<str>>, since: Instant) -> bool {
        let gaps = lock(&self.gaps);
        let of_channel = gaps.get(&channel.cloned());
        let is_known = since + GAPS_KEPT > Instant::now();
        is_known && of_channel.into_iter().chain(gaps.get(&None)).all(|at| since > *at)
    }

    /// Forgets those that are too old.
    pub(super) fn sweep(&self) {
        Self::sweep_in(&mut lock(&self.slots), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::scope::selection::Selection;
    use crate::request::Ordering;

    fn asked(channel: &str) -> PageKey {
        let spec = PageSpec { ordering: Ordering::Key, bound: None, limit: 1, bytes: 1, wants_count: false };
        PageKey { key: ViewKey::named(channel, Selection::default()), spec }
    }

    #[test]
    fn a_page_is_shared_for_a_second_and_not_behind_a_gap_of_its_channel() {
        let (pages, pets, cats) = (Pages::default(), asked("pets"), asked("cats"));
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let first = pages.slot(&pets, at(0));
        assert!(Arc::ptr_eq(&pages.slot(&pets, at(900)).page, &first.page));
        let other = pages.slot(&cats, at(900));
        pages.note_gap(Some("pets".into()), at(901));
        assert!(!pages.is_whole(&pets, &first) && pages.is_whole(&cats, &other));
        let second = pages.instead(&pets, &first, at(902));
        assert!(!Arc::ptr_eq(&second.page, &first.page) && pages.is_whole(&pets, &second));
        assert!(Arc::ptr_eq(&pages.instead(&pets, &first, at(903)).page, &second.page), "somebody was faster");
        pages.note_gap(None, at(904));
        assert!(!pages.is_whole(&cats, &other) && !pages.is_whole(&pets, &second));
        assert!(!Arc::ptr_eq(&pages.slot(&pets, at(2_000)).page, &second.page), "it is too old");
    }
}
