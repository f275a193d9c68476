//! Who may see what: policies as SQL states them and the claims of a token → what of a channel its holder is granted.
//! Pure. A grant becomes a part of the view, so it is looked at once for each distinct grant, not for each subscriber;
//! a role without filter and columns shares the view of everybody.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::auth::Identity;
use super::route::ViewKey;
use crate::change::Policy;
use crate::cursor::push_id;

/// The policy channel that stands for the notifications of every user.
const ANY_USER: &str = "user/*";

/// The part of a channel that somebody may see. All of it where there is neither filter nor columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Grant {
    /// conditions that rows must satisfy
    pub filters: Vec<Box<str>>,
    /// the columns that exist, for its holder; `None`: all
    pub columns: Option<Vec<Box<str>>>,
}

impl Grant {
    /// Follows the cursors of a view, so that who comes back with other rights is told `gap` and not a replay of what he
    /// did not see before: `~` and a hash (FNV-1a) that is the same on every server. Empty where all may be seen.
    pub fn mark(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let columns = self.columns.iter().flatten().map(|name| ('c', name));
        let parts = self.filters.iter().map(|filter| ('f', filter)).chain(columns);
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (kind, text) in parts {
            for byte in [kind as u8].into_iter().chain(text.bytes()).chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let mut mark = String::from(MARK);
        push_id(&mut mark, (hash >> 1).cast_signed());
        mark
    }
}

/// Stands between a cursor and the mark of its view.
pub const MARK: char = '~';

/// Nothing of it may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden;

/// All policies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policies(HashMap<Arc<str>, Vec<Policy>>);

impl Policies {
    /// As the source told them.
    pub fn new(policies: Vec<Policy>) -> Self {
        let mut by_channel: HashMap<Arc<str>, Vec<Policy>> = HashMap::new();
        for policy in policies {
            by_channel.entry(policy.channel.clone()).or_default().push(policy);
        }
        Self(by_channel)
    }

    /// What somebody asks for, cut down to what may be seen of it.
    ///
    /// # Errors
    /// [`Forbidden`]: no policy for the role, or the token lacks a claim that it names.
    pub fn permit(&self, asked: &ViewKey, who: &Identity) -> Result<ViewKey, Forbidden> {
        match asked {
            ViewKey::User(user) if who.user.as_ref() == Some(user) => Ok(asked.clone()),
            ViewKey::User(_) => self.of(ANY_USER, &who.role).map(|_| asked.clone()).ok_or(Forbidden),
            ViewKey::Channel(channel, ask) => {
                let grant = grant(self.of(channel, &who.role).ok_or(Forbidden)?, who)?;
                Ok(ViewKey::Channel(channel.clone(), ask.clone().within(grant)))
            }
        }
    }

    fn of(&self, channel: &str, role: &str) -> Option<&Policy> {
        self.0.get(channel)?.iter().find(|policy| *policy.role == *role)
    }
}

fn grant(policy: &Policy, who: &Identity) -> Result<Grant, Forbidden> {
    let filled = policy.filters.iter().map(|condition| fill(condition, who).ok_or(Forbidden));
    Ok(Grant { filters: filled.collect::<Result<_, _>>()?, columns: policy.columns.clone() })
}

/// Puts a claim in the place of `{claim}`, which is the whole operand, so no claim can be read as anything but a value.
fn fill(condition: &str, who: &Identity) -> Option<Box<str>> {
    let (column, rest) = condition.split_once('=')?;
    let (operator, operand) = rest.split_once('.')?;
    let Some(name) = operand.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Some(condition.into());
    };
    let claim = who.claims.get(name)?;
    let value = match (operator, claim) {
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
    };
    Some(format!("{column}={operator}.{value}").into())
}

