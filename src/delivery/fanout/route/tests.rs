use super::*;
use crate::change::Notification;
use crate::cursor::{Boundary, Cursor, Snapshot};
use crate::delivery::scope::label::Tag;
use crate::delivery::scope::telling::Telling;

/// A view that is told the newest change of each row.
const NEWEST: u64 = 77_000;

impl Watched for u64 {
    fn number(&self) -> u64 {
        *self
    }

    /// The digits before the last three are whose it is: users 1 and 2 share 12000.
    fn payers(&self) -> Vec<Arc<str>> {
        (self / 1000).to_string().chars().map(|user| user.to_string().into()).collect()
    }

    fn is_of_newest(&self) -> bool {
        *self == NEWEST
    }
}

fn route(views: &Views<u64>, cut: &Cut) -> Routed<u64> {
    views.route(cut, "1in", 1 << 30, Bytes::from)
}

fn change(id: i64, channel: &str, users: &[&str]) -> Change {
    let users: Vec<Box<str>> = users.iter().map(|&user| user.into()).collect();
    Change {
        id,
        tx: 1,
        at: 0,
        actor: None,
        update: Some(Update {
            channel: channel.into(),
            action: "created".into(),
            data: "{}".into(),
            changed: vec![],
            old: None,
            old_key: None,
            size: crate::change::Size::Whole,
            is_published: false,
        }),
        notification: Some(Notification {
            users,
            kind: "pet_created".into(),
            data: "{}".into(),
            omitted: false,
            is_chosen: false,
        }),
    }
}

#[test]
fn each_view_gets_its_frames_in_order_and_the_last_carries_the_end() {
    let mut views = Views::default();
    views.insert(&ViewKey::named("pets", Selection::default()), Arc::default(), 1);
    views.insert(&ViewKey::named("user/5", Selection::default()), Arc::default(), 5);
    let changes = vec![change(1, "pets", &["5", "6"]), change(2, "users", &[]), change(3, "pets", &["5"])];
    let seen = Snapshot::all_before(9);
    let cursor = Cursor { epoch: 1, incarnation: 1, lsn: 1, seen: seen.clone(), inside: None };
    let end = Some(Boundary { cursor, token: "1end".into() });
    let routed = route(&views, &Cut { end, ..Cut::chunk(changes, seen) });
    assert_eq!(routed.frames.len(), 2);
    for (view, frames) in &routed.frames {
        let text = String::from_utf8_lossy(&frames.bytes);
        assert_eq!(frames.count, 2, "{view}");
        let (first, last) = (text.find("\"1in.11\"").unwrap(), text.find("\"1end\"").unwrap());
        assert!(first < last, "{view}: {text}");
        assert!(text.matches("1in.").count() == 1, "{view}: the cut's last change carries the cursor after the cut");
    }
}

