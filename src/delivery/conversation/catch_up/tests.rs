//! A hub that is told what events say, and a subscriber on its way.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::change::{Channel, Cut, Event, Floor, Start, Update};
use crate::delivery::fanout::hub::{Settings, Source};
use crate::delivery::scope::selection::Selection;
use crate::delivery::socket::send_queue::DueCache;
use crate::feedback::Feedback;
use crate::incarnations::{Incarnation, Incarnations, Lineage};
use crate::metrics::DeliveryMetrics;
use crate::request::{Page, PageAnswer};
use crate::shutdown;
use crate::tasks::Tasks;

fn position(incarnation: u64, before: u64) -> Cursor {
    Cursor { epoch: 7, incarnation, lsn: 100, seen: Snapshot::all_before(before), inside: None }
}

fn begin(incarnation: u64, incarnations: &[Incarnation], continues: bool) -> Event {
    let incarnations = Arc::new(Incarnations { epoch: 7, incarnations: incarnations.to_vec(), seal: None });
    let start = if continues { Start::Continues } else { Start::First };
    Event::From { boundary: Boundary::new(position(incarnation, 10)), incarnations, start, inside: None }
}

fn change() -> Change {
    let update = Update {
        channel: "pets".into(),
        action: "created".into(),
        data: "{}".into(),
        changed: Vec::new(),
        old: None,
        old_key: None,
        size: crate::change::Size::Whole,
        is_published: false,
    };
    Change { id: 2, tx: 12, at: 0, actor: None, update: Some(update), notification: None }
}

fn ended(changes: Vec<Change>, end: Boundary) -> Cut {
    Cut { end: Some(end.clone()), ..Cut::chunk(changes, end.cursor.seen) }
}

fn cut(incarnation: u64) -> Event {
    let end = Boundary::new(position(incarnation, 30));
    Event::Cut(ended(vec![change()], end))
}

/// A hub that is told what `events` say, a socket of it, and the client's end of that socket.
fn no_rows(at: Cursor) -> Page {
    Page { rows: vec![], order: vec![], more: false, last: None, told: None, count: None, boundary: Boundary::new(at) }
}

struct Stage {
    hub: Arc<Hub>,
    feedback: Arc<Feedback>,
    writer: Arc<SocketWriter>,
    client: TcpStream,
    events: mpsc::Sender<Event>,
    /// what the source is asked
    requests: mpsc::Receiver<Request>,
    trigger: shutdown::Trigger,
    running: Tasks,
}

impl Stage {
    /// Live, in this incarnation of the server and with none before it.
    async fn in_incarnation(incarnation: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let metrics = Arc::new(DeliveryMetrics::default());
        let writer = Arc::new(SocketWriter::new(listener.accept().await.unwrap().0, metrics.clone()));
        let (asks, requests) = mpsc::channel(1);
        let feedback = Arc::new(Feedback::default());
        let hub = Hub::new(
            Settings::for_tests(),
            Source { requests: asks, membership: mpsc::channel(1).0, feedback: feedback.clone() },
            metrics,
        );
        let (events, received) = mpsc::channel(1);
        let (trigger, shutdown) = shutdown::channel();
        let mut running = Tasks::default();
        hub.start(&mut running, received, &shutdown);
        events
            .send(Event::Channels {
                channels: vec![Channel {
                    name: "pets".into(),
                    columns: None,
                    floor: None,
                    notifies: false,
                    is_unlisted: false,
                }],
                policies: vec![],
                claims: None,
            })
            .await
            .unwrap();
        events.send(begin(incarnation, &[Incarnation { id: incarnation, bound: None }], false)).await.unwrap();
        events.send(Event::Live).await.unwrap();
        hub.wait_until_live().await;
        Self { hub, feedback, writer, client, events, requests, trigger, running }
    }

