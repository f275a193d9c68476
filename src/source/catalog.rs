//! The channels as the database describes them. Owns the reading of `rowcast.channel`; knows no row of the outbox.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Pool;

use crate::error::{Error, Kind, Result};

/// What decoding needs to know of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// stands in `/ws/{name}` and in `entity_type`
    pub name: Arc<str>,
    /// `pet` in `pet_created`
    pub singular: Box<str>,
    /// column that names the user to notify
    pub user_column: Option<Box<str>>,
    /// whether a query names the users; then they stand in the outbox
    pub has_user_query: bool,
    /// key in the notification's data, column of the row; `None`: the whole row
    pub notification: Option<Vec<(Box<str>, Box<str>)>>,
    /// columns that never leave; in the outbox they are null
    pub excluded: Vec<Box<str>>,
}

/// All channels, and how the doorbell rings.
#[derive(Debug, Default)]
pub struct Catalog {
    channels: HashMap<i32, Channel>,
    /// no bell will ring: the relay polls
    pub bell_is_off: bool,
    /// part of the NOTIFY queue in use, 0 to 1
    pub queue_usage: f64,
}

impl Catalog {
    /// Reads it.
    ///
    /// # Errors
    /// [`Kind::Connection`] or [`Kind::Database`].
    pub async fn load(pool: &Pool) -> Result<Self> {
        let client = pool
            .get()
            .await
            .map_err(|e| Error::new(Kind::Connection, "no connection to read the channels").because(e))?;
        let explain = |e| Error::database("cannot read the channels", e);
        let rows = client
            .query(
                "select c.id, c.name, c.singular,
                        (select a.attname::text from pg_catalog.pg_attribute a
                          where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped),
                        c.user_query is not null,
                        c.notification::text,
                        array(select a.attname::text from pg_catalog.pg_attribute a
                               where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped)
                   from rowcast.channel c",
                &[],
            )
            .await
            .map_err(explain)?;
        let mut channels = HashMap::with_capacity(rows.len());
        for row in rows {
            let notification: Option<String> = row.get(5);
            let channel = Channel {
                name: row.get::<_, String>(1).into(),
                singular: row.get::<_, String>(2).into(),
                user_column: row.get::<_, Option<String>>(3).map(Into::into),
                has_user_query: row.get(4),
                notification: notification.and_then(|text| columns_of(&text)),
                excluded: row.get::<_, Vec<String>>(6).into_iter().map(Into::into).collect(),
            };
            channels.insert(row.get(0), channel);
        }
        let bell = client
            .query_one("select rowcast.bell_mode() = 'never', pg_catalog.pg_notification_queue_usage()", &[])
            .await
            .map_err(explain)?;
        Ok(Self { channels, bell_is_off: bell.get(0), queue_usage: bell.get(1) })
    }

    /// A channel by the id that the outbox carries.
    pub fn get(&self, id: i32) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// The names of all channels, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.channels.values().map(|c| c.name.clone()).collect();
        names.sort_unstable();
        names
    }

    #[cfg(test)]
    pub(crate) fn of(channels: impl IntoIterator<Item = (i32, Channel)>) -> Self {
        Self { channels: channels.into_iter().collect(), ..Self::default() }
    }
}

fn columns_of(notification: &str) -> Option<Vec<(Box<str>, Box<str>)>> {
    let columns: std::collections::BTreeMap<Box<str>, Box<str>> = serde_json::from_str(notification).ok()?;
    Some(columns.into_iter().collect())
}
