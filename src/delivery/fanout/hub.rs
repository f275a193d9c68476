//! Who watches what. Owns the views there are, their members, and where the stream has come to; knows neither Postgres
//! nor HTTP.
//!
//! A cut is routed without the lock, since filters may cost time, and where they cost much of it, beside the threads that
//! answer clients. Then it is applied under one lock: its frames go into the logs of the views it concerns and the hub's
//! cursor moves past it. A subscriber joins under the same lock, so its first frame is the one after the cursor it was
//! told; a view that was made since the routing began is routed before the lock is taken for good. Then each shard that
//! holds subscribers of those views is woken once and writes to its sockets directly.

mod apply;
mod behind;
mod explain;
mod join;
mod judge;
mod kick;
mod known;
mod latest;
mod members;
mod page;
mod relieve;
mod subscription;
mod traced;
mod untaken;
mod wait;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use known::KnownViews;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::history::History;
use super::latest::LatestViews;
use super::pages::Pages;
use super::route::Views;
use super::shard::Shard;
use super::view::View;
use crate::change::{Column, Cut, Event, Floor};
use crate::cursor::{Boundary, Snapshot};
use crate::delivery::access::auth::{Identity, Keys};
use crate::delivery::access::claims::Claims;
use crate::delivery::access::floors::Floors;
use crate::delivery::access::policy::{Denied, Policies};
use crate::delivery::access::shares::{Most, Shares};
use crate::delivery::scope::projection::{Projection, Unfit};
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::frontier::Frontier;
use crate::delivery::socket::keepalive::Keepalive;
use crate::delivery::socket::meter::Meter;
use crate::delivery::wire::frame::CloseCode;
use crate::feedback::Feedback;
use crate::incarnations::Incarnations;
use crate::metrics::{DeliveryMetrics, MemoryKept};
use crate::request::{Membership, Request};
use crate::room::{Room, Taken};
use crate::shutdown::Shutdown;
use crate::spans::Spans;
use crate::sync::lock;
use crate::tasks::Tasks;

/// Requests of one user, or of one address without users, that are with the source at a time: more than are answered at
/// once, so that it never waits for the next. A user or address that has more waits in its own tasks, and keeps no
/// place from others.
const ASKED_AT_ONCE: usize = 8;

/// How much is kept and how often is spoken.
#[derive(Debug, Clone)]
pub struct Settings {
    /// bytes of frames kept per view
    pub log_bytes: u64,
    /// bytes of frames kept for all views together
    pub view_bytes: u64,
    /// bytes of changes kept for clients that come back
    pub history_bytes: u64,
    /// bytes of the values of claims that stand in tables
    pub claim_bytes: u64,
    /// a view that was silent for this long gets a heartbeat
    pub heartbeat: Duration,
    /// each socket is pinged once in this time, and gone where nothing came from it since the last one
    pub ping: Duration,
    /// of the past, to one client; 0: any number
    pub replay_bytes_per_second: u32,
    /// the present has come within this time once it is asked for; a position that lies beyond it is of the future
    pub reach_within: Duration,
    /// threads that write
    pub shards: usize,
    /// what tokens are checked with; `None`: everybody may see everything
    pub keys: Option<Arc<Keys>>,
    /// what each user and each address may have
    pub most: Most,
    /// `None`: nobody collects traces
    pub spans: Option<Arc<Spans>>,
}

