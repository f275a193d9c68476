//! What a subscriber asks for of a channel: rows by conditions, columns by name; and the part of that which its holder may see.
//! Pure. Equal selections share one view.

use std::borrow::Cow;
use std::sync::Arc;

use super::filter;
use super::grant::Grant;
use super::label::Tag;
use super::telling::Telling;
use crate::change::Column;
use crate::condition::ParsedCondition;

/// What was asked for, in one order, so that equal wishes are equal. The default is everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    pub(super) filters: Vec<Box<str>>,
    pub(super) columns: Option<Vec<Box<str>>>,
    pub(super) telling: Telling,
    /// the part that may be seen; `None`: all
    pub(super) grant: Option<Arc<Grant>>,
    /// in each of its messages: a socket may have several views of a channel
    tag: Option<Tag>,
}

impl Selection {
    /// All of `filters` must hold; `None` for all columns.
    pub fn new(filters: impl IntoIterator<Item = String>, columns: Option<Vec<String>>, telling: Telling) -> Self {
        let sorted = |texts: Vec<Box<str>>| {
            let mut texts = texts;
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        let filters = sorted(filters.into_iter().map(Into::into).collect());
        let columns = columns.map(|columns| sorted(columns.into_iter().map(Into::into).collect()));
        Self { filters, columns, telling, grant: None, tag: None }
    }

    /// The same with a tag in each of its messages.
    pub fn tagged(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// What its messages have as `view`.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The same of the part that may be seen.
    pub fn within(self, grant: Grant) -> Self {
        let sees_all = grant == Grant::default();
        Self { grant: (!sees_all).then(|| Arc::new(grant)), ..self }
    }

    /// Follows the cursors of its view, see [`Grant::mark`].
    pub fn mark(&self) -> String {
        self.grant.as_ref().map(|grant| grant.mark()).unwrap_or_default()
    }

    /// What was asked for, whatever may be seen of it.
    pub fn asked(&self) -> Self {
        Self { grant: None, ..self.clone() }
    }

    /// The same rows, whatever messages are called by and tell of their changes.
    pub fn of_rows(&self) -> Self {
        Self { telling: Telling::default(), tag: None, ..self.clone() }
    }

    /// How the changes of its rows are told.
    pub fn telling(&self) -> Telling {
        self.telling
    }

    /// As the query of a path has it, for people.
    pub fn parameters(&self) -> String {
        let filters = self.filters.iter().map(|filter| format!("filter={filter}"));
        let columns = self.columns.iter().map(|columns| format!("columns={}", columns.join(",")));
        let all: Vec<String> = filters.chain(columns).chain(self.telling.parameters()).collect();
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }

    /// Whether less or more is asked for than everybody gets, whatever of it may be seen.
    pub fn is_narrowed(&self) -> bool {
        !self.filters.is_empty() || self.columns.is_some() || self.telling != Telling::default() || self.tag.is_some()
    }

    /// The columns that it names, in groups too. A filter that cannot be read names none.
    pub fn columns_named(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let asked = self.filters.iter().filter_map(|text| ParsedCondition::read(text).ok());
        let of_filters =
            asked.flat_map(|asked| asked.tests().into_iter().map(|test| test.column.clone()).collect::<Vec<_>>());
        of_filters.chain(self.columns.iter().flatten().map(|name| Cow::Borrowed(&**name)))
    }

    /// Whether each of them is there, and may be seen by the client that asks.
    pub fn sees_what_it_names(&self, columns: &[Column]) -> bool {
        self.columns_named().all(|name| columns.iter().any(|column| *column.name == *name && self.sees(column)))
    }

    fn sees(&self, column: &Column) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.shows(column))
    }

    /// Whether its holder sees a part of the channel alone.
    pub fn has_grant(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether that part depends on claims whose values stand in tables.
    pub fn has_members(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| !grant.members.is_empty())
    }

    /// Whether it is the same as another one, but for what its holder has of claims.
    pub fn is_but_for_members(&self, other: &Self) -> bool {
        let grants = self.grant.as_ref().zip(other.grant.as_ref());
        let names = |grant: &Grant| grant.members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        self.asked() == other.asked()
            && grants.is_some_and(|(grant, other)| {
                let rest = Grant { members: grant.members.clone(), ..(**other).clone() };
                names(grant) == names(other) && rest == **grant
            })
    }

    /// Whether its holder may know in which order rows lie by these columns: an order tells something of what is in them.
    ///
    /// # Errors
    /// What is wrong with it, for people: of a column that may not be seen the same as of one that is not there.
    pub fn shows_order<'a>(
        &self,
        order: impl Iterator<Item = &'a str>,
        columns: Option<&[Column]>,
    ) -> Result<(), String> {
        let seen: Option<Vec<Column>> =
            columns.map(|columns| columns.iter().filter(|column| self.sees(column)).cloned().collect());
        for name in order {
            filter::kind_of(name, seen.as_deref())?;
            if self.columns.as_ref().is_some_and(|chosen| !chosen.iter().any(|column| **column == *name)) {
                return Err(format!("order needs column {name}, which is not among columns"));
            }
        }
        Ok(())
    }

    /// Whether it is what a client gets that asks for nothing.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
