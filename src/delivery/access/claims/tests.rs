use super::*;
use crate::change::{Change, Cut, Follow, Size, Update};

fn at(xmax: u64) -> Snapshot {
    Snapshot::all_before(xmax)
}

fn staff(holder: Option<&str>) -> Claim {
    let columns = ["user_id", "clinic"].map(Into::into).into();
    let follow = Follow { channel: ".staff".into(), columns, holder: holder.map(Into::into) };
    Claim { name: "clinics".into(), revision: "1".into(), follows: Some(vec![follow]) }
}

fn update(action: &'static str, data: &str, changed: &[&str], old: Option<&str>) -> Update {
    Update {
        channel: ".staff".into(),
        action: action.into(),
        data: data.into(),
        changed: changed.iter().map(|&name| name.into()).collect(),
        old: old.map(Into::into),
        old_key: None,
        size: Size::Whole,
        is_published: false,
    }
}

fn cut(until: u64, tx: u64, updates: Vec<Update>) -> Cut {
    let change = |update| Change { id: 1, tx, at: 0, actor: None, update: Some(update), notification: None };
    let changes = updates.into_iter().map(change).collect();
    Cut::chunk(changes, at(until))
}

fn held(holder: &str, values: &[&str]) -> Held {
    let members = Some(Members::of(values.iter().copied()));
    Held { claim: "clinics".into(), holder: holder.into(), form: Some(holder.trim().into()), members, is_unfit: false }
}

/// Reads all that are due at once.
fn read_all(claims: &mut Claims, held: Vec<Held>, seen: u64) -> Settled {
    let (generation, holders) = claims.take_due(100);
    settle(claims, generation, holders, held, seen)
}

fn settle(claims: &mut Claims, generation: u64, holders: Vec<Arc<str>>, held: Vec<Held>, seen: u64) -> Settled {
    claims.settle(generation, MembersRead { seen: at(seen), holders, held, beyond_memory: 0 })
}

fn touch(claims: &mut Claims, until: u64, update: Update) -> Vec<String> {
    touch_by(claims, until, until, update)
}

fn touch_by(claims: &mut Claims, until: u64, tx: u64, update: Update) -> Vec<String> {
    let cut = cut(until, tx, vec![update]);
    let concerned = claims.stated().concerned(&cut);
    names(claims.touch(concerned, &cut.until).1)
}

/// One claim, and these holders of clinic 1, settled at 10.
fn settled(holders: &[&str]) -> Claims {
    let mut claims = Claims::new(1 << 20);
    claims.state(vec![staff(Some("user_id"))]);
    claims.begin(&at(5));
    for holder in holders {
        assert!(claims.want(&(*holder).into()));
    }
    let read = holders.iter().map(|holder| held(holder, &["1"])).collect();
    assert_eq!(read_all(&mut claims, read, 10).holders.len(), holders.len());
    claims
}

fn values(claims: &Claims, holder: &str) -> Option<Vec<String>> {
    match claims.values("clinics", holder).unwrap() {
        Values::Members(members) => Some(members.iter().map(Into::into).collect()),
        Values::InDoubt => None,
        Values::Unreadable => Some(vec!["-".into()]),
    }
}