#[cfg(test)]
impl Settings {
    /// Of a hub that keeps little, speaks seldom, and asks for no token.
    pub(crate) fn for_tests() -> Self {
        Self {
            spans: None,
            log_bytes: 1 << 20,
            view_bytes: 1 << 24,
            claim_bytes: 1 << 20,
            history_bytes: 1 << 20,
            heartbeat: Duration::from_secs(60),
            ping: Duration::from_secs(60),
            replay_bytes_per_second: 0,
            reach_within: Duration::from_secs(3),
            shards: 1,
            keys: None,
            most: Most::default(),
        }
    }
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<HubState>,
    shards: Vec<Arc<Shard>>,
    keepalive: Keepalive,
    live: watch::Sender<bool>,
    /// told at each boundary
    boundaries: watch::Sender<()>,
    frontier: Arc<Frontier>,
    /// the channels were told
    catalogued: watch::Sender<()>,
    /// some holders of claims are settled
    settled: watch::Sender<()>,
    /// some holders of claims are to be read
    in_doubt: Notify,
    /// what some views are owed is to be told at once
    hurried: Notify,
    /// a view was told what it was owed
    told: watch::Sender<()>,
    /// a view was made: the router hears of it before the next cut has to wait for that
    new_view: Notify,
    /// when the source is, or was last, asked to look at them
    doubted: Mutex<Option<Instant>>,
    source: Source,
    /// of all logs
    meter: Arc<Meter>,
    /// bytes of messages of clients whose end has not come yet
    unfinished: Arc<Meter>,
    shares: Arc<Shares>,
    /// how many requests each asker has with the source
    asking: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    /// so many subscriptions may be regranted at a time
    regrants: Arc<Semaphore>,
    /// one subscriber's past is looked at through a costly filter at a time, that of each asker in turn
    sieve: Room,
    /// those that were read a moment ago
    pages: Pages,
    /// memory of pages that clients have not taken
    untaken: Room,
    /// turns of subscriptions that hold rows on their way to the present, by their sockets
    held_by_sockets: Room,
    /// the same, by their users
    held_by_users: Room,
    settings: Settings,
    metrics: Arc<DeliveryMetrics>,
}

/// Messages whose end has not come yet may hold so much in all; 1,000 of the largest that are allowed by default.
const UNFINISHED: u64 = 64 << 20;

/// The way back to the source.
#[derive(Debug)]
pub struct Source {
    /// takes what is asked for one subscriber
    pub requests: mpsc::Sender<Request>,
    /// takes what is asked of holders of claims; closed where there is no database
    pub membership: mpsc::Sender<Membership>,
    /// tells it what helps it to keep time
    pub feedback: Arc<Feedback>,
}

#[derive(Debug)]
struct HubState {
    known: KnownViews,
    /// the last position between two cuts; `None` until the source has told one
    boundary: Option<Boundary>,
    /// where the stream has come to: the boundary, or a position inside the cut that is arriving
    cursor: Arc<str>,
    is_at_boundary: bool,
    /// views that were told a chunk of the cut that is arriving
    amid: Vec<Arc<View>>,
    incarnations: Option<Arc<Incarnations>>,
    history: History,
    /// the columns of each channel, where it has a table; `None` until the source has told them
    channels: Option<BTreeMap<Arc<str>, TableColumns>>,
    /// `None` until the source has told them
    policies: Option<Policies>,
    /// from when on each channel may be seen
    floors: Floors,
    /// the numbers of those of the newest changes that were told some of the cut that is arriving
    told_amid: Vec<u64>,
    /// what is owed to views that are told the newest change of each row
    latest: LatestViews<Arc<View>>,
    /// what each holder has of claims whose values stand in tables
    claims: Claims,
    /// where the latest touches came, oldest first
    holds: VecDeque<Hold>,
    /// the stream still brings changes from before some floor
    awaits_floor: bool,
}

/// Those of a channel's table, where it has one.
type TableColumns = Option<Arc<[Column]>>;

pub use join::{JoinError, JoinOutcome};
pub use kick::Whom;
use members::Hold;
pub(crate) use members::ShownUpTo;
pub(crate) use page::{Freshness, NoPage};
pub use subscription::Subscription;
pub(crate) use untaken::Untaken;
pub(crate) use wait::NotSynced;

impl Hub {
    /// A hub with no channels; [`start`](Self::start) gives it life.
    pub fn new(settings: Settings, source: Source, metrics: Arc<DeliveryMetrics>) -> Arc<Self> {
        metrics.expect_closes(CloseCode::ALL.map(|code| (code.number(), code.reason())));
        let shard = |index| Arc::new(Shard::new(index, source.feedback.clone(), metrics.clone()));
        let shards = (0..settings.shards.max(1)).map(shard).collect();
        let state = HubState {
            known: KnownViews::default(),
            boundary: None,
            cursor: Arc::default(),
            is_at_boundary: true,
            amid: Vec::new(),
            incarnations: None,
            history: History::new(settings.history_bytes),
            channels: None,
            policies: None,
            floors: Floors::default(),
            told_amid: Vec::new(),
            latest: latest::nothing_owed(settings.log_bytes, settings.view_bytes),
            claims: Claims::new(usize::try_from(settings.claim_bytes).unwrap_or(usize::MAX)),
            holds: VecDeque::new(),
            awaits_floor: false,
        };
        let (live, boundaries) = (watch::Sender::new(false), watch::Sender::new(()));
        let keepalive = Keepalive::new(settings.ping);
        let (meter, unfinished) = (Meter::new(settings.view_bytes), Meter::new(UNFINISHED));
        let (shares, asking, sieve) = (Shares::new(settings.most), Mutex::default(), Room::new(1, 1));
        let state = Mutex::new(state);
        Arc::new(Self {
            state,
            shards,
            keepalive,
            live,
            boundaries,
            frontier: Arc::default(),
            catalogued: watch::Sender::new(()),
            settled: watch::Sender::new(()),
            in_doubt: Notify::new(),
            hurried: Notify::new(),
            told: watch::Sender::new(()),
            new_view: Notify::new(),
            doubted: Mutex::default(),
            source,
            meter,
            unfinished,
            shares,
            asking,
            sieve,
            regrants: Arc::new(Semaphore::new(members::REGRANTS)),
            pages: Pages::default(),
            untaken: untaken::room(),
            held_by_sockets: untaken::held_by_sockets(),
            held_by_users: untaken::held_by_users(),
            settings,
            metrics,
        })
    }

