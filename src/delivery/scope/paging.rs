//! Which page of a channel's rows a client asks for: order, limit, place, in PostgREST's words. Pure: text in, what the source is
//! asked out. Whether the table can be read in that order is the source's to say.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::change::ValueKind;
use crate::request::{Bound, OrderBy, Ordering, PageSpec, Place};

/// Rows of a page at most, and those of one that does not say how many.
pub const MOST: u32 = 1_000;
const USUAL: u32 = 100;
/// Columns of an order at most, and bytes of its text.
const COLUMNS: usize = 8;
const ORDER_BYTES: usize = 2_000;
/// A page of long rows ends before its limit, and says that there are more.
const BYTES: u32 = 16 << 20;

/// Which of the current rows a subscriber asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WantedRows {
    /// none
    #[default]
    Nothing,
    /// all
    All,
    /// some, in an order
    Page(PageSpec),
}

/// What a client says of a page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Paging {
    /// such as `created_at.desc,order_id`
    pub order: Option<String>,
    /// so many rows at most
    pub limit: Option<u64>,
    /// the rows behind this place
    pub after: Option<Value>,
    /// the rows just before this place
    pub before: Option<Value>,
    /// `exact`
    pub count: Option<String>,
}

impl Paging {
    /// What it means.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(&self) -> Result<PageSpec, String> {
        let order = self.order.as_deref().unwrap_or_default();
        let limit = match self.limit {
            None => USUAL,
            Some(limit) => match u32::try_from(limit) {
                Ok(limit @ 1..=MOST) => limit,
                _ => return Err(format!("limit is 1 to {MOST}")),
            },
        };
        let bound = match (&self.after, &self.before) {
            (None, None) => None,
            (Some(after), None) => Some(Bound::After(place(after)?)),
            (None, Some(before)) => Some(Bound::Before(place(before)?)),
            (Some(_), Some(_)) => return Err("a page lies after a place or before one, not both".to_owned()),
        };
        let wants_count = match self.count.as_deref() {
            None => false,
            Some("exact") => true,
            Some(_) => return Err("count takes exact".to_owned()),
        };
        Ok(PageSpec { ordering: Ordering::By(terms(order)?), bound, limit, bytes: BYTES, wants_count })
    }
}

/// `created_at.desc,order_id.asc.nullsfirst`; a name with a dot, a comma or a quote in it stands in double quotes.
fn terms(text: &str) -> Result<Vec<OrderBy>, String> {
    if text.len() > ORDER_BYTES {
        return Err(format!("order has {} bytes, {ORDER_BYTES} are allowed", text.len()));
    }
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!("order {shown}: write it as column.desc,column.asc.nullslast")
    };
    let mut terms: Vec<OrderBy> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (column, after) = name(rest).ok_or_else(wrong)?;
        let (words, next) = match after.split_once(',') {
            Some((_, "")) => return Err(wrong()),
            Some((words, next)) => (words, next),
            None => (after, ""),
        };
        let mut words = words.split('.');
        if words.next() != Some("") {
            return Err(wrong());
        }
        let (mut is_descending, mut nulls_first) = (None, None);
        for word in words {
            let (is_set, value) = match word {
                "asc" | "desc" if nulls_first.is_none() => (&mut is_descending, word == "desc"),
                "nullsfirst" | "nullslast" => (&mut nulls_first, word == "nullsfirst"),
                _ => return Err(wrong()),
            };
            if is_set.replace(value).is_some() {
                return Err(wrong());
            }
        }
        let is_descending = is_descending.unwrap_or(false);
        let nulls_first = nulls_first.unwrap_or(is_descending);
        if terms.iter().any(|term| *term.column == *column) {
            return Err(format!("order names {column} twice"));
        }
        terms.push(OrderBy { column: column.into(), kind: ValueKind::Any, is_descending, nulls_first });
        rest = next;
    }
    if terms.len() > COLUMNS {
        return Err(format!("order has {} columns, {COLUMNS} are allowed", terms.len()));
    }
    Ok(terms)
}