fn names(mut touched: Vec<Arc<str>>) -> Vec<String> {
    touched.sort();
    touched.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_changed_row_leaves_its_holders_in_doubt_and_nobody_else() {
    let mut claims = settled(&["7", " 7", "8"]);
    for (update, concerned) in [
        (update("created", r#"{"user_id":7,"clinic":2}"#, &[], None), vec![" 7", "7"]),
        (update("deleted", r#"{"user_id":8,"clinic":2}"#, &[], None), vec!["8"]),
        (update("created", r#"{"user_id":9,"clinic":2}"#, &[], None), vec![]),
        (update("created", r#"{"user_id":null,"clinic":2}"#, &[], None), vec![]),
        (update("updated", r#"{"user_id":8,"clinic":2}"#, &["clinic"], Some(r#"{"clinic":1}"#)), vec!["8"]),
        (update("updated", r#"{"user_id":8,"clinic":2}"#, &["phone"], Some(r#"{"phone":1}"#)), vec![]),
        (update("updated", r#"{"user_id":8}"#, &["user_id"], Some(r#"{"user_id":7}"#)), vec![" 7", "7", "8"]),
        (update("updated", r#"{"user_id":9}"#, &["user_id"], Some("{}")), vec![" 7", "7", "8"]),
        (update("truncated", "null", &[], None), vec![" 7", "7", "8"]),
        (update("anything", "{}", &[], None), vec![" 7", "7", "8"]),
        (Update { size: Size::Omitted, ..update("updated", r#"{"user_id":9}"#, &[], None) }, vec![" 7", "7", "8"]),
        (Update::unreadable(".staff".into()), vec![" 7", "7", "8"]),
        (Update { channel: "pets".into(), ..update("truncated", "null", &[], None) }, vec![]),
    ] {
        let action = format!("{update:?}");
        assert_eq!(touch(&mut claims, 20, update), concerned, "{action}");
    }
}

fn deleted() -> Update {
    update("deleted", r#"{"user_id":7,"clinic":1}"#, &[], None)
}

fn truncated() -> Update {
    update("truncated", "null", &[], None)
}

fn created() -> Update {
    update("created", r#"{"user_id":7,"clinic":2}"#, &[], None)
}

#[test]
fn what_was_read_before_the_change_settles_nothing() {
    let mut claims = settled(&["7"]);
    touch(&mut claims, 20, deleted());
    assert_eq!(values(&claims, "7"), None);
    let (generation, asked) = claims.take_due(100);
    assert_eq!(names(asked.clone()), ["7"]);
    assert!(claims.take_due(100).1.is_empty(), "it is being read");
    // another cut comes before the answer, which has seen the first one only
    let epoch = claims.epoch("7");
    touch(&mut claims, 30, created());
    assert_eq!(claims.first_touch("7"), Some(1));
    settle(&mut claims, generation, asked, vec![held("7", &[])], 25);
    assert_eq!((values(&claims, "7"), claims.first_touch("7")), (None, Some(2)), "up to the second one it is known");
    assert_ne!(claims.epoch("7"), epoch);
    read_all(&mut claims, vec![held("7", &["2"])], 31);
    assert_eq!((values(&claims, "7"), claims.first_touch("7")), (Some(vec!["2".into()]), None));
    assert!(!claims.let_in("7", &at(25)) && claims.let_in("7", &at(31)), "nothing from before is shown by it");
    // what says the same leaves the positions of before good
    let epoch = claims.epoch("7");
    touch(&mut claims, 40, created());
    read_all(&mut claims, vec![held("7", &["2"])], 41);
    assert!(claims.let_in("7", &at(35)) && claims.epoch("7") == epoch);
}

#[test]
fn values_that_are_the_same_again_are_another_epoch_where_they_may_have_been_others() {
    let mut claims = settled(&["7"]);
    let epoch = claims.epoch("7");
    // the same transaction in parts is one; two of one cut in chunks are two
    for (until, other, is_same) in [(20, 20, true), (25, 24, false)] {
        touch_by(&mut claims, until, until, deleted());
        touch_by(&mut claims, until, other, created());
        read_all(&mut claims, vec![held("7", &["1"])], until);
        assert_eq!(claims.epoch("7") == epoch, is_same);
    }
    let epoch = claims.epoch("7");
    // taken and given back before anybody has read
    touch(&mut claims, 30, deleted());
    touch(&mut claims, 31, created());
    read_all(&mut claims, vec![held("7", &["1"])], 32);
    assert_ne!(claims.epoch("7"), epoch);
    assert!(!claims.let_in("7", &at(30)) && claims.let_in("7", &at(32)));
    // given back by the first transactions of a cut that the reading has not wholly seen
    let epoch = claims.epoch("7");
    touch(&mut claims, 34, deleted());
    touch(&mut claims, 38, created());
    read_all(&mut claims, vec![held("7", &["1"])], 36);
    assert!(claims.first_touch("7").is_some() && claims.epoch("7") != epoch);
    let epoch = claims.epoch("7");
    read_all(&mut claims, vec![held("7", &["1"])], 38);
    assert_eq!(claims.epoch("7"), epoch, "once is enough");
    // taken by a row that named it, given back by one that may be of anybody
    let epoch = claims.epoch("7");
    touch(&mut claims, 39, deleted());
    touch(&mut claims, 40, truncated());
    read_all(&mut claims, vec![held("7", &["1"])], 40);
    assert_ne!(claims.epoch("7"), epoch);
    // taken by one that truncated the table, given back by another one
    let epoch = claims.epoch("7");
    touch(&mut claims, 41, truncated());
    read_all(&mut claims, vec![held("7", &["1"])], 41);
    assert_eq!(claims.epoch("7"), epoch, "one alone is seen by nobody");
    touch(&mut claims, 42, truncated());
    touch(&mut claims, 43, truncated());
    read_all(&mut claims, vec![held("7", &["1"])], 43);
    assert_ne!(claims.epoch("7"), epoch);
    // by rows that one transaction wrote after it has truncated the table: in one cut, and in chunks
    for (until, other, is_same) in [(45, 45, true), (47, 46, false)] {
        let epoch = claims.epoch("7");
        let one = cut(until, until, vec![truncated(), created()]);
        let concerned = claims.stated().concerned(&one);
        claims.touch(concerned, &one.until);
        touch_by(&mut claims, until, other, created());
        read_all(&mut claims, vec![held("7", &["1"])], until);
        assert_eq!(claims.epoch("7") == epoch, is_same);
    }
}

/// Thousands would load again for each.
#[test]
fn rows_of_which_nobody_knows_whose_they_are_begin_no_epoch() {
    let mut claims = Claims::new(1 << 20);
    claims.state(vec![staff(None)]);
    claims.begin(&at(5));
    claims.want(&"7".into());
    read_all(&mut claims, vec![held("7", &["1"])], 10);
    let epoch = claims.epoch("7");
    touch(&mut claims, 20, deleted());
    touch(&mut claims, 21, truncated());
    read_all(&mut claims, vec![held("7", &["1"])], 22);
    assert_eq!(claims.epoch("7"), epoch);
}

#[test]
fn a_returning_holder_is_let_in_where_no_change_was_its_own() {
    let mut claims = settled(&["7"]);
    touch(&mut claims, 20, update("created", r#"{"user_id":9,"clinic":2}"#, &[], None));
    for (holder, before, after) in [("8", 5, 5), ("9", 19, 20)] {
        claims.want(&holder.into());
        read_all(&mut claims, vec![held(holder, &["2"])], 22);
        assert!(claims.let_in(holder, &at(after)), "{holder}");
        assert_eq!(claims.let_in(holder, &at(before)), before == after, "{holder}");
    }
    assert!(!claims.let_in("7", &at(4)), "of before the beginning nothing is known");
}

#[test]
fn a_holder_whose_values_cannot_be_had_misses_no_change() {
    let mut claims = settled(&["7"]);
    touch(&mut claims, 20, deleted());
    let unreadable = Held { members: None, form: None, ..held("7", &[]) };
    read_all(&mut claims, vec![unreadable], 21);
    assert_eq!(values(&claims, "7"), Some(vec!["-".into()]));
    assert_eq!(touch(&mut claims, 30, update("created", r#"{"user_id":9}"#, &[], None)), ["7"], "it may be its own");
    claims.sweep(&HashSet::from(["7".into()]));
    read_all(&mut claims, vec![held("7", &["1"])], 31);
    assert_eq!(values(&claims, "7"), Some(vec!["1".into()]));
    // a name that no row can have is nobody's at any change
    let unfit = Held { members: None, form: None, is_unfit: true, ..held("abc", &[]) };
    claims.want(&"abc".into());
    read_all(&mut claims, vec![unfit], 32);
    assert_eq!(values(&claims, "abc"), Some(vec!["-".into()]));
    assert!(touch(&mut claims, 40, update("created", r#"{"user_id":9}"#, &[], None)).is_empty());
}

/// Else it would be gone while its socket joins.
#[test]
fn a_holder_that_is_just_used_is_not_let_go_of() {
    let mut claims = settled(&["7"]);
    claims.sweep(&HashSet::new());
    assert_ne!(claims.use_by("7"), 0);
    claims.sweep(&HashSet::new());
    assert_eq!(claims.size().1, 1);
    claims.sweep(&HashSet::new());
    claims.sweep(&HashSet::new());
    assert_eq!(claims.size().1, 0);
}

#[test]
fn what_was_asked_before_a_claim_was_stated_anew_or_the_stream_began_anew_is_void() {
    let mut claims = settled(&["7"]);
    touch(&mut claims, 20, deleted());
    let (generation, asked) = claims.take_due(100);
    assert!(claims.state(vec![Claim { revision: "2".into(), ..staff(Some("user_id")) }]));
    assert_eq!(settle(&mut claims, generation, asked.clone(), vec![held("7", &["1"])], 22), Settled::default());
    claims.give_back(generation, asked);
    assert_eq!(values(&claims, "7"), None);
    let (generation, asked) = claims.take_due(100);
    assert_eq!(names(asked.clone()), ["7"], "once");
    claims.begin(&at(23));
    assert_eq!(settle(&mut claims, generation, asked, vec![held("7", &["1"])], 22), Settled::default());
    read_all(&mut claims, vec![held("7", &["3"])], 24);
    assert_eq!(values(&claims, "7"), Some(vec!["3".into()]));
    // its table is not captured any more
    assert!(claims.state(vec![Claim { follows: None, ..staff(None) }]));
    assert_eq!(values(&claims, "7"), Some(vec!["-".into()]));
}

#[test]
fn memory_is_bounded_and_given_back() {
    let mut claims = Claims::new(1_000);
    claims.state(vec![staff(Some("user_id"))]);
    let many: Vec<String> = (0..70).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(|value| &**value).collect();
    for (holder, has_room) in [("7", true), ("8", false)] {
        claims.want(&holder.into());
        let settled = read_all(&mut claims, vec![held(holder, &many)], 10);
        assert_eq!(settled.beyond_memory, usize::from(!has_room), "{holder}");
        assert_eq!(values(&claims, holder).unwrap().len(), if has_room { 70 } else { 1 });
    }
    // the first one has gone: then there is room
    for _ in 0..3 {
        claims.sweep(&HashSet::from(["8".into()]));
    }
    assert_eq!(claims.size().1, 1);
    assert_eq!(read_all(&mut claims, vec![held("8", &many)], 11).beyond_memory, 0);
    claims.sweep(&HashSet::new());
    claims.sweep(&HashSet::new());
    assert_eq!(claims.size(), (0, 0));
    assert!(claims.by_form[0].is_empty() && claims.formless.is_empty());
}

/// A holder that has nothing yet waits for few, not for all.
#[test]
fn a_new_holder_is_read_first() {
    let mut claims = settled(&["7", "8"]);
    touch(&mut claims, 20, truncated());
    claims.want(&"9".into());
    assert_eq!(names(claims.take_due(100).1), ["9"]);
    assert_eq!(names(claims.take_due(100).1), ["7", "8"]);
}