/// `("a","b")`; nothing where there is none: an empty list would be the list of the empty text.
fn list(items: &[Value]) -> Option<String> {
    let quoted = items.iter().map(|item| {
        let text = scalar(item)?.replace('\\', "\\\\").replace('"', "\\\"");
        Some(format!("\"{text}\""))
    });
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
    use crate::change::{Column, Kind};
    use crate::delivery::lens::{Ask, Lens};

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
        Policy { channel: "pets".into(), role: role.into(), filters: texts(filters), columns: columns.map(texts) }
    }

    fn asked() -> ViewKey {
        ViewKey::named("pets", Ask::default())
    }

    #[test]
    fn no_policy_no_access() {
        let policies = Policies::new(vec![policy("vet", &[], None)]);
        assert_eq!(policies.permit(&asked(), &somebody("owner", &json!({}))), Err(Forbidden));
        assert_eq!(policies.permit(&asked(), &Identity::anonymous()), Err(Forbidden));
        let all = policies.permit(&asked(), &somebody("vet", &json!({}))).unwrap();
        assert_eq!(all, asked(), "the view that everybody shares who sees everything");
    }

    #[test]
    fn a_claim_is_a_value_and_nothing_else() {
        let filled = |condition: &str, claims: Value| fill(condition, &somebody("x", &claims)).map(String::from);
        assert_eq!(
            filled("a=eq.{sub}", json!({"sub": "1&b=eq.2"})).unwrap(),
            "a=eq.1&b=eq.2",
            "one condition all the same"
        );
        assert_eq!(filled("a=in.{c}", json!({"c": [1, "x\",\"y"]})).unwrap(), r#"a=in.("1","x\",\"y")"#);
        assert_eq!(filled("a=in.{c}", json!({"c": 7})).unwrap(), r#"a=in.("7")"#);
        assert_eq!(filled("a=like.{c}", json!({"c": "100%*"})).unwrap(), r"a=like.100\%\*");
        for (condition, claims) in [
            ("a=eq.{sub}", json!({})),
            ("a=eq.{sub}", json!({"sub": null})),
            ("a=eq.{sub}", json!({"sub": ""})),
            ("a=eq.{sub}", json!({"sub": ["1", "2"]})),
            ("a=in.{c}", json!({"c": []})),
            ("a=in.{c}", json!({"c": [{}]})),
            ("a=is.{c}", json!({"c": "not_null"})),
        ] {
            assert_eq!(filled(condition, claims.clone()), None, "{condition} {claims}");
        }
    }

    #[test]
    fn other_rights_have_another_mark() {
        let grant = |filters: &[&str], columns: Option<&[&str]>| {
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
            Grant { filters: texts(filters), columns: columns.map(texts) }.mark()
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
        let policies = Policies::new(vec![Policy { channel: ANY_USER.into(), ..policy("support", &[], None) }]);
        let five = ViewKey::named("user/5", Ask::default());
        assert!(policies.permit(&five, &somebody("owner", &json!({"sub": "5"}))).is_ok());
        assert!(policies.permit(&five, &somebody("owner", &json!({"sub": "55"}))).is_err());
        assert!(policies.permit(&five, &somebody("support", &json!({"sub": "55"}))).is_ok());
        assert!(policies.permit(&five, &Identity::anonymous()).is_err());
    }

    proptest! {
        /// Whatever is asked for, and whatever the claim is, a row of another owner is not shown.
        #[test]
        fn no_wish_widens_a_grant(claim in "\\PC{0,12}", other in "\\PC{0,12}", filter in "\\PC{0,20}") {
            prop_assume!(claim != other);
            let columns = ["owner", "name"].map(|name| Column { name: name.into(), kind: Kind::Text });
            let policies = Policies::new(vec![policy("owner", &["owner=eq.{sub}"], None)]);
            for filters in [vec![], vec![filter.clone()], vec![format!("owner=eq.{other}")], vec![format!("owner=neq.{claim}")]] {
                let asked = ViewKey::named("pets", Ask::new(filters, None, true));
                let Ok(ViewKey::Channel(_, ask)) = policies.permit(&asked, &somebody("owner", &json!({"sub": claim}))) else { continue };
                let Ok(lens) = Lens::compile(&ask, Some(&columns)) else { continue };
                let row = json!({"owner": other, "name": "Luna"}).to_string();
                prop_assert_eq!(lens.row(&row), None);
            }
        }
    }
}