    /// What each user and each address has.
    pub fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// What is kept in memory now.
    pub fn kept(&self) -> MemoryKept {
        let (claim_bytes, claim_holders) = lock(&self.state).claims.size();
        let view_bytes = self.meter.held();
        MemoryKept { view_bytes, claim_bytes: claim_bytes as u64, claim_holders: claim_holders as u64 }
    }

    /// Counts the messages whose end has not come yet.
    pub(crate) fn unfinished(&self) -> &Arc<Meter> {
        &self.unfinished
    }

    /// Waits for the turn of an asker whose filters take long. While it is kept, no other's past is looked at: so they
    /// take one thread's time in small pieces, and not that of all threads. An asker with thousands of subscriptions waits
    /// for itself first, and stands among the others once.
    pub(crate) async fn sieve(&self, asker: &Arc<str>) -> Taken {
        self.sieve.of(asker).take(1).await
    }

    /// Counters.
    pub fn metrics(&self) -> &Arc<DeliveryMetrics> {
        &self.metrics
    }

    /// What tokens are checked with; `None`: everybody may see everything.
    pub fn keys(&self) -> Option<&Arc<Keys>> {
        self.settings.keys.as_ref()
    }

    /// What somebody may see of what is asked for; `who` is `None` where everybody may see everything.
    ///
    /// # Errors
    /// [`JoinError::Forbidden`], [`JoinError::NotLive`] where the policies are not known yet, or [`JoinError::InDoubt`], to
    /// be waited for.
    pub fn permit(&self, asked: &ViewKey, who: Option<&Identity>) -> Result<ViewKey, JoinError> {
        let Some(who) = who else {
            // nobody, where tokens are checked: a request that was refused
            return if self.settings.keys.is_some() { Err(JoinError::Forbidden) } else { Ok(asked.clone()) };
        };
        let mut state = lock(&self.state);
        let permitted = state.permit(asked, who);
        if let (Err(JoinError::InDoubt), Some(user)) = (&permitted, &who.user)
            && state.claims.want(user)
        {
            self.in_doubt.notify_one();
        }
        permitted
    }

    /// Whether somebody may go on from a position: not where what may be seen was changed since.
    pub fn lets_in(&self, key: &ViewKey, who: Option<&Identity>, seen: &Snapshot) -> bool {
        lock(&self.state).lets_in(key, who, seen)
    }

    /// From when on a channel may be seen; another answer than before: what was read before is no longer to be told.
    pub(crate) fn floor_of(&self, key: &ViewKey) -> Option<Floor> {
        lock(&self.state).floors.of(key.channel()?).cloned()
    }

    /// A token as clients get it.
    pub(crate) fn sealed(&self, token: &str) -> Arc<str> {
        lock(&self.state).sealed(token)
    }

    /// How long so many bytes of the past may take at least, where there is a limit.
    pub(crate) fn time_for(&self, bytes: u64) -> Option<Duration> {
        let pace = self.settings.replay_bytes_per_second;
        (pace > 0).then(|| Duration::from_secs_f64(bytes as f64 / f64::from(pace)))
    }

    /// How far all logs have come together.
    pub(crate) fn frontier(&self) -> &Arc<Frontier> {
        &self.frontier
    }

    /// What looks after the sockets.
    pub(crate) fn keepalive(&self) -> &Keepalive {
        &self.keepalive
    }

