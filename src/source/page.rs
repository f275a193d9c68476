//! A page: some of a table's current rows, in an order, from a place on. Owns how it is read: ranges of an index, in pieces, in a
//! short transaction; which order and which ranges is `keyset`'s to say.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::client::Parameter;
use super::encoding::Bytes;
use super::keyset::{Keyset, Range};
use super::pool::{Database, DatabaseSession};
use super::predicate::{self, Where};
use super::table::{Moment, RENAMED, SpareSessions, Table, is_retyped};
use crate::change::{Json, ValueKind};
use crate::cursor::Boundary;
use crate::error::{Error, Kind};
use crate::request::{Bound, Count, OrderBy, Ordering, Page, PageAnswer, PageSpec, Place, Predicate, Shown};

/// A statement of a page may take so long.
const WITHIN: Duration = Duration::from_secs(10);
/// A smaller table may be ordered by anything: to sort it takes a few milliseconds.
const SMALL: f64 = 10_000.0;
/// Rows that are looked at for one page, where the database cannot decide what belongs to it.
const LOOKED_AT: usize = 100_000;
/// Rows that are read at a time: before it is known how long they are; and at most, where some do not belong to the page. Afterwards
/// at most four times as many as the last time, and as many as the page has room for.
const FIRST: usize = 64;
const AT_A_TIME: usize = 1_000;
/// Of one statement no more bytes are held than this, or what the page has room for.
const BATCH_BYTES: usize = 1 << 20;
/// A filter may take long for a row: after so many other tasks of the thread run.
const ROWS_IN_A_PIECE: usize = 64;
const UNFIT_PLACE: &str = "after or before has a value that its column cannot have";
const SLOW: &str =
    "the database needs more than 10 s to find these rows: an index on what the filter asks for would help";
/// So many are counted.
const COUNTED: u64 = 10_000;

/// Why a page was not read.
enum PageStop {
    /// it cannot be had so; for people
    Unfit(String),
    /// a column has another type by now
    Retyped,
    Failed(Error),
}

impl From<Error> for PageStop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads one; `None` where the asker is gone.
///
/// # Errors
/// When the connection is lost, or the database refuses it.
pub(super) async fn read(
    database: &Database,
    spare: &SpareSessions,
    (channel, epoch): (&Arc<str>, Option<u64>),
    predicate: &Predicate,
    spec: &PageSpec,
    shown: &Shown,
    gone: impl Future<Output = ()>,
) -> Result<Option<PageAnswer>, Error> {
    let mut gone = pin!(gone);
    let asked: &[OrderBy] = match &spec.ordering {
        Ordering::By(order) => order,
        Ordering::Key => &[],
    };
    let named: Vec<&str> = asked.iter().map(|by| &*by.column).collect();
    for _ in 0..RENAMED {
        let moment = Moment::begin(database, spare, (channel, epoch), &named, WITHIN).await?;
        let Some(table) = &moment.table else {
            let boundary = moment.boundary.clone();
            moment.end(spare).await;
            let (order, count) = (asked.to_vec(), spec.wants_count.then_some(Count { rows: 0, is_exact: true }));
            let page = Page { rows: Vec::new(), order, more: false, last: None, told: None, count, boundary };
            return Ok(Some(PageAnswer::Page(page.into())));
        };
        let types = moment.types(table, predicate).await?;
        let (wanted, fixed) = (predicate::render(predicate, &types, "t", 1), predicate::fixed(predicate, &types));
        let reading =
            Reading { database, moment: &moment, session: moment.session(), table, channel, wanted, fixed, shown };
        let page = reading.page(spec, &moment.boundary);
        let Some(read) = moment.read_unless(database, gone.as_mut(), page).await else { return Ok(None) };
        moment.end(spare).await;
        match read {
            Ok(page) => return Ok(Some(PageAnswer::Page(page.into()))),
            Err(PageStop::Unfit(text)) => return Ok(Some(PageAnswer::Unfit(text))),
            Err(PageStop::Retyped) => {}
            Err(PageStop::Failed(error)) => return Err(error),
        }
    }
    let text = format!("cannot read the rows of channel {channel}: its columns get other types again and again");
    Err(Error::new(Kind::Database, text))
}

