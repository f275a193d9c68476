use super::*;

fn projection(filters: &[&str], columns: Option<&[&str]>, old: bool) -> Projection {
    let known = [
        ("id", ValueKind::Integer),
        ("owner", ValueKind::Integer),
        ("name", ValueKind::Text),
        ("done", ValueKind::Bool),
    ]
    .map(|(name, kind)| Column { name: name.into(), kind, number: 0, is_key: false });
    let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
    let selection =
        Selection::new(filters.iter().map(ToString::to_string), columns, Telling { old, ..Telling::default() });
    Projection::compile(&selection, Some(&known)).unwrap()
}

fn update(action: &'static str, data: &str, changed: &[&str], old: Option<&str>) -> Update {
    Update {
        channel: "pets".into(),
        action: action.into(),
        data: data.into(),
        changed: changed.iter().map(|&name| name.into()).collect(),
        old: old.map(Into::into),
        old_key: None,
        size: crate::change::Size::Whole,
        is_published: false,
    }
}

/// action, data, changed, old
fn shown(projection: &Projection, update: &Update) -> Option<(String, String, String, Option<String>)> {
    let shown = projection.show(update, &RowImages::of(update))?;
    Some((
        shown.action.to_owned(),
        shown.data.to_string(),
        shown.changed.join(","),
        shown.old.map(|old| old.to_string()),
    ))
}

fn told(
    action: &str,
    data: &str,
    changed: &str,
    old: Option<&str>,
) -> Option<(String, String, String, Option<String>)> {
    Some((action.into(), data.into(), changed.into(), old.map(Into::into)))
}

