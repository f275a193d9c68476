//! Who may see what: policies as SQL states them and the claims of a token → what of a channel its holder is granted.
//! Pure. A grant becomes a part of the view, so it is looked at once for each distinct grant, not for each subscriber;
//! a role without filter and columns shares the view of everybody.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::auth::Identity;
use super::claims::{Claims, Values};
use super::floors::Floors;
use crate::change::Policy;
use crate::condition::{ParsedCondition, quoted};
use crate::cursor::Snapshot;
use crate::delivery::scope::filter::CLAIM_VALUES;
use crate::delivery::scope::grant::{Grant, NamedClaim, Rights};
use crate::delivery::scope::view_key::ViewKey;

/// The policy channel that stands for the notifications of every user.
const ANY_USER: &str = "user/*";

/// Why somebody sees nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nothing of it may be seen.
    Forbidden,
    /// It depends on a claim whose values stand in tables, and what this user has is not known, or in doubt.
    InDoubt,
    /// A claim is longer than it may be; for people.
    Claim(String),
}

/// All policies, and whose rows notify users.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policies {
    by_channel: HashMap<Arc<str>, Vec<Policy>>,
    notifying: BTreeSet<Arc<str>>,
}

impl Policies {
    /// As the source told them.
    pub fn new(policies: Vec<Policy>, floors: &Floors) -> Self {
        let mut by_channel: HashMap<Arc<str>, Vec<Policy>> = HashMap::new();
        for policy in policies {
            by_channel.entry(policy.channel.clone()).or_default().push(policy);
        }
        Self { by_channel, notifying: floors.notifying().cloned().collect() }
    }

    /// What somebody asks for, cut down to what may be seen of it.
    ///
    /// # Errors
    /// [`Denied`]: no policy for the role, or the token lacks a claim that it names, or has one that is too long.
    pub fn permit(&self, asked: &ViewKey, who: &Identity, claims: &Claims) -> Result<ViewKey, Denied> {
        match asked {
            ViewKey::User(user, _) => {
                let anybodys = self.of(ANY_USER, &who.role);
                if who.user.as_ref() != Some(user) && anybodys.is_none() {
                    return Err(Denied::Forbidden);
                }
                let shows_sender = anybodys.is_some_and(|policy| policy.actor);
                Ok(ViewKey::User(
                    user.clone(),
                    Some(Arc::new(Rights { channels: self.rights(who, claims)?, shows_sender })),
                ))
            }
            ViewKey::Channel(channel, selection) => {
                let grant = grant(self.of(channel, &who.role).ok_or(Denied::Forbidden)?, who, claims)?;
                Ok(ViewKey::Channel(channel.clone(), selection.clone().within(grant)))
            }
        }
    }