#[test]
fn each_filter_gets_its_rows_however_many_there_are() {
    let columns = [("owner", ValueKind::Integer), ("name", ValueKind::Text)]
        .map(|(name, kind)| crate::change::Column { name: name.into(), kind, number: 0, is_key: false });
    let mut views = Views::default();
    let mut insert = |view: u64, filters: &[&str]| {
        let selection = Selection::new(filters.iter().map(ToString::to_string), None, Telling::default());
        let projection = Arc::new(Projection::compile(&selection, Some(&columns)).unwrap());
        let key = ViewKey::named("pets", selection);
        views.insert(&key, projection, view);
        key
    };
    let keys: Vec<_> = (0..1000).map(|n| insert(n, &[&format!("owner=eq.{n}")])).collect();
    insert(2000, &["owner=in.(7,8)", "name=neq.Lu"]);
    insert(2001, &["name=like.L*"]);
    let seen_by = |views: &Views<u64>, data: &str, old: Option<&str>| {
        let mut change = change(1, "pets", &[]);
        let update = change.update.as_mut().unwrap();
        update.data = data.into();
        update.old = old.map(Into::into);
        let cut = Cut::chunk(vec![change], Snapshot::all_before(9));
        let mut seen: Vec<u64> = route(views, &cut).frames.into_iter().map(|(view, _)| view).collect();
        seen.sort_unstable();
        seen
    };
    assert_eq!(seen_by(&views, r#"{"owner":7,"name":"Max"}"#, None), [7, 2000]);
    assert_eq!(seen_by(&views, r#"{"owner":8.0,"name":"Luna"}"#, Some(r#"{"owner":7}"#)), [7, 8, 2000, 2001]);
    assert_eq!(seen_by(&views, r#"{"owner":null,"name":"Lu"}"#, None), [2001]);
    assert_eq!(seen_by(&views, "null", None).len(), 0, "no row, and no truncate");
    for key in &keys {
        views.remove(key);
    }
    assert_eq!(seen_by(&views, r#"{"owner":7,"name":"Max"}"#, None), [2000]);
    assert_eq!(views.len(), 2);
}
fn name_columns() -> [crate::change::Column; 2] {
    [("id", ValueKind::Integer), ("name", ValueKind::Text)].map(|(name, kind)| crate::change::Column {
        name: name.into(),
        kind,
        number: 0,
        is_key: false,
    })
}

fn look(views: &mut Views<u64>, view: u64, filters: &[&str], columns: Option<&[&str]>) {
    let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
    let selection = Selection::new(filters.iter().map(ToString::to_string), columns, Telling::default());
    let projection = Arc::new(Projection::compile(&selection, Some(&name_columns())).unwrap());
    views.insert(&ViewKey::named("pets", selection), projection, view);
}

fn rows(texts: &[String]) -> Cut {
    let changes = texts.iter().enumerate().map(|(id, text)| {
        let mut change = change(id as i64, "pets", &[]);
        let update = change.update.as_mut().unwrap();
        update.data = format!(r#"{{"id":{id},"name":"{text}"}}"#).into();
        change
    });
    Cut::chunk(changes.collect(), Snapshot::all_before(9))
}

#[test]
fn views_that_are_told_the_same_share_its_bytes() {
    let mut views = Views::default();
    views.insert(&ViewKey::named("pets", Selection::default()), Arc::default(), 1);
    for n in 2..100 {
        look(&mut views, n, &[&format!("id=gte.-{n}")], None);
    }
    look(&mut views, 100, &["id=neq.0"], None);
    look(&mut views, 101, &["id=neq.0", "id=neq.7"], None);
    look(&mut views, 102, &[], Some(&["id"]));
    let made = std::cell::RefCell::new(Vec::new());
    let hold = |bytes: Vec<u8>| {
        made.borrow_mut().push(bytes.len());
        Bytes::from(bytes)
    };
    let routed = views.route(&rows(&["x".repeat(1000), "y".repeat(1000)]), "1in", 1 << 30, hold);
    let of = |view: u64| routed.frames.iter().find(|(known, _)| *known == view).unwrap().1.bytes.clone();
    assert_eq!(routed.frames.len(), 102);
    let of_all = of(1);
    assert!(
        (2..100).all(|view| of(view).as_ptr() == of_all.as_ptr() && of(view) == of_all),
        "one copy for all of them"
    );
    assert_eq!(of(100).as_ptr(), of(101).as_ptr(), "a part of it is one copy for all that get that part");
    assert!(of_all.ends_with(&of(100)) && of(100).len() * 2 == of_all.len());
    assert!(of(102).len() < 400);
    assert_eq!(made.borrow().len(), 3);
}

#[test]
fn who_asks_for_too_much_work_goes_and_nobody_else() {
    let mut views = Views::default();
    let text = "a".repeat(100_000) + "b";
    views.insert(&ViewKey::named("pets", Selection::default()), Arc::default(), 1);
    look(&mut views, 2000, &["name=like.%aab"], None);
    // another pattern each: 300 of them are 30 MB of text for one user
    for n in 1000..1300 {
        look(&mut views, n, &[&format!("name=like.%a{n}b"), &format!("id=gte.-{n}")], None);
    }
    let routed = route(&views, &rows(&[text]));
    let told: Vec<u64> = routed.frames.iter().map(|(view, _)| *view).collect();
    assert_eq!(told, [1, 2000]);
    let shed: Vec<u64> = routed.shed.iter().map(|(view, _)| *view).collect();
    assert!((50..250).contains(&shed.len()) && shed.iter().all(|view| view / 1000 == 1), "{}", shed.len());
    assert!(routed.shed.iter().all(|(_, why)| *why == Shed::Work));
    // the same pattern again and again is read once
    let mut views = Views::default();
    for n in 1000..1300 {
        look(&mut views, n, &["name=like.%ab", &format!("id=gte.-{n}")], None);
    }
    let routed = route(&views, &rows(&["a".repeat(100_000) + "b"]));
    assert_eq!((routed.frames.len(), routed.shed.len()), (300, 0));
}

#[test]
fn a_view_of_several_users_stays_while_one_of_them_can_pay() {
    let mut views = Views::default();
    for n in (1000..1300).chain(12_000..12_020) {
        look(&mut views, n, &[&format!("name=like.%a{n}b"), &format!("id=gte.-{n}")], None);
    }
    let routed = route(&views, &rows(&["a".repeat(100_000) + "b"]));
    assert!(routed.shed.len() >= 50, "user 1 asks for too much: {}", routed.shed.len());
    assert!(routed.shed.iter().all(|(view, _)| view / 1000 == 1), "user 2 pays for what both watch");
}

#[test]
fn what_differs_between_views_is_made_up_to_a_bound() {
    let mut views = Views::default();
    views.insert(&ViewKey::named("pets", Selection::default()), Arc::default(), 1);
    // neither the first nor the last row, each without another one
    for n in 1..=40 {
        look(&mut views, 1000 + n, &["id=neq.0", &format!("id=neq.{n}")], None);
    }
    let texts: Vec<String> = (0..42).map(|_| "x".repeat(1000)).collect();
    let most = 10 * 50_000;
    let routed = views.route(&rows(&texts), "1in", most, Bytes::from);
    let bytes: usize = routed.frames.iter().map(|(_, frames)| frames.bytes.len()).sum();
    assert!(routed.frames.iter().any(|(view, _)| *view == 1), "a view that gets all of it shares what was made");
    assert!((5..20).contains(&routed.frames.len()) && bytes < 2 * most as usize, "{} {bytes}", routed.frames.len());
    assert_eq!(routed.frames.len() + routed.shed.len(), 41);
    assert!(routed.shed.iter().all(|(_, why)| *why == Shed::Memory));
}

/// As many tags as one may have, of the same rows: another one's view is asked last, and is told its rows.
#[test]
fn who_fills_the_memory_of_a_cut_takes_it_from_nobody_else() {
    let mut views = Views::default();
    for tag in 0..200 {
        let selection = Selection::default().tagged(Tag::chosen(&format!("t{tag}")).unwrap());
        let projection = Arc::new(Projection::compile(&selection, Some(&name_columns())).unwrap());
        views.insert(&ViewKey::named("pets", selection), projection, 1000 + tag);
    }
    look(&mut views, 2000, &["id=gte.0"], Some(&["id", "name"]));
    look(&mut views, 3000, &["id=lte.0"], None);
    let texts = ["x".repeat(50_000)];
    for most in [1_000_000, 2_000_000] {
        let routed = views.route(&rows(&texts), "1in", most, Bytes::from);
        let told: Vec<u64> = routed.frames.iter().map(|(view, _)| *view).collect();
        assert!(told.contains(&2000) && told.contains(&3000), "{told:?}");
        assert!(told.len() < 60, "{}", told.len());
        assert!(routed.shed.iter().all(|(view, why)| *why == Shed::Memory && view / 1000 == 1), "{:?}", routed.shed);
    }
}