    /// A subscriber of pets on its way.
    fn resume(&self, wish: SubscribeOptions) -> tokio::task::JoinHandle<Result<Subscription, JoinFailed>> {
        let key = ViewKey::named("pets", Selection::default());
        let (hub, writer) = (self.hub.clone(), self.writer.clone());
        tokio::spawn(CatchUp::new(hub, writer, key, None, "me".into(), None, CancelFlag::default()).run(wish))
    }

    /// Answers a request for the rows: there are none, as of a position.
    async fn give_rows(&mut self, at: Cursor) {
        match self.requests.recv().await {
            Some(Request::Page { answer, .. }) => answer.send(PageAnswer::Page(no_rows(at).into())).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Answers a request for what was missed.
    async fn give_past(&mut self, answers: Vec<ReplayPart>) {
        match self.requests.recv().await {
            Some(Request::Replay { answer, .. }) => {
                for one in answers {
                    let _ = answer.send(one).await;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the client was sent up to a word.
    async fn sent_until(&mut self, word: &str) -> String {
        self.writer.flush(&mut DueCache::default());
        let mut sent = Vec::new();
        while !String::from_utf8_lossy(&sent).contains(word) {
            assert_ne!(self.client.read_buf(&mut sent).await.unwrap(), 0, "{}", String::from_utf8_lossy(&sent));
        }
        String::from_utf8_lossy(&sent).into_owned()
    }

    /// What the client was sent until the end.
    async fn end(mut self) -> String {
        self.trigger.begin();
        self.running.finish().await;
        drop((self.writer, self.hub));
        let mut sent = Vec::new();
        self.client.read_to_end(&mut sent).await.unwrap();
        String::from_utf8_lossy(&sent).into_owned()
    }
}

#[tokio::test]
async fn a_position_that_was_judged_in_another_incarnation_does_not_enter() {
    let stage = Stage::in_incarnation(2).await;
    let enter = |epoch, incarnation| {
        let key = ViewKey::named("pets", Selection::default());
        stage
            .hub
            .enter(&key, None, &stage.writer, &"me".into(), &Snapshot::all_before(10), Lineage { epoch, incarnation })
            .unwrap()
    };
    assert!(matches!(enter(7, 1), JoinOutcome::AnotherIncarnation));
    assert!(matches!(enter(8, 2), JoinOutcome::AnotherIncarnation), "another database of the same server");
    assert!(matches!(enter(7, 2), JoinOutcome::Joined { .. }));
    assert_eq!(stage.end().await, "");
}

/// The server crashes while a client waits for the rest of its cut. Its place is of the lost tail: a message sent
/// now would carry that position into the new incarnation, where it would be honoured.
#[tokio::test]
async fn a_position_is_not_carried_into_another_incarnation_of_the_server() {
    let stage = Stage::in_incarnation(1).await;
    let old = Incarnation { id: 1, bound: None };
    let wish = SubscribeOptions {
        since: Some(Cursor { inside: Some((Snapshot::all_before(20), 1)), ..position(1, 10) }.token()),
        ..SubscribeOptions::default()
    };
    let resuming = stage.resume(wish);
    stage.feedback.nudged().await; // it waits until the stream has come to its position

    stage.events.send(begin(2, &[old, Incarnation { id: 2, bound: Some(50) }], true)).await.unwrap();
    stage.events.send(cut(2)).await.unwrap();
    assert!(matches!(resuming.await.unwrap(), Err(JoinFailed::Unanswered)));
    assert_eq!(stage.end().await, "", "no message whose cursor the next life would honour");
}

#[tokio::test]
async fn what_waits_for_a_position_stands_behind_the_changes_up_to_it() {
    let stage = Stage::in_incarnation(1).await;
    let key = ViewKey::named("pets", Selection::default());
    let subscription = stage.hub.join(&key, None, &stage.writer, &"me".into(), None).unwrap();
    let (hub, writer) = (stage.hub.clone(), stage.writer.clone());
    let page = tokio::spawn(async move {
        let boundary = hub.written_up_to(&writer, &Snapshot::all_before(25)).await.unwrap();
        writer.write(&crate::delivery::wire::frame::text_frame("page"), &CancelFlag::default()).await.unwrap();
        boundary
    });
    stage.feedback.nudged().await; // it waits until the stream has come to the position
    stage.events.send(cut(1)).await.unwrap();
    assert_eq!(page.await.unwrap().cursor, position(1, 30));
    drop(subscription);
    let sent = stage.end().await;
    assert!(sent.find("realtime_update").unwrap() < sent.find("page").unwrap(), "{sent}");
}

#[tokio::test]
async fn a_position_of_the_future_is_not_waited_for_for_ever() {
    let stage = Stage::in_incarnation(1).await;
    let (feedback, events) = (stage.feedback.clone(), stage.events.clone());
    let source = tokio::spawn(async move {
        loop {
            feedback.nudged().await;
            tokio::time::sleep(Duration::from_millis(25)).await;
            let end = Boundary::new(position(1, 11));
            events.send(Event::Cut(ended(vec![], end))).await.unwrap();
        }
    });
    let written = stage.hub.written_up_to(&stage.writer, &Snapshot::all_before(1_000)).await;
    assert_eq!(written.unwrap_err(), crate::delivery::fanout::hub::NotSynced::Ahead);
    stage.hub.written_up_to(&stage.writer, &Snapshot::all_before(11)).await.unwrap();
    source.abort();
    assert_eq!(stage.end().await, "");
}

/// So that it reads no sooner than what it brings can be written.
#[tokio::test]
async fn the_source_hears_how_long_a_pass_takes() {
    let stage = Stage::in_incarnation(1).await;
    let key = ViewKey::named("pets", Selection::default());
    let subscription = stage.hub.join(&key, None, &stage.writer, &"me".into(), None).unwrap();
    assert_eq!(stage.feedback.take_longest_pass(), Duration::ZERO);
    stage.events.send(cut(1)).await.unwrap();
    let told = async {
        while stage.feedback.take_longest_pass().is_zero() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    drop(subscription);
    assert!(stage.end().await.contains("realtime_update"));
}

/// The messages in what was sent, by their type.
fn types(sent: &str) -> Vec<&str> {
    sent.split(r#"{"type":""#).skip(1).filter_map(|message| message.split('"').next()).collect()
}

/// A client that asked for rows takes them to be what it is to show, whatever it was told before `subscribed`.
#[tokio::test]
async fn rows_behind_which_something_is_missing_are_read_again() {
    let wish = || SubscribeOptions { rows: WantedRows::All, ..SubscribeOptions::default() };
    let (old, present) = (position(1, 5), position(1, 10));
    // what was captured since the rows were read was pruned, or cannot be told
    let unreadable = Change { update: Some(Update::unreadable("pets".into())), ..change() };
    for past in [vec![ReplayPart::Gap(Gap::Retention)], vec![ReplayPart::Changes(vec![unreadable]), ReplayPart::Done]] {
        let mut stage = Stage::in_incarnation(1).await;
        let resuming = stage.resume(wish());
        stage.give_rows(old.clone()).await;
        stage.give_past(past).await;
        stage.give_rows(present.clone()).await;
        let subscription = resuming.await.unwrap().unwrap();
        let sent = stage.sent_until("subscribed").await;
        drop(subscription);
        stage.end().await;
        assert_eq!(types(&sent), ["snapshot", "gap", "snapshot", "subscribed"]);
    }
    // each time: the client begins anew, and waits before it does
    let mut stage = Stage::in_incarnation(1).await;
    let resuming = stage.resume(wish());
    for _ in 0..SNAPSHOTS {
        stage.give_rows(old.clone()).await;
        stage.give_past(vec![ReplayPart::Gap(Gap::Retention)]).await;
    }
    assert!(matches!(resuming.await.unwrap(), Err(JoinFailed::Unanswered)));
    assert_eq!(types(&stage.end().await), ["snapshot", "gap"].repeat(SNAPSHOTS as usize));
}

/// Nothing of them was sent, so the client need not know; see `Rows::Outdated`.
#[tokio::test]
async fn rows_that_were_read_by_the_rules_of_before_are_read_again() {
    let mut stage = Stage::in_incarnation(1).await;
    let resuming = stage.resume(SubscribeOptions { rows: WantedRows::All, ..SubscribeOptions::default() });
    let Some(Request::Page { answer, .. }) = stage.requests.recv().await else { panic!("it asks for the rows") };
    let floor = Some(Floor { seen: Snapshot::all_before(8), by: 7 });
    let channels = vec![Channel { name: "pets".into(), columns: None, floor, notifies: false, is_unlisted: false }];
    stage.events.send(Event::Channels { channels, policies: vec![], claims: None }).await.unwrap();
    while stage.hub.floor_of(&ViewKey::named("pets", Selection::default())).is_none() {
        tokio::task::yield_now().await;
    }
    let hidden = Page { rows: vec![(r#"{"secret":1}"#.into(), true)], ..no_rows(position(1, 10)) };
    answer.send(PageAnswer::Page(hidden.into())).unwrap();
    let again = tokio::time::timeout(Duration::from_secs(10), stage.give_rows(position(1, 10)));
    again.await.expect("it asks for them again");
    let joined = tokio::time::timeout(Duration::from_secs(10), resuming).await.expect("these are taken");
    let subscription = joined.unwrap().unwrap();
    let sent = stage.sent_until("subscribed").await;
    assert!(!sent.contains("secret"), "{sent}");
    drop(subscription);
    stage.end().await;
    assert_eq!(types(&sent), ["snapshot", "subscribed"]);
}

/// A writer of such changes keeps no client out.
#[tokio::test]
async fn the_last_time_a_change_that_cannot_be_told_is_said_behind_subscribed() {
    let mut stage = Stage::in_incarnation(1).await;
    let resuming = stage.resume(SubscribeOptions { rows: WantedRows::All, ..SubscribeOptions::default() });
    let unreadable = || Change { update: Some(Update::unreadable("pets".into())), ..change() };
    for _ in 0..SNAPSHOTS {
        stage.give_rows(position(1, 5)).await;
        stage.give_past(vec![ReplayPart::Changes(vec![change(), unreadable()]), ReplayPart::Done]).await;
    }
    let subscription = resuming.await.unwrap().unwrap();
    let sent = stage.sent_until("subscribed").await;
    drop(subscription);
    let sent = sent + &stage.end().await;
    let again = ["snapshot", "realtime_update", "gap"].repeat(SNAPSHOTS as usize - 1);
    assert_eq!(types(&sent), [again, vec!["snapshot", "realtime_update", "subscribed", "gap"]].concat());
}

#[tokio::test]
async fn rows_follow_a_change_that_cannot_be_told_in_what_was_missed() {
    for snapshot in [true, false] {
        let mut stage = Stage::in_incarnation(1).await;
        let resuming = stage.resume(SubscribeOptions {
            since: Some(position(1, 5).token()),
            rows: if snapshot { WantedRows::All } else { WantedRows::Nothing },
            ..SubscribeOptions::default()
        });
        let unreadable = Change { update: Some(Update::unreadable("pets".into())), ..change() };
        let after = Change { id: 3, ..change() };
        stage.give_past(vec![ReplayPart::Changes(vec![change(), unreadable, after]), ReplayPart::Done]).await;
        if snapshot {
            stage.give_rows(position(1, 10)).await;
        }
        let subscription = resuming.await.unwrap().unwrap();
        let sent = stage.sent_until("subscribed").await;
        drop(subscription);
        stage.end().await;
        let wanted: &[&str] = match snapshot {
            true => &["realtime_update", "gap", "snapshot", "subscribed"],
            false => &["realtime_update", "gap", "realtime_update", "subscribed"],
        };
        assert_eq!(types(&sent), wanted);
    }
}
