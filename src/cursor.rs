//! A position in the stream of changes, and its token. Pure: owns snapshots and their arithmetic, knows no connection.
//!
//! A cursor is a Postgres snapshot, not a sequence number: sequence order is not commit order (`where id > last`
//! lost 45 % of the changes under 8 writers). It speaks of transactions, not of a node's memory, so any node serves it.
//!
//! Token grammar: `1` version, base64url without padding of the fields below as unsigned LEB128 varints, and, for a
//! position inside a cut, `.`, the number of digits and the digits of the last change's id, both in base 36. Lengths
//! stand in front, so that a truncated token is never taken for another position:
//!
//! ```text
//! length of what follows · epoch (8 bytes) · incarnation · lsn · snapshot [· snapshot of the cut's end]
//! snapshot = xmax · xmax - xmin · number of xip · differences of xip, from xmin upwards
//! ```
//!
//! Behind it may stand `~` and a mark of the rights that it was got with ([`Grant::mark`](crate::delivery::scope::grant::Grant::mark)).
//!
//! What clients get has a [`Seal`](crate::seal::Seal) behind the fields, so that a position that no server gave out is
//! refused. Between nodes there is none.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::incarnations::Lineage;
use crate::seal::{SEAL_BYTES, VERSION};

/// Which transactions a snapshot saw: `xmin:xmax:xip`, as `pg_current_snapshot()` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// in progress, ascending, each in `xmin..xmax`
    xip: Vec<u64>,
}

/// A position in the stream: everything visible in `seen` was delivered, and of the cut that ends at `inside`'s
/// snapshot the changes up to its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// which installation of which database, hashed; see `source::epoch`
    pub epoch: u64,
    /// which incarnation of the server, as in [`Incarnation::id`](crate::incarnations::Incarnation::id)
    pub incarnation: u64,
    /// insert position of the WAL, read after the snapshot: an upper bound of what it saw
    pub lsn: u64,
    /// the cut's beginning
    pub seen: Snapshot,
    /// the cut's end and the last id delivered, when the position lies inside a cut
    pub inside: Option<(Snapshot, i64)>,
}

/// A position between two cuts, and its token: every transaction is either wholly before it or wholly after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// never inside a cut
    pub cursor: Cursor,
    /// of the cursor
    pub token: Arc<str>,
}

impl Boundary {
    /// The boundary at a cursor.
    pub fn new(cursor: Cursor) -> Self {
        debug_assert!(cursor.inside.is_none(), "I1: a boundary inside a cut");
        let token = cursor.token().into();
        Self { cursor, token }
    }

    /// An earlier position, with the incarnation and LSN of this one: an upper bound of what it saw.
    #[must_use]
    pub fn at(&self, seen: &Snapshot) -> Self {
        Self::new(Cursor { seen: seen.clone(), ..self.cursor.clone() })
    }

    /// The token of any position inside the cut from `seen` to here, without its id: what a client gets that catches up.
    pub fn inside(&self, seen: &Snapshot) -> String {
        Cursor { seen: seen.clone(), ..self.cursor.clone() }.token_inside(&self.cursor.seen)
    }
}

/// A token that is no cursor: forged, truncated or of a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadToken;

/// More running transactions than a server can have (262,143 backends): a longer list is not ours.
const MAX_XIP: u64 = 1 << 18;

