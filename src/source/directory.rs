//! The channels, read beside the read loop. Owns when they are read again and what is told while they cannot be; knows
//! neither a statement nor a row's contents.
//!
//! A session that holds a lock on what describes the channels would stop every change, if the loop itself asked for
//! them. So a task of its own does, and the loop takes what is there. A change that needs more than that (of a channel
//! that was stated anew a moment ago, or that nobody knows) waits, not for long: then its channel is left out and told
//! `gap`, and the others go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::catalog::Catalog;
use super::client::Pool;
use super::pool::Database;
use crate::change::Event;
use crate::error::{self, Error, Kind, Result};
use crate::incarnations::Gap;
use crate::naming::Naming;
use crate::sync::lock;

/// How often the channels and the bell's mode are read again: a renamed column, an enabled trigger.
const EVERY: Duration = Duration::from_secs(10);
/// The same after it failed.
const AGAIN: Duration = Duration::from_secs(1);
/// A look at the tables may take so long.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// One reading may take so long: a lock is given up after two seconds, a server that is frozen says nothing.
const WITHIN: Duration = Duration::from_secs(4);
/// The first reading may take so long, and so may one after it that has as much to read: on a busy server 3,000 tables took
/// 4 s.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// A change waits so long for the channels to be read. Every channel waits with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read last.
#[derive(Debug, Clone, Default)]
struct Newest {
    /// the reading began after so many were asked for
    asked: u64,
    catalog: Option<Arc<Catalog>>,
    /// the same of the last one that failed, and why
    failed: Option<(u64, String)>,
}

#[derive(Debug, Default)]
struct Rereads {
    count: AtomicU64,
    wake: Notify,
}

/// The database whose channels are wanted, as in [`Cursor::epoch`](crate::cursor::Cursor::epoch); `None` before the first
/// connection.
type Followed = Mutex<Option<u64>>;

/// Reads the channels, each ten seconds and when it is asked to. Dropped, it ends.
#[derive(Debug)]
pub struct Directory {
    asked: Arc<Rereads>,
    followed: Arc<Followed>,
    newest: watch::Receiver<Newest>,
    keeper: JoinHandle<()>,
    naming: Naming,
}

impl Directory {
    /// Begins to read them on `runtime`, on sessions of its own.
    ///
    /// # Errors
    /// [`Kind::Config`] where there can be no pool.
    pub fn open(database: &Database, runtime: &Handle) -> Result<Self> {
        let (tell, newest) = watch::channel(Newest::default());
        let asked = Arc::new(Rereads::default());
        let followed = Arc::<Followed>::default();
        let keeper = runtime.spawn(keep(database.pool()?, followed.clone(), asked.clone(), tell));
        Ok(Self { asked, followed, newest, keeper, naming: database.naming().clone() })
    }

    /// Asks for a reading that begins after this call.
    fn ask(&self) -> u64 {
        let ticket = self.asked.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.wake.notify_one();
        ticket
    }

    /// The channels as they are after this call.
    async fn fresh(&mut self) -> Result<(u64, Arc<Catalog>)> {
        let ticket = self.ask();
        let done = |newest: &Newest| {
            newest.asked >= ticket || newest.failed.as_ref().is_some_and(|(asked, _)| *asked >= ticket)
        };
        let late = || Error::new(Kind::Connection, "the channels cannot be read in time");
        // at the start no change waits yet
        let patience = if self.newest.borrow().catalog.is_some() { PATIENCE } else { FIRST_WITHIN };
        let newest = timeout(patience, self.newest.wait_for(done)).await.map_err(|_| late())?.map_err(|_| late())?;
        match (&newest.catalog, &newest.failed) {
            (Some(catalog), _) if newest.asked >= ticket => Ok((newest.asked, catalog.clone())),
            (_, Some((_, why))) => Err(Error::new(Kind::Connection, why.clone())),
            _ => Err(late()),
        }
    }

