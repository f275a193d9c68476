//! Rows that were read faster than their reader takes them. Owns the form in which they wait; knows neither the database
//! nor a socket.
//!
//! A reader on a slow line would hold the statement that reads its rows, and with it a transaction, which holds back vacuum,
//! and the turn of others. So what is not taken at once is packed and waits here: the statement goes on as fast as the
//! database gives rows. JSON of rows repeats its keys: packed, orders are less than a fifth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::turns::Turn;
use crate::change::Json;
use crate::request::RowsPart;
use crate::room::{Room, RoomShare, Taken};

/// What waits for all readers together, and for those of one asker, in bytes. Beyond, the statement waits as long as its turn lasts.
const ALL: usize = 64 << 20;
const ONE: usize = 16 << 20;
/// A reader that takes a part within this time needs nothing of it.
const AT_ONCE: Duration = Duration::from_millis(20);
/// Between texts in a part: no JSON has it.
const BETWEEN: char = '\0';

/// The memory of all readers.
pub(super) fn room() -> Room {
    Room::new(ALL, ONE)
}

/// Hands the parts of one answer over, in order.
#[derive(Debug)]
pub(super) struct Spool {
    to: mpsc::Sender<RowsPart>,
    turn: Turn,
    share: RoomShare,
    has_begun: Arc<AtomicBool>,
    /// once something waits, everything does
    waiting: Option<mpsc::UnboundedSender<Packed>>,
}

/// The reader is gone, or slow, and there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

#[derive(Debug)]
struct Packed {
    what: Spooled,
    _room: Option<Taken>,
}

#[derive(Debug)]
enum Spooled {
    Rows(Vec<u8>),
    Keys(Vec<u8>),
    /// small
    Other(RowsPart),
}

impl Spool {
    pub(super) fn new(to: mpsc::Sender<RowsPart>, turn: Turn, room: &Room, asker: &Arc<str>) -> Self {
        Self { to, turn, share: room.of(asker), has_begun: Arc::default(), waiting: None }
    }

    /// Whether a part was handed over.
    pub(super) fn has_begun(&self) -> Arc<AtomicBool> {
        self.has_begun.clone()
    }

    /// Hands a part over; `Ok` also where it waits for its reader.
    pub(super) async fn give(&mut self, part: RowsPart) -> Result<(), NoRoom> {
        self.has_begun.store(true, Relaxed);
        if self.waiting.is_none() {
            match timeout(AT_ONCE, self.to.reserve()).await {
                Ok(Ok(place)) => {
                    place.send(part);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(NoRoom),
                Err(_) => {}
            }
        }
        let what = match part {
            RowsPart::Rows(rows) => Spooled::Rows(pack(&rows)),
            RowsPart::Keys(keys) => Spooled::Keys(pack(&keys)),
            other => Spooled::Other(other),
        };
        let _room = match &what {
            Spooled::Rows(bytes) | Spooled::Keys(bytes) => Some(self.room_for(bytes.len()).await?),
            Spooled::Other(_) => None,
        };
        let waiting = self.waiting.get_or_insert_with(|| {
            let (waiting, parts) = mpsc::unbounded_channel();
            // ends when all were taken, or the reader is gone
            tokio::spawn(hand_over(parts, self.to.clone()));
            waiting
        });
        waiting.send(Packed { what, _room }).map_err(|_| NoRoom)
    }

    /// Waits for room as long as the turn lasts.
    async fn room_for(&self, bytes: usize) -> Result<Taken, NoRoom> {
        tokio::select! {
            taken = self.share.take(bytes) => Ok(taken),
            () = self.turn.wait_until_over() => Err(NoRoom),
            () = self.to.closed() => Err(NoRoom),
        }
    }
}

async fn hand_over(mut parts: mpsc::UnboundedReceiver<Packed>, to: mpsc::Sender<RowsPart>) {
    while let Some(Packed { what, _room }) = parts.recv().await {
        let part = match what {
            Spooled::Rows(bytes) => RowsPart::Rows(unpack(&bytes)),
            Spooled::Keys(bytes) => RowsPart::Keys(unpack(&bytes)),
            Spooled::Other(part) => part,
        };
        if to.send(part).await.is_err() {
            return;
        }
    }
}

fn pack(texts: &[Json]) -> Vec<u8> {
    let mut all = String::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    for text in texts {
        all.push_str(text);
        all.push(BETWEEN);
    }
    lz4_flex::compress_prepend_size(all.as_bytes())
}

fn unpack(bytes: &[u8]) -> Vec<Json> {
    let all = lz4_flex::decompress_size_prepended(bytes).ok().and_then(|all| String::from_utf8(all).ok());
    let all = all.expect("what pack has packed");
    all.split_terminator(BETWEEN).map(Json::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::turns::Turns;

    fn spool(to: mpsc::Sender<RowsPart>, room: &Room) -> Spool {
        let mut turns = Turns::new(1);
        turns.wait("somebody".into(), ());
        Spool::new(to, turns.take().unwrap().1, room, &"somebody".into())
    }

    fn rows(number: usize) -> Vec<Json> {
        (0..100).map(|i| format!("{{\"number\":{number},\"i\":{i},\"text\":\"ü\"}}").into()).collect()
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_yet_gets_all_of_it_in_order() {
        let (to, mut from) = mpsc::channel(1);
        let room = room();
        let (mut spool, share) = (spool(to, &room), room.of(&"somebody".into()));
        for number in 0..50 {
            spool.give(RowsPart::Rows(rows(number))).await.unwrap();
        }
        spool.give(RowsPart::Keys(rows(50))).await.unwrap();
        spool.give(RowsPart::Refused).await.unwrap();
        drop(spool);
        assert!(share.left().0 < ALL);
        for number in 0..50 {
            let Some(RowsPart::Rows(told)) = from.recv().await else { panic!("rows") };
            assert_eq!(told, rows(number));
        }
        assert!(matches!(from.recv().await, Some(RowsPart::Keys(keys)) if keys == rows(50)));
        assert!(matches!(from.recv().await, Some(RowsPart::Refused)));
        assert!(from.recv().await.is_none());
        assert_eq!(share.left(), (ALL, ONE));
    }

    #[test]
    fn rows_are_packed_to_less_than_a_fifth() {
        let order = |n: usize| {
            format!(
                r#"{{"order_id":{n},"product":{},"customer":"customer {}","address":"the street and number {n}","state":"open","at":"2026-11-29T04:00:00.{n:06}+00:00"}}"#,
                n % 977,
                n % 20_000
            )
        };
        let orders: Vec<Json> = (100_000..100_420).map(|n| order(n).into()).collect();
        let bytes: usize = orders.iter().map(|order| order.len()).sum();
        let packed = pack(&orders);
        assert!(5 * packed.len() < bytes, "{} of {bytes}", packed.len());
        assert_eq!(unpack(&packed), orders);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_it() {
        let (to, from) = mpsc::channel(1);
        let mut spool = spool(to, &room());
        for number in 0..3 {
            spool.give(RowsPart::Rows(rows(number))).await.unwrap();
        }
        drop(from);
        while spool.give(RowsPart::Rows(rows(9))).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