impl Snapshot {
    /// Reads the text form of `pg_snapshot`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let mut xip = Vec::new();
        if !list.is_empty() {
            for xid in list.split(',') {
                xip.push(xid.parse().ok()?);
            }
        }
        Self::checked(xmin, xmax, xip)
    }

    fn checked(xmin: u64, xmax: u64, xip: Vec<u64>) -> Option<Self> {
        let ascending = xip.windows(2).all(|pair| pair[0] < pair[1]);
        let within = xip.iter().all(|xid| (xmin..xmax).contains(xid));
        // Postgres has no transaction 0, and raises where it is to read one
        (0 < xmin && xmin <= xmax && ascending && within).then_some(Self { xmin, xmax, xip })
    }

    /// The oldest transaction that was still running.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// The first transaction that had not begun.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Whether the snapshot saw a transaction, provided that it committed.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.xip.binary_search(&xid).is_err())
    }

    /// Whether it saw everything that the other one saw.
    pub fn covers(&self, other: &Self) -> bool {
        let hidden = self.xip.iter().any(|&xid| other.sees(xid));
        // of what had not begun for this one, the other may know only what was still running
        let later = other.xmax.saturating_sub(self.xmax);
        !hidden && (later == 0 || other.xip.iter().filter(|&&xid| xid >= self.xmax).count() as u64 == later)
    }

    /// The latest transaction that it sees and `earlier` does not, among the latest 65,536 that had begun: beyond them it is looked
    /// for no longer.
    pub fn latest_since(&self, earlier: &Self) -> Option<u64> {
        (earlier.xmin..self.xmax).rev().take(1 << 16).find(|&xid| self.sees(xid) && !earlier.sees(xid))
    }

    /// What it saw, without the transactions from `xid` on.
    #[must_use]
    pub fn before(&self, xid: u64) -> Self {
        let xmax = self.xmax.min(xid);
        let xip: Vec<u64> = self.xip.iter().copied().take_while(|&running| running < xmax).collect();
        Self { xmin: self.xmin.min(xmax), xmax, xip }
    }

    /// A snapshot that sees every transaction below `xid` and no other.
    pub fn all_before(xid: u64) -> Self {
        Self { xmin: xid, xmax: xid, xip: Vec::new() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.xmax);
        put(out, self.xmax - self.xmin);
        put(out, self.xip.len() as u64);
        let mut previous = self.xmin;
        for &xid in &self.xip {
            put(out, xid - previous);
            previous = xid;
        }
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let xmax = take(input)?;
        let xmin = xmax.checked_sub(take(input)?)?;
        let count = take(input)?;
        // every entry takes a byte at least: a forged count must not reserve memory
        if count > MAX_XIP || count > input.len() as u64 {
            return None;
        }
        let mut xip = Vec::with_capacity(count as usize);
        let mut previous = xmin;
        for _ in 0..count {
            previous = previous.checked_add(take(input)?)?;
            xip.push(previous);
        }
        Self::checked(xmin, xmax, xip)
    }
}

/// The text form that Postgres reads: `xmin:xmax:xip,xip`.
impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.xip.iter().enumerate() {
            if i > 0 {
                f.write_char(',')?;
            }
            write!(f, "{xid}")?;
        }
        Ok(())
    }
}

/// As Postgres reads it.
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("this is no snapshot"))
    }
}

impl Cursor {
    /// Where the position is good.
    pub fn lineage(&self) -> Lineage {
        Lineage { epoch: self.epoch, incarnation: self.incarnation }
    }

    /// The opaque, URL-safe token, not sealed: usually 30 to 100 characters.
    pub fn token(&self) -> String {
        let Some((end, id)) = &self.inside else { return self.fields(None) };
        let mut token = self.fields(Some(end));
        push_id(&mut token, *id);
        token
    }

    /// The token of any position inside the cut from here to `end`, up to and without the `.` of its id.
    pub fn token_inside(&self, end: &Snapshot) -> String {
        debug_assert!(self.inside.is_none(), "I1: a cut that begins inside a cut");
        self.fields(Some(end))
    }

    fn fields(&self, end: Option<&Snapshot>) -> String {
        let mut fields = Vec::with_capacity(64);
        fields.extend_from_slice(&self.epoch.to_be_bytes());
        put(&mut fields, self.incarnation);
        put(&mut fields, self.lsn);
        self.seen.write(&mut fields);
        if let Some(end) = end {
            end.write(&mut fields);
        }
        let mut counted = Vec::with_capacity(fields.len() + 2);
        put(&mut counted, fields.len() as u64);
        counted.append(&mut fields);
        let mut token = String::with_capacity(1 + counted.len() * 4 / 3 + 16);
        token.push(VERSION);
        URL_SAFE_NO_PAD.encode_string(&counted, &mut token);
        token
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`BadToken`] for whatever this version did not write. A well-formed token of another epoch or from the future
    /// is read, and one with a wrong seal; whether it may be honoured is not decided here.
    pub fn parse(token: &str) -> Result<Self, BadToken> {
        Self::read(token).ok_or(BadToken)
    }

    fn read(token: &str) -> Option<Self> {
        let rest = token.strip_prefix(VERSION)?;
        let (fields, id) = match rest.split_once('.') {
            Some((fields, id)) => (fields, Some(read_id(id)?)),
            None => (rest, None),
        };
        let counted = URL_SAFE_NO_PAD.decode(fields).ok()?;
        let mut input = &counted[..];
        let length = usize::try_from(take(&mut input)?).ok()?;
        let (fields, seal) = input.split_at_checked(length)?;
        if !matches!(seal.len(), 0 | SEAL_BYTES) {
            return None;
        }
        input = fields;
        let (epoch, rest) = input.split_first_chunk()?;
        let epoch = u64::from_be_bytes(*epoch);
        input = rest;
        let incarnation = take(&mut input)?;
        let lsn = take(&mut input)?;
        let seen = Snapshot::read(&mut input)?;
        let inside = match id {
            Some(id) => Some((Snapshot::read(&mut input)?, id)),
            None => None,
        };
        input.is_empty().then_some(Self { epoch, incarnation, lsn, seen, inside })
    }
}

