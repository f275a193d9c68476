//! The views there are, by what they watch, and what the router has not heard of yet. Owns which views are known under
//! the hub's lock; by which value a change finds its views is the router's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::delivery::fanout::route::Views;
use crate::delivery::fanout::view::View;
use crate::delivery::scope::grant::Rights;
use crate::delivery::scope::projection::Projection;
use crate::delivery::scope::selection::Selection;
use crate::delivery::scope::view_key::ViewKey;

/// The views there are.
#[derive(Debug, Default)]
pub(super) struct KnownViews {
    channels: HashMap<Arc<str>, HashMap<Selection, Arc<View>>>,
    /// by what may be seen: mostly one for a user
    users: HashMap<Arc<str>, ByRights>,
    news: News,
}

type ByRights = HashMap<Option<Arc<Rights>>, Arc<View>>;

/// What is new to the router, by the number of the view: a view that came and went in between is not.
#[derive(Debug, Default)]
pub(super) struct News(BTreeMap<u64, Word>);

#[derive(Debug)]
enum Word {
    /// it is there from now on, or shows its channel through another projection
    Is(Arc<View>, Arc<Projection>),
    /// it is gone
    Was(Arc<View>),
}

impl KnownViews {
    /// The view of a key.
    pub(super) fn get(&self, key: &ViewKey) -> Option<&Arc<View>> {
        match key {
            ViewKey::Channel(name, selection) => self.channels.get(name)?.get(selection),
            ViewKey::User(user, rights) => self.users.get(user)?.get(rights),
        }
    }

    /// Whether it is this very view that is known by its key.
    pub(super) fn has(&self, view: &Arc<View>) -> bool {
        self.get(&view.key).is_some_and(|known| Arc::ptr_eq(known, view))
    }

    /// Adds a view, or tells that it shows its channel through another projection.
    pub(super) fn insert(&mut self, view: &Arc<View>, projection: Arc<Projection>) {
        match &view.key {
            ViewKey::Channel(name, selection) => {
                self.channels.entry(name.clone()).or_default().insert(selection.clone(), view.clone());
            }
            ViewKey::User(user, rights) => {
                self.users.entry(user.clone()).or_default().insert(rights.clone(), view.clone());
            }
        }
        self.news.0.insert(view.number, Word::Is(view.clone(), projection));
    }

    /// Removes a view that nobody watches any more.
    pub(super) fn remove(&mut self, view: &Arc<View>) {
        match &view.key {
            ViewKey::Channel(name, selection) => {
                if let Some(views) = self.channels.get_mut(name) {
                    views.remove(selection);
                    if views.is_empty() {
                        self.channels.remove(name);
                    }
                }
            }
            ViewKey::User(user, rights) => {
                if let Some(views) = self.users.get_mut(user) {
                    views.remove(rights);
                    if views.is_empty() {
                        self.users.remove(user);
                    }
                }
            }
        }
        // a projection that was changed is a word about a view that the router knows: it has to hear that it is gone
        match self.news.0.remove(&view.number) {
            Some(Word::Is(..)) if !view.is_routed() => {}
            _ => {
                self.news.0.insert(view.number, Word::Was(view.clone()));
            }
        }
    }

    /// The views of a channel.
    pub(super) fn of_channel(&self, name: &str) -> impl Iterator<Item = &Arc<View>> {
        self.channels.get(name).into_iter().flat_map(HashMap::values)
    }

    /// The views of a user's notifications.
    pub(super) fn of_user(&self, user: &str) -> impl Iterator<Item = &Arc<View>> {
        self.users.get(user).into_iter().flat_map(HashMap::values)
    }

    /// All views.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<View>> {
        self.channels.values().flat_map(HashMap::values).chain(self.users.values().flat_map(HashMap::values))
    }

    /// How many users are watched.
    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// Whether a view is there of which the router has not heard.
    pub(super) fn has_new_views(&self) -> bool {
        self.news.0.values().any(|word| matches!(word, Word::Is(..)))
    }

    /// What the router has not heard of yet.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }
}

impl News {
    /// Tells the router. A view that is gone goes first: another one may have its key.
    pub(super) fn tell(self, views: &mut Views<Arc<View>>) {
        for word in self.0.values() {
            if let Word::Was(view) = word {
                views.remove(&view.key);
            }
        }
        for word in self.0.into_values() {
            if let Word::Is(view, projection) = word {
                view.set_routed();
                views.insert(&view.key, projection, view.clone());
            }
        }
    }

    /// A router of the views alone that are new.
    pub(super) fn alone(&self) -> Views<Arc<View>> {
        let mut views = Views::default();
        for word in self.0.values() {
            if let Word::Is(view, projection) = word {
                views.insert(&view.key, projection.clone(), view.clone());
            }
        }
        views
    }
}
