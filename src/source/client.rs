//! A session as its callers see it. Owns that each statement is put into the words of the installation
//! (`naming`), so that none can be forgotten; knows no statement.

use std::fmt;

use bytes::Buf;
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::types::{BorrowToSql, ToSql};
use tokio_postgres::{CancelToken, CopyInSink, Error, IsolationLevel, Row, RowStream, SimpleQueryMessage, Statement};

use crate::error;
use crate::naming::Naming;

/// A connection to the database of an installation.
pub struct Client {
    connection: OwnOrLent,
    naming: Naming,
}

enum OwnOrLent {
    Own(tokio_postgres::Client),
    Lent(deadpool_postgres::Client),
}

/// A transaction in it.
pub struct Transaction<'a> {
    transaction: tokio_postgres::Transaction<'a>,
    naming: Naming,
}

/// Connections for occasional questions.
#[derive(Clone)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
    naming: Naming,
}

/// A statement: as text, or one that was prepared.
#[derive(Debug, Clone, Copy)]
pub enum Sql<'a> {
    /// in our words
    Text(&'a str),
    /// by this client
    Prepared(&'a Statement),
}

impl<'a> From<&'a str> for Sql<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Statement> for Sql<'a> {
    fn from(prepared: &'a Statement) -> Self {
        Self::Prepared(prepared)
    }
}

/// What stands for a `$1`.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

type Parameters<'a> = &'a [Parameter<'a>];

/// What clients and transactions have in common. Each is as in [`tokio_postgres`].
macro_rules! asks {
    () => {
        /// Rows of a statement.
        ///
        /// # Errors
        /// As the server says; so for each.
        pub async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
            self.raw().query(&*self.naming.of(sql), parameters).await
        }

        /// The one row of a statement.
        pub async fn query_one(&self, sql: &str, parameters: Parameters<'_>) -> Result<Row, Error> {
            self.raw().query_one(&*self.naming.of(sql), parameters).await
        }

        /// The row of a statement, if there is one.
        pub async fn query_opt(&self, sql: &str, parameters: Parameters<'_>) -> Result<Option<Row>, Error> {
            self.raw().query_opt(&*self.naming.of(sql), parameters).await
        }

        /// Statements without parameters and results.
        pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
            self.raw().batch_execute(&self.naming.of(sql)).await
        }
    };
}

/// In the words that all texts are written in.
impl From<tokio_postgres::Client> for Client {
    fn from(client: tokio_postgres::Client) -> Self {
        Self::new(client, Naming::default())
    }
}

impl Client {
    pub(super) fn new(client: tokio_postgres::Client, naming: Naming) -> Self {
        Self { connection: OwnOrLent::Own(client), naming }
    }

    /// The installation whose words it speaks.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    fn raw(&self) -> &tokio_postgres::Client {
        match &self.connection {
            OwnOrLent::Own(client) => client,
            OwnOrLent::Lent(client) => client,
        }
    }

    /// Ends a connection that nobody may use again.
    pub(super) fn discard(self) {
        if let OwnOrLent::Lent(client) = self.connection {
            drop(deadpool_postgres::Object::take(client));
        }
    }

    /// Whether it was made for this question, and is not one that the pool had.
    pub(super) fn is_new(&self) -> bool {
        match &self.connection {
            OwnOrLent::Own(_) => true,
            OwnOrLent::Lent(client) => deadpool_postgres::Object::metrics(client).recycle_count == 0,
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.raw().is_closed()
    }

    asks!();

    /// What ends a statement of it, on a connection of its own.
    pub(super) fn cancel_token(&self) -> CancelToken {
        self.raw().cancel_token()
    }

    /// Rows of a statement that this client has prepared.
    pub async fn query_prepared(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        self.raw().query(statement, parameters).await
    }

    /// A statement without result: how many rows it concerned.
    pub async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Error> {
        self.raw().execute(&*self.naming.of(sql), parameters).await
    }

    /// Rows of a statement, as they come.
    pub async fn query_raw<'a, P, I>(&self, asked: impl Into<Sql<'a>>, parameters: I) -> Result<RowStream, Error>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        match asked.into() {
            Sql::Text(sql) => self.raw().query_raw(&*self.naming.of(sql), parameters).await,
            Sql::Prepared(statement) => self.raw().query_raw(statement, parameters).await,
        }
    }

    /// The way in of a `COPY .. FROM STDIN`.
    pub async fn copy_in<B: Buf + Send + 'static>(&self, sql: &str) -> Result<CopyInSink<B>, Error> {
        self.raw().copy_in(&*self.naming.of(sql)).await
    }

    /// Statements without parameters, and text.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.raw().simple_query(&self.naming.of(sql)).await
    }

    /// Prepares a statement.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        self.raw().prepare(&self.naming.of(sql)).await
    }

    /// Prepares a statement that the database itself has made: its words are right, and its names are the application's.
    pub async fn prepare_as_it_is(&self, sql: &str) -> Result<Statement, Error> {
        self.raw().prepare(sql).await
    }

    /// Begins a transaction.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin(None).await
    }

    /// Begins a transaction that sees at each statement what is committed then, whatever the session's default is.
    pub async fn transaction_read_committed(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin(Some(IsolationLevel::ReadCommitted)).await
    }

    async fn begin(&mut self, level: Option<IsolationLevel>) -> Result<Transaction<'_>, Error> {
        let naming = self.naming.clone();
        let client: &mut tokio_postgres::Client = match &mut self.connection {
            OwnOrLent::Own(client) => client,
            OwnOrLent::Lent(client) => client,
        };
        let mut begin = client.build_transaction();
        if let Some(level) = level {
            begin = begin.isolation_level(level);
        }
        Ok(Transaction { transaction: begin.start().await?, naming })
    }
}

impl Transaction<'_> {
    fn raw(&self) -> &tokio_postgres::Transaction<'_> {
        &self.transaction
    }

    asks!();

    /// Statements that the database itself has made.
    pub async fn batch_execute_as_it_is(&self, sql: &str) -> Result<(), Error> {
        self.raw().batch_execute(sql).await
    }

    /// Ends it.
    pub async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await
    }
}

impl Pool {
    pub(super) fn new(pool: deadpool_postgres::Pool, naming: Naming) -> Self {
        Self { pool, naming }
    }

    /// A connection, for as long as it is held.
    ///
    /// # Errors
    /// Where none can be had in time.
    pub async fn get(&self) -> Result<Client, deadpool_postgres::PoolError> {
        Ok(Client { connection: OwnOrLent::Lent(self.pool.get().await?), naming: self.naming.clone() })
    }

    /// The same, with what it is wanted for in the error: [`Kind::Connection`](crate::error::Kind::Connection) where the server is
    /// not there, of which `source_down` tells.
    pub(super) async fn client_for(&self, what: &str) -> error::Result<Client> {
        self.get().await.map_err(|e| match e {
            PoolError::Backend(e) => error::Error::database(what, e),
            // it accepts connections and says nothing
            e @ PoolError::Timeout(TimeoutType::Create) => {
                error::Error::new(error::Kind::Connection, what.to_owned()).because(e)
            }
            e => error::Error::new(error::Kind::Database, what.to_owned()).because(e),
        })
    }

    /// The installation whose words its connections speak.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("schema", &self.naming.schema()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("schema", &self.naming.schema()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("schema", &self.naming.schema()).finish_non_exhaustive()
    }
}