/// A page that is being read.
struct Reading<'a> {
    database: &'a Database,
    moment: &'a Moment,
    session: &'a DatabaseSession,
    table: &'a Table,
    channel: &'a Arc<str>,
    wanted: Where,
    /// the columns that have one value in all rows that are wanted
    fixed: Vec<Box<str>>,
    shown: &'a Shown,
}

/// What was read.
#[derive(Default)]
struct PageRead {
    rows: Vec<(Json, bool)>,
    more: bool,
    last: Option<Place>,
    /// of the last row that is told
    told: Option<Place>,
}

impl Reading<'_> {
    async fn page(&self, spec: &PageSpec, boundary: &Boundary) -> Result<Page, PageStop> {
        let (order, keyset) = self.order(spec).await?;
        let PageRead { rows, more, last, told } = self.rows(&keyset, spec).await?;
        let count = if spec.wants_count { Some(self.count().await?) } else { None };
        Ok(Page { rows, order, more, last, told, count, boundary: boundary.clone() })
    }

    /// The order of the page, and in which order its rows are read, if an index serves that or the table is small.
    async fn order(&self, spec: &PageSpec) -> Result<(Vec<OrderBy>, Keyset), PageStop> {
        let Table { key, columns, name, .. } = self.table;
        let order = match &spec.ordering {
            Ordering::Key => {
                let keyset = Keyset::of_key(key, columns);
                let keyset = keyset.ok_or_else(|| PageStop::Unfit("the table has no primary key".to_owned()))?;
                return Ok((keyset.order(), keyset));
            }
            Ordering::By(order) => order,
        };
        let asked = Keyset::of_order(order, key, columns).map_err(PageStop::Unfit)?;
        let (order, asked) = (asked.order(), asked.without(&self.fixed));
        if !self.database.encoding().orders_characters()
            && let Some(by) = asked.terms.iter().map(|term| &term.by).find(|by| by.kind == ValueKind::Text)
        {
            let text = format!(
                "column {} is text, which this database's encoding orders in a way that clients do not know",
                by.column
            );
            return Err(PageStop::Unfit(text));
        }
        if order.iter().all(|by| self.fixed.contains(&by.column)) {
            // one row at most
            return Ok((order, asked));
        }
        let indexes = self.moment.indexes(self.table).await?;
        if let Some(served) = indexes.iter().find_map(|index| asked.served_by(index, &self.fixed)) {
            return Ok((order, served));
        }
        let (rows, is_any_allowed) = self.moment.size(self.table).await?;
        if rows < SMALL || is_any_allowed {
            return Ok((order, asked));
        }
        let remedy = asked.remedy(name, &self.fixed);
        // of a partitioned table Postgres makes no index beside its writers
        let is_partitioned = !self.table.bare.starts_with("only ");
        let remedy = if is_partitioned { remedy.replacen(" concurrently", "", 1) } else { remedy };
        let text = format!("no index of the table serves this order, and it has about {rows:.0} rows: {remedy}");
        Err(PageStop::Unfit(text))
    }

    /// Range after range, until the page is full.
    async fn rows(&self, keyset: &Keyset, spec: &PageSpec) -> Result<PageRead, PageStop> {
        let is_backwards = matches!(spec.bound, Some(Bound::Before(_)));
        let place = spec.bound.as_ref().map(|bound| keyset.values(bound.place())).transpose();
        let mut place = place.map_err(PageStop::Unfit)?;
        let limit = spec.limit as usize;
        let most = spec.bytes as usize;
        // bytes of the rows that belong to the page, and of all that were looked at
        let (mut bytes, mut all_bytes) = (0, 0);
        let (mut read, mut looked_at, mut at_a_time) = (PageRead::default(), 0, 0);
        // all rows behind the place were looked at
        let mut is_end = false;
        'full: loop {
            let wanted = limit + 1 - read.rows.len();
            let room = most.saturating_sub(bytes).max(BATCH_BYTES);
            let length = all_bytes / looked_at.max(1);
            at_a_time = match looked_at {
                0 => wanted.min(FIRST),
                _ if read.rows.len() == looked_at => wanted.min(at_a_time * 4).min(room / length.max(1) + 1),
                _ => wanted.max(AT_A_TIME).min(at_a_time * 4).min(room / length.max(1) + 1),
            };
            let ranges = match &place {
                Some(place) => keyset.behind(place, 1 + self.wanted.values.len(), is_backwards),
                None => vec![Range::all()],
            };
            for range in &ranges {
                let (rows, is_cut) = self.range(keyset, range, at_a_time, room, is_backwards).await?;
                looked_at += rows.len();
                let (are_all, mut last) = (rows.len() < at_a_time && !is_cut, None);
                for (number, PageRow { json, is_whole, values }) in rows.into_iter().enumerate() {
                    if number % ROWS_IN_A_PIECE == ROWS_IN_A_PIECE - 1 {
                        tokio::task::yield_now().await;
                    }
                    let told = json.as_deref().and_then(|json| self.shown.of(json, is_whole));
                    if read.rows.len() == limit && told.is_some() || bytes > most {
                        read.more = true;
                        break 'full;
                    }
                    let length = json.as_ref().map_or(0, |json| json.len());
                    all_bytes += length;
                    if let Some(told) = told {
                        bytes += length;
                        read.rows.push((told, is_whole));
                        read.told = Some(keyset.place(&values));
                        read.last.clone_from(&read.told);
                    }
                    last = Some(values);
                }
                if !are_all {
                    place = last;
                    if looked_at > LOOKED_AT {
                        break 'full;
                    }
                    continue 'full;
                }
            }
            is_end = true;
            break;
        }
        if looked_at > LOOKED_AT && !read.more && !is_end {
            match spec.ordering {
                // what lies behind it could not be found out
                Ordering::By(_) if read.rows.len() == limit => read.more = true,
                // a client that reads all rows goes on behind those that were looked at
                Ordering::Key => (read.more, read.last) = (true, place.map(|values| keyset.place(&values))),
                Ordering::By(_) => {
                    return Err(PageStop::Unfit(format!(
                        "the database cannot decide which rows this filter admits, and of {looked_at} in this order only {} do",
                        read.rows.len()
                    )));
                }
            }
        }
        let is_spoilt =
            |value: &Option<Box<str>>| value.as_ref().is_some_and(|text| text.contains(char::REPLACEMENT_CHARACTER));
        // where the server sends UTF-8, U+FFFD is a character as any other
        let may_be_spoilt = self.database.encoding_of_reading_sessions() != "UTF8";
        if may_be_spoilt && read.more && read.last.iter().flatten().any(|(_, value)| is_spoilt(value)) {
            let text = "a key is no text of the database's encoding, so that no place is behind it";
            return Err(PageStop::Unfit(text.to_owned()));
        }
        if is_backwards {
            read.rows.reverse();
        }
        Ok(read)
    }

    /// The first rows of a range, and whether they end before the last of them because they have more than so many bytes.
    async fn range(
        &self,
        keyset: &Keyset,
        range: &Range,
        most: usize,
        bytes: usize,
        is_backwards: bool,
    ) -> Result<(Vec<PageRow>, bool), PageStop> {
        let Table { row, from, .. } = self.table;
        let (values, order) = (keyset.selected().join(", "), keyset.order_by(is_backwards));
        let (wanted, clause) = (&self.wanted.clause, &range.clause);
        let sql =
            format!("select {row}, {values} from {from} where {wanted} and {clause} order by {order} limit {most}");
        let statement = self.prepare(&sql).await?;
        let encoding = self.database.encoding();
        // a value that the database's encoding cannot have lies nowhere
        let Some(values) = range.values.iter().map(|value| encoding.encode(value)).collect::<Option<Vec<_>>>() else {
            return Err(PageStop::Unfit(UNFIT_PLACE.to_owned()));
        };
        let values: Vec<Bytes<'_>> = values.iter().map(|value| Bytes(value)).collect();
        let asked = self.parameters();
        let asked: Vec<Vec<Bytes<'_>>> =
            asked.iter().map(|values| values.iter().map(|value| Bytes(value)).collect()).collect();
        let asked = asked.iter().map(|values| values as Parameter<'_>);
        let parameters: Vec<Parameter<'_>> = asked.chain(values.iter().map(|value| value as Parameter<'_>)).collect();
        self.speak(self.database.encoding_of_reading_sessions()).await?;
        let has_place = !range.values.is_empty();
        // the client's values are none of their columns
        let stop = |e: tokio_postgres::Error| match e.code() {
            Some(code) if has_place && code.code().starts_with("22") => PageStop::Unfit(UNFIT_PLACE.to_owned()),
            _ => self.stop(e),
        };
        let mut came = pin!(self.session.query_raw(&statement, parameters).await.map_err(stop)?);
        let (mut rows, mut held, mut is_cut) = (Vec::new(), 0, false);
        // what is not taken is let go as it comes
        while let Some(row) = came.try_next().await.map_err(stop)? {
            if held > bytes {
                is_cut = true;
                break;
            }
            let text = |column| row.get::<_, Option<Bytes<'_>>>(column).map(|text| encoding.decode(text.0));
            let (whole, key) = (text(0), text(1));
            let values = (0..keyset.terms.len()).map(|at| text(2 + at).map(Box::from)).collect();
            let row = PageRow { is_whole: whole.is_some(), json: whole.or(key).map(Box::from), values };
            held += row.json.as_ref().map_or(0, |json| json.len());
            rows.push(row);
        }
        self.speak("UTF8").await?;
        Ok((rows, is_cut))
    }

    /// The parameters of what is wanted, in the database's encoding.
    fn parameters(&self) -> Vec<Vec<Cow<'_, [u8]>>> {
        self.wanted.encoded(self.database.encoding())
    }

    /// Has text come and go in this encoding. Names are understood in UTF-8; rows are read as their bytes are.
    async fn speak(&self, encoding: &str) -> Result<(), Error> {
        if self.database.encoding_of_reading_sessions() == "UTF8" {
            return Ok(());
        }
        let set = format!("set local client_encoding = '{encoding}'");
        self.session.batch_execute(&set).await.map_err(|e| self.explain(e))
    }

    /// How many rows there are: counted up to a bound, where the database decides which, else estimated.
    async fn count(&self) -> Result<Count, PageStop> {
        let (table, wanted) = (&self.table.bare, &self.wanted.clause);
        let asked = self.parameters();
        let asked: Vec<Vec<Bytes<'_>>> =
            asked.iter().map(|values| values.iter().map(|value| Bytes(value)).collect()).collect();
        let parameters: Vec<Parameter<'_>> = asked.iter().map(|values| values as Parameter<'_>).collect();
        if self.wanted.is_exact {
            let most = COUNTED + 1;
            let sql = format!("select count(*) from (select from {table} t where {wanted} limit {most}) c");
            let rows = self.ask(&sql, &parameters).await?;
            let rows = rows.first().map_or(0, |row| row.get::<_, i64>(0)).unsigned_abs();
            if rows <= COUNTED {
                return Ok(Count { rows, is_exact: true });
            }
        }
        let plan = self.ask(&format!("explain select from {table} t where {wanted}"), &parameters).await?;
        // names in it are in the database's encoding
        let first = plan.first().map(|row| String::from_utf8_lossy(row.get::<_, Bytes<'_>>(0).0));
        Ok(Count { rows: first.and_then(|first| estimate(&first)).unwrap_or_default(), is_exact: false })
    }

    async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<tokio_postgres::Row>, PageStop> {
        let statement = self.prepare(sql).await?;
        self.speak(self.database.encoding_of_reading_sessions()).await?;
        let rows: Result<_, _> =
            async { pin!(self.session.query_raw(&statement, parameters.iter().copied()).await?).try_collect().await }
                .await;
        let rows = rows.map_err(|e| self.stop(e))?;
        self.speak("UTF8").await?;
        Ok(rows)
    }

    fn stop(&self, error: tokio_postgres::Error) -> PageStop {
        match error.code() {
            Some(code) if *code == SqlState::QUERY_CANCELED => PageStop::Unfit(SLOW.to_owned()),
            _ => PageStop::Failed(self.explain(error)),
        }
    }

    async fn prepare(&self, sql: &str) -> Result<Statement, PageStop> {
        let prepared = self.session.prepare_as_it_is(sql).await;
        prepared.map_err(|e| if is_retyped(&e) { PageStop::Retyped } else { PageStop::Failed(self.explain(e)) })
    }

    fn explain(&self, error: tokio_postgres::Error) -> Error {
        Error::database(format_args!("cannot read the rows of channel {}", self.channel), error)
    }
}

/// How many rows the planner expects, by the first line of its plan: `Seq Scan on orders  (cost=0.00..1.05 rows=5 width=0)`.
fn estimate(plan: &str) -> Option<u64> {
    let (_, rest) = plan.split_once(" rows=")?;
    rest.split(' ').next()?.parse().ok()
}

/// A row that was read.
struct PageRow {
    /// of a large row, the key and the columns of the order
    json: Option<Json>,
    is_whole: bool,
    values: Vec<Option<Box<str>>>,
}
