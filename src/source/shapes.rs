//! The forms in which a channel's rows come: which columns, in which order. Owns the memory of those that were met; reads
//! nothing.
//!
//! No trigger of ours fires when a table is altered, so the channels are read again each ten seconds. Where a policy
//! names columns, or columns are excluded, that is too late: of two columns that exchange names the other one would be told,
//! and an excluded one that was renamed would be told as null. A row says by its form that the table is another one now.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};

use super::catalog::Catalog;
use crate::row::Columns;

/// Forms of one channel that are remembered: those of its partitions, and of rows from before. Beyond that, the table is
/// looked at when its time comes.
const FORMS: usize = 1_000;

/// Forms that were met, by channel, while its table was as it is.
#[derive(Debug, Default)]
pub(super) struct Shapes(HashMap<i32, MetForms>);

#[derive(Debug, Default)]
struct MetForms {
    table: Vec<Box<str>>,
    forms: HashSet<u64>,
}

impl Shapes {
    /// Whether a row's form is met for the first time, where that matters: the channels must be read again before it is
    /// understood.
    pub(super) fn is_new(&mut self, channel: i32, image: Option<&str>, catalog: &Catalog) -> bool {
        let Some(known) = catalog.get(channel).filter(|known| known.is_named_by_policies || known.has_exclusions)
        else {
            return false;
        };
        let Some(row) = image.and_then(Columns::parse) else { return false };
        if row.names().eq(known.shape.iter().map(|name| &**name)) {
            return false;
        }
        let met = self.0.entry(channel).or_default();
        if met.table != known.shape {
            *met = MetForms { table: known.shape.clone(), forms: HashSet::new() };
        }
        let mut hasher = DefaultHasher::new();
        row.names().for_each(|name| name.hash(&mut hasher));
        met.forms.len() < FORMS && met.forms.insert(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::CatalogChannel;

    fn catalog(shape: &[&str]) -> Catalog {
        let shape = shape.iter().map(|&name| name.into()).collect();
        Catalog::of([(1, CatalogChannel { is_named_by_policies: true, shape, ..CatalogChannel::named("pets") })])
    }

    #[test]
    fn a_row_of_another_form_is_looked_into_once() {
        let (mut shapes, before, after) = (Shapes::default(), catalog(&["id", "a", "b"]), catalog(&["id", "b", "a"]));
        let mut is_new = |image: &str, catalog: &Catalog| shapes.is_new(1, Some(image), catalog);
        assert!(!is_new(r#"{"id":1,"a":2,"b":3}"#, &before));
        for exchanged in [r#"{"id":1,"b":2,"a":3}"#, r#"{"id":1,"a":2}"#, r#"{"id":1,"x":0,"a":2,"b":3}"#] {
            assert!(is_new(exchanged, &before) && !is_new(exchanged, &before), "{exchanged}");
        }
        assert!(!is_new(r#"{"id":1,"b":2,"a":3}"#, &after));
        assert!(is_new(r#"{"id":1,"a":2,"b":3}"#, &after), "and back again");
        assert!(!is_new("no row", &after));
        let unnamed = Catalog::of([(1, CatalogChannel::named("pets"))]);
        assert!(!is_new(r#"{"id":1}"#, &unnamed), "no policy names a column and none is excluded: nothing is parsed");
        let excluding =
            CatalogChannel { has_exclusions: true, shape: vec!["id".into()], ..CatalogChannel::named("pets") };
        assert!(shapes.is_new(3, Some(r#"{"id":1,"hush":null}"#), &Catalog::of([(3, excluding)])));
    }
}