    /// Whether capture is live, from now on.
    pub fn live(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// Whether capture is live.
    pub fn is_live(&self) -> bool {
        *self.live.borrow()
    }

    /// Which cursors can be honoured; `None` until the source has told.
    pub fn incarnations(&self) -> Option<Arc<Incarnations>> {
        lock(&self.state).incarnations.clone()
    }

    /// The database that is followed, as in [`Cursor::epoch`](crate::cursor::Cursor::epoch), as far as the source has told.
    pub(super) fn database(&self) -> Option<u64> {
        self.incarnations().map(|incarnations| incarnations.epoch)
    }

    /// Whether a view names a column that its channel has not, or that its holder may not see: the time that a refusal takes
    /// tells nobody which of both.
    pub fn lacks_column(&self, key: &ViewKey) -> bool {
        let ViewKey::Channel(name, selection) = key else { return false };
        let state = lock(&self.state);
        let Some(Some(columns)) = state.channel(name) else { return false };
        !selection.sees_what_it_names(columns)
    }

    /// Whether the stream is between two cuts and the source is connected.
    pub fn is_at_boundary(&self) -> bool {
        self.is_live() && lock(&self.state).is_at_boundary
    }

    /// The chunks of cuts that hold what `seen` has missed, if memory reaches back so far.
    pub fn history_since(&self, seen: &Snapshot) -> Option<Vec<Arc<Cut>>> {
        let state = lock(&self.state);
        state.history.reaches(seen).then(|| state.history.since(seen))
    }

    /// Waits until somebody may ask the source: a user who has asked for much waits here.
    pub(super) async fn turn_of(&self, who: &Arc<str>) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut asking = lock(&self.asking);
            // an asker that has none with the source is not remembered
            if asking.len() > 1024 {
                asking.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            asking.entry(who.clone()).or_insert_with(|| Arc::new(Semaphore::new(ASKED_AT_ONCE))).clone()
        };
        turns.acquire_owned().await.ok()
    }

    /// Asks the source for somebody. An answer that never comes shows by its channel closing. The permit, if there is one, is
    /// to be kept until the answer has come to its end. Rows are asked for of the database that is followed.
    pub async fn ask(&self, mut request: Request, who: &Arc<str>) -> Option<OwnedSemaphorePermit> {
        let mut turn = self.turn_of(who).await;
        if let Request::Snapshot { permit, epoch, .. } | Request::Page { permit, epoch, .. } = &mut request {
            *permit = turn.take();
            *epoch = self.database();
        }
        let _ = self.source.requests.send(request).await;
        turn
    }

    /// Whether a channel exists; `None` until the source has told which there are.
    pub fn has_channel(&self, name: &str) -> Option<bool> {
        let state = lock(&self.state);
        state.channels.as_ref().map(|channels| channels.contains_key(name))
    }

    /// How a view shows its channel, by the columns that it has now.
    ///
    /// # Errors
    /// [`JoinError::UnknownChannel`] or [`JoinError::Unfit`].
    pub fn projection(&self, key: &ViewKey) -> Result<Arc<Projection>, JoinError> {
        lock(&self.state).projection(key)
    }

    /// All channels with their number of subscribers, and the number of users that are watched.
    pub fn census(&self) -> (Vec<(Arc<str>, usize)>, usize) {
        let state = lock(&self.state);
        let channels = state
            .channels
            .iter()
            .flat_map(BTreeMap::keys)
            .map(|name| (name.clone(), state.known.of_channel(name).map(|view| view.subscribers()).sum()))
            .collect();
        (channels, state.known.users())
    }

    /// Where the stream has come to.
    pub fn cursor(&self) -> Arc<str> {
        lock(&self.state).cursor.clone()
    }

    /// Begins its tasks: one that applies what the source tells, one that pings, and those that write.
    pub fn start(self: &Arc<Self>, tasks: &mut Tasks, events: mpsc::Receiver<Event>, shutdown: &Shutdown) {
        for (index, shard) in self.shards.iter().enumerate() {
            tasks.spawn(format!("shard {index}"), shard.clone().write(shutdown.clone()));
        }
        let (hub, down) = (self.clone(), shutdown.clone());
        tasks.spawn("pulse", async move { hub.keepalive.run(down).await });
        let (hub, down) = (self.clone(), shutdown.clone());
        tasks.spawn("claims", async move { hub.read_members(down).await });
        tasks.spawn("hub", self.clone().run(events, shutdown.clone()));
    }