/// Appends the id of a change to the token of its cut's inside, which was encoded once for the cut.
pub fn push_id(token: &mut String, mut id: i64) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = [0_u8; 13];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[(id % 36) as usize];
        id /= 36;
        if id == 0 {
            break;
        }
    }
    token.push('.');
    token.push(char::from(DIGITS[digits.len() - at]));
    token.extend(digits[at..].iter().map(|&d| char::from(d)));
}

fn read_id(text: &str) -> Option<i64> {
    let mut characters = text.chars();
    let length = characters.next()?.to_digit(36)?;
    let digits = characters.as_str();
    let id = i64::from_str_radix(digits, 36).ok()?;
    (digits.len() == length as usize && id > 0 && digits.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(id)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(shift).filter(|v| v >> shift == bits)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seal::Seal;

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        (3_u64..1 << 40, prop::collection::btree_set(0_u64..200, 0..8), 0_u64..100).prop_map(|(xmin, offsets, gap)| {
            let xip: Vec<u64> = offsets.iter().map(|o| xmin + o).collect();
            let xmax = xip.last().map_or(xmin, |last| last + 1) + gap;
            Snapshot { xmin, xmax, xip }
        })
    }

    /// Small ones, so that two of them often meet.
    fn near() -> impl Strategy<Value = Snapshot> {
        (3_u64..20, prop::collection::btree_set(0_u64..20, 0..8), 0_u64..8).prop_map(|(xmin, offsets, more)| {
            let xip: Vec<u64> = offsets.iter().map(|o| xmin + o).collect();
            let xmax = xip.last().map_or(xmin, |last| last + 1) + more;
            Snapshot { xmin, xmax, xip }
        })
    }

    fn cursors() -> impl Strategy<Value = Cursor> {
        (any::<u64>(), any::<u32>(), any::<u64>(), snapshots(), prop::option::of((snapshots(), 1_i64..))).prop_map(
            |(epoch, incarnation, lsn, seen, inside)| Cursor {
                epoch,
                incarnation: incarnation.into(),
                lsn,
                seen,
                inside,
            },
        )
    }

    proptest! {
        #[test]
        fn a_token_is_read_back_as_it_was_written(cursor in cursors()) {
            prop_assert_eq!(Cursor::parse(&cursor.token()), Ok(cursor));
        }

        #[test]
        fn a_sealed_token_is_the_same_position_and_no_other_can_be_made_of_it(
            cursor in cursors(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let (seal, other) = (Seal::new(b"a key of the database"), Seal::new(b"another one's"));
            let token = seal.put(&cursor.token());
            prop_assert_eq!(Cursor::parse(&token), Ok(cursor.clone()));
            prop_assert!(seal.is_on(&token) && !other.is_on(&token) && !seal.is_on(&cursor.token()));
            if let Some((end, id)) = &cursor.inside {
                let begin = Cursor { inside: None, ..cursor.clone() };
                let mut prefix = seal.put(&begin.token_inside(end));
                push_id(&mut prefix, *id);
                prop_assert_eq!(&prefix, &token);
            }
            let fields = token.split('.').next().unwrap_or_default();
            let mut bytes = URL_SAFE_NO_PAD.decode(&fields[1..]).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let forged = format!("1{}{}", URL_SAFE_NO_PAD.encode(bytes), &token[fields.len()..]);
            prop_assert!(!seal.is_on(&forged));
        }

        #[test]
        fn a_truncated_token_is_refused(cursor in cursors(), keep in 0.0..1.0_f64) {
            let token = cursor.token();
            let cut = &token[..(token.len() as f64 * keep) as usize];
            prop_assert_eq!(Cursor::parse(cut), Err(BadToken));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Cursor::parse(&text);
            let _ = Snapshot::parse(&text);
        }

        #[test]
        fn the_text_form_is_read_back(snapshot in snapshots()) {
            prop_assert_eq!(Snapshot::parse(&snapshot.to_string()), Some(snapshot));
        }

        #[test]
        fn covering_means_seeing_all_that_the_other_saw(one in near(), other in near()) {
            let all = (0..60).all(|xid| !other.sees(xid) || one.sees(xid));
            prop_assert_eq!(one.covers(&other), all, "{} covers {}", one, other);
            prop_assert!(one.covers(&one));
        }

        #[test]
        fn what_is_cut_off_is_not_seen_and_the_rest_is(snapshot in near(), xid in 3_u64..60) {
            let earlier = snapshot.before(xid);
            for each in 0..60 {
                prop_assert_eq!(earlier.sees(each), snapshot.sees(each) && each < xid, "{} of {}", each, earlier);
            }
            prop_assert_eq!(Snapshot::parse(&earlier.to_string()), Some(earlier));
        }

        #[test]
        fn a_snapshot_sees_what_had_ended(snapshot in snapshots(), xid in 3_u64..1 << 41) {
            let ended = xid < snapshot.xmax && !snapshot.xip.contains(&xid);
            prop_assert_eq!(snapshot.sees(xid), ended || xid < snapshot.xmin);
        }
    }

    #[test]
    fn a_token_is_short() {
        let snapshot = Snapshot::parse("7421:7430:7421,7425").unwrap();
        let begin = Cursor { epoch: 7, incarnation: 1, lsn: 0x1_6B37_4D48, seen: snapshot.clone(), inside: None };
        let cursor = Cursor { inside: Some((snapshot.clone(), 90017)), ..begin.clone() };
        assert!(cursor.token().len() < 50, "{}", cursor.token());
        assert!(cursor.token().ends_with(".41xgh"), "{}", cursor.token());
        assert_eq!(format!("{}.41xgh", begin.token_inside(&snapshot)), cursor.token());
    }

    #[test]
    fn a_boundary_names_what_lies_before_it() {
        let (earlier, end) = (Snapshot::parse("5:8:5,7").unwrap(), Snapshot::parse("9:12:9").unwrap());
        assert_eq!((end.xmin(), end.xmax()), (9, 12));
        let cursor = Cursor { epoch: 7, incarnation: 2, lsn: 3, seen: end.clone(), inside: None };
        let boundary = Boundary::new(cursor.clone());
        assert_eq!(boundary.at(&earlier).cursor, Cursor { seen: earlier.clone(), ..cursor.clone() });
        let within = Cursor { seen: earlier.clone(), inside: Some((end, 41)), ..cursor };
        let mut token = boundary.inside(&earlier);
        push_id(&mut token, 41);
        assert_eq!(token, within.token());
    }

    #[test]
    fn what_had_not_begun_for_one_may_be_running_for_the_other() {
        let covers = |one, other| Snapshot::parse(one).unwrap().covers(&Snapshot::parse(other).unwrap());
        assert!(covers("10:10:", "10:12:10,11"), "it saw neither");
        assert!(!covers("10:10:", "10:12:11"), "10 has ended");
        assert!(!covers("9:10:9", "10:10:") && covers("10:10:", "9:10:9"));
    }

    #[test]
    fn the_latest_transaction_since_is_the_last_that_ended() {
        let latest = |now, before| Snapshot::parse(now).unwrap().latest_since(&Snapshot::parse(before).unwrap());
        assert_eq!(latest("10:15:10,13", "10:12:10"), Some(14));
        assert_eq!(latest("10:15:10,13,14", "10:12:10"), Some(12));
        assert_eq!(latest("15:15:", "10:15:10"), Some(10), "it ran all the while");
        assert_eq!(latest("10:12:10", "10:12:10"), None);
        assert_eq!(latest("200000:200000:", "100:200000:100"), None, "not looked for any longer");
    }

    #[test]
    fn no_change_has_the_id_0() {
        let begin = Cursor { epoch: 7, incarnation: 1, lsn: 1, seen: Snapshot::all_before(9), inside: None };
        let token = begin.token_inside(&Snapshot::all_before(12));
        assert_eq!(Cursor::parse(&format!("{token}.10")), Err(BadToken));
        assert_eq!(Cursor::parse(&format!("{token}.11")).unwrap().inside, Some((Snapshot::all_before(12), 1)));
    }

    #[test]
    fn a_snapshot_that_no_server_prints_is_refused() {
        for text in ["5:8:6,6", "5:8:7,6", "5:8:8", "5:8:4", "9:8:", "5:8", "5:8:x", ":8:"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }

    #[test]
    fn transaction_0_is_none() {
        assert_eq!(Snapshot::parse("0:0:"), None);
        let nowhere = Cursor { epoch: 1, incarnation: 1, lsn: 1, seen: Snapshot::all_before(0), inside: None };
        assert_eq!(Cursor::parse(&nowhere.token()), Err(BadToken));
    }

    #[test]
    fn a_forged_count_reserves_nothing() {
        let mut fields = vec![13];
        fields.extend([0; 8]);
        for value in [1, 1, 100, 50, 127] {
            put(&mut fields, value);
        }
        assert_eq!(Cursor::parse(&format!("1{}", URL_SAFE_NO_PAD.encode(fields))), Err(BadToken));
    }
}