    /// What was read since the last call.
    fn take(&mut self) -> Option<(u64, Arc<Catalog>)> {
        if !self.newest.has_changed().unwrap_or(false) {
            return None;
        }
        let newest = self.newest.borrow_and_update();
        newest.catalog.clone().map(|catalog| (newest.asked, catalog))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(pool: Pool, followed: Arc<Followed>, asked: Arc<Rereads>, tell: watch::Sender<Newest>) {
    let mut is_told = false;
    let mut within = FIRST_WITHIN;
    // dropped, it ends
    let (mut looking, mut next_look) = (JoinSet::new(), Instant::now());
    loop {
        let ticket = asked.count.load(Ordering::Acquire);
        let began = Instant::now();
        let of = *lock(&followed);
        let read = timeout(within, Catalog::load(&pool, of)).await;
        let is_late = read.is_err();
        let read = read.unwrap_or_else(|_| Err(Error::new(Kind::Connection, "the channels cannot be read in time")));
        let is_failing = read.is_err();
        match read {
            // meanwhile another database was followed: the next reading is of that one
            Ok(_) if *lock(&followed) != of => continue,
            Ok(catalog) => {
                if std::mem::take(&mut is_told) {
                    tracing::info!(event = "channels_read", "they can be read again");
                }
                within = (began.elapsed() * 4).clamp(WITHIN, FIRST_WITHIN);
                let catalog = Some(Arc::new(catalog));
                tell.send_replace(Newest { asked: ticket, catalog, failed: None });
                while let Some(Ok((began, took))) = looking.try_join_next() {
                    // a hundredth of a core at most, however many tables there are
                    next_look = began + EVERY.max(took * 100);
                }
                if looking.is_empty() && next_look <= Instant::now() {
                    looking.spawn(look_at_forms(pool.clone()));
                }
            }
            Err(error) => {
                let why = error::chain(&error);
                // of a database that is away `source_down` tells
                let is_down = error.kind() == Kind::Connection && !is_late;
                if !is_down && !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        event = "channels_unread",
                        error = why,
                        "changes are told by the channels as they were"
                    );
                }
                tell.send_modify(|newest| newest.failed = Some((ticket, why)));
            }
        }
        let pause = if is_failing { AGAIN } else { EVERY };
        // a caller that asks while it fails is answered by the next attempt
        if is_failing {
            tokio::time::sleep(pause).await;
        } else {
            let _ = timeout(pause, asked.wake.notified()).await;
        }
    }
}

/// Says when it began, and how long it took.
async fn look_at_forms(pool: Pool) -> (Instant, Duration) {
    let began = Instant::now();
    let error = match timeout(LOOK_WITHIN, Catalog::note_forms(&pool)).await {
        Ok(Ok(())) => None,
        // of a database that is away `source_down` tells
        Ok(Err(error)) if error.kind() == Kind::Connection => None,
        Ok(Err(error)) => Some(error::chain(&error)),
        Err(_) => Some("the tables cannot be looked at in time".to_owned()),
    };
    if let Some(error) = error {
        tracing::warn!(event = "forms_unnoted", error, "what DDL made of rows is told later");
    }
    (began, began.elapsed())
}

/// The channels as changes are told by them.
#[derive(Debug)]
pub struct ChannelList {
    directory: Directory,
    /// as they were read
    all: Arc<Catalog>,
    /// those by which rows are told
    known: Arc<Catalog>,
    is_read: bool,
    /// left out until a reading that began after so many were asked for
    unsure: BTreeSet<i32>,
    needed: u64,
    /// of no channel, as `all` has it: the rest of one that is gone
    strangers: BTreeSet<i32>,
}

impl ChannelList {
    /// None yet.
    pub fn of(directory: Directory) -> Self {
        let (all, unsure, strangers) = (Arc::<Catalog>::default(), BTreeSet::new(), BTreeSet::new());
        Self { directory, known: all.clone(), all, is_read: false, unsure, needed: 0, strangers }
    }

    /// Those by which rows are told.
    pub fn known(&self) -> &Catalog {
        &self.known
    }

    /// What delivery has to know of them.
    fn told(&self) -> Event {
        let (channels, policies, claims) = (self.all.channels(), self.all.policies(), Some(self.all.claims()));
        Event::Channels { channels, policies, claims }
    }