#[test]
fn a_row_that_crosses_the_filter_enters_and_leaves() {
    let moved = update("updated", r#"{"id":1,"owner":8,"name":"Luna"}"#, &["owner"], Some(r#"{"owner":7}"#));
    assert_eq!(
        shown(&projection(&["owner=eq.8"], None, false), &moved),
        told("entered", r#"{"id":1,"owner":8,"name":"Luna"}"#, "", None)
    );
    assert_eq!(
        shown(&projection(&["owner=eq.7"], None, false), &moved),
        told("left", r#"{"id":1,"owner":7,"name":"Luna"}"#, "", None),
        "what it could see before, and nothing of what is there now"
    );
    assert_eq!(shown(&projection(&["owner=eq.9"], None, true), &moved), None);
    assert_eq!(
        shown(&projection(&["owner=in.(7,8)"], None, true), &moved),
        told("updated", r#"{"id":1,"owner":8,"name":"Luna"}"#, "owner", Some(r#"{"owner":7}"#))
    );
}

#[test]
fn only_the_columns_that_were_asked_for_are_shown() {
    let projection = projection(&["owner=eq.7"], Some(&["id", "name"]), true);
    let row = r#"{"id":1,"owner":7,"name":"Luna"}"#;
    assert_eq!(
        shown(&projection, &update("created", row, &[], None)),
        told("created", r#"{"id":1,"name":"Luna"}"#, "", None)
    );
    let renamed = update("updated", row, &["owner", "name"], Some(r#"{"owner":7.0,"name":"Lu"}"#));
    assert_eq!(
        shown(&projection, &renamed),
        told("updated", r#"{"id":1,"name":"Luna"}"#, "name", Some(r#"{"name":"Lu"}"#))
    );
    let unseen = update("updated", row, &["owner"], Some(r#"{"owner":7.0}"#));
    assert_eq!(shown(&projection, &unseen), None, "nothing that it sees is different");
    assert_eq!(projection.row(row).unwrap(), r#"{"id":1,"name":"Luna"}"#);
    assert_eq!(projection.row(r#"{"id":1,"owner":8}"#), None);
}

#[test]
fn of_a_large_row_a_view_is_told_what_is_known_and_a_gap_where_nothing_is() {
    let large = |action: &'static str, data: &str, size| Update { size, ..update(action, data, &[], None) };
    let told = |projection: &Projection, update: &Update| {
        let shown = projection.show(update, &RowImages::of(update))?;
        Some((shown.action.to_owned(), shown.data.to_string(), shown.omitted, shown.gap.is_some()))
    };
    let (key, whole) = (r#"{"id":1}"#, r#"{"id":1,"owner":7,"name":"L"}"#);
    let gap = |told: Option<(String, String, bool, bool)>| told.is_some_and(|(.., gap)| gap);
    let (all, by_key, by_owner) = (
        projection(&[], Some(&["id"]), true),
        projection(&["id=eq.1"], None, true),
        projection(&["owner=eq.7"], None, true),
    );
    for action in ["created", "updated", "deleted"] {
        let omitted = large(action, key, Size::Omitted);
        assert_eq!(told(&all, &omitted), Some((action.into(), key.into(), true, false)));
        assert!(gap(told(&by_owner, &omitted)), "{action}: whose row it is, is not known");
    }
    assert_eq!(told(&by_key, &large("updated", key, Size::Omitted)), Some(("entered".into(), key.into(), true, false)));
    assert_eq!(told(&by_key, &large("created", r#"{"id":2}"#, Size::Omitted)), None);
    assert!(gap(told(&by_key, &large("updated", r#"{"id":2}"#, Size::Omitted))), "it may have been 1");
    let shrunk = large("updated", whole, Size::BeforeOmitted);
    assert_eq!(told(&by_owner, &shrunk), Some(("entered".into(), whole.into(), false, false)));
    assert!(gap(told(&projection(&["owner=eq.8"], None, true), &shrunk)), "it may have been 8");
}

#[test]
fn logic_is_that_of_sql() {
    let row = |json: &str, filters: &[&str]| projection(filters, None, false).row(json).is_some();
    let (seven, null) =
        (r#"{"id":1,"owner":7,"name":"Luna","done":false}"#, r#"{"id":1,"owner":null,"name":null,"done":null}"#);
    for (filter, holds_of_seven, holds_of_null) in [
        ("owner=eq.7", true, false),
        ("owner=not.eq.7", false, false),
        ("owner=not.eq.5", true, false),
        ("owner=not.is.null", true, false),
        ("done=is.true", false, false),
        ("done=not.is.true", true, true),
        ("done=not.eq.true", true, false),
        ("done=not.is.false", false, true),
        ("or=(owner.eq.7,name.eq.Rex)", true, false),
        ("not.or=(owner.eq.5,name.eq.Rex)", true, false),
        ("or=(owner.eq.5,name.is.null)", false, true),
        ("not.and=(owner.eq.5,name.is.not_null)", true, true),
        ("and=(id.eq.1,or(owner.not.in.(7,8),not.and(name.like.L*,id.gt.1)))", true, true),
    ] {
        assert_eq!((row(seven, &[filter]), row(null, &[filter])), (holds_of_seven, holds_of_null), "{filter}");
    }
    assert!(row(seven, &["or=(owner.eq.7,owner.eq.8)", "name=eq.Luna"]));
    assert!(!row(seven, &["or=(owner.eq.7,owner.eq.8)", "name=eq.Rex"]));
}

#[test]
fn of_a_row_that_is_not_all_there_what_cannot_be_told_is_not_null() {
    let key = Columns::parse(r#"{"id":1,"name":null}"#).unwrap();
    for (filter, told) in [
        ("owner=is.null", None),
        ("owner=not.is.null", None),
        ("owner=eq.7", None),
        ("name=eq.Luna", Some(false)),
        ("name=not.eq.Luna", Some(false)),
        ("or=(id.eq.1,owner.eq.7)", Some(true)),
        ("or=(id.eq.2,owner.eq.7)", None),
        ("or=(name.eq.Luna,owner.eq.7)", None),
        ("and=(id.eq.2,owner.eq.7)", Some(false)),
        // null and anything is false or null
        ("and=(name.eq.Luna,owner.eq.7)", Some(false)),
        ("not.and=(name.eq.Luna,owner.eq.7)", None),
        ("not.and=(id.eq.2,owner.eq.7)", Some(true)),
        ("not.or=(id.eq.1,owner.eq.7)", Some(false)),
    ] {
        assert_eq!(projection(&[filter], None, false).judge(&key, &Memo::default()), told, "{filter}");
    }
}

#[test]
fn a_group_tells_nothing_of_a_hidden_column_and_narrows_only_where_it_must_hold() {
    let known = [("id", ValueKind::Integer), ("owner", ValueKind::Integer), ("name", ValueKind::Text)]
        .map(|(name, kind)| Column { name: name.into(), kind, number: 0, is_key: false });
    let grant = Grant { columns: Some(vec!["id".into(), "name".into()]), ..Grant::default() };
    for hidden in ["or=(id.eq.1,and(name.is.null,owner.gt.3))", "not.and=(id.eq.1,\"owner\".not.eq.3)"] {
        let selection = Selection::new([hidden.to_owned()], None, Telling::default()).within(grant.clone());
        assert!(!selection.sees_what_it_names(&known), "as if there were none");
        let of_hidden = Projection::compile(&selection, Some(&known)).unwrap_err().0;
        let gone = Selection::new([hidden.replace("owner", "gone")], None, Telling::default()).within(grant.clone());
        let of_gone = Projection::compile(&gone, Some(&known)).unwrap_err().0;
        assert_eq!(of_hidden.replace("owner", "gone"), of_gone);
    }
    let policy = Grant { filters: vec!["or=(owner.eq.7,name.eq.x)".into()], bound: vec![("name".into(), 9)], ..grant };
    let compiled = Projection::compile(&Selection::default().within(policy), Some(&known));
    assert_eq!(compiled.unwrap_err(), Unfit::grant(), "another column has taken a name");
    let needs = |filter: &str| projection(&[filter], None, false).needs().map(|(column, ..)| column.to_owned());
    assert_eq!(needs("or=(owner.eq.7,id.eq.8)"), None);
    assert_eq!(needs("owner=not.eq.7"), None);
    assert_eq!(needs("and=(name.gt.a,and(owner.eq.7))").as_deref(), Some("owner"));
}

#[test]
fn of_a_renamed_column_a_policy_shows_what_it_would_show_whatever_was_in_it() {
    let known = [("id", ValueKind::Integer), ("name", ValueKind::Text)].map(|(name, kind)| Column {
        name: name.into(),
        kind,
        number: 0,
        is_key: false,
    });
    let of = |filter: &str| {
        let grant = Grant { filters: vec![filter.into()], ..Grant::default() };
        Projection::compile(&Selection::default().within(grant), Some(&known)).unwrap()
    };
    let renamed = r#"{"id":1,"title":"Luna"}"#;
    assert!(of("or=(id.eq.1,name.eq.Luna)").row(renamed).is_some());
    for filter in ["or=(id.eq.2,name.is.null)", "not.or=(id.eq.2,name.eq.Luna)", "name=not.eq.Luna"] {
        assert_eq!(of(filter).row(renamed), None, "{filter}");
    }
}

#[test]
fn a_selection_has_so_many_tests() {
    let known = [Column { name: "a".into(), kind: ValueKind::Integer, number: 0, is_key: false }];
    let group = |tests: usize| format!("or=({})", vec!["a.eq.1"; tests].join(","));
    let compile =
        |filters: Vec<String>| Projection::compile(&Selection::new(filters, None, Telling::default()), Some(&known));
    assert!(compile(vec![group(60), group(40)]).is_ok());
    assert!(compile(vec![group(60), group(41)]).unwrap_err().0.contains("more than 100 tests"));
}

#[test]
fn a_row_that_is_gone_is_told_to_who_saw_it() {
    let projection = projection(&["owner=eq.7"], None, false);
    let gone = |owner| update("deleted", &format!(r#"{{"id":1,"owner":{owner}}}"#), &[], None);
    assert!(shown(&projection, &gone(7)).is_some() && shown(&projection, &gone(8)).is_none());
    assert!(shown(&projection, &update("truncated", "null", &[], None)).is_some());
    assert!(shown(&projection, &update("flash", "[1]", &[], None)).is_none(), "a publication that is no row");
    assert!(shown(&projection, &update("flash", r#"{"owner":7}"#, &[], None)).is_some());
}

#[test]
fn what_is_not_granted_does_not_exist() {
    let known = [("id", ValueKind::Integer), ("owner", ValueKind::Integer), ("name", ValueKind::Text)]
        .map(|(name, kind)| Column { name: name.into(), kind, number: 0, is_key: false });
    let grant = || Grant {
        filters: vec!["owner=eq.7".into()],
        columns: Some(vec!["id".into(), "name".into()]),
        ..Grant::default()
    };
    let compile = |filters: &[&str], columns: Option<&[&str]>| {
        let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect());
        let selection = Selection::new(
            filters.iter().map(ToString::to_string),
            columns,
            Telling { old: true, ..Telling::default() },
        )
        .within(grant());
        Projection::compile(&selection, Some(&known))
    };
    let row = r#"{"id":1,"owner":7,"name":"Luna"}"#;
    let projection = compile(&[], None).unwrap();
    assert_eq!(projection.row(row).unwrap(), r#"{"id":1,"name":"Luna"}"#);
    assert_eq!(projection.row(r#"{"id":1,"owner":8,"name":"Luna"}"#), None);
    let renamed = Grant { filters: vec!["name=is.null".into()], ..Grant::default() };
    let renamed = Projection::compile(&Selection::default().within(renamed), Some(&known)).unwrap();
    assert_eq!(renamed.row(r#"{"id":1,"title":"Luna"}"#), None, "a column that is gone is not null");
    let given_away = update(
        "updated",
        r#"{"id":1,"owner":8,"name":"Secret"}"#,
        &["owner", "name"],
        Some(r#"{"owner":7,"name":"Luna"}"#),
    );
    assert_eq!(shown(&projection, &given_away), told("left", r#"{"id":1,"name":"Luna"}"#, "", None));
    let touched = update("updated", row, &["owner"], Some(r#"{"owner":7.0}"#));
    assert_eq!(shown(&projection, &touched), None, "not even that something changed");
    assert_eq!(compile(&["name=eq.Luna"], Some(&["id"])).unwrap().row(row).unwrap(), r#"{"id":1}"#);
    for error in [compile(&["owner=gt.3"], None).unwrap_err(), compile(&[], Some(&["owner"])).unwrap_err()] {
        assert!(error.0.ends_with("there is no column owner; there are: id, name"), "{error:?}");
    }
}

#[test]
fn equal_selections_are_equal() {
    let selection_of = |filters: &[&str], columns: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        Selection::new(texts(filters), Some(texts(columns)), Telling::default())
    };
    assert_eq!(
        selection_of(&["a=eq.1", "b=eq.2"], &["x", "y"]),
        selection_of(&["b=eq.2", "a=eq.1", "a=eq.1"], &["y", "x"])
    );
}

#[test]
fn a_column_that_has_taken_a_granted_name_is_not_shown() {
    let column = |name: &str, number| Column { name: name.into(), kind: ValueKind::Text, number, is_key: false };
    let grant = |filters: &[&str]| Grant {
        filters: filters.iter().map(|&filter| filter.into()).collect(),
        members: Vec::new(),
        columns: Some(vec!["id".into(), "pub".into()]),
        bound: vec![("id".into(), 1), ("pub".into(), 2)],
        hides_actor: false,
    };
    let projection = |filters: &[&str], columns: &[Column]| {
        Projection::compile(&Selection::default().within(grant(filters)), Some(columns))
    };
    let row = r#"{"id":"1","pub":"2"}"#;
    let (as_stated, exchanged) = ([column("id", 1), column("pub", 2)], [column("id", 1), column("pub", 3)]);
    assert_eq!(projection(&[], &as_stated).unwrap().row(row).unwrap(), row);
    assert_eq!(projection(&[], &exchanged).unwrap().row(row).unwrap(), r#"{"id":"1"}"#);
    assert!(projection(&["pub=eq.2"], &as_stated).is_ok());
    assert_eq!(projection(&["pub=eq.2"], &exchanged).unwrap_err(), Unfit::grant(), "by it nothing can be decided");
    let asked = Selection::new([], Some(vec!["pub".into()]), Telling::default()).within(grant(&[]));
    assert!(Projection::compile(&asked, Some(&exchanged)).is_err(), "for its holder there is none of that name");
}

#[test]
fn the_narrowest_equality_is_looked_up() {
    let projection = projection(&["name=in.(a,b)", "owner=eq.7.0"], None, false);
    let (column, _, values) = projection.needs().unwrap();
    assert_eq!((column, values.len()), ("owner", 1));
}