/// The name that a text begins with, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', ',']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (!name.is_empty()).then(|| (name, &quoted[at + 1..])),
            '\\' => name.push(chars.next()?.1),
            other => name.push(other),
        }
    }
    None
}

/// `{"created_at":"2024-01-15T10:30:00+00:00","order_id":9}`: the values as text.
fn place(json: &Value) -> Result<Place, String> {
    let wrong = || "after and before take an object of columns and values, as rows have them".to_owned();
    let object: &Map<String, Value> = json.as_object().ok_or_else(wrong)?;
    let value = |(column, value): (&String, &Value)| {
        let text = match value {
            Value::Null => None,
            Value::String(text) if text.contains('\0') => return Err(wrong()),
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Bool(truth) => Some(truth.to_string().into()),
            Value::Array(_) | Value::Object(_) => return Err(wrong()),
        };
        Ok((column.as_str().into(), text))
    };
    object.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<Vec<(String, bool, bool)>, String> {
        let terms = terms(text)?.into_iter();
        Ok(terms.map(|term| (term.column.into(), term.is_descending, term.nulls_first)).collect())
    }

    #[test]
    fn an_order_is_read_as_postgrest_reads_it() {
        let term = |name: &str, is_descending, nulls_first| (name.to_owned(), is_descending, nulls_first);
        assert_eq!(order("").unwrap(), []);
        assert_eq!(order("at.desc,id").unwrap(), [term("at", true, true), term("id", false, false)]);
        assert_eq!(order("at.desc.nullslast").unwrap(), [term("at", true, false)]);
        assert_eq!(order("at.nullsfirst").unwrap(), [term("at", false, true)]);
        assert_eq!(order(r#""a.b,\"c".asc"#).unwrap(), [term("a.b,\"c", false, false)]);
        for bad in [
            "at.down",
            ",",
            "at,",
            ".desc",
            "at.desc.asc",
            "at.nullslast.desc",
            "\"at",
            "at,at.desc",
            "\"a\"b",
            "at desc",
        ] {
            // a name may have a blank; that it is none of the table's is said later
            assert_eq!(order(bad).is_err(), bad != "at desc", "{bad}");
        }
        let many: Vec<String> = (0..9).map(|i| format!("c{i}")).collect();
        assert!(order(&many.join(",")).unwrap_err().contains("8 are allowed"));
    }

    #[test]
    fn a_page_has_a_limit_and_one_place_at_most() {
        let parse = |paging: Paging| paging.parse();
        assert_eq!(parse(Paging::default()).unwrap().limit, 100);
        assert_eq!(parse(Paging { limit: Some(1_000), ..Paging::default() }).unwrap().limit, 1_000);
        for limit in [0, 1_001, u64::MAX] {
            assert_eq!(parse(Paging { limit: Some(limit), ..Paging::default() }).unwrap_err(), "limit is 1 to 1000");
        }
        let here = serde_json::json!({ "id": 7, "at": null, "price": 1.50, "open": true, "name": "ü" });
        let after = parse(Paging { after: Some(here.clone()), ..Paging::default() }).unwrap().bound.unwrap();
        let Bound::After(place) = after else { panic!("{after:?}") };
        let value = |name: &str| place.iter().find(|(column, _)| **column == *name).unwrap().1.as_deref();
        assert_eq!(
            [value("id"), value("at"), value("open"), value("name")],
            [Some("7"), None, Some("true"), Some("ü")]
        );
        assert!(parse(Paging { after: Some(here.clone()), before: Some(here), ..Paging::default() }).is_err());
        for bad in [serde_json::json!([7]), serde_json::json!({ "id": [7] }), serde_json::json!({ "name": "a\0" })] {
            assert!(parse(Paging { before: Some(bad.clone()), ..Paging::default() }).is_err(), "{bad}");
        }
        assert!(parse(Paging { count: Some("some".to_owned()), ..Paging::default() }).is_err());
    }
}