    /// Has them read, and waits for nothing.
    pub fn look(&self) {
        self.directory.ask();
    }

    /// Waits until they were read. Cancel safe.
    pub async fn read(&mut self) {
        if self.directory.newest.changed().await.is_err() {
            std::future::pending().await
        }
        self.directory.newest.mark_changed();
    }

    /// What delivery has to know, where they were read since.
    pub fn renewed(&mut self) -> Vec<Event> {
        self.directory.take().map_or_else(Vec::new, |(asked, catalog)| self.take_over(asked, catalog))
    }

    /// Of this database from now on, as in [`Cursor::epoch`](crate::cursor::Cursor::epoch). What was read of another one
    /// behind the same name says nothing of it.
    pub fn follow(&mut self, epoch: u64) {
        let before = lock(&self.directory.followed).replace(epoch);
        if before.is_none_or(|before| before == epoch) {
            return;
        }
        (self.all, self.known, self.is_read) = (Arc::default(), Arc::default(), false);
        self.unsure.clear();
        self.strangers.clear();
    }

    /// What delivery has to know, with the channels read anew, as each connection begins. Where they cannot be read now they
    /// stay as they were.
    ///
    /// # Errors
    /// When they were never read.
    pub async fn again(&mut self) -> Result<Vec<Event>> {
        match self.directory.fresh().await {
            Ok((asked, catalog)) => Ok(self.take_over(asked, catalog)),
            Err(_) if self.is_read => Ok(vec![self.told()]),
            Err(error) => Err(error),
        }
    }

    /// Whether a row of this channel can be told only after another look. `states`: it states the channel anew.
    pub fn must_learn(&self, channel: i32, states: bool) -> bool {
        states || (channel != 0 && self.known.get(channel).is_none() && !self.strangers.contains(&channel))
    }

    /// Looks again, because of these rows, and says what delivery has to know. Channels of which nothing is known afterwards
    /// are left out.
    pub async fn learn(&mut self, of: &[i32]) -> Vec<Event> {
        // what cannot be read is waited for once
        let read = if self.unsure.is_empty() { Some(self.directory.fresh().await) } else { None };
        match read {
            Some(Ok((asked, catalog))) => {
                let events = self.take_over(asked, catalog);
                self.strangers.extend(of.iter().filter(|id| self.all.get(**id).is_none()));
                return events;
            }
            Some(Err(error)) => {
                let error = error::chain(&error);
                tracing::error!(event = "channels_unsure", error, "their changes are told as a gap until then");
            }
            None => {}
        }
        self.needed = self.directory.ask();
        let new: Vec<i32> = of.iter().copied().filter(|id| self.unsure.insert(*id)).collect();
        self.known = Arc::new(self.all.without(&self.unsure));
        self.gaps_of(&new)
    }

    fn take_over(&mut self, asked: u64, catalog: Arc<Catalog>) -> Vec<Event> {
        let before = std::mem::replace(&mut self.all, catalog);
        self.strangers.clear();
        self.is_read = true;
        let mut events = vec![self.told()];
        for channel in self.all.switched_off_since(&before) {
            let what = "changes of this table are not captured: select * from rowcast.watched";
            tracing::error!(event = "trigger_off", %channel, "{}", self.directory.naming.of(what));
            events.push(Event::Gap { gap: Gap::TriggerOff, channel });
        }
        if asked >= self.needed {
            let unsure: Vec<i32> = std::mem::take(&mut self.unsure).into_iter().collect();
            events.extend(self.gaps_of(&unsure));
        }
        self.known = if self.unsure.is_empty() { self.all.clone() } else { Arc::new(self.all.without(&self.unsure)) };
        events
    }

    fn gaps_of(&self, ids: &[i32]) -> Vec<Event> {
        let names = ids.iter().filter_map(|id| self.all.get(*id)).map(|channel| channel.name.clone());
        names.map(|channel| Event::Gap { gap: Gap::Unreadable, channel }).collect()
    }
}