    fn rights(&self, who: &Identity, claims: &Claims) -> Result<Vec<(Arc<str>, Grant)>, Denied> {
        let mut rights = Vec::new();
        for (channel, policy) in self.of_notifying(&who.role) {
            match grant(policy, who, claims) {
                Ok(grant) => rights.push((channel.clone(), grant)),
                Err(Denied::Forbidden) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(rights)
    }

    /// Whether by the policies somebody may go on from a position: one that was stated later shows nothing from before.
    pub fn let_in(&self, asked: &ViewKey, who: &Identity, seen: &Snapshot) -> bool {
        let is_in = |policy: &Policy| policy.floor.as_ref().is_none_or(|floor| seen.covers(floor));
        match asked {
            ViewKey::Channel(channel, _) => self.of(channel, &who.role).is_some_and(is_in),
            ViewKey::User(user, _) => {
                let is_own = who.user.as_ref() == Some(user);
                (is_own || self.of(ANY_USER, &who.role).is_some_and(is_in))
                    && self.of_notifying(&who.role).all(|(_, policy)| is_in(policy))
            }
        }
    }

    fn of_notifying(&self, role: &str) -> impl Iterator<Item = (&Arc<str>, &Policy)> {
        self.notifying.iter().filter_map(move |channel| Some((channel, self.of(channel, role)?)))
    }

    fn of(&self, channel: &str, role: &str) -> Option<&Policy> {
        self.by_channel.get(channel)?.iter().find(|policy| *policy.role == *role)
    }
}

fn grant(policy: &Policy, who: &Identity, claims: &Claims) -> Result<Grant, Denied> {
    let mut members = Vec::new();
    let mut filters = Vec::new();
    for condition in &policy.filters {
        filters.push(fill(condition, who, claims, &mut members)?.ok_or(Denied::Forbidden)?);
    }
    let (columns, bound) = (policy.columns.clone(), policy.bound.clone());
    Ok(Grant { filters, members, columns, bound, hides_actor: !policy.actor })
}

/// Puts claims in the places of `{claim}`, each of which is a whole operand, in a group in quotes, so no claim can be read as
/// anything but a value. Nothing where one is missing or does not fit. A claim whose values stand in tables stays as it is, and its
/// values go to `members`.
fn fill(
    condition: &str,
    who: &Identity,
    claims: &Claims,
    members: &mut Vec<NamedClaim>,
) -> Result<Option<Box<str>>, Denied> {
    let Ok(asked) = ParsedCondition::read(condition) else { return Ok(None) };
    let (mut filled, mut end) = (String::new(), 0);
    for test in asked.tests() {
        let Some(name) = test.claim() else { continue };
        if claims.has(name) {
            let Some(user) = who.user.as_deref().filter(|_| test.operator == "in") else { return Ok(None) };
            match claims.values(name, user) {
                Some(Values::Members(values)) if members.iter().all(|(known, _)| **known != *name) => {
                    members.push((name.into(), values.clone()));
                }
                Some(Values::Members(_)) => {}
                Some(Values::InDoubt) => return Err(Denied::InDoubt),
                Some(Values::Unreadable) | None => return Ok(None),
            }
            continue;
        }
        let Some(claim) = who.claims.get(name) else { return Ok(None) };
        if let Value::Array(items) = claim
            && items.len() > CLAIM_VALUES
        {
            let text = format!("claim {name} of the token has {} values, {CLAIM_VALUES} are allowed", items.len());
            return Err(Denied::Claim(text));
        }
        let Some(value) = value_of(test.operator, claim) else { return Ok(None) };
        filled.push_str(&condition[end..test.at.start]);
        // the values of a list are in quotes
        if test.is_grouped && test.operator != "in" {
            filled.push_str(&quoted(&value));
        } else {
            filled.push_str(&value);
        }
        end = test.at.end;
    }
    filled.push_str(&condition[end..]);
    Ok(Some(filled.into()))
}

fn value_of(operator: &str, claim: &Value) -> Option<String> {
    Some(match (operator, claim) {
        ("in", Value::Array(items)) => list(items)?,
        ("in", one) => list(std::slice::from_ref(one))?,
        ("like" | "ilike", one) => {
            let mut escaped = String::new();
            for c in scalar(one)?.chars() {
                if matches!(c, '*' | '%' | '_' | '\\') {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
            escaped
        }
        ("is", _) => return None,
        (_, one) => scalar(one)?,
    })
}

/// `("a","b")`; nothing where there is none: an empty list would be the list of the empty text.
fn list(items: &[Value]) -> Option<String> {
    let quoted = items.iter().map(|item| Some(quoted(&scalar(item)?)));
    let quoted = quoted.collect::<Option<Vec<_>>>()?;
    (!quoted.is_empty()).then(|| format!("({})", quoted.join(",")))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        // an empty one is nobody, and would fit every row whose owner is empty
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::change::{Column, ValueKind};
    use crate::delivery::scope::projection::Projection;
    use crate::delivery::scope::selection::Selection;
    use crate::delivery::scope::telling::Telling;

    fn somebody(role: &str, claims: &Value) -> Identity {
        Identity {
            user: claims["sub"].as_str().map(Into::into),
            role: role.into(),
            claims: claims.as_object().unwrap().clone(),
            expires: None,
        }
    }

    fn policy(role: &str, filters: &[&str], columns: Option<&[&str]>) -> Policy {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        Policy {
            channel: "pets".into(),
            role: role.into(),
            filters: texts(filters),
            columns: columns.map(texts),
            bound: Vec::new(),
            floor: None,
            actor: true,
        }
    }

    fn asked() -> ViewKey {
        ViewKey::named("pets", Selection::default())
    }

    #[test]
    fn no_policy_no_access() {
        let policies = Policies::new(vec![policy("vet", &[], None)], &Floors::default());
        assert_eq!(policies.permit(&asked(), &somebody("owner", &json!({})), &Claims::new(0)), Err(Denied::Forbidden));
        assert_eq!(policies.permit(&asked(), &Identity::anonymous(), &Claims::new(0)), Err(Denied::Forbidden));
        let all = policies.permit(&asked(), &somebody("vet", &json!({})), &Claims::new(0)).unwrap();
        assert_eq!(all, asked(), "the view that all clients share that see everything");
    }

    #[test]
    fn a_claim_is_a_value_and_nothing_else() {
        let filled = |condition: &str, claims: Value| {
            fill(condition, &somebody("x", &claims), &Claims::new(0), &mut Vec::new()).unwrap().map(String::from)
        };
        assert_eq!(
            filled("a=eq.{sub}", json!({"sub": "1&b=eq.2"})).unwrap(),
            "a=eq.1&b=eq.2",
            "one condition all the same"
        );
        assert_eq!(filled("a=in.{c}", json!({"c": [1, "x\",\"y"]})).unwrap(), r#"a=in.("1","x\",\"y")"#);
        assert_eq!(filled("a=in.{c}", json!({"c": 7})).unwrap(), r#"a=in.("7")"#);
        assert_eq!(
            filled(
                "or=(a.eq.{sub},not.and(b.in.{c},d.like.{sub},e.eq.\"{sub}\"))",
                json!({"sub": "x\"),or(y*", "c": ["1)"]})
            )
            .unwrap(),
            r#"or=(a.eq."x\"),or(y*",not.and(b.in.("1)"),d.like."x\"),or(y\\*",e.eq."{sub}"))"#
        );
        assert_eq!(filled("a=not.eq.{sub}", json!({"sub": "not.eq.1"})).unwrap(), "a=not.eq.not.eq.1");
        assert_eq!(filled("a=like.{c}", json!({"c": "100%*"})).unwrap(), r"a=like.100\%\*");
        for (condition, claims) in [
            ("a=eq.{sub}", json!({})),
            ("a=eq.{sub}", json!({"sub": null})),
            ("a=eq.{sub}", json!({"sub": ""})),
            ("a=eq.{sub}", json!({"sub": ["1", "2"]})),
            ("a=in.{c}", json!({"c": []})),
            ("a=in.{c}", json!({"c": [{}]})),
            ("a=is.{c}", json!({"c": "not_null"})),
            ("or=(a.is.true,b.eq.{sub})", json!({})),
            ("or=(a.is.true,b.eq.{sub})", json!({"sub": ""})),
        ] {
            assert_eq!(filled(condition, claims.clone()), None, "{condition} {claims}");
        }
    }

    #[test]
    fn a_claim_that_is_too_long_is_named() {
        let claims = |count| json!({"clinics": (0..count).collect::<Vec<_>>()});
        let policies = Policies::new(vec![policy("vet", &["clinic=in.{clinics}"], None)], &Floors::default());
        assert!(policies.permit(&asked(), &somebody("vet", &claims(CLAIM_VALUES)), &Claims::new(0)).is_ok());
        let Err(Denied::Claim(text)) =
            policies.permit(&asked(), &somebody("vet", &claims(CLAIM_VALUES + 1)), &Claims::new(0))
        else {
            panic!("it was permitted")
        };
        assert_eq!(text, "claim clinics of the token has 10001 values, 10000 are allowed");
    }

    #[test]
    fn a_policy_shows_nothing_from_before_it_was_stated() {
        let of = |channel: &str, floor: u64| Policy {
            channel: channel.into(),
            floor: Some(Snapshot::all_before(floor)),
            ..policy("vet", &[], None)
        };
        let floors = Floors::new(&[crate::change::Channel {
            name: "pets".into(),
            columns: None,
            floor: None,
            notifies: true,
            is_unlisted: false,
        }]);
        let policies = Policies::new(vec![of("pets", 10), of("owners", 20), of(ANY_USER, 30)], &floors);
        let vet = somebody("vet", &json!({"sub": "5"}));
        for (asked, at, may) in [
            ("pets", 9, false),
            ("pets", 10, true),
            ("user/5", 9, false),
            ("user/5", 10, true),
            ("user/6", 29, false),
            ("user/6", 30, true),
        ] {
            let asked = ViewKey::named(asked, Selection::default());
            assert_eq!(policies.let_in(&asked, &vet, &Snapshot::all_before(at)), may, "{asked:?} {at}");
        }
    }

    #[test]
    fn other_rights_have_another_mark() {
        let grant = |filters: &[&str], columns: Option<&[&str]>| {
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
            Grant { filters: texts(filters), columns: columns.map(texts), ..Grant::default() }.mark()
        };
        assert_eq!(grant(&[], None), "");
        let marks =
            [grant(&["a=eq.1"], None), grant(&["a=eq.2"], None), grant(&[], Some(&["a=eq.1"])), grant(&[], Some(&[]))];
        for (i, mark) in marks.iter().enumerate() {
            assert!(mark.starts_with('~') && !marks[..i].contains(mark), "{mark}");
        }
    }

    #[test]
    fn a_user_hears_only_what_is_for_that_user() {
        let policies = Policies::new(
            vec![Policy { channel: ANY_USER.into(), ..policy("support", &[], None) }],
            &Floors::default(),
        );
        let five = ViewKey::named("user/5", Selection::default());
        assert!(policies.permit(&five, &somebody("owner", &json!({"sub": "5"})), &Claims::new(0)).is_ok());
        assert!(policies.permit(&five, &somebody("owner", &json!({"sub": "55"})), &Claims::new(0)).is_err());
        assert!(policies.permit(&five, &somebody("support", &json!({"sub": "55"})), &Claims::new(0)).is_ok());
        assert!(policies.permit(&five, &Identity::anonymous(), &Claims::new(0)).is_err());
    }

    proptest! {
        /// Whatever is asked for, and whatever the claim is, a row of another owner is not shown.
        #[test]
        fn no_wish_widens_a_grant(claim in "\\PC{0,12}|[a(),.\"\\\\]{0,12}", other in "\\PC{0,12}", filter in "\\PC{0,20}") {
            prop_assume!(claim != other);
            let columns = ["owner", "name"].map(|name| Column {
                name: name.into(),
                kind: ValueKind::Text,
                number: 0, is_key: false
            });
            let stated = ["owner=eq.{sub}", "or=(owner.eq.{sub},and(owner.in.{sub},owner.not.neq.{sub}))", "not.and=(owner.neq.{sub},owner.not.like.{sub})"];
            let wishes = [vec![], vec![filter.clone()], vec![format!("owner=eq.{other}")], vec![format!("owner=neq.{claim}")],
                vec!["or=(owner.is.null,owner.not.is.null)".to_owned()]];
            for (stated, filters) in stated.iter().flat_map(|stated| wishes.iter().map(move |wish| (*stated, wish.clone()))) {
                let policies = Policies::new(vec![policy("owner", &[stated], None)], &Floors::default());
                let asked = ViewKey::named("pets", Selection::new(filters, None, Telling { old: true, ..Telling::default() }));
                let Ok(ViewKey::Channel(_, selection)) = policies.permit(&asked, &somebody("owner", &json!({"sub": claim})), &Claims::new(0)) else { continue };
                let Ok(projection) = Projection::compile(&selection, Some(&columns)) else { continue };
                let row = json!({"owner": other, "name": "Luna"}).to_string();
                prop_assert_eq!(projection.row(&row), None);
            }
        }
    }
}
