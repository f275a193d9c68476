//! Pages of rows that were read a moment ago, for all who ask for the same. Owns how long one is kept and how many bytes all of
//! them have; knows no socket, and not how a page is read.
//!
//! | who asks | may have a page that was read |
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
pub(super) struct Asked {
    pub(super) key: ViewKey,
    pub(super) spec: PageSpec,
}

/// A page that is there, or is being read by the first who asked.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// it is read after this
    pub(super) since: Instant,
    pub(super) page: Arc<OnceCell<Arc<ViewPage>>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<HashMap<Asked, Slot>>);

impl Pages {
    /// The one that was asked for last, if that is not too long ago; else a new one.
    pub(super) fn slot(&self, asked: &Asked, now: Instant) -> Slot {
        let mut slots = lock(&self.0);
        match slots.get(asked).filter(|slot| slot.since + KEPT >= now) {
            Some(slot) => slot.clone(),
            None => Self::put(&mut slots, asked, now),
        }
    }

    /// A new one in the place of one that is too old; the one that somebody else has put there meanwhile.
    pub(super) fn instead(&self, asked: &Asked, old: &Slot, now: Instant) -> Slot {
        let mut slots = lock(&self.0);
        match slots.get(asked).filter(|slot| !Arc::ptr_eq(&slot.page, &old.page)) {
            Some(slot) => slot.clone(),
            None => Self::put(&mut slots, asked, now),
        }
    }

    fn put(slots: &mut HashMap<Asked, Slot>, asked: &Asked, now: Instant) -> Slot {
        Self::sweep_in(slots, now);
        let mut held: usize = slots.values().filter_map(|slot| slot.page.get()).map(|page| page.size()).sum();
        while slots.len() >= PAGES || held > BYTES {
            let Some(oldest) = slots.iter().min_by_key(|(_, slot)| slot.since).map(|(asked, _)| asked.clone()) else {
                break;
            };
            let gone = slots.remove(&oldest).and_then(|slot| slot.page.get().map(|page| page.size()));
            held -= gone.unwrap_or_default();
        }
        let slot = Slot { since: now, page: Arc::default() };
        slots.insert(asked.clone(), slot.clone());
        slot
    }

    fn sweep_in(slots: &mut HashMap<Asked, Slot>, now: Instant) {
        slots.retain(|_, slot| slot.since + KEPT >= now);
    }

    /// Forgets those that are too old.
    pub(super) fn sweep(&self) {
        Self::sweep_in(&mut lock(&self.0), Instant::now());
    }
}
