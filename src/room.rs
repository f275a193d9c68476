//! What is shared among askers: memory in which rows wait for clients that take them slowly, turns. Owns each asker's part of it;
//! knows not what waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::lock;

/// The memory of all, and of each asker's.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    all: Arc<Semaphore>,
    of_askers: Arc<Mutex<RoomParts>>,
    one: usize,
}

#[derive(Debug, Default)]
struct RoomParts {
    parts: HashMap<Arc<str>, Weak<Semaphore>>,
    /// the parts of askers that have gone are looked for at so many
    sweep_at: usize,
}

/// One asker's part of it.
#[derive(Debug)]
pub(crate) struct RoomShare {
    all: Arc<Semaphore>,
    mine: Arc<Semaphore>,
    one: usize,
}

/// Some of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _of: [OwnedSemaphorePermit; 2],
}

impl Room {
    /// So many bytes for all together, and for those of one asker.
    pub(crate) fn new(all: usize, one: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_askers: Arc::default(), one }
    }

    /// What an asker has of it.
    pub(crate) fn of(&self, asker: &Arc<str>) -> RoomShare {
        let share = |mine| RoomShare { all: self.all.clone(), mine, one: self.one };
        let mut askers = lock(&self.of_askers);
        if let Some(mine) = askers.parts.get(asker).and_then(Weak::upgrade) {
            return share(mine);
        }
        // at twice as many as there were: 10,000 sockets that come back at once do not each look at all of them
        if askers.parts.len() >= askers.sweep_at {
            askers.parts.retain(|_, room| room.strong_count() > 0);
            askers.sweep_at = askers.parts.len() * 2 + 16;
        }
        let mine = Arc::new(Semaphore::new(self.one));
        askers.parts.insert(asker.clone(), Arc::downgrade(&mine));
        share(mine)
    }
}

impl RoomShare {
    /// Waits for so many bytes. What is larger than all that one asker may have takes all of that.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        let bytes = bytes.clamp(1, self.one) as u32;
        let mine = self.mine.clone().acquire_many_owned(bytes).await.expect("never closed");
        let all = self.all.clone().acquire_many_owned(bytes).await.expect("never closed");
        Taken { _of: [mine, all] }
    }

    /// Bytes that nobody has taken: of all, and of this asker's.
    #[cfg(test)]
    pub(crate) fn left(&self) -> (usize, usize) {
        (self.all.available_permits(), self.mine.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn an_asker_has_a_part_and_all_have_the_whole() {
        let room = Room::new(100, 60);
        let (greedy, calm) = (room.of(&"greedy".into()), room.of(&"calm".into()));
        let first = greedy.take(50).now_or_never().unwrap();
        assert!(greedy.take(11).now_or_never().is_none(), "its part is 60");
        assert!(calm.take(51).now_or_never().is_none(), "50 are left of all");
        drop(first);
        let most = calm.take(1_000).now_or_never().unwrap();
        assert_eq!(room.of(&"calm".into()).left(), (40, 0), "as much as there is for one");
        drop(most);
        assert_eq!(greedy.left(), (100, 60));
    }

    #[test]
    fn askers_that_have_gone_are_forgotten() {
        let room = Room::new(100, 60);
        let stays = room.of(&"stays".into());
        let _taken = stays.take(1).now_or_never().unwrap();
        for asker in 0..1_000 {
            room.of(&asker.to_string().into());
        }
        assert!(lock(&room.of_askers).parts.len() < 40);
        assert_eq!(room.of(&"stays".into()).left(), (99, 59));
    }
}