    /// Applies what the source tells until it ends or the shutdown begins.
    async fn run(self: Arc<Self>, mut events: mpsc::Receiver<Event>, mut shutdown: Shutdown) {
        let mut heartbeat = tokio::time::interval_at(Instant::now() + self.settings.heartbeat, self.settings.heartbeat);
        let mut views = Views::default();
        let mut unwritten = 0;
        loop {
            let next_telling = lock(&self.state).next_telling();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.apply(&mut views, event, &mut unwritten).await,
                    // the source ends at the shutdown, and tells why where it does so before
                    None => return shutdown.begun().await,
                },
                () = tokio::time::sleep_until(next_telling.unwrap_or_else(Instant::now)), if next_telling.is_some() => {
                    self.tell_latest(&mut unwritten).await;
                }
                () = self.hurried.notified() => self.tell_latest(&mut unwritten).await,
                () = self.new_view.notified() => self.hear_of_views(&mut views),
                _ = heartbeat.tick() => self.beat(),
                () = shutdown.begun() => return,
            }
        }
    }

    /// After `unwritten` bytes were put into logs: a cut of a million rows must not push its own beginning off the log
    /// before anybody wrote it, and all logs together hold no more than they may.
    async fn settle(&self, unwritten: &mut u64) {
        if *unwritten > self.settings.log_bytes / 4 {
            self.passed().await;
            *unwritten = 0;
        }
        if self.meter.is_over() {
            self.passed().await;
            self.relieve();
        }
    }

    /// Waits until every shard has written what it was asked to. They never block, so this is a matter of system
    /// calls, not of clients.
    async fn passed(&self) {
        for shard in &self.shards {
            shard.passed().await;
        }
    }
}

impl HubState {
    /// The columns of a channel, where it has a table; `None` where there is no such channel, or none is known yet.
    fn channel(&self, name: &str) -> Option<Option<&[Column]>> {
        self.channels.as_ref()?.get(name).map(|columns| columns.as_deref())
    }

    fn lets_in(&self, key: &ViewKey, who: Option<&Identity>, seen: &Snapshot) -> bool {
        self.rules_let_in(key, who, seen)
            && (!key.has_members() || who.is_some_and(|who| self.is_held_since(key, who, seen)))
    }

    /// The same, whatever its holder has of claims.
    fn rules_let_in(&self, key: &ViewKey, who: Option<&Identity>, seen: &Snapshot) -> bool {
        let by_floors = match key.channel() {
            Some(channel) => self.floors.let_in(channel, seen),
            None => self.floors.notifying().all(|channel| self.floors.let_in(channel, seen)),
        };
        by_floors && who.is_none_or(|who| self.policies.as_ref().is_some_and(|rules| rules.let_in(key, who, seen)))
    }

    /// Whether somebody is still allowed what is seen through `key`, and has been since a position.
    fn is_held_since(&self, key: &ViewKey, who: &Identity, seen: &Snapshot) -> bool {
        self.permit(&key.asked(), who).is_ok_and(|now| now == *key)
            && who.user.as_ref().is_some_and(|user| self.claims.let_in(user, seen))
    }

    fn permit(&self, asked: &ViewKey, who: &Identity) -> Result<ViewKey, JoinError> {
        let policies = self.policies.as_ref().ok_or(JoinError::NotLive)?;
        policies.permit(asked, who, &self.claims).map_err(|refused| match refused {
            Denied::Forbidden => JoinError::Forbidden,
            Denied::InDoubt => JoinError::InDoubt,
            Denied::Claim(what) => JoinError::Unfit(Unfit(what)),
        })
    }

    fn sealed(&self, token: &str) -> Arc<str> {
        let seal = self.incarnations.as_ref().and_then(|incarnations| incarnations.seal.as_ref());
        seal.map_or_else(|| token.into(), |seal| seal.put(token).into())
    }

    fn projection(&self, key: &ViewKey) -> Result<Arc<Projection>, JoinError> {
        match key {
            ViewKey::User(_, None) => Ok(Arc::default()),
            ViewKey::User(_, Some(rights)) => {
                let columns = |name: &str| self.channel(name);
                Ok(Arc::new(Projection::of_notifications(rights, columns)))
            }
            ViewKey::Channel(name, selection) => {
                let columns = self.channel(name).ok_or(JoinError::UnknownChannel)?;
                Ok(Arc::new(Projection::compile(selection, columns)?))
            }
        }
    }
}
